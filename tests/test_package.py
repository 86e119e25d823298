"""What ships: the frozen models of the package hold what their evidence says, and the README names every command."""

from __future__ import annotations

from pathlib import Path

import pytest

import budgetnet
from budgetnet.cli import app
from budgetnet.cost import cost
from budgetnet.errors import ModelError
from budgetnet.evidence import read_evidence
from budgetnet.models import names
from budgetnet.verify import recount, verify

PACKAGE = Path(budgetnet.__file__).parent
README = Path(__file__).parents[1] / "README.md"
TIES = 2  # images: another processor rounds otherwise, and may turn a near-tie


def test_the_package_ships_a_model() -> None:
    assert "Model_1" in names(PACKAGE / "model.py")


@pytest.mark.parametrize("name", names(PACKAGE / "model.py"))
def test_a_shipped_model_has_the_params_and_the_test_accuracy_of_its_evidence(name: str) -> None:
    evidence = read_evidence(PACKAGE / f"{name}.json")
    model = budgetnet.load(name, pretrained=True, models=PACKAGE / "model.py")
    params = sum(parameter.numel() for parameter in model.parameters())
    assert params == cost(evidence.architecture).params
    assert params < evidence.provenance.budget
    assert abs(recount(model, evidence) - evidence.confirmation.runs[0].final.correct) <= TIES


def test_every_command_is_in_the_readme() -> None:
    text = README.read_text(encoding="utf-8")
    for command in app.registered_commands:
        assert command.callback is not None
        assert f"`budgetnet {command.name or command.callback.__name__}" in text


def test_the_readme_begins_with_the_two_commands() -> None:
    blocks = README.read_text(encoding="utf-8").split("```sh\n")[1:3]
    commands = [block.split("\n```")[0] for block in blocks]
    assert commands == ["pip install . && budgetnet search --budget 8000", 'pip install -e ".[test]" && pytest']


def test_verify_holds_for_the_shipped_models_and_finds_what_was_changed(tmp_path: Path) -> None:
    for path in (*PACKAGE.glob("Model_*"), PACKAGE / "model.py"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    model = tmp_path / "model.py"
    claims = list(verify(model, "Model_1"))
    assert [claim.holds for claim in claims[:3]] == [True] * 3
    original = model.read_text(encoding="utf-8")
    for old, new in (("99.43 ±", "99.53 ±"), ("7,790 / 8,000", "7,780 / 8,000"), ("nn.ReLU()", "nn.Tanh()")):
        model.write_text(original.replace(old, new, 1), encoding="utf-8")
        assert not next(verify(model, "Model_1")).holds
    model.write_text(original, encoding="utf-8")
    weights = tmp_path / "Model_1.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    assert [claim.holds for claim in verify(model, "Model_1")][:2] == [True, False]
    weights.unlink()
    with pytest.raises(ModelError, match="cannot be read"):
        list(verify(model, "Model_1"))
