"""Freezing: the block says what was recorded, only the one class changes, and an error changes nothing."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from budgetnet.analysis import RULES, block, sentences
from budgetnet.architecture import Architecture
from budgetnet.build import build
from budgetnet.confirm import Confirmation, SeedRun
from budgetnet.errors import ModelError
from budgetnet.evidence import Evidence, Provenance, read_evidence
from budgetnet.facts import Accuracies, Case, facts_of, fill
from budgetnet.freeze import Frozen, freeze
from budgetnet.modelfile import ModelFile, check_name, free_name, next_name
from budgetnet.notation import parse
from budgetnet.recipe import EpochResult, Recipe

NETWORK = parse("8 12 M c12 c12 14 16")  # 7,374 params (BASELINES.md)
RESIDUAL_NETWORK = parse("4 r6 M s8")
VERSIONS = {"budgetnet": "0.1.0", "torch": "2.11.0", "python": "3.10.1"}
PROVENANCE = Provenance("mnist-8000", 42, 8000, 7, "mnist", 0.9921, versions=VERSIONS)


def epoch(number: int, correct: int, train: float = 0.985, total: int = 10_000) -> EpochResult:
    return EpochResult(number, 0.01, 0.05, train, correct / total, 0.02, correct, total, 1.0)


def confirmation(*seeds: tuple[int, ...], train: float = 0.985, total: int = 10_000) -> Confirmation:
    return Confirmation(
        tuple(
            SeedRun(seed, tuple(epoch(number, images, train, total) for number, images in enumerate(correct, 1)))
            for seed, correct in enumerate(seeds)
        )
    )


THREE = confirmation(
    (9800, 9940, 9945, 9950, 9948, 9952), (9810, 9941, 9947, 9944, 9950, 9949), (9790, 9942, 9946, 9950, 9951, 9955)
)


def evidence(
    runs: Confirmation = THREE, network: Architecture = NETWORK, recipe: Recipe | None = None, **origin: Any
) -> Evidence:
    return Evidence("Model_1", network, recipe or Recipe(epochs=6), runs, replace(PROVENANCE, **origin), "00")


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
        save_file(build(network, 0).state_dict(), weights)
        origin = options.pop("origin", PROVENANCE)
        return freeze(network, Recipe(epochs=6), runs, origin, weights, **{"out": self.out, **options})

    def content(self) -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in sorted(self.folder.iterdir()) if path.is_file()}


@pytest.fixture
def workshop(tmp_path: Path) -> Workshop:
    return Workshop(tmp_path)


# --- what is written --------------------------------------------------------------------------------------------------


def test_three_files_and_the_class_stands_alone(workshop: Workshop) -> None:
    frozen = workshop.freeze(RESIDUAL_NETWORK)
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
    built = build(RESIDUAL_NETWORK).eval()
    built.load_state_dict(load_file(frozen.weights))
    assert float(done.stdout) == built(images).double().sum().item(), done.stderr


def test_the_file_passes_ruff(workshop: Workshop) -> None:
    for network in (NETWORK, RESIDUAL_NETWORK, parse("8 r8/2 M2 10")):
        workshop.freeze(network)
    config = str(Path(__file__).parent.parent / "pyproject.toml")
    for arguments in (["check"], ["format", "--check", "--diff"]):
        command = [sys.executable, "-m", "ruff", *arguments, "--no-cache", "--config", config, str(workshop.out)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
    assert workshop.out.read_text("utf-8").count("class Residual(") == 1
    assert ModelFile.read(workshop.out).classes == ["Model_1", "Residual", "Model_2", "Model_3"]


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
    ],
)
def test_missing_imports_are_added(workshop: Workshop, text: str, start: str) -> None:
    workshop.out.write_text(text)
    workshop.freeze()
    content = workshop.out.read_text("utf-8")
    assert content.startswith(start)
    exec(compile(content, "model.py", "exec"), {"__name__": "model"})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("nn = 3\n", "nn must be torch.nn, but the file gives that name to something else"),
        ("class Residual:\n    pass\n", "Residual is not the class that budgetnet writes"),
        ("class Broken(\n", "model.py:1: is no Python: "),
        ("x = '\xe9'\n".encode("latin-1"), "model.py"),
        (b"a\0b", "is no Python"),
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
    "name", ["", "../up", "a/b", "a\\b", "Model 1", "1st", "class", "Modèle", "a.b", "C:x", "x" * 65, "nn", "Residual"]
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
        r"stem\.0\.weight must be \(8, 1, 3, 3\) of torch\.float32, but is \(1, 1\)": {
            **state,
            "stem.0.weight": torch.zeros(1, 1),
        },
        r"has no stem\.0\.weight, which": {name: tensor for name, tensor in state.items() if name != "stem.0.weight"},
        r"has extra, which the network does not know": {**state, "extra": torch.zeros(1)},
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


# --- the block --------------------------------------------------------------------------------------------------------


def test_block_by_hand() -> None:
    text = block(Case(evidence(aim="Only {unused} of {budget} params are left.")))
    for line in [
        "Target: at least 99.40 % of the test images in every one of the last 5 of 6 epochs, with fewer than 8,000",
        "Only 626 of 8,000 params are left.",  # 8,000 - 7,374
        # 9952, 9949, 9955: mean 9952, deviations 0, 3, 3, so the variance is 18 / 2
        "Result: 99.52 ± 0.03 % (mean ± standard deviation of the last epoch over 3 seeds, 10,000 test images).",
        "    params       7,374 / 8,000",
        "    best train   98.50 %",
        "    best test    99.55 % (chosen on test, so it flatters)",
        "    lowest       99.40 % in the last 5 epochs of any seed",
        "    held         3 of 3 seeds",
        "    seed 1       99.41 99.47 99.44 99.50 99.49 % (last 5 epochs)",
        "- The target held in 3 of 3 seeds (95 % Wilson interval of the share of seeds: 43.9 % to 100.0 %)",
        "is 99.45 % to 99.59 %",  # 99.52 ± 4.3027 · 0.03 / sqrt(3) = 99.52 ± 0.0745
        "training accuracy (98.50 %) ends 1.02 points below test accuracy (99.52 %)",
        # means of the fifth last and the last epoch: 9941 and 9952; one error is sqrt(p (1 - p) / n) = 0.0691 %
        "Over the last 5 epochs mean test accuracy rose from 99.41 % to 99.52 %",
        "(0.07 points): still improving",
        "no seed moved by more than 0.13 points",  # seed 2: 9942 to 9955
        "flatter it by 0.00 points",  # best 9952, 9950, 9955: mean 9952.33
        "uses 7,374 / 8,000 params, 92.2 % of the budget; 626 are left",
        "sees 22 × 22 pixels of the 28 × 28 image: a part",
        "    stage2.10  Conv2d 3 × 3         8 × 8     2    22",
        "    study     mnist-8000, trial 42, search seed 7, validation accuracy 99.21 %",
        "    versions  budgetnet 0.1.0, torch 2.11.0, python 3.10.1",
    ]:
        assert _joined(line) in _joined(text), line
    assert max(map(len, text.split("\n"))) <= 116


def _joined(text: str) -> str:
    return " ".join(text.split())


@given(st.lists(st.integers(0, 10_000), min_size=2, max_size=24), st.integers(1, 3), st.floats(0, 1), st.booleans())
def test_block_numbers_are_the_recorded_ones(correct: list[int], seeds: int, train: float, ema: bool) -> None:
    length = max(1, len(correct) // seeds)
    runs = confirmation(*(tuple((correct * 3)[i * length : (i + 1) * length]) for i in range(seeds)), train=train)
    case = Case(evidence(runs, recipe=Recipe(ema=0.9 if ema else 0.0)))
    text = _joined(block(case))
    facts = facts_of(case)
    written = Accuracies(10_000)
    assert facts["mean"] == f"{100 * sum(runs.finals) / seeds:.2f} %"
    assert f"best test {100 * max(e.correct for r in runs.runs for e in r.epochs) / 10_000:.2f} %" in text
    assert f"held {sum(all(e.correct >= 9940 for e in r.epochs[-5:]) for r in runs.runs)} of {seeds} seed" in text
    for run in runs.runs:
        assert f"seed {run.seed} {' '.join(written.bare(e.correct / 10_000) for e in run.epochs[-5:])} %" in text
    known = set(re.findall(r"\d[\d,.]*", " ".join(facts.values())))
    for sentence in sentences(case):
        assert {number.rstrip(".,") for number in re.findall(r"\d[\d,.]*", sentence)} <= {k.rstrip(".,") for k in known}


@pytest.mark.parametrize(
    ("runs", "network", "options", "words"),
    [
        (confirmation((9900, 9900), train=0.999), "8", {}, "Overfitting: training accuracy (99.90 %) ends 0.90 points"),
        (confirmation((9900, 9900), train=0.9905), "8", {}, "end 0.05 points apart (99.05 % and 99.00 %): little"),
        (confirmation((9900, 9900), train=0.985), "8", {}, "the two are not measured alike: training accuracy is"),
        (confirmation((9900, 9900), train=0.9), "8", {}, "capacity or epochs limit the network, not memorising."),
        (confirmation((9900, 9900)), "8@0.1", {}, "still change, on augmented images with dropout."),
        (
            confirmation((9900, 9950)),
            "8",
            {},
            "rose from 99.00 % to 99.50 %, by more than one standard error of 10,000",
        ),
        (confirmation((9950, 9900)), "8", {}, "fell from 99.50 % to 99.00 %"),
        (confirmation((9900, 9950)), "8", {}, "Unsteady: one seed moved by 0.50 points within"),
        (
            confirmation((9900, 9901)),
            "8",
            {},
            "Flat: mean test accuracy is 99.00 % at the first and 99.01 % at the last",
        ),
        (confirmation((9900, 9901)), "8", {}, "One seed says nothing about spread"),
        (confirmation((9940, 9940)), "8", {}, "from 1 seed nobody may conclude that it always does."),
        (
            confirmation((9940, 9940), (9939, 9940)),
            "8",
            {},
            "held in 1 of 2 seeds (95 % Wilson interval of the share of",
        ),
        (
            confirmation((9939, 9940)),
            "8",
            {},
            "it is missed, and this network is no proof that the target can be held.",
        ),
        (
            confirmation((9900,)),
            "8 12 M c12 c12 14 16",
            {"budget": 7500},
            "98.3 % of the budget, nearly all of it; 126",
        ),
        (confirmation((9900,)), "8", {"budget": 100}, "The budget is broken: 178 / 100 params"),
        (confirmation((9900,)), "8 8 M 8 8 M 8", {}, "sees 24 × 24 pixels of the 28 × 28 image: a part;"),
        (confirmation((9900,)), "8 8 M 8 8 M 8 c8", {}, "sees 32 × 32 pixels of the 28 × 28 image: wide enough"),
    ],
)
def test_every_rule_says_what_the_numbers_say(
    runs: Confirmation, network: str, options: dict[str, Any], words: str
) -> None:
    assert words in " ".join(sentences(Case(evidence(runs, parse(network), **options))))


@pytest.mark.parametrize(
    ("before", "after", "words"),
    [
        (((9900,), (9902,)), ((9950,), (9952,)), "0.50 points above 99.01 %: more than the noise between seeds"),
        (((9950,), (9952,)), ((9900,), (9902,)), "0.50 points below 99.51 %: more than the noise"),
        (((9900,), (9950,)), ((9910,), (9960,)), "0.10 points above 99.25 %: not distinguishable (95 % Welch interval"),
        (((9900,),), ((9950,), (9952,)), "not distinguishable, since a single seed shows no spread"),
        (((9950,), (9950,)), ((9952,), (9952,)), "but other images might reverse it (one error: 0.07 points)"),
        (((9950,), (9952,)), ((9950,), (9952,)), "the mean is equal to 99.51 %: not distinguishable"),
    ],
)
def test_a_difference_is_named_only_beyond_noise(
    before: tuple[tuple[int, ...], ...], after: tuple[tuple[int, ...], ...], words: str
) -> None:
    previous = replace(evidence(confirmation(*before)), name="Model_0")
    text = " ".join(sentences(Case(evidence(confirmation(*after)), "Model_0", previous)))
    assert words in text
    assert "Against Model_0 (7,374 params against 7,374)" in text


def test_models_of_other_images_are_not_compared() -> None:
    other = replace(evidence(confirmation((50,), total=100)), name="Model_0")
    assert "Not comparable with Model_0" in " ".join(sentences(Case(evidence(), "Model_0", other)))


def test_the_model_before_in_the_file_is_the_one_compared_with(workshop: Workshop) -> None:
    assert "Against" not in workshop.freeze().source
    assert "Against Model_1 (" in _joined(workshop.freeze(RESIDUAL_NETWORK).source)
    (workshop.folder / "Model_2.json").write_text("{")
    assert "Not compared with Model_2, whose evidence is missing or unreadable." in _joined(workshop.freeze().source)
    assert "Against Model_1 (" in _joined(workshop.freeze(RESIDUAL_NETWORK, name="Model_2", force=True).source)


def test_a_sentence_cannot_hold_a_number_of_its_own() -> None:
    facts = {"mean": "99.50 %", "{x}": "no"}
    assert fill("It ends at {mean}.", facts) == "It ends at 99.50 %."
    assert fill("{a}", {"a": "{mean}", "mean": "9"}) == "{mean}"  # a fact is never filled in again
    for template in ("It ends at 99.5 %.", "half a brace {mean", "{mean:.3f}", "{mean.real}", "{mean[0]}", "٣"):
        with pytest.raises(ModelError, match="a sentence names its numbers as"):
            fill(template, facts)
    with pytest.raises(ModelError, match="there is no fact 'median'; there are mean"):
        fill("{median}", {"mean": "9"})


def test_no_rule_spells_out_a_digit() -> None:
    """``fill`` would refuse it; this names the rule."""
    for runs in (THREE, confirmation((9900, 9950)), confirmation((9950, 9900), train=1.0)):
        for rule in RULES:
            template = rule(Case(evidence(runs), "Model_0", replace(evidence(), name="Model_0"))) or ""
            assert not re.search(r"\d", re.sub(r"\{\w+\}", "", template)), rule.__name__


@pytest.mark.parametrize(("images", "decimals"), [(100, 2), (10_000, 2), (10_001, 3), (26_032, 3), (1, 2)])
def test_accuracies_have_the_decimals_of_one_image(images: int, decimals: int) -> None:
    assert Accuracies(images).decimals == decimals


def test_a_hostile_study_name_stays_inside_the_docstring(workshop: Workshop) -> None:
    name = 'x"""\nimport os\\\x1b[31m{budget}' + "y" * 300
    workshop.freeze(origin=replace(PROVENANCE, study=name, aim='Quote {study} \\ and """.'))
    scope: dict[str, Any] = {"__name__": "model"}
    exec(compile(workshop.out.read_bytes(), "model.py", "exec"), scope)
    assert "os" not in scope
    assert max(map(len, workshop.out.read_text("utf-8").split("\n"))) <= 120


# --- evidence ---------------------------------------------------------------------------------------------------------


def test_evidence_round_trip() -> None:
    record = evidence(network=RESIDUAL_NETWORK, aim="Why: {mean}.")
    assert Evidence.from_json(record.to_json()) == record


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda data: data.update(format=2), "evidence.format must be 1, but is 2"),
        (lambda data: data.update(name=3), "evidence.name must be text"),
        (lambda data: data.update(recipe=[]), "evidence.recipe must be a mapping"),
        (lambda data: data["recipe"].update(epochs=0), "evidence: recipe.epochs: must be between"),
        (lambda data: data["architecture"].update(body=[{"type": "x"}]), "evidence: body[0].type must be"),
        (
            lambda data: data["provenance"].update(budget="8000"),
            "evidence.provenance.budget has the wrong type: '8000'",
        ),
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
