"""Looking at a study: which trials are listed and in which order, the Pareto front, and all of one trial."""

from __future__ import annotations

import csv
import io
import json
import shlex
import unicodedata
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from math import log10
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from optuna.trial import TrialState
from rich.console import Console

from budgetnet import dossier as dossier_module
from budgetnet import single
from budgetnet.architecture import Architecture
from budgetnet.chart import chart
from budgetnet.cost import Cost, cost
from budgetnet.dossier import Dossier, field_lines, train_command
from budgetnet.errors import StudyError
from budgetnet.jobs import Job
from budgetnet.listing import MARK, Selection, trials_table
from budgetnet.notation import parse
from budgetnet.recipe import RANGES, Recipe
from budgetnet.single import read_architecture, read_recipe
from budgetnet.stages import Stage, stages
from budgetnet.statistics import pareto_front
from budgetnet.study import Settings, Study, TrialRecord, create_or_open, open_study, pareto
from budgetnet.tabulate import receptive_field
from tests.records import run as seed_run
from tests.strategies import architectures
from tests.test_cli import run as call
from tests.tiny import tiny_request

SETTINGS = Settings({"name": "tiny"}, 8000, None, None, "mnist", None, 15, 0)


# --- the Pareto front -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("points", "front"),
    [
        ([], []),
        ([(5, 0.9)], [0]),
        ([(5, 0.9), (6, 0.9)], [0]),  # as good with fewer
        ([(5, 0.9), (5, 0.8)], [0]),  # better with as few
        ([(5, 0.9), (5, 0.9), (6, 0.9)], [0, 1]),  # equal in both: none beats the other
        ([(7, 0.95), (5, 0.9), (6, 0.89), (7, 0.95)], [1, 0, 3]),
    ],
)
def test_a_pareto_front_by_hand(points: list[tuple[float, float]], front: list[int]) -> None:
    assert pareto_front(points) == front


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), max_size=12))
def test_a_pareto_front_is_what_no_point_beats(points: list[tuple[float, float]]) -> None:
    def beaten(point: tuple[float, float]) -> bool:
        return any(other[0] <= point[0] and other[1] >= point[1] and other != point for other in points)

    front = pareto_front(points)
    assert sorted(front) == [index for index, point in enumerate(points) if not beaten(point)]
    assert [points[index][0] for index in front] == sorted(points[index][0] for index in front)


# --- which trials, and in which order ---------------------------------------------------------------------------------


def record(number: int, state: str, value: float | None, params: int | None = None, **more: Any) -> TrialRecord:
    spent = None if params is None else Cost(params, more.pop("macs", 10 * params), 100)
    return TrialRecord(number, state, value, parse("8 M 8"), Recipe(), spent, **more)


RECORDS = [
    record(0, "finished", 0.992, 4000, receptive_field=20, seconds=5.0, curve=(0.9,), macs=9),
    record(1, "rejected", None, reason="map vanished"),
    record(2, "pruned", 0.999, 3000, receptive_field=30, seconds=1.0, curve=(0.9,), macs=8),
    record(3, "finished", 0.994, 7000, receptive_field=10, seconds=3.0, curve=(0.9,), macs=7),
    record(4, "finished", 0.991, 4000, receptive_field=40, seconds=4.0, curve=(0.9,), macs=10),
    record(5, "failed", None, 5000, receptive_field=50, macs=6),
]


@pytest.mark.parametrize(
    ("options", "numbers"),
    [
        ({}, [3, 0, 4]),
        ({"reverse": True}, [4, 0, 3]),
        ({"sort": "params"}, [0, 4, 3]),  # 0 and 4 are equal: by number
        ({"sort": "params", "reverse": True}, [3, 0, 4]),
        ({"sort": "macs"}, [3, 0, 4]),
        ({"sort": "field"}, [4, 0, 3]),
        ({"sort": "number", "reverse": True}, [4, 3, 0]),
        ({"sort": "seconds"}, [3, 4, 0]),
        ({"states": ()}, [3, 0, 4, 2, 1, 5]),  # a pruned trial's last epoch, however high, is no result
        ({"states": (), "sort": "params", "reverse": True}, [3, 5, 0, 4, 2, 1]),  # 1 has none: last all the same
        ({"states": (), "sort": "seconds"}, [2, 3, 4, 0, 1, 5]),
        ({"states": ("pruned", "failed")}, [2, 5]),
        ({"max_params": 4000}, [0, 4]),
        ({"max_params": 3999}, []),
        ({"min_value": 99.2}, [3, 0]),
        ({"min_value": 99.4, "states": ()}, [3, 2]),
        ({"limit": 2}, [3, 0]),
    ],
)
def test_a_selection(options: dict[str, Any], numbers: list[int]) -> None:
    assert [record.number for record in Selection(**options).of(RECORDS)] == numbers


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sort": "size"}, "--sort must be one of value, params, macs, field, number, seconds, but got 'size'"),
        ({"states": ("done",)}, "--state must be one of finished, pruned, .*, but got 'done'"),
        ({"min_value": 0.992}, "--min-value must be in percent, from 1 to 100, but got 0.992"),
        ({"min_value": float("nan")}, "but got nan"),
        ({"max_params": 0}, "--max-params must be at least 1, but got 0"),
        ({"limit": -1}, "--limit must be at least 1, but got -1"),
    ],
)
def test_impossible_selections_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(StudyError, match=message):
        Selection(**options)


def test_a_table_fits_80_columns_and_marks_the_front() -> None:
    front = pareto(RECORDS)
    assert front == [0, 3]  # the pruned trial is not held against them
    console = Console(width=80, file=io.StringIO(), color_system=None)
    console.print(trials_table(Selection(states=()).of(RECORDS), 8000, front=front, width=80))
    assert isinstance(console.file, io.StringIO)
    lines = console.file.getvalue().splitlines()
    assert max(map(len, lines)) <= 80
    assert "…" not in "".join(lines)
    assert [line.split()[1] for line in lines if line.startswith(MARK)] == ["3", "0"]


# --- stages -----------------------------------------------------------------------------------------------------------


def test_stages_by_hand() -> None:
    # [1x6x6] 2, bare: 3 x 3 x 2 = 18 params, 16 cells; r2: two convolutions of 36 and two norms of 4, 16 cells, no
    # shortcut; 1x1 to 3 classes: 6 + 3 params, 6 MACs on one cell.
    # activations: 36 in and 32 out; x stays alive beside f's in and out: 3 x 32 at most; 32 and 2, or 2 and 3
    assert stages(parse("[1x6x6] 2* r2 | gap 1x1:3")) == (
        Stage("stem", "2*", (2, 4, 4), 18, 288, 68),
        Stage("stage1", "r2", (2, 4, 4), 80, 1152, 96),
        Stage("head", "gap 1x1:3", (3,), 9, 6, 34),
    )


@given(architectures())
def test_stages_add_up_to_the_whole(architecture: Architecture) -> None:
    found, whole = stages(architecture), cost(architecture)
    assert sum(stage.params for stage in found) == whole.params
    assert sum(stage.macs for stage in found) == whole.macs
    pixels = architecture.input_shape[0] * architecture.input_shape[1] * architecture.input_shape[2]
    assert max(pixels, *(stage.activations for stage in found)) == whole.peak_activations
    assert [stage.name for stage in found] == [name for name, _ in architecture.sections()]
    pieces = " ".join(stage.notation for stage in found[:-1])
    written = str(architecture).partition("|")[0].rpartition("]")[2]
    assert pieces == written.strip()


# --- the chart --------------------------------------------------------------------------------------------------------


DOT = {"1": (0, 0), "2": (0, 1), "3": (0, 2), "4": (1, 0), "5": (1, 1), "6": (1, 2), "7": (0, 3), "8": (1, 3)}
"""(column, row) of each dot of a braille sign, by its number in Unicode."""


def dots(lines: list[str]) -> set[tuple[int, int]]:
    """(column, row) of every dot of a chart, from the upper left corner of its axes."""
    found = set()
    for line_number, line in enumerate(lines[:-2]):
        area = line[max(line.find("┤"), line.find("│")) + 1 :]
        for column, sign in enumerate(area):
            numbers = unicodedata.name(sign).removeprefix("BRAILLE PATTERN DOTS-") if sign != " " else ""
            found |= {(2 * column + DOT[n][0], 4 * line_number + DOT[n][1]) for n in numbers}
    return found


def test_a_chart_by_hand() -> None:
    # From 90 to 99 % is a decade of error on 16 rows of dots: 98 % is 0.3 of it below the top, row 4.5, in the second
    # line of four; 95 % at row 10.5, in the third. 24 columns less label, axis and "  epoch" are 13 signs, 26 dots.
    lines = chart([0.9, 0.99], 2, 24, 4)
    assert [line[:4] for line in lines] == ["99 ┤", "98 ┤", "95 ┤", "90 ┤", "   └", "    "]
    assert lines[-2:] == ["   └" + "─" * 13, "    1           2  epoch"]
    drawn = dots(lines)
    assert {(0, 15), (25, 0)} <= drawn
    assert all(abs(y - 15 * (1 - x / 25)) <= 1 for x, y in drawn)  # on the straight line between both
    assert {x for x, _ in drawn} == set(range(26))


@given(
    st.lists(st.floats(0.0, 1.0), min_size=1, max_size=30),
    st.integers(0, 20),
    st.integers(24, 130),
    st.integers(4, 20),
)
def test_every_epoch_is_where_the_axes_say(curve: list[float], more: int, width: int, height: int) -> None:
    epochs = len(curve) + more
    lines = chart(curve, epochs, width, height)
    assert len(lines) == height + 2
    assert max(map(len, lines)) <= width
    labels = {n: float(line.split("┤")[0]) / 100 for n, line in enumerate(lines) if "┤" in line}
    top, bottom = labels[0], labels[height - 1]
    assert bottom <= min(curve) + 1e-9
    assert min(max(curve), 0.9999) <= top + 1e-9  # a better one is drawn at the top
    columns = 2 * lines[-2].count("─") - 1
    drawn = dots(lines)
    for epoch, accuracy in enumerate(curve, 1):
        share = (log10(1 - bottom) - log10(max(1 - accuracy, 1e-4))) / (log10(1 - bottom) - log10(1 - top))
        row, column = (1 - share) * (4 * height - 1), (epoch - 1) / max(epochs - 1, 1) * columns
        assert any(abs(y - row) <= 0.51 and abs(x - column) <= 0.51 for x, y in drawn), (epoch, row, column)
    for line, accuracy in labels.items():  # a mark stands in the line of its own accuracy
        share = (log10(1 - bottom) - log10(1 - accuracy)) / (log10(1 - bottom) - log10(1 - top))
        assert round((1 - share) * (4 * height - 1)) // 4 == line


def test_the_epochs_stand_under_their_columns() -> None:
    below = chart([0.9] * 15, 15, 60)[-1]
    rule = chart([0.9] * 15, 15, 60)[-2]
    start, columns = rule.index("└") + 1, rule.count("─")
    assert below.endswith("epoch")
    for number in ("1", "15"):
        assert f" {number} " in below
    assert abs(below.index(" 10 ") + 1 - start - 9 / 14 * columns) <= 1.5
    assert chart([0.9] * 4, 15, 60)[-1] == below  # a pruned trial's curve ends where it ended


@pytest.mark.parametrize(
    ("curve", "width", "height"), [([], 80, 10), ([0.9] * 3, 80, 10), ([0.9], 23, 10), ([0.9], 80, 3)]
)
def test_impossible_charts_are_refused(curve: list[float], width: int, height: int) -> None:
    with pytest.raises(ValueError, match="a chart needs"):
        chart(curve, 2, width, height)


# --- the command that trains just this --------------------------------------------------------------------------------


def recipes() -> st.SearchStrategy[Recipe]:
    """Any recipe, most fields as they are by default."""
    usual = asdict(Recipe())
    fields: dict[str, st.SearchStrategy[Any]] = {
        name: st.integers(int(low), int(high)) if type(usual[name]) is int else st.floats(low, high)
        for name, (low, high) in RANGES.items()
        if name != "distill"  # which needs the file of a teacher
    }
    fields |= {"flip": st.booleans(), "nesterov": st.booleans(), "optimizer": st.sampled_from(("sgd", "adamw"))}
    return st.fixed_dictionaries({}, optional=fields).map(lambda values: Recipe(**values))


@given(architectures(), recipes(), st.sampled_from(("mnist", "my data/it's.npz")), st.sampled_from((None, 500)))
def test_the_command_reads_back_exactly(
    architecture: Architecture, recipe: Recipe, data: str, images: int | None
) -> None:
    settings = replace(SETTINGS, data=data, images=images)
    trial = TrialRecord(7, "finished", 0.9, architecture, recipe, seed=12)
    (line,) = train_command(trial, settings, ["budgetnet", "show"])
    program, command, network, *options = shlex.split(line)
    given = dict(zip(options[::2], options[1::2], strict=True))
    assert (program, command) == ("budgetnet", "train")
    assert read_architecture(network) == architecture
    assert read_recipe(given.get("--recipe", "")) == recipe
    assert ("--recipe" in given) == (recipe != Recipe())
    assert (given["--data"], given.get("--images"), given["--seed"]) == (data, images and str(images), "12")


def test_what_no_notation_says_goes_through_a_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dossier_module, "parse", lambda text: parse("8"))  # as if it forgot something
    trial = TrialRecord(7, "finished", 0.9, parse("8 M c8"), Recipe(ema=0.5))
    save, train = train_command(trial, SETTINGS, ["budgetnet", "show", "--study", "x"])
    assert save.startswith("budgetnet show --study x --trial 7 --json | python -c ")
    assert save.endswith(" > architecture.json")
    assert train == "budgetnet train architecture.json --recipe ema=0.5 --data mnist --seed 0"


# --- a study that has everything --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def studied(tmp_path_factory: pytest.TempPathFactory, small_mnist: Path) -> Path:
    """A folder with a study of trials that ended in every way, none of which was trained."""
    folder = tmp_path_factory.mktemp("studied")
    request = replace(tiny_request(folder, small_mnist, epochs=4), images=500)
    space, settings, _ = request.check()
    where = request.place(space)
    where.folder.mkdir(parents=True)
    study = create_or_open(where, settings)
    for state, curve, reason in (
        ("finished", (0.5, 0.9, 0.91, 0.92), None),
        ("pruned", (0.5, 0.8), "pruned after epoch 2"),
        ("rejected", (), "receptive field 3 below 5"),
        ("failed", (0.5,), "TrainingDiverged: the loss became nan"),
        ("duplicate", (), "equal to trial 0"),
        ("waiting", (), None),
    ):
        add(study, state, curve, reason)
    study.keep_run(0, seed_run(0, 9900, 9910, 9920, 9930, 9940))
    study.keep_run(0, seed_run(1, 9900, 9910, 9920, 9930, 9960))
    return folder


def add(study: Study, state: str, curve: tuple[float, ...], reason: str | None) -> None:
    """A trial as the coordinator would have recorded it."""
    if state == "waiting":
        study.inner.enqueue_trial({"batch": 64})
        return
    trial = study.inner.ask()
    trial.suggest_float("recipe.learning_rate", 0.02, 0.2)
    attrs: dict[str, Any] = {} if reason is None else {"reason": reason}
    if state in ("rejected", "duplicate"):
        attrs["state"] = state
    else:
        network = parse("4 M c6")
        attrs |= {"architecture": network.to_dict(), "recipe": Recipe(learning_rate=0.1, epochs=4).to_dict(), "seed": 3}
        attrs |= {**vars_of(cost(network)), "receptive_field": 10, "seconds": 8.0}
    for name, value in attrs.items():
        trial.set_user_attr(name, value)
    for epoch, accuracy in enumerate(curve, 1):
        trial.report(accuracy, epoch)
    over = {"finished": TrialState.COMPLETE, "failed": TrialState.FAIL}.get(state, TrialState.PRUNED)
    study.inner.tell(trial, sum(curve[-3:]) / 3 if state == "finished" else None, state=over)


def vars_of(spent: Cost) -> dict[str, int]:
    return {"params": spent.params, "macs": spent.macs, "peak_activations": spent.peak_activations}


@pytest.fixture
def ask(
    studied: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str, str]]:
    """Runs a command in the folder of that study."""
    monkeypatch.chdir(studied)
    monkeypatch.setenv("COLUMNS", "80")
    return lambda *arguments: call(monkeypatch, capsys, *arguments)


Ask = Callable[..., tuple[int, str, str]]


def test_a_trial_is_shown_on_the_narrowest_terminal(ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "16")
    code, out, _ = ask("show", "--trial", "0")
    assert code == 0
    assert "epoch" in out


def test_trials_lists_sorts_and_explains(ask: Ask) -> None:
    code, out, _ = ask("trials")
    title, _, row, legend = out.splitlines()
    assert code == 0
    assert title.rstrip() == "study tiny-600: 1 of 6 trials"
    assert row.split()[:3] == ["*", "0", "91.00"]
    assert legend.startswith("* Pareto front: ")
    _, out, _ = ask("trials", "--state", "pruned", "--state", "rejected")
    assert [cell for line in out.splitlines()[2:] if (cell := line.split()[0]).isdigit()] == ["1", "2"]
    assert "Pareto" not in out  # nothing to explain
    _, out, _ = ask("trials", "--max-params", "3")
    assert out == "study tiny-600: none of its 6 trials is asked for\n"


def test_csv_and_json_honour_order_and_filters_and_say_who_is_on_the_front(ask: Ask) -> None:
    selection = ("--all", "--sort", "number", "--reverse", "--limit", "4")
    _, out, _ = ask("trials", "--csv", *selection)
    rows = list(csv.DictReader(io.StringIO(out)))
    assert [row["trial"] for row in rows] == ["5", "4", "3", "2"]
    _, out, _ = ask("trials", "--json", "--all", "--sort", "params")
    told = [(record["number"], record["pareto"]) for record in json.loads(out)]
    assert told == [(0, True), (1, False), (3, False), (2, False), (4, False), (5, False)]
    _, out, _ = ask("trials", "--csv")
    (row,) = csv.DictReader(io.StringIO(out))
    assert (row["pareto"], row["curve"].split()[0]) == ("true", "0.500000")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--sort", "size"), "--sort must be one of"),
        (("--csv", "--json"), "--csv and --json exclude each other, but got both"),
        (("--all", "--state", "failed"), "--all and --state exclude each other, but got --all and --state failed"),
    ],
)
def test_bad_listings_are_one_line(ask: Ask, arguments: tuple[str, ...], message: str) -> None:
    code, out, err = ask("trials", *arguments)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert message in err


def test_show_tells_all_of_a_finished_trial(ask: Ask) -> None:
    code, out, _ = ask("show", "--trial", "0")
    assert code == 0
    assert out.startswith(
        "trial 0 of tiny-600: finished\nvalue: 91.00 % (mean of the last 3 epochs), 1st of 1 finished"
    )
    network = cost(parse("4 M c6"))
    assert f"{network.params:,} / 600 params" in out
    for heading in ("stages", "validation accuracy", "recipe", "confirmed", "receptive field", "train just this"):
        assert f"\n\n{heading}" in out
    assert "last epoch 99.50 ± 0.14 % over 2 seeds" in out  # 99.40 and 99.60: 0.2 / sqrt 2
    assert "learning_rate 0.1, epochs 4\nby default: batch_size 64" in out
    command = out.splitlines()[-1]
    assert command.startswith("budgetnet train '4 M c6' --recipe learning_rate=0.1,epochs=4 --data ")
    assert command.endswith(" --images 500 --seed 3")
    assert max(map(len, out.splitlines()[:-1])) <= 80  # the command alone is never broken


def test_the_command_that_show_prints_trains_what_the_study_has(ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    jobs: list[Job] = []

    def train_one(job: Job, device: str) -> Iterator[Any]:
        jobs.append(job)
        return iter(())

    monkeypatch.setattr(single, "train_one", train_one)
    _, out, _ = ask("show", "--trial", "1")
    code, _, err = ask(*shlex.split(out.splitlines()[-1])[1:])
    assert (code, err) == (0, "")
    study = open_study("tiny-600")
    kept, (job,) = study.record(1), jobs
    assert (job.architecture, job.recipe, job.seed) == (kept.architecture, kept.recipe, kept.seed)
    assert (job.data, job.images, job.split) == (study.settings.data, study.settings.images, "search")


@pytest.mark.parametrize(
    ("number", "said", "unsaid"),
    [
        (1, "trial 1 of tiny-600: pruned after epoch 2\nvalue: 80.00 % when it was pruned, 2nd of the 2 that", "conf"),
        (
            2,
            "rejected, receptive field 3 below 5\nit was never trained\n\ndrawn from the space\nrecipe.learn",
            "stages",
        ),
        (3, "failed, TrainingDiverged: the loss became nan\nnetwork: 4 M c6", "value:"),
        (4, "duplicate, equal to trial 0\nit was answered from the record, not trained again", "recipe\n"),
        (5, "waiting\nit is queued, and has not begun\n", "stages"),
    ],
)
def test_show_tells_what_there_is_of_any_other(ask: Ask, number: int, said: str, unsaid: str) -> None:
    code, out, _ = ask("show", "--trial", str(number))
    assert code == 0
    assert said in out
    assert unsaid not in out
    code, out, _ = ask("show", "--trial", str(number), "--json")
    told = json.loads(out)
    assert (code, told["number"]) == (0, number)
    assert bool(told["train"]) == bool(told["stages"]) == (number in (1, 3))


@pytest.mark.parametrize("width", [50, 80, 200])
def test_what_show_draws_fits(studied: Path, width: int) -> None:
    blocks = dict(Dossier(open_study("tiny-600", root=studied / "studies"), 0).blocks(width))
    curve = next(block for heading, block in blocks.items() if heading.startswith("validation"))
    drawn = [line for line in curve[:-1] if isinstance(line, str)]
    assert max(map(len, drawn)) == min(width, 100)


def test_the_field_table_leaves_out_what_says_least_where_there_is_no_room() -> None:
    table = receptive_field("c11 c8 M s19 s18 s18 M c17 c16")
    for width, left_out in ((100, set()), (80, {"start"}), (70, {"start", "g", "p"})):
        lines = field_lines(table, width)
        assert {"start", "g", "p", "MACs"} - set(lines[0].split()) == left_out
        assert max(map(len, lines[: 1 + len(table.rows)])) <= width
        assert lines[-1].startswith("k kernel, s stride")
