"""Freezing: the block says what was recorded, only the one class changes, and an error changes nothing."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import subprocess
import sys
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from budgetnet.architecture import Architecture
from budgetnet.budget import Limits
from budgetnet.build import build
from budgetnet.dimension import RandomDraw
from budgetnet.errors import ArchitectureError, BudgetError, ModelError
from budgetnet.evidence import Evidence, frozen_digest, read_evidence
from budgetnet.freeze import Frozen, freeze, frozen_source
from budgetnet.modelfile import ModelFile, check_name, free_name, next_name
from budgetnet.notation import parse
from budgetnet.recipe import Recipe
from budgetnet.results import Confirmation
from budgetnet.sentences import Sentence
from budgetnet.space_files import load_space
from tests.records import NETWORK, PROVENANCE, THREE, evidence
from tests.test_analysis import joined

RESIDUAL_NETWORK = parse("4 r6 M s8")
LOOPED_NETWORK = parse("4 M c6^2 s8^2")


@dataclass(frozen=True)
class Workshop:
    """A folder with weights ready to be frozen."""

    folder: Path

    @property
    def out(self) -> Path:
        return self.folder / "model.py"

    def freeze(self, network: Architecture = NETWORK, runs: Confirmation = THREE, **options: Any) -> Frozen:
        weights = self.folder / "run" / "weights.safetensors"
        weights.parent.mkdir(exist_ok=True)
        save_file({key: tensor.clone() for key, tensor in build(network, 0).state_dict().items()}, weights)
        origin = options.pop("origin", PROVENANCE)
        return freeze(network, Recipe(epochs=6), runs, origin, weights, **{"out": self.out, **options})

    def content(self) -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in sorted(self.folder.iterdir()) if path.is_file()}


@pytest.fixture
def workshop(tmp_path: Path) -> Workshop:
    return Workshop(tmp_path)


# --- what is written --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("architecture", [RESIDUAL_NETWORK, LOOPED_NETWORK], ids=str)
def test_three_files_and_the_class_stands_alone(workshop: Workshop, architecture: Architecture) -> None:
    frozen = workshop.freeze(architecture)
    assert sorted(workshop.content()) == ["Model_1.json", "Model_1.safetensors", "model.py"]
    assert frozen.name == "Model_1"
    code = (
        "import sys; sys.modules['budgetnet'] = None\n"
        "import torch, model\n"
        "from safetensors.torch import load_file\n"
        f"torch.set_num_threads({torch.get_num_threads()})\n"  # sums in another order differ in the last bit
        "network = model.Model_1().eval()\n"
        "network.load_state_dict(load_file('Model_1.safetensors'))\n"
        "images = torch.rand(2, *network.input_shape, generator=torch.Generator().manual_seed(5))\n"
        "print(network(images).double().sum().item())"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=workshop.folder, capture_output=True, text=True, check=False
    )
    images = torch.rand(2, 1, 28, 28, generator=torch.Generator().manual_seed(5))
    built = build(architecture).eval()
    built.load_state_dict(load_file(frozen.weights))
    assert float(done.stdout) == built(images).double().sum().item(), done.stderr


def check_with_ruff(path: Path) -> None:
    config = str(Path(__file__).parent.parent / "pyproject.toml")
    for arguments in (["check"], ["format", "--check", "--diff"]):
        command = [sys.executable, "-m", "ruff", *arguments, "--no-cache", "--config", config, str(path)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr


def test_the_file_passes_ruff(workshop: Workshop) -> None:
    for network in (NETWORK, RESIDUAL_NETWORK, parse("8 r8/2 M2 10"), LOOPED_NETWORK):
        workshop.freeze(network)
    check_with_ruff(workshop.out)
    assert workshop.out.read_text("utf-8").count("class Residual(") == 1
    assert ModelFile.read(workshop.out).classes == ["Model_1", "Residual", "Model_2", "Model_3", "Model_4"]


@pytest.mark.parametrize(("space", "budget"), [("mnist", 8000), ("mnist", 900), ("colour32", 30_000)])
def test_whatever_a_shipped_space_draws_can_be_frozen(workshop: Workshop, space: str, budget: int) -> None:
    """``freeze`` itself checks that the class takes the weights and answers bit for bit like the trained network."""
    drawn, networks = load_space(space), []
    for seed in range(20):
        with suppress(ArchitectureError, BudgetError):
            networks.append(drawn.draw(RandomDraw(seed)).fit(Limits(budget)))
    for network in networks:
        normalisation = {"mean": (0.5,) * network.input_shape[0], "std": (0.25,) * network.input_shape[0]}
        workshop.freeze(network, origin=replace(PROVENANCE, budget=budget, **normalisation))
    file = ModelFile.read(workshop.out)
    assert len(file.classes) > 9
    for name in [name for name in file.classes if name != "Residual"]:
        record = read_evidence(workshop.folder / f"{name}.json")
        assert file.source_of(name).strip() == frozen_source(record, file).strip()
    check_with_ruff(workshop.out)


def test_evidence_holds_all_that_was_recorded(workshop: Workshop) -> None:
    frozen = workshop.freeze()
    record = read_evidence(frozen.evidence)
    assert (record.architecture, record.recipe, record.confirmation) == (NETWORK, Recipe(epochs=6), THREE)
    assert record.provenance == PROVENANCE
    assert record.weights_sha256 == hashlib.sha256(frozen.weights.read_bytes()).hexdigest()
    assert record.weights_sha256 in frozen.source


def test_freezing_the_same_numbers_again_gives_the_same_bytes(workshop: Workshop) -> None:
    workshop.freeze()
    workshop.freeze(RESIDUAL_NETWORK)
    before = workshop.content()
    workshop.freeze(RESIDUAL_NETWORK, name="Model_2", force=True)
    workshop.freeze(name="Model_1", force=True)
    assert workshop.content() == before


# --- one class, and nothing else --------------------------------------------------------------------------------------

SURROUNDINGS = (
    '"""Mine."""\n\nimport os\nfrom torch import Tensor, nn\n\n\nclass Before(nn.Module):\n    x = "\x0c" # odd  \n\n\n'
    "@staticmethod\nclass Model_3(nn.Module):\n    pass  # mine\n",
    "# behind, with blanks  \n\n\n\ndef helper( ) :\n  return os.sep\n\nclass After: pass",
)


@pytest.mark.parametrize("eol", ["\n", "\r\n"])
def test_force_replaces_exactly_that_class(workshop: Workshop, eol: str) -> None:
    head, tail = (part.replace("\n", eol).encode() for part in SURROUNDINGS)
    workshop.out.write_bytes(head + tail)
    with pytest.raises(ModelError, match=r"model\.py: Model_3 exists already; --force replaces it"):
        workshop.freeze(name="Model_3")
    assert workshop.out.read_bytes() == head + tail
    frozen = workshop.freeze(name="Model_3", force=True)
    content = workshop.out.read_bytes()
    start = head.index(b"@staticmethod")
    assert content[:start] == head[:start]
    assert content[start:] == frozen.source.replace("\n", eol).encode() + tail
    compile(content, "model.py", "exec")


@given(
    st.lists(st.sampled_from(["x = 1\n", "# c\n", "\n", "class A:\n    pass\n", "def f():\n    pass\n"]), max_size=6)
)
def test_whatever_stands_in_the_file_stays(parts: list[str]) -> None:
    text = "from torch import Tensor, nn\n" + "".join(parts)
    file = ModelFile(Path("model.py"), text.encode())
    added = file.with_class("Model_1", "class Model_1:\n    a = 1\n", residual=False)
    assert added.startswith(text.encode())
    assert added.endswith(b"\n\n\nclass Model_1:\n    a = 1\n")
    again = ModelFile(Path("model.py"), added + b"y = 2\n")
    changed = again.with_class("Model_1", "class Model_1:\n    b = 2\n", residual=True)
    kept = changed.replace(b"class Model_1:\n    b = 2\n", b"class Model_1:\n    a = 1\n")
    before, residual, after = kept.partition(kept[kept.index(b"class Residual") : kept.index(b"class Model_1")])
    assert residual
    assert before + after == added + b"y = 2\n"


@pytest.mark.parametrize(
    ("text", "start"),
    [
        ('"""Mine."""\n', '"""Mine."""\n\nfrom torch import Tensor, nn\n\n\nclass Model_1'),
        ("import torch.nn as nn\n", "import torch.nn as nn\nfrom torch import Tensor\n\n\nclass Model_1"),
        ("# mine\n", "# mine\nfrom torch import Tensor, nn\n\n\nclass Model_1"),
        ("x = 1", "from torch import Tensor, nn\nx = 1\n\n\nclass Model_1"),
        (" \n", '"""Networks found by budgetnet; '),
        ("import os", "import os\nfrom torch import Tensor, nn\n\n\nclass Model_1"),
        ("# mine", "# mine\nfrom torch import Tensor, nn\n\n\nclass Model_1"),
        ('"""Mine."""', '"""Mine."""\n\nfrom torch import Tensor, nn\n\n\nclass Model_1'),
        ("from torch import nn", "from torch import nn\nfrom torch import Tensor\n\n\nclass Model_1"),
        ("\ufeffx = 1\n", "\ufefffrom torch import Tensor, nn\nx = 1\n\n\nclass Model_1"),
    ],
)
def test_missing_imports_are_added(workshop: Workshop, text: str, start: str) -> None:
    workshop.out.write_text(text, encoding="utf-8")
    workshop.freeze()
    content = workshop.out.read_text("utf-8")
    assert content.startswith(start)
    exec(compile(workshop.out.read_bytes(), "model.py", "exec"), {"__name__": "model"})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("nn = 3\n", "nn must be torch.nn, but the file gives that name to something else"),
        ("class Residual:\n    pass\n", "Residual is not the class that budgetnet writes"),
        ("class Broken(\n", "model.py:1: is no Python: "),
        ("x = '\xe9'\n".encode("latin-1"), "model.py"),
        (b"a\0b", "is no Python"),
        ("# -*- coding: ascii -*-\nimport os\n", "model.py: must be UTF-8, but declares ascii"),
        ("import os\\\n", "is no Python"),
        ("Model_1 = 3\n", "Model_1 is not a class"),
        ("class Model_1: pass\nclass Model_1: pass\n", "Model_1 is defined twice"),
    ],
)
def test_a_file_that_cannot_take_the_class_stays_as_it_is(workshop: Workshop, text: str | bytes, message: str) -> None:
    content = text if isinstance(text, bytes) else text.encode()
    workshop.out.write_bytes(content)
    with pytest.raises(ModelError) as caught:
        workshop.freeze(RESIDUAL_NETWORK, name="Model_1", force=True)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert workshop.content() == {"model.py": content}


# --- names ------------------------------------------------------------------------------------------------------------


def test_next_name_is_one_above_all_in_the_file_and_beside_it(tmp_path: Path) -> None:
    out = tmp_path / "model.py"
    assert next_name(out) == "Model_1"
    out.write_text("class Model_2: pass\nclass Model_10: pass\nclass Model_x: pass\n")
    assert next_name(out) == "Model_11"
    (tmp_path / "Model_12.safetensors").touch()
    assert next_name(out) == "Model_13"


@pytest.mark.parametrize(
    "name",
    [
        "",
        "../up",
        "a/b",
        "a\\b",
        "Model 1",
        "1st",
        "class",
        "Modèle",
        "a.b",
        "C:x",
        "x" * 65,
        "nn",
        "Residual",
        "super",
    ],
)
def test_names_that_are_no_plain_identifier_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ModelError, match=r"a model's name must be|a model cannot be called"):
        check_name(name)
    with pytest.raises(ModelError):
        free_name(tmp_path / "model.py", name, force=True)


def test_a_name_whose_files_exist_is_taken_whatever_its_case(tmp_path: Path) -> None:
    (tmp_path / "Small.json").touch()
    with pytest.raises(ModelError, match="files or a class called small exist already"):
        free_name(tmp_path / "model.py", "small")
    assert free_name(tmp_path / "model.py", "small", force=True) == "small"


def test_a_folder_without_permission_is_found_out_before_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: path != tmp_path)
    with pytest.raises(ModelError, match=r"must be a folder that can be written to"):
        free_name(tmp_path / "model.py", "Model_1")


def test_a_folder_that_is_not_there_is_found_out_before_training(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"no: must be a folder that can be written to"):
        free_name(tmp_path / "no" / "model.py")


# --- all or nothing ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("failing", [1, 2, 3])
@pytest.mark.parametrize("existing", [False, True])
def test_a_failing_replace_leaves_every_file_as_it_was(
    workshop: Workshop, monkeypatch: pytest.MonkeyPatch, failing: int, existing: bool
) -> None:
    if existing:
        workshop.freeze()
    before, calls, real = workshop.content(), [], os.replace

    def full(source: Path, target: Path) -> None:
        calls.append(target)
        if len(calls) == failing:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(source, target)

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(ModelError) as caught:
        workshop.freeze(RESIDUAL_NETWORK, name="Model_1", force=True)
    assert str(caught.value) == f"{workshop.folder}: cannot be written: No space left on device"
    assert workshop.content() == before
    assert {path.name for path in workshop.folder.iterdir()} == {*before, "run"}  # and nothing temporary is left
    assert [path.name for path in calls[:failing]] == ["Model_1.safetensors", "Model_1.json", "model.py"][:failing]


def test_a_disk_that_fills_while_writing_changes_nothing(workshop: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
    workshop.freeze()
    before = workshop.content()

    def full(handle: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(ModelError, match="No space left on device"):
        workshop.freeze(RESIDUAL_NETWORK)
    assert workshop.content() == before


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write anywhere")
def test_a_read_only_folder_is_refused(workshop: Workshop) -> None:
    workshop.freeze()
    workshop.folder.chmod(0o555)
    try:
        with pytest.raises(ModelError, match="must be a folder that can be written to"):
            free_name(workshop.out)
    finally:
        workshop.folder.chmod(0o755)


def test_weights_of_another_network_are_refused(workshop: Workshop, tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.safetensors"
    state = build(NETWORK, 0).state_dict()
    cases = {
        r"stem\.0\.weight is \(1, 1\) of float32 where the class has \(8, 1, 3, 3\) of float32": {
            **state,
            "stem.0.weight": torch.zeros(1, 1),
        },
        r"stem\.0\.weight is \(8, 1, 3, 3\) of float64 where": {
            **state,
            "stem.0.weight": state["stem.0.weight"].double(),
        },
        r"stem\.0\.weight is missing": {name: tensor for name, tensor in state.items() if name != "stem.0.weight"},
        r"extra is not in the class": {**state, "extra": torch.zeros(1)},
    }
    for message, tensors in cases.items():
        save_file(tensors, wrong)
        with pytest.raises(ModelError, match=message):
            freeze(NETWORK, Recipe(), THREE, PROVENANCE, wrong, out=workshop.out)
    wrong.write_bytes(b"no tensors")
    with pytest.raises(ModelError, match="is no safetensors file"):
        freeze(NETWORK, Recipe(), THREE, PROVENANCE, wrong, out=workshop.out)
    with pytest.raises(ModelError, match="gone: cannot be read: No such file"):
        freeze(NETWORK, Recipe(), THREE, PROVENANCE, tmp_path / "gone", out=workshop.out)
    assert not workshop.out.exists()


# --- the text ---------------------------------------------------------------------------------------------------------


def test_the_model_before_in_the_file_is_the_one_compared_with(workshop: Workshop) -> None:
    assert "Changed against" not in workshop.freeze().source
    assert "Changed against Model_1: " in joined(workshop.freeze(RESIDUAL_NETWORK).source)
    (workshop.folder / "Model_2.json").write_text("{")
    assert "Not compared with Model_2, whose evidence is missing or unreadable." in joined(workshop.freeze().source)
    assert "Changed against Model_1: " in joined(workshop.freeze(RESIDUAL_NETWORK, name="Model_2", force=True).source)


def test_a_model_for_other_data_is_not_the_one_before(workshop: Workshop) -> None:
    workshop.freeze()
    workshop.freeze(RESIDUAL_NETWORK, origin=replace(PROVENANCE, data="fashion-mnist"))
    assert "Changed against Model_1: " in joined(workshop.freeze().source)
    assert "Changed" not in workshop.freeze(origin=replace(PROVENANCE, data="kmnist")).source


def test_a_hostile_study_name_stays_inside_the_docstring(workshop: Workshop) -> None:
    name = 'x"""\nimport os\\\x1b[31m{budget}' + "y" * 300
    workshop.freeze(origin=replace(PROVENANCE, study=name, aim=(Sentence('Quote {study} \\ and """.'),)))
    scope: dict[str, Any] = {"__name__": "model"}
    exec(compile(workshop.out.read_bytes(), "model.py", "exec"), scope)
    assert "os" not in scope
    assert max(map(len, workshop.out.read_text("utf-8").split("\n"))) <= 120


# --- evidence ---------------------------------------------------------------------------------------------------------


def test_evidence_round_trip() -> None:
    said = (Sentence("Why: {mean}."), Sentence("It is better.", "mean > 0"))
    record = evidence(network=RESIDUAL_NETWORK, aim=said[:1], analysis=said)
    assert Evidence.from_json(record.to_json()) == record


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda data: data.update(format=1), "evidence.format must be 2, but is 1"),
        (lambda data: data.update(name=3), "evidence.name must be a text, but is 3"),
        (lambda data: data.update(recipe=[]), "evidence.recipe must be a mapping"),
        (lambda data: data["recipe"].update(epochs=0), "evidence: recipe.epochs: must be between"),
        (lambda data: data["architecture"].update(body=[{"type": "x"}]), "evidence: body[0].type must be"),
        (
            lambda data: data["provenance"].update(budget="8000"),
            "evidence.provenance.budget must be a whole number, but is '8000'",
        ),
        (
            lambda data: data["provenance"].update(aim=["at 99.4 %"]),
            "evidence.provenance.aim[0]: a number is written as",
        ),
        (lambda data: data["provenance"].update(aim="x"), "evidence.provenance.aim must be a list, but is 'x'"),
        (
            lambda data: data["provenance"].update(mean=["0.1"]),
            "evidence.provenance.mean[0] must be a number, but is '0.1'",
        ),
        (lambda data: data["provenance"].update(std=[0.0]), "mean and std must be as many, and std above 0"),
        (lambda data: data["provenance"].pop("trial"), "evidence.provenance must have the fields study, trial, "),
        (lambda data: data["provenance"].update(target=99.4), "target must be a fraction between 0 and 1, but is 99.4"),
        (lambda data: data.update(name="Model_2"), "evidence.name must be Model_1, but is 'Model_2'"),
    ],
)
def test_broken_evidence_is_refused_by_place(tmp_path: Path, change: Any, message: str) -> None:
    data = json.loads(evidence().to_json())
    change(data)
    path = tmp_path / "Model_1.json"
    path.write_text(json.dumps(data))
    with pytest.raises(ModelError) as caught:
        read_evidence(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert message in str(caught.value)


def test_a_json_that_is_no_record_of_ours_says_nothing_of_weights(tmp_path: Path) -> None:
    path = tmp_path / "Net.json"
    assert frozen_digest(path) is None
    path.write_text('{"width": 8}')
    assert frozen_digest(path) is None
    path.write_text('{"weights_sha256": "00"}')
    with pytest.raises(ModelError, match="format must be 2"):
        frozen_digest(path)
    path.write_text("{")
    with pytest.raises(ModelError, match="is not JSON"):
        frozen_digest(path)
