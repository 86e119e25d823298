"""A trial of a real, tiny study on its way to a frozen model: seeds kept with the study, nothing trained twice.

One search and one confirmation serve all tests; each test works on a copy, in a folder of its own.
"""

from __future__ import annotations

import json
import re
import shutil
import statistics
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pytest
from optuna.trial import TrialState

from budgetnet.aim import Aim
from budgetnet.checkpoint import _code
from budgetnet.coordinator import search
from budgetnet.errors import ModelError, StudyError, WorkerError
from budgetnet.evidence import Evidence, read_evidence
from budgetnet.executor import InProcess, LocalProcesses
from budgetnet.files import replace_together
from budgetnet.jobs import EpochDone, Event, Job
from budgetnet.modelfile import ModelFile
from budgetnet.results import Confirmation, EpochResult, SeedRun
from budgetnet.study import Study, open_study
from budgetnet.verdicts import confirmation_lines
from budgetnet.weights import read_all
from budgetnet.winners import Order, Winner, confirm_winner, freeze_winner, seeds_to_freeze
from tests.records import confirmation as made_up
from tests.records import run as made_up_run
from tests.test_cli import run as call_in_process
from tests.test_confirm import Losing, Playback
from tests.tiny import tiny_request

NAME = "tiny-600"
STUDY_FILE = Path("studies") / NAME / "study.yaml"
QUICK = ("--workers", "0", "--device", "cpu")
EPOCHS = 2


class Spy(InProcess):
    """Trains in this process and remembers of which seeds; hears Ctrl-C when seed ``interrupted`` is under way."""

    def __init__(self, interrupted: int | None = None) -> None:
        super().__init__()
        self.seeds: list[int] = []
        self._interrupted = interrupted

    def submit(self, job: Job) -> None:
        self.seeds.append(job.seed)
        super().submit(job)

    def events(self, timeout: float | None = None) -> Iterator[Event]:
        if self.seeds[-1] == self._interrupted:
            raise KeyboardInterrupt
        return super().events(timeout)


@dataclass(frozen=True)
class Desk:
    """A copy of a study in the working directory, and the program as it is called there."""

    folder: Path
    monkeypatch: pytest.MonkeyPatch
    capsys: pytest.CaptureFixture[str]

    @property
    def study(self) -> Study:
        """Opened anew each time, as the next call of the program would."""
        return open_study(NAME)

    @cached_property
    def trial(self) -> int:
        """The first finished trial."""
        return min(record.number for record in self.study.leaderboard())

    @property
    def winner(self) -> Winner:
        return Winner.of(self.study, self.trial)

    @property
    def runs(self) -> list[SeedRun]:
        return self.study.runs(self.trial)

    @property
    def weights(self) -> Path:
        return self.study.weights(self.trial, 0)

    def spied(self, interrupted: int | None = None) -> Spy:
        """The executor of all calls from now on."""
        spy = Spy(interrupted)
        self.monkeypatch.setattr("budgetnet.workplace.local", lambda *options: spy)
        return spy

    def call(self, command: str, *options: str, trial: int | None = None) -> tuple[int, str, str]:
        """Exit code, standard output and standard error."""
        number = str(self.trial if trial is None else trial)
        return call_in_process(self.monkeypatch, self.capsys, command, "--trial", number, *options)

    def content(self) -> dict[str, bytes]:
        """Every file but the database, its lock, and what holds it."""
        files = [path for path in self.folder.rglob("*") if path.is_file() and path.suffix != ".lock"]
        return {str(path.relative_to(self.folder)): path.read_bytes() for path in files if path.suffix != ".db"}

    def frozen(self, name: str = "Model_1", folder: str = ".") -> Evidence:
        return read_evidence(Path(folder) / f"{name}.json")


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory, small_mnist: Path) -> Path:
    """A folder with the study of a real search, and behind its trials one that was pruned."""
    folder = tmp_path_factory.mktemp("searched")
    study = search(tiny_request(folder, small_mnist, trials=1, epochs=EPOCHS))
    study.inner.tell(study.inner.ask().number, state=TrialState.PRUNED)
    return folder


@pytest.fixture(scope="module")
def confirmed(tmp_path_factory: pytest.TempPathFactory, searched: Path) -> Path:
    """The same, its first finished trial confirmed over the seeds 0 and 1."""
    folder = tmp_path_factory.mktemp("confirmed")
    shutil.copytree(searched / "studies", folder / "studies")
    study = open_study(NAME, root=folder / "studies")
    confirm_winner(Winner.of(study, study.leaderboard()[0].number), range(2), InProcess())
    return folder


@pytest.fixture
def desk_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[[Path], Desk]:
    def copied(folder: Path) -> Desk:
        shutil.copytree(folder / "studies", tmp_path / "studies")
        monkeypatch.chdir(tmp_path)
        return Desk(tmp_path, monkeypatch, capsys)

    return copied


@pytest.fixture
def fresh(desk_of: Callable[[Path], Desk], searched: Path) -> Desk:
    """Nothing is confirmed yet."""
    return desk_of(searched)


@pytest.fixture
def desk(desk_of: Callable[[Path], Desk], confirmed: Path) -> Desk:
    """Seeds 0 and 1 are confirmed."""
    return desk_of(confirmed)


# --- confirm ----------------------------------------------------------------------------------------------------------


def test_confirm_prints_every_epoch_the_table_what_the_seeds_say_and_one_conclusion(fresh: Desk) -> None:
    code, out, err = fresh.call("confirm", "--seeds", "2", *QUICK)
    assert (code, err) == (0, "")
    runs, lines = fresh.runs, out.splitlines()
    assert [(run.seed, len(run.epochs)) for run in runs] == [(0, EPOCHS), (1, EPOCHS)]
    assert lines[0] == f"trial {fresh.trial} of {NAME}: {fresh.winner.architecture}"
    shown = [[f"{100 * epoch.correct / 300:.2f}" for epoch in run.epochs] for run in runs]
    lowest = [min(epochs, key=float) for epochs in shown]
    told = re.findall(r"^seed (\d)  epoch +(\d)  test ([\d.]+) %  [\d.]+ s$", out, re.MULTILINE)
    assert told == [(str(seed), str(epoch), shown[seed][epoch - 1]) for seed in (0, 1) for epoch in (1, 2)]
    table = [line.split() for line in lines]
    for row in (
        ["epoch", "0", "1"],
        ["1", shown[0][0], shown[1][0]],
        ["2", shown[0][1], shown[1][1]],
        ["lowest", *lowest],
        ["holds", "no", "no"],
    ):
        assert table.count(row) == 1, row
    final = [run.final.correct / 3 for run in runs]  # percent of 300 images
    spread = f"last epoch: {statistics.mean(final):.2f} ± {statistics.stdev(final):.2f} % (mean ± standard deviation"
    assert sum(line.startswith(f"{spread} over 2 seeds;") for line in lines) == 1
    assert f"lowest of the last 2 epochs: {min(lowest, key=float)} %" in lines
    # none of two, by Wilson: up to z² / (n + z²) = 3.8415 / 5.8415
    held = "99.4 % in every one of the last 2 epochs: 0 of 2 seeds (95 % Wilson interval 0.0 % to 65.8 %)"
    assert held in lines
    assert [line.startswith("conclusion: ") for line in lines].count(True) == 1
    assert lines[-1].startswith("conclusion: may be said: it held in none of 2 seeds")


def test_what_was_confirmed_is_not_trained_again(desk: Desk) -> None:
    spy, before = desk.spied(), desk.runs
    first = desk.call("confirm", "--seeds", "2")
    assert (first[0], spy.seeds, desk.runs) == (0, [], before)
    assert "(2 kept from before)" in first[1]
    assert desk.call("confirm", "--seeds", "2") == first


def test_one_more_seed_trains_that_seed_alone(desk: Desk) -> None:
    spy, before, weights = desk.spied(), desk.runs, desk.weights.read_bytes()
    code, out, _ = desk.call("confirm", "--seeds", "3")
    assert (code, spy.seeds) == (0, [2])
    assert desk.runs[:2] == before
    assert [run.seed for run in desk.runs] == [0, 1, 2]
    assert desk.weights.read_bytes() == weights
    assert "mean ± standard deviation over 3 seeds" in out
    assert "0 of 3 seeds" in out


def test_json_has_the_same_numbers_and_they_follow_from_its_own_runs(desk: Desk) -> None:
    desk.spied()
    code, out, err = desk.call("confirm", "--seeds", "2", "--json", "--target", "11", "--last", "1")
    data = json.loads(out)
    assert (code, err) == (0, "")
    assert [SeedRun.from_dict(run) for run in data["runs"]] == desk.runs
    final = [run["epochs"][-1] for run in data["runs"]]
    assert all(epoch["accuracy"] == epoch["correct"] / epoch["total"] for epoch in final)
    assert all(
        len(run["outcome"]["wrong"]) == end["total"] - end["correct"]
        for run, end in zip(data["runs"], final, strict=True)
    )
    accuracies = [epoch["correct"] / 300 for epoch in final]
    mean, std = statistics.mean(accuracies), statistics.stdev(accuracies)
    assert (data["n"], data["images"], data["last"]) == (2, 300, 1)
    assert (data["mean"], data["std"], data["target"]) == pytest.approx((mean, std, 0.11))
    half = 12.7062 * std / 2**0.5  # t(0.975; 1)
    assert (data["interval"]["low"], data["interval"]["high"]) == pytest.approx((mean - half, mean + half), rel=1e-4)
    assert data["lowest"] == accuracies  # of one last epoch
    assert data["held"]["passes"] == sum(epoch["correct"] >= 33 for epoch in final)  # 11 % of 300
    _, text, _ = desk.call("confirm", "--seeds", "2", "--target", "11", "--last", "1")
    assert f"last epoch: {100 * mean:.2f} ± {100 * std:.2f} %" in text
    assert text.endswith(f"conclusion: {data['conclusion']}\n")


def test_target_and_last_say_what_is_to_be_held(desk: Desk) -> None:
    desk.spied()
    _, out, _ = desk.call("confirm", "--seeds", "2", "--target", "1")
    # two of two, by Wilson: from n / (n + z²) = 2 / 5.8415
    assert "1 % in every one of the last 2 epochs: 2 of 2 seeds (95 % Wilson interval 34.2 % to 100.0 %)" in out
    assert "may be said: it held in each of 2 seeds" in out
    _, out, _ = desk.call("confirm", "--seeds", "1", "--last", "1")
    assert "99.4 % in the last epoch: 0 of 1 seed (95 % Wilson interval 0.0 % to 79.3 %)" in out
    assert "conclusion: one seed says nothing about the next" in out


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--seeds", "0"), "--seeds must be between 1 and 1,000, but got 0"),
        (("--seeds", "-2"), "--seeds must be between 1 and 1,000, but got -2"),
        (("--seeds", "1001"), "--seeds must be between 1 and 1,000, but got 1001"),
        (("--target", "0"), "--target must be from 1 to 100 percent, but is 0"),
        (("--target", "101"), "--target must be from 1 to 100 percent, but is 101"),
        (("--target", "nan"), "--target must be from 1 to 100 percent, but is nan"),
        (("--last", "0"), "--last must be at least 1 epoch, but is 0"),
        (("--device", "tpu"), "--device must be auto, cpu, cuda or mps, but got 'tpu'"),
        (("--study", "nowhere"), "no study 'nowhere' in "),
    ],
)
def test_bad_options_are_one_line_before_anything_is_trained(
    fresh: Desk, options: tuple[str, ...], message: str
) -> None:
    spy, before = fresh.spied(), fresh.content()
    for command in ("confirm", "freeze"):
        code, _, err = fresh.call(command, *options)
        assert (code, err.count("\n"), spy.seeds) == (2, 1, [])
        assert err.startswith(f"error: {message}")
    assert (fresh.content(), fresh.runs) == (before, [])


@pytest.mark.parametrize("command", ["confirm", "freeze"])
def test_fewer_than_no_workers_are_refused(fresh: Desk, monkeypatch: pytest.MonkeyPatch, command: str) -> None:
    def waits(self: LocalProcesses, timeout: float | None = None) -> Iterator[Event]:
        raise WorkerError("it waits for workers that nobody starts")

    monkeypatch.setattr(LocalProcesses, "events", waits)
    code, _, err = fresh.call(command, "--workers", "-1", "--device", "cpu")
    assert (code, err) == (2, "error: --workers must be at least 0, but got -1\n")  # as a search says it


@pytest.mark.parametrize("command", ["confirm", "freeze"])
def test_a_trial_that_is_missing_or_pruned_is_refused(fresh: Desk, command: str) -> None:
    spy, last = fresh.spied(), fresh.study.records()[-1]
    assert last.state == "pruned"
    code, _, err = fresh.call(command, trial=last.number)
    expected = f"error: trial {last.number}: it must be a finished trial, but it is pruned\n"
    assert (code, err) == (2, expected)
    code, _, err = fresh.call(command, trial=99)
    expected = f"error: trial 99: no such trial; study {NAME} has trials 0 to {last.number}\n"
    assert (code, err, spy.seeds) == (2, expected, [])


# --- what is kept when something goes wrong ---------------------------------------------------------------------------


def test_an_interrupt_keeps_the_seeds_that_ended_and_says_how_to_go_on(fresh: Desk) -> None:
    spy = fresh.spied(interrupted=1)
    command = ("confirm", "--seeds", "2")
    code, out, err = fresh.call(*command)
    assert (code, spy.seeds) == (130, [0, 1])
    again = f"budgetnet confirm --trial {fresh.trial} --seeds 2"
    assert err == f"interrupted; 1 of 2 seeds are kept; go on with: {again}\n"
    assert "conclusion" not in out
    kept = fresh.runs
    assert [run.seed for run in kept] == [0]
    spy = fresh.spied()
    code, out, _ = fresh.call(*command)
    assert (code, spy.seeds) == (0, [1])
    assert fresh.runs[0] == kept[0]
    assert "1 kept from before" in out


@pytest.mark.usefixtures("every_epoch")
def test_a_seed_that_was_interrupted_goes_on_after_its_last_whole_epoch(fresh: Desk) -> None:
    winner = Winner.of(fresh.study, fresh.trial)
    (unfinished,) = interrupted(winner)
    first = read_all(unfinished)[0]["epochs"][0][0]
    (gone_on,) = confirm_winner(winner, range(1), InProcess()).runs
    assert gone_on.epochs[0].to_dict() == first, "with its seconds: it was not trained again"
    weights = fresh.study.weights(fresh.trial, 0)
    here, kept = weights.read_bytes(), sorted(weights.parent.iterdir())
    weights.unlink()
    (at_once,) = confirm_winner(winner, range(1), InProcess()).runs
    assert at_once.epochs[0].seconds != gone_on.epochs[0].seconds
    assert (at_once.accuracies, at_once.outcome, weights.read_bytes()) == (gone_on.accuracies, gone_on.outcome, here)
    assert kept == sorted(weights.parent.iterdir()) == [weights]


def interrupted(winner: Winner, seeds: int = 1) -> list[Path]:
    """The files of seed 0 of a confirmation that was interrupted after its first epoch."""

    def interrupt(seed: int, result: EpochResult) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        confirm_winner(winner, range(seeds), InProcess(), on_epoch=interrupt)
    assert winner.missing(range(seeds)) == list(range(seeds))
    return winner.study.unfinished_seed(winner.trial, 0).files()


@pytest.mark.usefixtures("every_epoch")
def test_a_seed_that_was_begun_otherwise_is_left_as_it_is_and_goes_when_any_has_ended(fresh: Desk) -> None:
    winner = Winner.of(fresh.study, fresh.trial)
    alone = interrupted(winner)
    first = read_all(alone[0])[0]["epochs"][0][0]
    with fresh.monkeypatch.context() as patch:
        patch.setattr(InProcess, "takes_seeds_together", True)
        with_others = interrupted(winner, seeds=2)
    in_bfloat16 = interrupted(winner.in_precision("bfloat16"))
    assert (len(alone), len(with_others), len(in_bfloat16)) == (1, 2, 3)
    with fresh.monkeypatch.context() as patch:
        patch.setattr("budgetnet.checkpoint.CODE", fresh.folder)
        patch.setattr("budgetnet.checkpoint._code", _code.__wrapped__)
        assert len(interrupted(winner)) == 4, "other code"
    assert set(in_bfloat16) > set(with_others) > set(alone)
    (run,) = confirm_winner(winner, range(1), InProcess()).runs
    assert run.epochs[0].to_dict() == first
    assert fresh.study.unfinished_seed(fresh.trial, 0).files() == []


@pytest.mark.usefixtures("every_epoch")
def test_an_interrupt_says_whose_whole_epochs_are_kept(fresh: Desk) -> None:
    class Late(Spy):
        def events(self, timeout: float | None = None) -> Iterator[Event]:
            for event in super().events(timeout):
                yield event
                if isinstance(event, EpochDone):
                    raise KeyboardInterrupt

    fresh.monkeypatch.setattr("budgetnet.workplace.local", lambda *options: Late())
    code, _, err = fresh.call("confirm", "--seeds", "2")
    assert code == 130
    assert err.startswith("interrupted; 0 of 2 seeds, and whole epochs of others, are kept; go on with: budgetnet")


def test_a_seed_that_is_lost_with_its_machine_begins_anew_and_says_why(fresh: Desk) -> None:
    fresh.monkeypatch.setattr("budgetnet.workplace.local", lambda *options: Losing(times=1))
    code, out, err = fresh.call("confirm", "--seeds", "2")
    assert (code, err) == (0, "note: seed 1 begins anew: node 10.0.0.7 died\n")
    assert [line.split()[3] for line in out.splitlines() if line.startswith("seed 1 ")][:2] == ["1", "1"]


@pytest.mark.usefixtures("every_epoch")
def test_a_checkpoint_that_cannot_be_written_costs_no_training(fresh: Desk) -> None:
    def full(*_: object) -> None:
        raise ModelError("no space left on device")

    fresh.monkeypatch.setattr("budgetnet.checkpoint.write_tensors", full)
    winner = Winner.of(fresh.study, fresh.trial)
    assert confirm_winner(winner, range(1), InProcess()).n == 1
    assert fresh.study.weights(fresh.trial, 0).is_file()


def test_an_interrupted_freeze_writes_no_model_and_keeps_its_seeds(fresh: Desk) -> None:
    fresh.spied(interrupted=1)
    code, _, err = fresh.call("freeze")
    assert (code, [run.seed for run in fresh.runs]) == (130, [0])
    kept = "1 of 3 seeds are kept"
    assert err == f"interrupted; {kept}; go on with: budgetnet freeze --trial {fresh.trial}\n"
    assert not (fresh.folder / "model.py").exists()


def test_a_seed_that_fails_leaves_those_that_ended(fresh: Desk) -> None:
    with pytest.raises(WorkerError, match=r"^seed 1: loss is nan$"):
        confirm_winner(fresh.winner, range(3), Playback(fails=1))
    assert [run.seed for run in fresh.runs] == [0]
    assert fresh.winner.missing(range(3)) == [1, 2]


@pytest.mark.parametrize("damage", ["deleted", "changed"])
def test_weights_that_are_not_those_kept_are_made_again_from_the_first_seed_alone(desk: Desk, damage: str) -> None:
    before, runs = desk.weights.read_bytes(), desk.runs
    if damage == "deleted":
        desk.weights.unlink()
    else:
        desk.weights.write_bytes(before[:-1] + bytes([before[-1] ^ 1]))
    spy = desk.spied()
    code, _, _ = desk.call("freeze")
    assert (code, spy.seeds) == (0, [0])
    assert desk.weights.read_bytes() == before  # a CPU repeats a run to the last bit
    assert Path("Model_1.safetensors").read_bytes() == before
    assert [run.accuracies for run in desk.runs] == [run.accuracies for run in runs]
    assert desk.runs[1] == runs[1]
    assert desk.frozen().confirmation.runs == tuple(desk.runs)


# --- freeze -----------------------------------------------------------------------------------------------------------


def test_freeze_takes_all_confirmed_seeds_and_trains_nothing(desk: Desk) -> None:
    spy, runs = desk.spied(), desk.runs
    code, out, err = desk.call("freeze")
    assert (code, err, spy.seeds) == (0, "", [])
    record = desk.frozen()
    assert record.confirmation.runs == tuple(runs)
    assert (record.provenance.study, record.provenance.trial) == (NAME, desk.trial)
    assert Path("Model_1.safetensors").read_bytes() == desk.weights.read_bytes()
    assert ModelFile.read(Path("model.py")).classes == ["Model_1"]
    assert "wrote Model_1 to model.py; weights Model_1.safetensors and evidence Model_1.json beside it\n" in out
    assert out.endswith("next: budgetnet verify Model_1\n")


def test_freeze_of_what_is_not_confirmed_trains_three_seeds(fresh: Desk) -> None:
    spy = fresh.spied()
    code, out, _ = fresh.call("freeze", "--json")
    data = json.loads(out)
    assert (code, spy.seeds) == (0, [0, 1, 2])
    assert (data["name"], Path(data["file"])) == ("Model_1", Path("model.py").resolve())
    assert Confirmation.from_dict({"runs": data["runs"]}).runs == tuple(fresh.runs) == fresh.frozen().confirmation.runs


def test_freeze_of_fewer_seeds_than_are_confirmed_takes_the_first_ones(desk: Desk) -> None:
    spy = desk.spied()
    assert desk.call("freeze", "--seeds", "1")[0] == 0
    assert (spy.seeds, desk.frozen().confirmation.seeds) == ([], (0,))
    assert len(desk.runs) == 2


@pytest.mark.parametrize(
    ("kept", "seeds"),
    [((), 3), ((0,), 1), ((0, 1, 2, 3), 4), ((0, 1, 3), 2), ((1, 2), 3)],
)
def test_without_a_number_of_seeds_freeze_takes_those_up_to_the_first_gap(
    fresh: Desk, kept: tuple[int, ...], seeds: int
) -> None:
    for seed in kept:
        fresh.study.keep_run(fresh.trial, made_up_run(seed, 9_900, 9_940))
    assert seeds_to_freeze(fresh.winner, None) == range(seeds)
    assert seeds_to_freeze(fresh.winner, 7) == range(7)


def test_freezing_a_trial_again_gives_the_same_bytes_here_and_elsewhere(desk: Desk) -> None:
    desk.spied()
    names = ["model.py", "Model_1.json", "Model_1.safetensors"]
    assert desk.call("freeze")[0] == 0
    first = {name: (desk.folder / name).read_bytes() for name in names}
    code, _, err = desk.call("freeze", "--as", "Model_1")
    assert (code, "Model_1 exists already; --force replaces it" in err) == (2, True)
    (desk.folder / "elsewhere").mkdir()
    for options in (("--as", "Model_1", "--force"), ("--out", "elsewhere/model.py")):
        assert desk.call("freeze", *options)[0] == 0
    for folder in (desk.folder, desk.folder / "elsewhere"):
        assert {name: (folder / name).read_bytes() for name in names} == first
    assert sorted(path.name for path in (desk.folder / "elsewhere").iterdir()) == sorted(names)


def test_the_line_on_what_is_next_names_the_file_unless_it_is_the_default(desk: Desk) -> None:
    desk.spied()
    (desk.folder / "nets").mkdir()
    _, out, _ = desk.call("freeze", "--out", "nets/mine.py")
    arguments = out.splitlines()[-1].removeprefix("next: budgetnet ").split()
    code, out, _ = call_in_process(desk.monkeypatch, desk.capsys, *arguments)
    assert code == 0, f"budgetnet {' '.join(arguments)} does not find the model"


@pytest.mark.parametrize("out", ["nowhere/model.py", "broken.py", "other.py"])
def test_an_order_that_cannot_be_met_is_refused_before_anything_is_trained(fresh: Desk, out: str) -> None:
    (fresh.folder / "broken.py").write_text("class Model_1(\n")
    (fresh.folder / "other.py").write_text("from jax import nn\n")
    spy, before = fresh.spied(), fresh.content()
    code, _, err = fresh.call("freeze", "--out", out)
    assert (code, err.count("\n"), spy.seeds, fresh.content()) == (2, 1, [], before)
    assert err.startswith("error: ")
    assert out in err


def test_two_freezes_at_once_end_with_both_classes(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    both_are_about_to_write = threading.Barrier(2, timeout=2)

    def slowly(contents: Mapping[Path, bytes]) -> None:
        with suppress(threading.BrokenBarrierError):  # as it breaks where only one may write
            both_are_about_to_write.wait()
        replace_together(contents)

    monkeypatch.setattr("budgetnet.freeze.replace_together", slowly)
    winners = [desk.winner, desk.winner]
    confirmations = [winners[0].confirmation(), Confirmation(tuple(desk.runs[:1]))]

    def freeze(winner: Winner, runs: Confirmation) -> None:
        freeze_winner(winner, runs, Aim(), Order(desk.folder / "model.py"))

    threads = [threading.Thread(target=freeze, args=pair) for pair in zip(winners, confirmations, strict=True)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert ModelFile.read(desk.folder / "model.py").classes == ["Model_1", "Model_2"]
    assert {desk.frozen(name).confirmation.n for name in ("Model_1", "Model_2")} == {1, 2}
    for name in ("Model_1", "Model_2"):
        assert (desk.folder / f"{name}.safetensors").read_bytes() == desk.weights.read_bytes()


# --- the study's own file ---------------------------------------------------------------------------------------------


def test_the_study_file_says_what_is_to_be_held_why_and_what_a_person_adds(desk: Desk) -> None:
    desk.spied()
    STUDY_FILE.write_text(
        "target: 12.5\n"
        "last: 1\n"
        "aim:\n  - So small a network under {budget} params is only a trial run.\n"
        "analysis:\n"
        "  - Whoever reads this sees {macs} MACs.\n"
        "  - text: Its mean of {mean} is above nothing.\n"
        "    claim: mean > 0 and lowest >= 0\n"
    )
    assert desk.call("freeze")[0] == 0
    mean = f"{statistics.mean(100 * run.final.accuracy for run in desk.runs):.2f} %"
    block = " ".join(Path("model.py").read_text("utf-8").split())
    target = "Target: at least 12.5 % of the test images in the last of 2 epochs, with fewer than 600"
    assert f"{target} params. So small a network under 600 params is only a trial run. Result: " in block
    own = f"- Whoever reads this sees {desk.frozen().cost.macs:,} MACs. - Its mean of {mean} is above nothing."
    assert f"{own} Receptive field:" in block  # after the sentences of the rules
    assert (desk.frozen().provenance.target, desk.frozen().last) == (0.125, 1)
    held = sum(run.final.correct >= 37.5 for run in desk.runs)  # 12.5 % of 300
    assert f"held {held} of 2 seeds" in block
    _, out, _ = desk.call("confirm", "--seeds", "2")
    assert f"12.5 % in the last epoch: {held} of 2 seeds" in out


def test_options_go_before_the_study_file(desk: Desk) -> None:
    desk.spied()
    STUDY_FILE.write_text("target: 12.5\nlast: 1\n")
    assert desk.call("freeze", "--target", "1", "--last", "2")[0] == 0
    assert (desk.frozen().provenance.target, desk.frozen().last) == (0.01, 2)
    assert "at least 1 % of the test images in every one of the last 2 of" in Path("model.py").read_text("utf-8")
    _, out, _ = desk.call("confirm", "--seeds", "2", "--last", "2")
    assert "12.5 % in every one of the last 2 epochs" in out


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("target: high", "target: must be a percentage, but is 'high'"),
        ("target: true", "target: must be a percentage, but is True"),
        ("target: 0", "target must be from 1 to 100 percent, but is 0"),
        ("target: 100.1", "target must be from 1 to 100 percent, but is 100.1"),
        ("last: 2.5", "last: must be a whole number of epochs, but is 2.5"),
        ("last: 0", "last must be at least 1 epoch, but is 0"),
        ("goal: 99", "goal: must be one of about, target, last, aim, analysis"),
        ("- target", "must be a mapping with about, target, last, aim, analysis, but is ['target']"),
        ("", "must be a mapping with about, target, last, aim, analysis, but is None"),
        ("target: [", "is not YAML: "),
        ("aim: {mean}", "aim[0]: a sentence must be a text, or text and claim, but is {'mean': None}"),
        ("aim:\n  - {mean} is the mean.", "is not YAML: "),
        ("aim:\n  - Fine.\n  - It holds 99 percent.", "aim[1]: a number is written as the name of a fact"),
        ("analysis: It is half as big.", "analysis[0]: a number is written as the name of a fact"),
        ("analysis: It is better.", "analysis[0]: 'It is better.' compares ('better'), so it needs a claim"),
        ("analysis:\n  - text: Big.\n    claim: mean > 99", "analysis[0]: a claim reads like mean > previous_mean"),
        ("analysis:\n  - text: Big.\n    claim: mean is high", "analysis[0]: a claim reads like"),
        ("analysis:\n  - text: Big.\n    note: no", "analysis[0]: a sentence must be a text, or text and claim"),
        ("analysis:\n  - claim: mean > 0", "analysis[0]: "),
        ("aim:", "aim[0]: a sentence must be a text"),
        (b"aim: \xff", ""),
    ],
)
def test_a_bad_study_file_is_one_line_with_file_and_place_before_anything_is_trained(
    fresh: Desk, content: str | bytes, message: str
) -> None:
    STUDY_FILE.write_bytes(content if isinstance(content, bytes) else content.encode())
    spy, before = fresh.spied(), fresh.content()
    for command in ("confirm", "freeze"):
        code, _, err = fresh.call(command, "--seeds", "1")
        assert (code, err.count("\n"), spy.seeds) == (2, 1, [])
        assert err.startswith(f"error: {STUDY_FILE}: {message}")
    assert (fresh.content(), fresh.runs) == (before, [])


WRONG = [
    ("analysis:\n  - text: Big.\n    claim: mean > 0 and mean < 0", "analysis[0]: 'Big.' claims mean < 0, but that is"),
    ("analysis:\n  - Fine.\n  - A {maen}.", "analysis[1]: there is no fact 'maen'; there are "),
    ("aim:\n  - text: Big.\n    claim: notation > 0", "aim[0]: the fact 'notation' is no number that can be compared"),
    ("aim: It follows {previous}.", "aim[0]: there is no fact 'previous'"),
]


@pytest.mark.parametrize(("content", "message"), WRONG)
def test_a_sentence_that_its_facts_do_not_bear_out_is_one_line_and_nothing_is_written(
    desk: Desk, content: str, message: str
) -> None:
    desk.spied()
    STUDY_FILE.write_text(content)
    before = desk.content()
    code, _, err = desk.call("freeze")
    assert (code, err.count("\n"), desk.content()) == (2, 1, before)
    assert message in err


def test_a_claim_that_does_not_hold_names_the_file_that_makes_it(desk: Desk) -> None:
    desk.spied()
    STUDY_FILE.write_text(WRONG[0][0])
    _, _, err = desk.call("freeze")
    assert err.startswith(f"error: {STUDY_FILE}: {WRONG[0][1]}")


# --- somebody else has the study, or it lies elsewhere ----------------------------------------------------------------

HOLDER = (
    "import sys; from budgetnet.lock import locked; from budgetnet.place import place\n"
    f"with locked(place({NAME!r})):\n    print('held', flush=True); sys.stdin.read()"
)


@contextmanager
def held_by_another_process() -> Iterator[int]:
    """Its number."""
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-c", HOLDER], stdin=pipe, stdout=pipe, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "held\n"
            yield process.pid
        finally:
            process.communicate()


def test_a_study_in_use_trains_nothing_and_still_gives_what_it_has(desk: Desk) -> None:
    spy, before = desk.spied(), desk.content()
    with held_by_another_process() as holder:
        content = desk.content()
        code, _, err = desk.call("confirm", "--seeds", "3")
        assert (code, spy.seeds, err.count("\n")) == (2, [], 1)
        assert err.startswith(f"error: study {NAME} is in use by process {holder} on ")
        code, _, err = desk.call("freeze", "--seeds", "3")
        assert (code, f"in use by process {holder}" in err) == (2, True)
        assert desk.content() == content
        assert desk.call("confirm", "--seeds", "2")[0] == 0
        assert desk.call("freeze")[0] == 0
        assert spy.seeds == []
    assert {*desk.content()} == {*before, "model.py", "Model_1.json", "Model_1.safetensors"}
    assert desk.call("confirm", "--seeds", "3")[0] == 0
    assert spy.seeds == [2]


def test_a_study_in_another_database_is_confirmed_and_frozen_as_well(fresh: Desk) -> None:
    trial = fresh.trial
    shutil.move(fresh.folder / "studies" / NAME / "study.db", fresh.folder / "elsewhere.db")
    shutil.rmtree(fresh.folder / "studies")
    place = ("--storage", "sqlite:///elsewhere.db", "--study", NAME)
    spy = fresh.spied()
    code, out, err = fresh.call("confirm", *place, "--seeds", "1", trial=trial)
    assert (code, err, spy.seeds) == (0, "", [0])
    assert out.startswith(f"trial {trial} of {NAME}: ")
    study = open_study(NAME, "sqlite:///elsewhere.db")
    assert [run.seed for run in study.runs(trial)] == [0]
    assert fresh.call("freeze", *place, trial=trial)[0] == 0
    assert spy.seeds == [0]
    assert Path("Model_1.safetensors").read_bytes() == study.weights(trial, 0).read_bytes()
    assert not (fresh.folder / "studies" / NAME / "study.db").exists()
    code, _, err = fresh.call("confirm", "--storage", "sqlite:///elsewhere.db", trial=trial)
    assert (code, err) == (2, "error: --storage needs --study NAME: a database may hold many studies\n")
    code, _, err = fresh.call("confirm", "--storage", "sqlite:///no.db", "--study", NAME, trial=trial)
    assert (code, f"no study {NAME!r} in no.db" in err, Path("no.db").exists()) == (2, True, False)


def test_a_run_that_cannot_be_read_is_one_line(desk: Desk) -> None:
    desk.study.inner.set_user_attr(f"confirm:{desk.trial}:1", {"run": {"seed": 1}})
    with pytest.raises(StudyError, match=r"study\.db: a run of trial \d+ cannot be read: confirm:\d+:1 must have"):
        _ = desk.runs


# --- the table --------------------------------------------------------------------------------------------------------

NAMES = ("epoch", "1", "2", "lowest", "holds")


def table_of(lines: list[str]) -> list[list[str]]:
    """The lines of the table, in blocks."""
    first, last = 1, next(number for number, line in enumerate(lines) if line.startswith("last epoch: "))
    blocks: list[list[str]] = []
    for line in lines[first:last]:
        if line:
            blocks[-1].append(line)
        else:
            blocks.append([])
    return [block for block in blocks if block]


@pytest.mark.parametrize(
    ("width", "blocks"),
    [
        (80, [10, 10, 5]),  # the names of the rows take 7 columns, a seed takes 7: 7 + 10 · 7 = 77
        (77, [10, 10, 5]),
        (76, [9, 9, 7]),
        (181, [24, 1]),
        (182, [25]),  # 7 + 25 · 7
        (1, [1] * 25),  # nothing fits; still a column at a time
    ],
)
def test_the_table_of_many_seeds_is_split_into_blocks_that_fit(width: int, blocks: list[int]) -> None:
    runs = made_up(*((9_900 + seed, 9_930 + seed) for seed in range(25)))
    found = table_of(confirmation_lines(runs, 0.994, 5, width))
    assert [len(block[0].split()) - 1 for block in found] == blocks
    assert all(len({len(line) for line in block}) == 1 for block in found)  # aligned
    if width >= 15:
        assert max(len(line) for block in found for line in block) <= width
    rows = [[line.split() for line in block] for block in found]
    columns = {name: [cell for block in rows for row in block if row[0] == name for cell in row[1:]] for name in NAMES}
    assert columns["epoch"] == [str(seed) for seed in range(25)]
    assert columns["1"] == columns["lowest"] == [f"99.{seed:02}" for seed in range(25)]
    assert columns["2"] == [f"99.{seed + 30}" for seed in range(25)]
    assert columns["holds"] == ["no"] * 25  # the first epoch of all, one of the last five, is below 99.40


@pytest.mark.parametrize(("width", "blocks"), [(80, 3), (200, 1)])
def test_the_program_fits_the_table_into_the_terminal(fresh: Desk, width: int, blocks: int) -> None:
    study, trial = fresh.study, fresh.trial
    fresh.weights.parent.mkdir()
    fresh.weights.write_bytes(b"weights")
    for seed in range(25):
        study.keep_run(trial, made_up_run(seed, 9_900 + seed, 9_930 + seed))
    spy = fresh.spied()
    fresh.monkeypatch.setenv("COLUMNS", str(width))
    code, out, _ = fresh.call("confirm", "--seeds", "25")
    assert (code, spy.seeds) == (0, [])
    table = table_of(out[out.index("test accuracy in %") :].splitlines())
    assert len(table) == blocks
    assert max(len(line) for block in table for line in block) <= width
