"""A search wastes nothing: what it trains is under the budget and uses it up; and the known traps of this field.

Each trap is the case that broke another tool, kept as a test of ours.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from math import ceil, floor, log
from pathlib import Path
from statistics import median
from time import monotonic
from typing import Any

import optuna
import pytest
import yaml

from budgetnet import plan, samplers
from budgetnet.architecture import Architecture
from budgetnet.candidates import Candidate
from budgetnet.coordinator import Ended, Search, Started
from budgetnet.cost import cost
from budgetnet.dimension import Dimension, FixedDraw, RandomDraw
from budgetnet.errors import BudgetError, SpaceError
from budgetnet.lock import locked
from budgetnet.pieces import Block, Head
from budgetnet.plan import Request, make_pruner
from budgetnet.samplers import make_sampler
from budgetnet.space_files import load_space, parse_space, space_folders, space_names
from budgetnet.study import TrialRecord, create_or_open
from tests.instant import Instant
from tests.tiny import tiny_request


@pytest.fixture
def searched(tmp_path: Path) -> Callable[..., Search]:
    """A search without training, to its end; ``records`` of it by ``Search.study``."""

    def run(**options: Any) -> Search:
        request = Request(root=tmp_path / "studies", **options)
        space, settings, how = request.check()
        with locked(request.place(space)):
            search = Search(create_or_open(request.place(space), settings), space, how, Instant(slots=4))
            list(search.run())
        return search

    return run


def trained(search: Search) -> list[TrialRecord]:
    return [record for record in search.study.records() if record.trained]


def params(record: TrialRecord) -> int:
    assert record.architecture is not None
    return cost(record.architecture).params


# --- feasible by construction -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("budget", [400, 1000, 8000, 50_000, 1_000_000])
@pytest.mark.parametrize("space", space_names())
def test_all_that_is_trained_is_under_the_budget_and_half_of_it_uses_nine_tenths(
    searched: Callable[..., Search], space: str, budget: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        Request, "_with_data", lambda _, own, data: (own, (), None)
    )  # a larger space's would be downloaded
    search = searched(space=space, budget=budget, trials=25)
    records = trained(search)
    assert len(records) == 25
    assert all(params(record) < budget for record in records)
    drawn = {t.number: t.params["fill"] for t in search.study.inner.get_trials() if "fill" in t.params}
    share = [params(record) / (ceil(drawn[record.number] * budget) - 1) for record in records]
    assert median(share) >= 0.9
    assert search.tally.rejected["over budget"] == 0 or budget < 1000


def test_the_counters_add_up_to_what_was_sampled(searched: Callable[..., Search]) -> None:
    search = searched(trials=60)
    tally = search.tally
    told = tally.finished + tally.pruned + tally.duplicates + tally.rejected.total() + tally.failed.total() + tally.lost
    assert tally.sampled == told == len(search.study.records())
    assert tally.finished + tally.pruned == 60
    assert tally.rejected.total() > 0


def test_the_smallest_budget_there_is_is_met_at_once(searched: Callable[..., Search]) -> None:
    """Of the default space's shapes three in ten thousand fit into 66 params: a sampler would look for hours."""
    with pytest.raises(BudgetError) as caught:
        load_space("mnist").check_reachable(plan.Limits(2))
    least = int(str(caught.value).split("(--budget ")[1].split(")")[0])
    started = monotonic()
    records = trained(searched(budget=least + 1, trials=3))
    assert len(records) == 3
    assert all(params(record) <= least for record in records)
    assert monotonic() - started < 300


def corner(widths: list[int]) -> Architecture:
    """Seven convolutions, as decision 1 of the design describes them."""
    return Architecture(tuple(Block(width) for width in widths), Head(10))


def test_a_hard_corner_is_hard_and_gives_feasible_trials_from_the_first_proposal_on(
    tmp_path: Path, small_mnist: Path
) -> None:
    dice = random.Random(0)
    draws = [corner([dice.randint(4, 64) for _ in range(7)]) for _ in range(20_000)]
    assert sum(cost(network).params < 8000 for network in draws) <= 20  # at most 0.1 %
    stages = [{"depth": 1, "width": {"min": 4.0, "max": 64.0}, "downsample": "none"} for _ in range(6)]
    space = parse_space(
        {"name": "corner", "network": {"stem": {"width": {"min": 4.0, "max": 64.0}}, "stages": stages}}, "here"
    )
    request = tiny_request(tmp_path, small_mnist, budget=8000, trials=20)
    _, settings, how = request.check()
    with locked(request.place(space)):
        search = Search(create_or_open(request.place(space), settings), space, how, Instant(slots=4))
        events = list(search.run())
    assert isinstance(events[0], Started)
    assert search.tally.sampled == search.tally.finished == 20
    assert all(params(record) < 8000 for record in trained(search))


# --- traps ------------------------------------------------------------------------------------------------------------


def test_one_oversized_network_is_not_offered_again_and_again(searched: Callable[..., Search]) -> None:
    """MNIST under 10,000 parameters, where another tool offers one oversized network five times and gives up."""
    search = searched(budget=10_000, trials=30, sampler="tpe")
    records = trained(search)
    keys = {Candidate(r.architecture, r.recipe).key for r in records if r.architecture and r.recipe}
    assert len(records) == len(keys) == 30
    assert all(params(record) < 10_000 for record in records)


@pytest.mark.parametrize("sampler", ["random", "tpe", "gp"])
@pytest.mark.parametrize(
    "stepped",
    [
        Dimension((), 0.0, 0.1, 0.025),
        Dimension((), 0.1, 0.7, 0.2),  # 0.7 - 0.1 is 0.6 and a bit less, as floats
        Dimension((), 0.0, 0.3, 0.1),
        Dimension((), 2, 10, 4, whole=True),
    ],
)
def test_both_ends_of_a_stepped_range_are_drawn(sampler: str, stepped: Dimension) -> None:
    """An upper bound that is written and never drawn."""
    study = optuna.create_study(sampler=make_sampler(sampler, 0))
    drawn = set()
    for number in range(60 if sampler != "gp" else 25):
        trial = study.ask()
        drawn.add(value := stepped.suggest(trial, "x"))
        study.tell(trial, -value if number % 2 else value)  # one end is as good as the other
    alone = {stepped.suggest(RandomDraw(seed), "x") for seed in range(200)}
    assert stepped.step is not None
    steps = round((stepped.high - stepped.low) / stepped.step)
    assert alone == {round(stepped.low + i * stepped.step, 12) for i in range(steps + 1)}
    assert {min(alone), max(alone)} <= drawn <= alone
    if sampler == "random":
        assert drawn == alone


def test_no_rung_is_lost_to_a_floating_point_logarithm() -> None:
    """log(243, 3) is 4.999…: Hyperband over 243 epochs had five brackets of six."""

    def brackets(epochs: int) -> int:
        pruner = make_pruner("hyperband", epochs)
        study = optuna.create_study(pruner=pruner)
        study.ask().should_prune()
        trial = study.ask()
        trial.report(0.5, 1)
        trial.should_prune()
        return len(pruner._pruners)  # type: ignore[attr-defined]

    assert floor(log(243, 3)) == 4  # the trap is still there
    for epochs in (*range(1, 30), 80, 81, 82, 242, 243, 244, 728, 729, 730, 2186, 2187, 2188):
        rungs = 1
        while 3**rungs <= epochs:
            rungs += 1
        assert brackets(epochs) == rungs, epochs


def test_trials_that_a_crash_left_running_do_not_stay(tmp_path: Path, small_mnist: Path) -> None:
    """A sampler that keeps away from what is running would keep away from them for ever."""
    request = tiny_request(tmp_path, small_mnist, trials=8)
    space, settings, how = request.check()
    with locked(request.place(space)):
        study = create_or_open(request.place(space), settings)
        for _ in range(5):
            space.sample(study.inner.ask())
        search = Search(study, space, how, Instant(slots=2))
        running_then = []
        for event in search.run():
            if isinstance(event, Started):
                trials = search._ledger.study.get_trials(deepcopy=False)
                running_then.append(sum(trial.state == optuna.trial.TrialState.RUNNING for trial in trials))
    assert max(running_then) <= 2
    left = [r for r in study.records() if r.number < 5]
    assert {record.state for record in left} == {"failed"}
    assert {record.reason for record in left} == {"interrupted; queued again"}
    assert len(trained(search)) == 8


def test_trials_is_the_total_and_not_so_many_more(searched: Callable[..., Search]) -> None:
    """Optuna's n_trials are additional: a loop that restarts a crashed search never ends where it should."""
    assert len(trained(searched(trials=6))) == 6
    assert searched(trials=6).tally.sampled == 0
    assert len(trained(searched(trials=9))) == 9


def test_pruned_and_rejected_trials_do_not_eat_the_random_start(
    searched: Callable[..., Search], monkeypatch: pytest.MonkeyPatch
) -> None:
    """TPE counts PRUNED trials: after ten rejected proposals it would learn from nothing but rejections."""
    began: list[int] = []

    class Watched(optuna.samplers.TPESampler):
        def sample_relative(self, study: Any, trial: Any, search_space: Any) -> Any:
            states = [t.state for t in study.get_trials(deepcopy=False)]
            began.append(states.count(optuna.trial.TrialState.COMPLETE))
            return super().sample_relative(study, trial, search_space)

    monkeypatch.setattr(samplers, "TPESampler", Watched)
    search = searched(trials=80)  # one in eight finishes
    assert search.tally.rejected.total() + search.tally.pruned > 0
    assert samplers.STARTUP <= min(began) < samplers.STARTUP + 4  # four end at a time


def test_ended_records_are_what_the_study_says(searched: Callable[..., Search], tmp_path: Path) -> None:
    request = Request(root=tmp_path / "other", trials=12, seed=4)
    space, settings, how = request.check()
    with locked(request.place(space)):
        search = Search(create_or_open(request.place(space), settings), space, how, Instant(slots=3))
        ended = {e.record.number: e.record.state for e in search.run() if isinstance(e, Ended)}
    assert ended == {record.number: record.state for record in search.study.records()}


# --- where a search starts --------------------------------------------------------------------------------------------


def test_the_first_trial_of_a_study_is_the_start_that_the_space_names(searched: Callable[..., Search]) -> None:
    (start,) = load_space("mnist").start
    first = searched(trials=3).study.inner.get_trials()[0]
    assert {name: first.params[name] for name in start} == start
    assert str(trained(searched(trials=3))[0].architecture) == "c8 c10 M c12 c12 c12 M c14 c13"
    more = searched(trials=6).study.inner.get_trials()
    assert sum(trial.params == first.params for trial in more) == 1  # only at the very beginning


def test_a_study_begins_with_every_start_of_its_space(searched: Callable[..., Search], tmp_path: Path) -> None:
    mnist = yaml.safe_load((space_folders()[-1] / "mnist.yaml").read_text())
    starts = [{"stage_count": 2, "fill": 0.97}, {"stage_count": 3, "fill": 0.99}]
    (tmp_path / "two.yaml").write_text(yaml.safe_dump({**mnist, "start": starts}))
    first = searched(space=str(tmp_path / "two.yaml"), trials=3).study.inner.get_trials()[:2]
    assert [{name: trial.params[name] for name in starts[0]} for trial in first] == starts


def test_another_start_does_not_make_another_study() -> None:
    space = load_space("mnist")
    assert space.start
    assert space.model_copy(update={"start": ()}).to_plain() == space.to_plain()


def test_shipped_starts_are_candidates() -> None:
    space = load_space("mnist")
    assert space.start
    for start in space.start:
        draft, _ = space.sample(FixedDraw(0, start))
        assert space.shortcoming(draft.fit(plan.Limits(8000))) is None


@pytest.mark.parametrize(
    ("start", "message"),
    [
        (
            {"stage9.depth": 1},
            "here: start.stage9.depth: nothing of this name is drawn; there are batch_size, dropout, ",
        ),
        ({"stage1.depth": 7}, "here: start.stage1.depth: must be one that the space can draw (1 to 2), but is 7"),
        ({"stage1.depth": True}, "must be one that the space can draw (1 to 2), but is True"),
        ({"fill": 2.0}, "here: start.fill: must be one that the space can draw (0.95 to 1), but is 2.0"),
        ({"dropout": 0.03}, "must be one that the space can draw (0 to 0.1), but is 0.03"),
        ({"stage2.block": "x"}, "must be one that the space can draw (plain, separable, residual), but is 'x'"),
        ({"batch_size": 64.0}, "must be one that the space can draw (64, 128), but is 64.0"),
        (7, "here: start: must be a mapping of names, or a list of such, but is 7"),
        ([{}, 7], "here: start: must be a mapping of names, or a list of such, but is [{}, 7]"),
        ({1: 2}, "here: start: must be a mapping of names, or a list of such, but is {1: 2}"),
        (
            [{"fill": 1.0}, {"fill": 2.0}],
            "here: start[1].fill: must be one that the space can draw (0.95 to 1), but is",
        ),
    ],
)
def test_a_start_that_cannot_be_drawn_is_refused(start: Any, message: str) -> None:
    mnist = yaml.safe_load((space_folders()[-1] / "mnist.yaml").read_text())
    with pytest.raises(SpaceError) as caught:
        parse_space({**mnist, "start": start}, "here")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
