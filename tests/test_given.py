"""Networks that nobody searched are trials like any other, from ``add`` to a report and a frozen class."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from budgetnet.errors import StudyError
from budgetnet.given import add_network, existing
from budgetnet.jobs import Failed
from budgetnet.notation import parse
from budgetnet.place import place
from budgetnet.recipe import Recipe
from budgetnet.study import open_study
from tests.quick import quick_study
from tests.test_cli import run

NETWORKS = ("4 M 6", "6 M 4")


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_studies_may_lie_in_folders_of_a_common_name(
    here: Path, small_mnist: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("frontier/500", "frontier/700"):
        kind = ["--study", name, "--data", str(small_mnist), "--budget", name[-3:]]
        assert run(monkeypatch, capsys, "add", "4 M 6", *kind)[0] == 0
    assert {path.parent.name for path in here.rglob("study.db")} == {"500", "700"}
    assert {path.name for path in here.rglob("*.lock")} == {"frontier_500.lock", "frontier_700.lock"}
    assert open_study().where.name == "frontier/700"
    code, out, _ = run(monkeypatch, capsys, "trials", "--study", "frontier/500", "--all")
    assert (code, out.startswith("study frontier/500: 1 of 1 trials")) == (0, True)
    code, _, err = run(monkeypatch, capsys, "trials", "--study", "frontier/600")
    assert (code, err.endswith("under studies/ there is frontier/500, frontier/700\n")) == (2, True)
    (here / "studies" / "frontier" / "500" / "copy").mkdir()
    (here / "studies" / "frontier" / "500" / "copy" / "study.db").write_bytes(b"")
    (here / "studies" / "flat" / "copy").mkdir(parents=True)
    for home in ("flat", "flat/copy"):
        (here / "studies" / home / "study.db").write_bytes(b"")
    os.utime(here / "studies" / "flat" / "study.db", (0, 0))
    (here / "studies" / ".trash").mkdir()
    (here / "studies" / ".trash" / "study.db").write_bytes(b"")
    assert open_study().where.name == "frontier/700"  # none of the later ones is a study
    (here / "elsewhere").mkdir()
    (here / "studies" / "frontier" / "700").rename(here / "elsewhere" / "700")
    (here / "studies" / "linked").symlink_to(here / "elsewhere")
    code, _, err = run(monkeypatch, capsys, "trials")  # a folder that was moved: Optuna's study has its old name
    told = "in studies/linked/700/study.db, which has frontier/700; its folder must be called as the study is\n"
    assert (code, err.endswith(told)) == (2, True)
    for wrong in ("a/b/c", "frontier/", "/frontier", "frontier/../x", "frontier//x", "frontier/.x"):
        assert run(monkeypatch, capsys, "trials", "--study", wrong)[0] == 2


def test_bfloat16_is_refused_where_it_would_be_emulated(
    here: Path, small_mnist: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, capsys, "add", "4 M 6", "--study", "mine", "--data", str(small_mnist))[0] == 0
    monkeypatch.setattr("budgetnet.machine.has_bf16", lambda device: False)
    confirm = ["confirm", "--study", "mine", "--trial", "0", "--device", "cpu", "--bf16"]
    code, _, err = run(monkeypatch, capsys, *confirm)
    assert (code, err) == (
        2,
        "error: steps in bfloat16 need a processor that computes so, but cpu is none; see confirm --float32\n",
    )
    assert open_study("mine").runs(0) == []


def test_all_seeds_of_a_trial_are_trained_in_one_precision(
    here: Path, small_mnist: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("budgetnet.machine.has_bf16", lambda device: True)  # emulated, if need be
    kind = ["--study", "mine", "--data", str(small_mnist), "--epochs", "1"]
    confirm = ["confirm", "--study", "mine", "--device", "cpu", "--workers", "0", "--trial"]
    for network in ("4 M 6", "6 M 4"):
        assert run(monkeypatch, capsys, "add", network, *kind)[0] == 0
    assert run(monkeypatch, capsys, *confirm, "0", "--seeds", "1")[0] == 0
    code, _, err = run(monkeypatch, capsys, *confirm, "0", "--seeds", "2", "--bf16")
    told = "but seed 0 was trained in float32 and bfloat16 is asked for\n"
    assert (code, err.endswith(told)) == (2, True)
    assert run(monkeypatch, capsys, *confirm, "1", "--seeds", "1", "--bf16")[0] == 0
    assert run(monkeypatch, capsys, *confirm, "1", "--seeds", "2")[0] == 0  # goes on as it began
    assert [run.machine.precision for run in open_study("mine").runs(1)] == ["bfloat16", "bfloat16"]
    kept = open_study("mine").weights(1, 0).read_bytes()
    with monkeypatch.context() as broken:
        broken.setattr("budgetnet.executor.run_job", lambda job, *_: iter([Failed(job.id, "out of memory")]))
        assert run(broken, capsys, *confirm, "1", "--seeds", "1", "--float32")[0] == 2
    assert [run.machine.precision for run in open_study("mine").runs(1)] == ["bfloat16", "bfloat16"]
    assert (open_study("mine").has_weights(1, 0), open_study("mine").weights(1, 0).read_bytes()) == (True, kept)
    code, out, _ = run(monkeypatch, capsys, *confirm, "1", "--seeds", "1", "--float32")
    assert (code, "2 seeds in bfloat16 will not count once one in float32 has ended\n" in out) == (0, True)
    assert [run.machine.precision for run in open_study("mine").runs(1)] == ["float32"]  # the other counts no more
    assert open_study("mine").has_weights(1, 0)
    assert open_study("mine").weights(1, 0).read_bytes() != kept
    assert run(monkeypatch, capsys, *confirm, "1", "--seeds", "2")[0] == 0
    assert [run.machine.precision for run in open_study("mine").runs(1)] == ["float32", "float32"]


def test_added_with_a_recipe_told_as_json_and_two_studies_on_one_page(
    here: Path, small_mnist: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    kind = ["--data", str(small_mnist), "--epochs", "1", "--recipe", "learning_rate=0.05,ema=0.9", "--json"]
    for name in ("one", "two"):
        code, out, _ = run(monkeypatch, capsys, "add", "4 M 6", "--study", name, *kind)
        told = json.loads(out)
        assert (code, told["state"], told["notation"]) == (0, "added", "4 M 6")
        assert (told["recipe"]["learning_rate"], told["recipe"]["ema"], told["recipe"]["epochs"]) == (0.05, 0.9, 1)
        confirm = ["confirm", "--study", name, "--trial", "0", "--seeds", "1", "--workers", "0", "--device", "cpu"]
        assert run(monkeypatch, capsys, *confirm)[0] == 0
    (here / "page").mkdir()
    code, out, _ = run(monkeypatch, capsys, "report", "one", "two", "--out", "page")
    assert (code, out) == (0, f"wrote {Path('page') / 'README.md'} and {Path('page') / 'report.html'}\n")
    page = (here / "page" / "README.md").read_text(encoding="utf-8")
    accuracy = 100 * open_study("one").runs(0)[0].final.accuracy
    assert page.count(f"{accuracy:.2f}") >= 2
    assert page.count("4 M 6") >= 2
    assert not (here / "studies" / "one" / "README.md").exists()


def test_from_two_notations_to_a_report_and_a_class(
    here: Path, small_mnist: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    kind = ["--study", "mine", "--data", str(small_mnist), "--epochs", "2", "--budget", "700"]
    for number, network in enumerate(NETWORKS):
        code, out, _ = run(monkeypatch, capsys, "add", network, *kind, "--note", f"number {number}")
        assert code == 0
        assert out.endswith(f"next: budgetnet confirm --study mine --trial {number}\n")
        todo = out.rsplit("next: budgetnet ", 1)[1].split()
        code, out, _ = run(monkeypatch, capsys, *todo, "--seeds", "2", "--workers", "0", "--device", "cpu")
        assert code == 0
        assert run(monkeypatch, capsys, "report", "mine")[0] == 0
        page = (here / "studies" / "mine" / "README.md").read_text(encoding="utf-8")
        assert ("## The winner: trial 0" in page) == (number == 0)  # of two, nothing but test could choose
        assert page.count("number 0") == 1
    code, _, err = run(monkeypatch, capsys, "add", NETWORKS[1], *kind, "--note", "another")
    told = "note: trial 1 is this network already; it keeps what was said of it, not this note\n"
    assert (code, err) == (0, told)
    study = open_study("mine")
    assert [(record.state, record.reason, record.value) for record in study.records()] == [
        ("added", "number 0", None),
        ("added", "number 1", None),
    ]
    code, out, _ = run(monkeypatch, capsys, "compare", "0", "1", "--study", "mine", "--json")
    assert (code, json.loads(out)["n"]) == (0, 2)

    runs = study.runs(1)
    # 6 M 4: 6·9 + 12 and 4·6·9 + 8, head 4·10 + 10: 340 params
    mean = 100 * sum(run.final.accuracy for run in runs) / 2
    assert f"| 1 | 340 | 2 | {mean:.2f} ± " in page
    assert "| `6 M 4` | number 1 |" in page
    assert "![Accuracy against parameters]" in page

    code, out, _ = run(monkeypatch, capsys, "freeze", "--study", "mine", "--trial", "1")
    assert code == 0
    assert "validation accuracy none, for it was given" in " ".join(out.split())
    assert run(monkeypatch, capsys, "verify", "Model_1")[0] == 0


def test_a_report_names_the_model_that_lies_beside_the_study(
    here: Path, small_mnist: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert (
        run(monkeypatch, capsys, "add", "4 M 6", "--study", "f/mine", "--data", str(small_mnist), "--epochs", "1")[0]
        == 0
    )
    options = ["--study", "f/mine", "--trial", "0"]
    assert run(monkeypatch, capsys, "confirm", *options, "--seeds", "1", "--workers", "0", "--device", "cpu")[0] == 0
    page = here / "studies" / "f" / "mine" / "README.md"
    for command, told in (
        (["report", "f/mine"], "## The winner: trial 0\n"),
        (["freeze", *options, "--as", "Small", "--out", "studies/f/model.py"], "## The winner: trial 0\n"),
        (["report", "f/mine"], "## The winner: trial 0, frozen as Small\n"),
    ):
        assert run(monkeypatch, capsys, *command)[0] == 0
        assert told in page.read_text(encoding="utf-8")


def test_the_same_network_is_the_same_trial(tmp_path: Path, small_mnist: Path) -> None:
    study = quick_study(tmp_path, small_mnist)
    before = len(study.records())
    first = add_network(study, parse("4 M 6"), Recipe())
    again = add_network(study, parse("4 M 6"), Recipe(), "a word")
    other = add_network(study, parse("4 M 6"), Recipe(learning_rate=0.1))
    assert (first.number, again.number, other.number) == (before, before, before + 1)
    found = next(record for record in study.records() if record.state == "finished")
    assert found.architecture is not None
    assert found.recipe is not None
    assert add_network(study, found.architecture, found.recipe).number == found.number
    assert first.recipe is not None
    assert first.recipe.epochs == study.settings.epochs


@pytest.mark.parametrize(
    ("network", "message"),
    [
        ("64 M 64", r"params must stay below \d+, but 64 M 64 has 38,346"),
        ("[3x32x32] 4 M 6", r"is for images of 1×28×28 in 10 classes, but .* is for 3×32×32 in 10"),
    ],
)
def test_what_does_not_belong_is_refused(tmp_path: Path, small_mnist: Path, network: str, message: str) -> None:
    study = quick_study(tmp_path, small_mnist)
    before = study.records()
    with pytest.raises(StudyError, match=message):
        add_network(study, parse(network), Recipe())
    assert study.records() == before


def test_a_study_that_cannot_have_the_network_is_not_made(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    code, _, err = run(monkeypatch, capsys, "add", "64 M 64", "--study", "new", "--budget", "700")
    assert (code, err) == (2, "error: study new: params must stay below 700, but 64 M 64 has 38,346\n")
    assert existing(place("new")) is None
    assert list(here.iterdir()) == []
