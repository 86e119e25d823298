"""The written class is the built network: names, outputs, layout; and it stands alone."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from budgetnet.architecture import Architecture
from budgetnet.build import build
from budgetnet.notation import parse
from budgetnet.source import IMPORTS, RESIDUAL, Row, class_source, needs_residual, rows
from tests.strategies import architectures

PYPROJECT = Path(__file__).parent.parent / "pyproject.toml"


def instance(source: str, name: str) -> nn.Module:
    scope: dict[str, object] = {"Tensor": Tensor, "nn": nn, "__name__": "model"}
    exec(compile(RESIDUAL + source, "model.py", "exec"), scope)
    made = scope[name]
    assert isinstance(made, type)
    module = made()
    assert isinstance(module, nn.Module)
    return module


def module_text(sources: list[str]) -> str:
    return "\n\n".join(['"""Networks."""\n\n' + IMPORTS, RESIDUAL, *sources])


def assert_ruff_is_content(folder: Path) -> None:
    for arguments in (["check"], ["format", "--check", "--diff"]):
        command = [sys.executable, "-m", "ruff", *arguments, "--no-cache", "--config", str(PYPROJECT), str(folder)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr


@given(architectures(max_width=24))
def test_class_has_the_names_and_the_outputs_of_the_built_network(architecture: Architecture) -> None:
    built = build(architecture, seed=1).eval()
    written = instance(class_source(architecture, "Model_7"), "Model_7").eval()
    state = built.state_dict()
    assert list(written.state_dict()) == list(state)
    written.load_state_dict(state)
    images = torch.rand(2, *architecture.input_shape, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        assert torch.equal(written(images), built(images))
    assert written.input_shape == architecture.input_shape


@settings(max_examples=6, suppress_health_check=list(HealthCheck))
@given(st.lists(architectures(max_width=4000), min_size=5, max_size=5))
def test_source_passes_ruff(tmp_path_factory: pytest.TempPathFactory, drawn: list[Architecture]) -> None:
    sources = [class_source(architecture, f"Model_{i}") for i, architecture in enumerate(drawn)]
    folder = tmp_path_factory.mktemp("written")
    (folder / "model.py").write_text(module_text(sources), encoding="utf-8")
    assert_ruff_is_content(folder)


@pytest.mark.parametrize(
    "notation",
    [
        "[64x300x300] c101x103:16384/2%2 | gap 1x1:10",  # arguments do not fit behind the name
        "[64x300x300] r101x103:1638/2%2 | gap 1x1:10",  # neither do comments
        "[1x28x28 bias] v8 | gap fc:10",
        "[64x300x300] c101x103:16384^2%2 | gap 1x1:10",  # nor does a variable's
    ],
)
def test_long_lines_are_broken_like_ruff_breaks_them(tmp_path: Path, notation: str) -> None:
    source = class_source(parse(notation), "Model_1")
    assert max(map(len, source.split("\n"))) <= 120
    (tmp_path / "model.py").write_text(module_text([source]), encoding="utf-8")
    assert_ruff_is_content(tmp_path)


def test_a_small_class_reads_as_a_person_would_write_it() -> None:
    assert class_source(parse("[1x8x8] 4 M c6"), "Model_1") == (
        '''\
class Model_1(nn.Module):
    """(N, 1, 8, 8) images → (N, 10) logits."""

    input_shape = (1, 8, 8)

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(1, 4, 3, bias=False),  #            6 × 6, jump 1, receptive field  3
            nn.BatchNorm2d(4),
            nn.ReLU(),
        )
        self.stage1 = nn.Sequential(
            nn.MaxPool2d(2),  #                           3 × 3, jump 2, receptive field  4
            nn.Conv2d(4, 6, 3, padding=1, bias=False),  # 3 × 3, jump 2, receptive field  8
            nn.BatchNorm2d(6),
            nn.ReLU(),
        )
        self.head = nn.Sequential(
            nn.AdaptiveAvgPool2d(1),  #                   1 × 1, jump 6, receptive field 12
            nn.Conv2d(6, 10, 1),  #                       1 × 1, jump 6, receptive field 12
            nn.Flatten(),
        )

    def forward(self, x: Tensor) -> Tensor:
        """(N, 1, 8, 8) images → (N, 10) logits."""
        x = self.stem(x)  #              (N, 4, 6, 6)
        x = self.stage1(x)  #            (N, 6, 3, 3)
        logits: Tensor = self.head(x)  # (N, 10)
        return logits
'''
    )


def test_what_is_applied_again_is_a_variable() -> None:
    source = class_source(parse("[1x8x8] 4 c6^2"), "Model_1")
    assert (
        """\
        shared = nn.Conv2d(6, 6, 3, padding=1, bias=False)
        self.stage1 = nn.Sequential(
            nn.Conv2d(4, 6, 3, padding=1, bias=False),  # 6 × 6, jump 1, receptive field  5
            nn.BatchNorm2d(6),
            nn.ReLU(),
            shared,  #                                    6 × 6, jump 1, receptive field  7
            nn.BatchNorm2d(6),
            nn.ReLU(),
            shared,  #                                    6 × 6, jump 1, receptive field  9
            nn.BatchNorm2d(6),
            nn.ReLU(),
        )
"""
        in source
    )


def test_residual_is_asked_for_only_where_it_is_used() -> None:
    assert needs_residual(parse("8 r8"))
    assert not needs_residual(parse("8 s8"))
    assert "Residual" not in class_source(parse("8 s8"), "Model_1")


def test_every_convolution_and_pooling_has_its_comment() -> None:
    architecture = parse("8 M r12 s14/2 16")
    lines = class_source(architecture, "Model_1").split("\n")
    calls = [line for line in lines if re.search(r"nn\.\w*(Conv|Pool)\w*\(", line)]
    assert len(calls) == len(rows(architecture))
    assert all("receptive field" in line for line in calls)


def test_rows_of_a_strided_network_by_hand() -> None:
    # 3x3 at stride 2 sees 3, steps 2; the next 5x5 sees 3 + 4·2 = 11; the flattened map of 3 · 3 · 3 = 27 sees it all
    table = rows(parse("[1x12x14] c2/2 5x5:3/2 | fc:4"))
    assert [(row.name, row.kind, row.size, row.jump, row.sees) for row in table[:2]] == [
        ("stem.0", "Conv2d 3 × 3, stride 2", "6 × 7", "2", "3"),
        ("stage1.0", "Conv2d 5 × 5, stride 2", "1 × 2", "4", "11"),
    ]
    assert isinstance(table[2], Row)
    assert (table[2].name, table[2].kind, table[2].size) == ("head.1", "Linear", "4")


@given(st.text(max_size=60))
def test_no_text_escapes_from_the_docstring(text: str) -> None:
    printable = "".join(char for char in text if char.isprintable() or char == "\n")
    source = class_source(parse("[1x8x8] 4"), "Model_1", f"Text: {printable}.")
    (body,) = ast.parse(source).body
    assert isinstance(body, ast.ClassDef)
    docstring = ast.get_docstring(body, clean=False)
    assert docstring is not None
    wanted = [line.rstrip() for line in f"Text: {printable}.".split("\n")]
    assert [line.strip() for line in docstring.rstrip().split("\n")] == [line.strip() for line in wanted]


def test_the_file_needs_nothing_but_torch(tmp_path: Path) -> None:
    (tmp_path / "model.py").write_text(module_text([class_source(parse("8 M r12 s14"), "Model_1")]), encoding="utf-8")
    code = (
        "import sys; sys.modules['budgetnet'] = None\n"
        "import torch, model\n"
        "print(tuple(model.Model_1()(torch.zeros(2, *model.Model_1.input_shape)).shape))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "(2, 10)", done.stderr
