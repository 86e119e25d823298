"""Export to ONNX: what is written answers like torch and says how well it does; where it fails, nothing is written."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from hypothesis import given, settings
from torch import Tensor

import budgetnet
from budgetnet.architecture import Architecture
from budgetnet.budget import Limits
from budgetnet.build import build
from budgetnet.cost import cost
from budgetnet.data import load as load_data
from budgetnet.dataset import Split
from budgetnet.dimension import RandomDraw
from budgetnet.errors import ArchitectureError, ModelError
from budgetnet.evidence import Evidence, Provenance, read_evidence
from budgetnet.export import Exported, _answers, _check_same, _exported, _quiet, _save, export
from budgetnet.freeze import freeze
from budgetnet.jobs import EpochDone, Job, SeedDone, run_job
from budgetnet.models import load
from budgetnet.notation import parse
from budgetnet.recipe import Recipe
from budgetnet.results import Confirmation, SeedRun
from budgetnet.space import SearchSpace
from budgetnet.space_files import load_space
from tests.records import confirmation
from tests.strategies import architectures
from tests.test_cli import run

PLAIN, RESIDUAL, LOOPED = "Model_1", "Model_2", "Model_3"
NETWORKS = {
    PLAIN: parse("6 M 10 M c10 | avg5 1x1:10"),
    RESIDUAL: parse("[silu bias] 4 M r8 s12/2 | fc:10"),
    LOOPED: parse("6 M c8^2 M s10^1"),
}
EACH = pytest.mark.parametrize("name", list(NETWORKS))
FILES = [f"{name}.{kind}" for name in sorted(NETWORKS) for kind in ("json", "safetensors")]
NOTE = "note: runs the code of model.py; do so only with files that you trust\n"

Pixels = np.ndarray[Any, np.dtype[np.float32]]


@dataclass(frozen=True)
class Shop:
    """A folder with two frozen models, and the images that they are tested on."""

    folder: Path
    pixels: Pixels  # (300, 1, 28, 28), scaled to 0..1
    labels: np.ndarray[Any, Any]

    @property
    def models(self) -> Path:
        return self.folder / "model.py"

    def evidence(self, name: str) -> Evidence:
        return read_evidence(self.folder / f"{name}.json")

    def torch_logits(self, name: str) -> Pixels:
        """What torch answers, without the package's own loop."""
        origin = self.evidence(name).provenance
        with torch.inference_mode():
            images = torch.from_numpy((self.pixels - origin.mean[0]) / origin.std[0]).float()
            return load(name, pretrained=True, models=self.models).eval()(images).numpy()

    def onnx_logits(self, file: Path, batch: int = 100) -> Pixels:
        """What onnxruntime answers to images normalised by nothing but what the file itself says."""
        told = metadata(onnx.load(file))
        images = ((self.pixels - float(told["mean"])) / float(told["std"])).astype(np.float32)
        session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
        answers = [session.run(None, {"images": images[n : n + batch]})[0] for n in range(0, len(images), batch)]
        return np.concatenate(answers)

    def correct(self, logits: Pixels) -> int:
        return int((logits.argmax(1) == self.labels).sum())


def metadata(model: onnx.ModelProto) -> dict[str, str]:
    return {entry.key: entry.value for entry in model.metadata_props}


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def shop(small_mnist: Path, tmp_path_factory: pytest.TempPathFactory) -> Shop:
    """Trained for a second each, as a seed of ``confirm`` is: about 75 % correct."""
    folder, data = tmp_path_factory.mktemp("shop"), load_data(str(small_mnist))
    recipe = Recipe(epochs=5, learning_rate=0.1, batch_size=32, rotation=0, scale=0, shift=0, shear=0)
    for network in NETWORKS.values():
        weights = folder / "trained" / "weights.safetensors"
        weights.parent.mkdir(exist_ok=True)
        job = Job(0, network, recipe, str(small_mnist), "final", 0, str(weights))
        events = list(run_job(job, "cpu", lambda: False))
        epochs = tuple(event.result for event in events if isinstance(event, EpochDone))
        (done,) = (event for event in events if isinstance(event, SeedDone))
        runs = Confirmation((SeedRun(0, epochs, done.outcome, done.machine),))
        origin = Provenance("small-8000", 0, 8000, 0, str(small_mnist), 0.7, data.mean, data.std)
        freeze(network, recipe, runs, origin, weights, out=folder / "model.py")
    shutil.rmtree(folder / "trained")
    with np.load(small_mnist) as archive:
        return Shop(folder, (archive["x_test"][:, None] / 255).astype(np.float32), archive["y_test"])


@pytest.fixture
def own(shop: Shop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Shop:
    """A copy of the folder to work in."""
    folder = tmp_path / "own"
    shutil.copytree(shop.folder, folder)
    monkeypatch.chdir(folder)
    return Shop(folder, shop.pixels, shop.labels)


@pytest.fixture(scope="module")
def written(shop: Shop, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, bool], Exported]:
    """Each model, in float32 or int8, exported once for all tests that only look at it."""
    folder, made = tmp_path_factory.mktemp("onnx"), {}

    def exported(name: str, int8: bool) -> Exported:
        if (name, int8) not in made:
            made[name, int8] = export(shop.models, name, folder / f"{name}-{int8}.onnx", int8=int8)
        return made[name, int8]

    return exported


# --- float32 ----------------------------------------------------------------------------------------------------------


@EACH
def test_float32_answers_like_torch_on_every_test_image(
    shop: Shop, written: Callable[[str, bool], Exported], name: str
) -> None:
    made, expected = written(name, False), shop.torch_logits(name)
    onnx.checker.check_model(onnx.load(made.file), full_check=True)
    answers = shop.onnx_logits(made.file)
    assert np.abs(answers - expected).max() < 1e-4
    assert (answers.argmax(1) == expected.argmax(1)).all()
    recorded = shop.evidence(name).confirmation.runs[0].final.correct
    assert made.correct == made.torch_correct == shop.correct(answers) == recorded
    assert made.correct > 150  # of 300: it has learnt something, so that agreement says something
    assert (made.differ, made.total, made.int8) == (0, 300, False)
    assert made.size == made.float_size == made.file.stat().st_size


@EACH
def test_the_batch_is_free(shop: Shop, written: Callable[[str, bool], Exported], name: str) -> None:
    for int8 in (False, True):
        file = written(name, int8).file
        (images,), (logits,) = onnx.load(file).graph.input, onnx.load(file).graph.output
        batch, *shape = images.type.tensor_type.shape.dim
        assert batch.dim_param
        assert [side.dim_value for side in shape] == [1, 28, 28]
        assert logits.type.tensor_type.shape.dim[0].dim_param == batch.dim_param
        whole = shop.onnx_logits(file, 300)
        for size in (1, 3, 250):
            same = np.abs(shop.onnx_logits(file, size) - whole).max(1) < 1e-5
            assert same.mean() >= (0.99 if int8 else 1)  # a last bit may turn one level of 8 bits


@EACH
@pytest.mark.parametrize("int8", [False, True])
def test_the_file_says_what_it_is_and_what_it_wants(
    shop: Shop, written: Callable[[str, bool], Exported], name: str, int8: bool
) -> None:
    told, evidence = metadata(onnx.load(written(name, int8).file)), shop.evidence(name)
    assert told["name"] == name
    assert told["params"] == str(cost(NETWORKS[name]).params)
    assert told["weights_sha256"] == evidence.weights_sha256
    assert (float(told["mean"]),) == evidence.provenance.mean
    assert (float(told["std"]),) == evidence.provenance.std
    assert told["input"] == "pixels from 0 to 1, less mean, over std, per channel"


@EACH
def test_no_word_of_the_folder_it_was_made_in_is_left(
    shop: Shop, written: Callable[[str, bool], Exported], name: str
) -> None:
    for int8 in (False, True):
        made = written(name, int8).file
        folders = [str(folder).encode() for folder in (made.parent, shop.folder)]
        words = (*folders, b"site-packages", b"model.py", b".onnx")
        assert not [word for word in words if word in made.read_bytes()]


# --- int8 -------------------------------------------------------------------------------------------------------------


@EACH
def test_int8_holds_every_weight_in_8_bits(shop: Shop, written: Callable[[str, bool], Exported], name: str) -> None:
    made = written(name, True)
    model = onnx.load(made.file)
    onnx.checker.check_model(model, full_check=True)
    kinds: dict[int, int] = {}
    for tensor in model.graph.initializer:
        if len(tensor.dims) > 1:
            kinds[tensor.data_type] = kinds.get(tensor.data_type, 0) + int(np.prod(tensor.dims))
    module = load(name, models=shop.models)
    assert kinds == {onnx.TensorProto.INT8: sum(p.numel() for p in module.parameters() if p.ndim > 1)}
    assert made.int8
    assert made.size == made.file.stat().st_size < made.float_size == written(name, False).size


@EACH
def test_the_accuracy_of_int8_is_that_of_the_file(
    shop: Shop, written: Callable[[str, bool], Exported], name: str
) -> None:
    made, expected = written(name, True), shop.torch_logits(name)
    answers = shop.onnx_logits(made.file)
    assert not np.array_equal(answers, expected)
    assert made.correct == shop.correct(answers)
    assert made.torch_correct == shop.correct(expected)
    assert made.differ == int((answers.argmax(1) != expected.argmax(1)).sum())
    assert abs(made.correct - made.torch_correct) <= made.differ
    # not by classes: a weak network wavers between them, and is trained anew on every machine
    assert np.std(answers - expected) < 0.12 * np.std(expected), "measured: 0.02, 0.02 and 0.07"


def test_int8_changes_next_to_nothing_in_a_network_that_is_sure(tmp_path: Path) -> None:
    made = export(Path(budgetnet.__file__).parent / "model.py", "Model_3", tmp_path / "shipped.onnx", int8=True)
    assert made.total == 10_000
    assert abs(made.correct - made.torch_correct) <= made.differ <= 20, "measured: 8"


# --- where nothing is written -----------------------------------------------------------------------------------------


def test_a_class_that_the_exporter_cannot_follow_is_one_line(own: Shop) -> None:
    text = own.models.read_text(encoding="utf-8")
    forward = "        x = self.stem(x)"
    assert forward in text
    own.models.write_text(
        text.replace(forward, f"        if x.mean() > 9:\n            x = 2 * x\n{forward}"), encoding="utf-8"
    )
    with pytest.raises(ModelError, match="Model_1") as raised:
        export(own.models, "Model_1", own.folder / "m.onnx")
    assert "\n" not in str(raised.value)
    assert not (own.folder / "m.onnx").exists()


def test_a_folder_that_is_not_there_is_told_before_any_work(own: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: object) -> None:
        raise AssertionError("evidence was read")

    before = contents(own.folder)
    monkeypatch.setattr("budgetnet.export.read_evidence", never)
    with pytest.raises(ModelError, match=r"^--onnx nowhere/m\.onnx: there is no folder .*nowhere$"):
        export(own.models, PLAIN, Path("nowhere/m.onnx"))
    assert contents(own.folder) == before


@pytest.mark.parametrize("int8", [False, True])
def test_other_answers_leave_everything_as_it_was(own: Shop, monkeypatch: pytest.MonkeyPatch, int8: bool) -> None:
    def others(path: Path, test: Split, evidence: Evidence) -> Tensor:
        return -_answers(path, test, evidence)

    monkeypatch.setattr("budgetnet.export._answers", others)
    (own.folder / "there.onnx").write_bytes(b"mine")
    before = contents(own.folder)
    message = r"^Model_1: onnxruntime chooses another class than torch for \d+ of 300 images$"
    for out in ("there.onnx", "new.onnx"):
        with pytest.raises(ModelError, match=message):
            export(own.models, PLAIN, Path(out), int8=int8)
    assert contents(own.folder) == before


@pytest.mark.parametrize("package", ["onnx", "onnxscript", "onnxruntime"])
def test_a_missing_package_is_named_with_the_way_to_get_it(
    own: Shop, monkeypatch: pytest.MonkeyPatch, package: str
) -> None:
    monkeypatch.setattr("budgetnet.export.find_spec", lambda name: None if name == package else object())
    (own.folder / "there.onnx").write_bytes(b"mine")
    before = contents(own.folder)
    with pytest.raises(ModelError) as caught:
        export(own.models, PLAIN, Path("there.onnx"))
    assert str(caught.value) == (
        f"export needs {package}; install it with: pip install 'budgetnet[onnx]' (in a clone: '.[onnx]')"
    )
    assert contents(own.folder) == before


def test_weights_that_were_changed_are_refused(own: Shop) -> None:
    weights = own.folder / "Model_1.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x7f")
    before = contents(own.folder)
    with pytest.raises(ModelError, match=r"Model_1\.safetensors: was changed after the freeze, so it is refused"):
        export(own.models, PLAIN, Path("m.onnx"))
    assert contents(own.folder) == before


def test_only_near_ties_may_turn() -> None:
    expected = torch.tensor([[2.0, 1.0], [1.0, 1.0 + 5e-5]])
    _check_same(expected.flip(1)[[1]], expected[[1]], "Model_1")
    with pytest.raises(ModelError, match="for 1 of 2 images"):
        _check_same(expected.flip(1), expected, "Model_1")
    third = torch.tensor([[1.0, 1.0 + 5e-5, 0.0]])
    with pytest.raises(ModelError, match="for 1 of 1 images"):
        _check_same(torch.tensor([[0.0, 0.0, 1.0]]), third, "Model_1")


def test_logging_is_as_it_was_after_a_failure() -> None:
    level = logging.root.level
    with pytest.raises(ModelError), _quiet():
        raise ModelError("no")
    assert logging.root.level == level


# --- any network ------------------------------------------------------------------------------------------------------


def agrees(architecture: Architecture, folder: Path) -> None:
    """Export the network with weights and statistics of its own, and compare; batches of 250 and of 1."""
    channels = architecture.input_shape[0]
    origin = Provenance("any", 0, 1, 0, "mnist", 0.5, (0.4, 0.5, 0.6)[:channels], (0.2, 0.25, 0.3)[:channels])
    evidence = Evidence("Model_1", architecture, Recipe(epochs=1), confirmation((9000,)), origin, "00")
    images = torch.randint(0, 256, (251, *architecture.input_shape), dtype=torch.uint8, generator=_generator())
    mean, std = (torch.tensor(values).view(-1, 1, 1) for values in (origin.mean, origin.std))
    normalised = (images / 255 - mean) / std
    model = _unlike_new(architecture, normalised[:32]).eval()
    with _quiet():
        _save(_exported(model, evidence), folder / "any.onnx")
    onnx.checker.check_model(onnx.load(folder / "any.onnx"), full_check=True)
    answers = _answers(folder / "any.onnx", Split(images, torch.zeros(251, dtype=torch.int64)), evidence)
    with torch.inference_mode():
        expected = model(normalised)
    assert answers.shape == (251, architecture.head.classes)
    largest = max(1.0, float(expected.abs().max()))
    assert float((answers - expected).abs().max()) < 1e-4 * largest


def _unlike_new(architecture: Architecture, images: Tensor) -> torch.nn.Module:
    """Norms that do something: running statistics, gains and biases as they might be after training."""
    model = build(architecture, 0)
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(1)
        for parameter in model.parameters():
            if parameter.ndim == 1:
                parameter.add_(torch.rand_like(parameter) - 0.5)
        model(images)
    return model


def _generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("any")


@settings(max_examples=4)  # a second each
@given(architecture=architectures())
def test_any_network_exports(place: Path, architecture: Architecture) -> None:
    agrees(architecture, place)


@pytest.mark.parametrize(("name", "budget"), [("mnist", 8000), ("colour32", 20000)])
def test_networks_of_the_shipped_spaces_export(place: Path, name: str, budget: int) -> None:
    agrees(next(_draws(load_space(name), Limits(budget))), place)


def _draws(space: SearchSpace, limits: Limits) -> Iterator[Architecture]:
    for seed in range(20):
        with suppress(ArchitectureError):
            yield space.draw(RandomDraw(seed)).fit(limits)


# --- the command ------------------------------------------------------------------------------------------------------


def test_export_prints_what_it_wrote(
    own: Shop, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    code, out, err = run(monkeypatch, capfd, "export", PLAIN, "--onnx", "m.onnx")
    correct = own.correct(own.onnx_logits(Path("m.onnx")))
    size = Path("m.onnx").stat().st_size
    counts = f"onnxruntime classifies {correct} of 300 test images correctly, torch {correct}; they differ on 0\n"
    assert (code, out, err) == (0, f"wrote m.onnx: float32, {size:,} bytes\n{counts}", NOTE)

    code, out, err = run(monkeypatch, capfd, "export", PLAIN, "--onnx", "m.onnx", "--int8")
    answers, expected = own.onnx_logits(Path("m.onnx")), own.torch_logits(PLAIN)
    small = Path("m.onnx").stat().st_size
    assert small < size
    assert (code, err) == (0, NOTE)
    assert out == (
        f"wrote m.onnx: int8, {small:,} bytes ({size:,} in float32)\n"
        f"onnxruntime classifies {own.correct(answers)} of 300 test images correctly, torch {correct}; "
        f"they differ on {int((answers.argmax(1) != expected.argmax(1)).sum())}\n"
    )
    assert sorted(path.name for path in own.folder.iterdir()) == [*FILES, "m.onnx", "model.py"]


def test_export_as_json(own: Shop, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    models = ["--models", str(own.models)]
    code, out, err = run(monkeypatch, capfd, "export", RESIDUAL, "--onnx", "m.onnx", "--int8", "--json", *models)
    made = json.loads(out)
    assert (code, out.count("\n")) == (0, 1)
    assert err == NOTE.replace("model.py", str(own.models))
    assert made.pop("float_size") > made["size"]
    logits, expected = own.onnx_logits(Path("m.onnx")), own.torch_logits(RESIDUAL)
    assert made == {
        "file": "m.onnx",
        "int8": True,
        "size": Path("m.onnx").stat().st_size,
        "correct": own.correct(logits),
        "torch_correct": own.correct(expected),
        "differ": int((logits.argmax(1) != expected.argmax(1)).sum()),
        "total": 300,
    }


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["Model_9", "--onnx", "m.onnx"],
            "there is no class 'Model_9': model.py has Model_1, Residual, Model_2, Model_3; ",
        ),
        (["../x", "--onnx", "m.onnx"], "a model's name must be a Python identifier like Model_3, but got '../x'"),
        (["own/Model_1", "--onnx", "m.onnx"], "a model's name must be a Python identifier"),
        (["model.py:Model_1", "--onnx", "m.onnx"], "a model's name must be a Python identifier"),
        (["", "--onnx", "m.onnx"], "a model's name must be a Python identifier like Model_3, but got ''"),
        (["Residual", "--onnx", "m.onnx"], "a model cannot be called Residual"),
        (["Model_1", "--onnx", "nowhere/m.onnx"], "--onnx nowhere/m.onnx: there is no folder "),
        (["Model_1", "--onnx", "a_folder"], "--onnx a_folder: must be a file, but is a folder"),
        (["Model_1"], "Missing option '--onnx'"),
        (["Model_1", "--onnx", "m.onnx", "--models", "none.py"], "none.py: there is no such file"),
        (["Unfrozen", "--onnx", "m.onnx", "--models", "other.py"], "Unfrozen.json: cannot be read: No such file"),
    ],
)
def test_bad_input_is_one_line_and_nothing_is_written(
    own: Shop,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    arguments: list[str],
    message: str,
) -> None:
    (own.folder / "a_folder").mkdir()
    (own.folder / "other.py").write_text("from torch import nn\n\n\nclass Unfrozen(nn.Module):\n    pass\n")
    before = contents(own.folder)
    code, out, err = run(monkeypatch, capfd, "export", *arguments)
    lines = [line for line in err.splitlines() if not line.startswith("note: ")]
    assert (code, out, len(lines)) == (2, "", 1)
    assert lines[0].startswith("error: ")
    assert message in lines[0]
    assert contents(own.folder) == before
