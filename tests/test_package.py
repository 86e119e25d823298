"""What ships: the frozen models of the package hold what their evidence says, and the README names every command."""

from __future__ import annotations

from pathlib import Path

import pytest

import budgetnet
from budgetnet.cli import app
from budgetnet.modelfile import ModelFile
from budgetnet.models import names
from budgetnet.verify import verify

PACKAGE = Path(budgetnet.__file__).parent
README = Path(__file__).parents[1] / "README.md"


def test_the_package_ships_the_three_steps() -> None:
    assert names(PACKAGE / "model.py") == ["Model_1", "Model_2", "Model_3"]


@pytest.mark.parametrize("name", names(PACKAGE / "model.py"))
def test_every_claim_of_a_shipped_model_holds(name: str) -> None:
    claims = list(verify(PACKAGE / "model.py", name))
    assert len(claims) == 7
    assert [(claim.what, claim.found) for claim in claims if not claim.holds] == []


def test_the_readme_shows_what_the_shipped_model_says() -> None:
    shown = README.read_text(encoding="utf-8").split("```python\n")[1].split("\n```")[0]
    source = ModelFile.read(PACKAGE / "model.py").source_of("Model_3")
    for part in shown.split("[…]"):
        lines = part.strip().strip("-").strip()
        assert lines in source


def test_every_command_is_in_the_readme() -> None:
    text = README.read_text(encoding="utf-8")
    for command in app.registered_commands:
        assert command.callback is not None
        assert f"`budgetnet {command.name or command.callback.__name__}" in text


def test_the_readme_begins_with_the_two_commands() -> None:
    blocks = README.read_text(encoding="utf-8").split("```sh\n")[1:3]
    commands = [block.split("\n```")[0] for block in blocks]
    assert commands == ["pip install . && budgetnet search --budget 8000", 'pip install -e ".[test]" && pytest']
