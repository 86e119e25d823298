"""The README is kept true: its reference is the program's own help, its commands run, its pictures are a report's."""

from __future__ import annotations

import re
import shlex
import shutil
import signal
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from optuna.pruners import NopPruner
from optuna.samplers import RandomSampler
from typer.testing import CliRunner

import budgetnet
from budgetnet import plan, samplers
from budgetnet.build import build
from budgetnet.cli import app, main
from budgetnet.display import percent
from budgetnet.drawing import THEME
from budgetnet.evidence import read_evidence
from budgetnet.layers import ACTIVATIONS
from budgetnet.notation import parse
from budgetnet.pieces import Style
from budgetnet.source import class_source
from budgetnet.space_files import load_space
from budgetnet.tabulate import receptive_field
from tests.reference import PARTS, README, parameters_of, part_of

ROOT = README.parent
TEXT = README.read_text(encoding="utf-8")

# What a minute is too short for, or what this machine has not: how a line begins, and why it is not run here.
NOT_RUN = {
    "pip install . && budgetnet search": "a quarter of an hour; CI installs, and the tests search",
    'pip install -e ".[test]" && pytest': "this is it",
    "budgetnet confirm --trial 0": "ten trainings",
    "budgetnet freeze --trial 0": "three trainings",
    "budgetnet verify Model_1": "tests/test_package.py verifies all that ship",
    "budgetnet search --data my_images": "tests/test_own_images.py makes the pictures",
    "budgetnet predict Model_1 my_images": "the same",
    "budgetnet confirm --trial 42 --executor ray": "needs a cluster; test_cluster.py has one",
    "budgetnet search --executor ray": "needs a cluster; test_cluster.py has one, test_coordinator.py the options",
}


def commands() -> list[str]:
    """Every line of every shell block, without its comment."""
    blocks = re.findall(r"^```sh\n(.*?)^```", TEXT, flags=re.DOTALL | re.MULTILINE)
    lines = [re.sub(r"\s+#.*", "", line).strip() for block in blocks for line in block.splitlines()]
    return [line for line in lines if line]


def reason(command: str) -> str | None:
    return next((why for start, why in NOT_RUN.items() if command.startswith(start)), None)


def test_the_numbers_in_the_prose_are_those_of_the_frozen_models() -> None:
    """``[5,993 parameters](studies/…) with 99.53 ± 0.04 %``: whatever the next link's words are, these are its own."""
    found = map(read_evidence, ROOT.glob("studies/frontier/*.json"))
    frozen = {evidence.cost.params: evidence for evidence in found}
    told = re.findall(
        r"\[([\d,]+)(?:\s+parameters)?\]\(studies/frontier/params_\w+/README\.md\)[^\[]*?(\d\d\.\d\d ± \d\.\d\d) %",
        TEXT,
    )
    assert len(told) == len(frozen) == 7
    for params, accuracy in told:
        runs = frozen[int(params.replace(",", ""))].confirmation
        assert accuracy == f"{percent(runs.mean)} ± {percent(runs.std)}", params


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory in which a study has a trial 42: the committed landscape."""
    made = tmp_path_factory.mktemp("readme")
    shutil.copytree(ROOT / "studies" / "landscape", made / "studies" / "landscape")
    return made


@pytest.mark.parametrize("command", [command for command in commands() if reason(command) is None])
def test_the_commands_run(
    command: str, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = shlex.split(command)
    assert words[0] == "budgetnet", f"nobody has said how to run {command!r}"
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "argv", words)
    before = signal.getsignal(signal.SIGTERM)
    try:
        with pytest.raises(SystemExit) as end:
            main()
    finally:
        signal.signal(signal.SIGTERM, before)
    told = capsys.readouterr()
    assert (end.value.code or 0) == 0, told.err
    assert told.out


def test_what_is_not_run_is_in_the_readme() -> None:
    assert [start for start in NOT_RUN if not any(command.startswith(start) for command in commands())] == []


def test_the_python_example_runs(capsys: pytest.CaptureFixture[str]) -> None:
    example = next(
        part for part in re.findall(r"^```python\n(.*?)^```", TEXT, re.DOTALL | re.MULTILINE) if "import" in part
    )
    exec(compile(example, "README.md", "exec"), {"__name__": "example"})
    assert "receptive field 22 after stage2.12" in capsys.readouterr().out


@pytest.mark.parametrize("name", PARTS)
def test_what_the_readme_has_from_elsewhere_is_as_it_is_there(name: str) -> None:
    assert part_of(TEXT, name) == PARTS[name](), "python -m tests.reference writes it anew"


@pytest.mark.parametrize("command", app.registered_commands, ids=lambda command: command.callback.__name__)
def test_the_reference_is_what_help_says(command: object) -> None:
    function = command.callback  # type: ignore[attr-defined]
    told = CliRunner().invoke(app, [function.__name__.replace("_", "-"), "--help"], terminal_width=500)
    assert told.exit_code == 0
    shown = " ".join(told.output.split()).casefold()
    for name, help_text, _ in parameters_of(function):
        assert name.split()[0].strip("[]…").casefold() in shown
        assert " ".join(help_text.split()).casefold() in shown
    assert "example: budgetnet " in shown


def test_the_pictures_are_those_of_a_report() -> None:
    pictures = re.findall(r"!\[[^\]]+\]\(([^)]+)\)", TEXT)
    assert pictures
    for address in pictures:
        path = ROOT / address
        assert THEME in path.read_text(encoding="utf-8")
        assert f"pictures/{path.name})" in (path.parents[1] / "README.md").read_text(encoding="utf-8")


def test_links_lead_somewhere() -> None:
    for address in re.findall(r"\]\(([^)#]+)\)", TEXT):
        assert (ROOT / address).exists(), address


def test_what_contributing_says_takes_one_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A space, a pruner, a sampler, an activation: each works once its one place names it."""
    spaces = Path(budgetnet.__file__).parents[1] / "search_spaces"
    copy = tmp_path / "mine.yaml"
    copy.write_text((spaces / "mnist.yaml").read_text(encoding="utf-8").replace("name: mnist", "name: mine"))
    assert load_space(str(copy)).name == "mine"
    monkeypatch.setitem(plan.PRUNERS, "mine", lambda epochs: NopPruner())
    assert plan.Plan(1, pruner="mine").pruner == "mine"
    monkeypatch.setitem(samplers.SAMPLERS, "mine", RandomSampler)
    assert plan.Plan(1, sampler="mine").sampler == "mine"
    assert isinstance(samplers.make_sampler("mine", 0), RandomSampler)
    monkeypatch.setitem(ACTIVATIONS, "softsign", "Softsign")
    network = replace(parse("4 M 6"), style=Style("before", "softsign"))
    assert "nn.Softsign()" in class_source(network, "Net", "A network.")
    assert receptive_field(build(network), (1, 28, 28)).params == receptive_field(network).params
