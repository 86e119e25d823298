"""``--tensorboard``: what TensorBoard reads back from a search, a confirmation and a single run."""

from __future__ import annotations

import json
import sys
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from budgetnet.progress import Ended, Started
from budgetnet.results import Confirmation
from budgetnet.study import open_study
from budgetnet.tensorboard import Runs, Seeds, described, search_events
from tests.quick import quick_search
from tests.records import NETWORK, THREE, evidence
from tests.test_cli import run, search_arguments


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty directory to work in."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


class Read:
    """A run as TensorBoard reads it."""

    def __init__(self, folder: Path) -> None:
        from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

        self._events = EventAccumulator(str(folder)).Reload()

    def curve(self, tag: str) -> list[tuple[int, float]]:
        return [(event.step, pytest.approx(event.value, rel=1e-6)) for event in self._events.Scalars(tag)]

    @property
    def tags(self) -> set[str]:
        return set(self._events.Tags()["scalars"])

    def _hparams(self, tag: str) -> Any:
        from tensorboard.plugins.hparams.metadata import PLUGIN_NAME
        from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

        content = self._events.PluginTagToContent(PLUGIN_NAME)
        return HParamsPluginData.FromString(content[tag]) if tag in content else None

    @property
    def told(self) -> dict[str, Any]:
        start = self._hparams("_hparams_/session_start_info").session_start_info
        return {
            name: value.string_value if value.HasField("string_value") else value.number_value
            for name, value in start.hparams.items()
        }

    @property
    def metrics(self) -> list[str]:
        experiment = self._hparams("_hparams_/experiment").experiment
        return [metric.name.tag for metric in experiment.metric_infos]

    @property
    def ended_well(self) -> bool | None:
        from tensorboard.plugins.hparams.api_pb2 import STATUS_SUCCESS

        end = self._hparams("_hparams_/session_end_info")
        return None if end is None else end.session_end_info.status == STATUS_SUCCESS


def test_a_search_writes_every_trained_trial_with_its_curves_recipe_and_value(
    tmp_path: Path, small_mnist: Path
) -> None:
    with quick_search(tmp_path, small_mnist, trials=4, epochs=4, pruner="halving") as search:
        for _ in search_events(search, tmp_path / "tb"):
            pass
        records = {f"trial_{record.number}": record for record in search.study.records() if record.trained}
        attributes = {f"trial_{trial.number}": trial.user_attrs for trial in search.study.inner.get_trials()}
    assert {path.name for path in (tmp_path / "tb" / "tiny-600").iterdir()} == set(records)
    assert {record.state for record in records.values()} == {"finished", "pruned"}
    for name, record in records.items():
        read = Read(tmp_path / "tb" / "tiny-600" / name)
        assert record.cost is not None
        assert record.recipe is not None
        assert read.curve("accuracy/validation") == list(enumerate(record.curve, 1))
        for tag, field in (
            ("loss/train", "train_loss"),
            ("accuracy/train", "train_accuracy"),
            ("loss/validation", "loss"),
        ):
            assert read.curve(tag) == [(epoch["epoch"], epoch[field]) for epoch in attributes[name]["epochs"]]
        assert "learning_rate" in read.tags
        assert read.told["network"] == str(record.architecture)
        assert (read.told["params"], read.told["macs"]) == (record.cost.params, record.cost.macs)
        assert read.told["receptive_field"] == record.receptive_field
        assert read.told["learning_rate"] == record.recipe.learning_rate
        assert read.metrics == ["value"]
        finished = record.state == "finished"
        assert read.ended_well is finished
        assert (read.curve("value") if finished else []) == ([(4, record.value)] if finished else [])
        assert ("value" in read.tags) is finished


def test_a_search_that_is_stopped_ends_its_runs(tmp_path: Path, small_mnist: Path) -> None:
    with quick_search(tmp_path, small_mnist, trials=4) as search:
        with closing(search_events(search, tmp_path / "tb")) as events:
            started = next(event for event in events if isinstance(event, Started))
        assert Read(tmp_path / "tb" / "tiny-600" / f"trial_{started.record.number}").ended_well is False
        with closing(search_events(search, None)) as events:
            assert any(isinstance(event, Ended) for event in events)
    assert len(list((tmp_path / "tb").rglob("events*"))) == 1


def test_seeds_that_were_kept_are_written_too_and_a_seed_twice_is_one_curve(tmp_path: Path) -> None:
    recipe = evidence().recipe
    first, *others = THREE.runs
    for _ in range(2):
        with Runs(tmp_path) as runs:
            seeds = Seeds(runs, "trial_42", NETWORK, recipe)
            for result in first.epochs:
                seeds.epoch(0, replace(result, loss=0.5))
            seeds.rest(Confirmation((first, *others)))
    assert {path.name for path in tmp_path.iterdir()} == {"trial_42_seed_0", "trial_42_seed_1", "trial_42_seed_2"}
    for one in THREE.runs:
        read = Read(tmp_path / f"trial_42_seed_{one.seed}")
        assert read.curve("accuracy/test") == [(result.epoch, result.accuracy) for result in one.epochs]
        assert read.curve("final/test") == [(6, one.final.accuracy)]
        assert read.told == {k: v for k, v in described(NETWORK, recipe, one.seed).items() if v is not None}
    assert [value for _, value in Read(tmp_path / "trial_42_seed_0").curve("loss/test")] == [0.5] * 6  # as it was heard


def test_the_three_commands(
    here: Path, small_mnist: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    code, _, err = run(monkeypatch, capsys, *search_arguments(here, small_mnist, trials=1), "--tensorboard", "tb")
    assert (code, err) == (0, "")
    (record,) = [record for record in open_study().records() if record.trained]
    assert Read(here / "tb" / "tiny-600" / f"trial_{record.number}").curve("value") == [(3, record.value)]

    number = str(record.number)
    confirm = ["confirm", "--trial", number, "--seeds", "1", "--workers", "0", "--device", "cpu", "--tensorboard", "tb"]
    code, _, _ = run(monkeypatch, capsys, *confirm, "--json")
    (kept,) = open_study().runs(record.number)
    read = Read(here / "tb" / "tiny-600" / f"trial_{number}_seed_0")
    assert code == 0
    assert read.curve("accuracy/test") == [(result.epoch, result.accuracy) for result in kept.epochs]
    assert read.curve("final/test") == [(3, kept.final.accuracy)]

    train = ["train", "4 M 6", "--data", str(small_mnist), "--epochs", "2", "--device", "cpu", "--json"]
    code, out, _ = run(monkeypatch, capsys, *train, "--tensorboard", "tb")
    (folder,) = (here / "tb").glob("train_*_seed_0")
    assert code == 0
    assert Read(folder).curve("accuracy/validation") == [
        (epoch["epoch"], epoch["accuracy"]) for epoch in json.loads(out)["epochs"]
    ]


@pytest.mark.parametrize(
    "command", [["search"], ["train", "4 M 6"], ["confirm", "--trial", "0"]], ids=["search", "train", "confirm"]
)
def test_what_is_missing_is_said_before_anything_is_trained(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], command: list[str]
) -> None:
    (here / "file").write_text("a file where the folder should be")
    code, _, err = run(monkeypatch, capsys, *command, "--tensorboard", "file/tb")
    assert (code, err) == (2, f"error: --tensorboard file/tb: must be a folder, but {here / 'file'} is a file\n")
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    code, _, err = run(monkeypatch, capsys, *command, "--tensorboard", "tb")
    assert (code, err) == (
        2,
        "error: --tensorboard needs tensorboard; install with: pip install 'budgetnet[tensorboard]' "
        "(in a clone: '.[tensorboard]')\n",
    )
    assert [path.name for path in here.iterdir()] == ["file"]
