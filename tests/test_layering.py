"""The modules' layers (README.md) hold: nothing reaches up or goes in circles; the lower layers do without torch."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import budgetnet

PACKAGE = Path(budgetnet.__file__).parent

LAYERS = {
    **dict.fromkeys(("errors", "statistics", "views", "markup", "public_records"), 0),
    **dict.fromkeys(("layers", "graph", "recipe", "files", "checked", "results", "sentences", "extras"), 1),
    **dict.fromkeys(("pieces", "expansion", "architecture", "notation"), 2),
    **dict.fromkeys(("dimension", "comparison", "words", "traced", "layout"), 2),
    **dict.fromkeys(("cost", "fields", "budget"), 3),
    **dict.fromkeys(("build", "trace", "recorder", "meaning", "operators", "arrangements", "products", "made"), 4),
    **dict.fromkeys(
        (
            "audit",
            "data",
            "dataset",
            "kernels",
            "machine",
            "maps",
            "readers",
            "space",
            "space_files",
            "table",
            "tabulate",
            "weights",
            "columns",
        ),
        5,
    ),
    **dict.fromkeys(("images", "folders", "catalogue", "vision", "tailor"), 5),
    **dict.fromkeys(("augment", "captured", "fused", "optimizer", "picture", "stacked", "step", "train"), 6),
    **dict.fromkeys(("checkpoint", "effective", "teacher", "winograd"), 6),
    **dict.fromkeys(("jobs", "executor", "ray_connection", "ray_task", "cluster", "workplace"), 7),
    **dict.fromkeys(
        (
            "place",
            "study",
            "given",
            "lock",
            "ledger",
            "progress",
            "candidates",
            "samplers",
            "plan",
            "coordinator",
            "importance",
        ),
        8,
    ),
    **dict.fromkeys(("notes", "notebook"), 8),
    **dict.fromkeys(("confirm", "evidence", "facts", "analysis", "freeze", "modelfile", "source", "models"), 9),
    **dict.fromkeys(("aim", "verdicts", "winners", "verify", "standalone", "export", "classify"), 9),
    **dict.fromkeys(("report", "by_recipe", "single", "display", "field_plot", "inspection", "generated"), 9),
    **dict.fromkeys(
        ("drawing", "page", "survey", "front_marks", "study_front", "frontier", "study_pictures", "winner_pictures"), 9
    ),
    **dict.fromkeys(("dashboard", "tensorboard", "doctor"), 9),
    "stages": 5,
    **dict.fromkeys(("board", "watch", "listing", "chart", "dossier"), 9),
    **dict.fromkeys(("commands_search", "commands_studies", "commands_winners", "commands_models"), 10),
    **dict.fromkeys(("completion", "options", "commands_tools"), 10),
    **dict.fromkeys(("cli", "__main__", "__init__", "model"), 10),
}
LAST_WITHOUT_TORCH = 3
WITH_TORCH = {"torch", "torchvision", "fvcore", "safetensors"}
OPTUNA = 8  # the layer of the search: only here
RAY = ("ray_connection", "ray_task", "cluster")  # may import ray, once somebody wants it: it is an extra


@dataclass(frozen=True)
class Import:
    """``module`` is imported: a module of budgetnet by its own name, any other by its package's."""

    module: str
    ours: bool
    lazy: bool  # inside a function


def imports(source: str) -> Iterator[Import]:
    """What a module imports when it runs; what only a type checker reads is left out."""
    pending: list[tuple[ast.AST, bool]] = [(ast.parse(source), False)]
    while pending:
        node, lazy = pending.pop()
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            pending.extend((child, lazy) for child in node.orelse)
            continue
        if isinstance(node, ast.Import | ast.ImportFrom):
            for name in _imported(node):
                package, _, rest = name.partition(".")
                ours = package == "budgetnet"
                yield Import(rest.partition(".")[0] if ours else package, ours, lazy)
        inside = lazy or isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        pending.extend((child, inside) for child in ast.iter_child_nodes(node))


def _imported(node: ast.Import | ast.ImportFrom) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if node.level:  # from . import x
        return [f"budgetnet.{node.module or alias.name}" for alias in node.names]
    if node.module == "budgetnet":
        return [f"budgetnet.{alias.name}" for alias in node.names]
    return [node.module or ""]


def violations(sources: Mapping[str, str]) -> list[str]:
    """Every rule that modules, given as name → source, break."""
    found = []
    graph: dict[str, set[str]] = {}
    for module, source in sources.items():
        if module not in LAYERS:
            found.append(f"{module} is in no layer: add it to LAYERS in {Path(__file__).name} and to README's table")
            continue
        taken = [item for item in imports(source) if not item.ours or item.module in sources]
        graph[module] = {item.module for item in taken if item.ours and not item.lazy}
        for item in taken:
            found += _broken(module, item)
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        found.append(f"imports go in a circle: {' → '.join(error.args[1])}")
    return found


def _broken(module: str, item: Import) -> list[str]:
    layer = LAYERS[module]
    if item.ours and LAYERS.get(item.module, 0) > layer and module != "__init__":
        return [f"{module} (layer {layer}) reaches up to {item.module} (layer {LAYERS[item.module]})"]
    if not item.ours and item.module in WITH_TORCH and layer <= LAST_WITHOUT_TORCH:
        return [f"{module} (layer {layer}) imports {item.module}, which layers 0 to {LAST_WITHOUT_TORCH} do without"]
    if not item.ours and item.module == "optuna" and layer != OPTUNA:
        return [f"{module} (layer {layer}) imports optuna, which only layer {OPTUNA} may"]
    if not item.ours and item.module == "ray" and (module not in RAY or not item.lazy):
        return [f"{module} imports ray, which only {', '.join(RAY)} may, inside a function"]
    return []


def test_the_layers_hold():
    sources = {path.stem: path.read_text(encoding="utf-8") for path in PACKAGE.glob("*.py")}
    assert "architecture" in sources
    assert violations(sources) == []


@pytest.mark.parametrize(
    ("sources", "message"),
    [
        ({"gadget": ""}, "gadget is in no layer: add it to LAYERS in test_layering.py and to README's table"),
        (
            {"cost": "from budgetnet.build import build", "build": ""},
            "cost (layer 3) reaches up to build (layer 4)",
        ),
        (
            {"cost": "def f():\n    from budgetnet import train", "train": ""},
            "cost (layer 3) reaches up to train (layer 6)",
        ),
        ({"cost": "from .train import x", "train": ""}, "cost (layer 3) reaches up to train (layer 6)"),
        (
            {"fields": "import torch.nn as nn"},
            "fields (layer 3) imports torch, which layers 0 to 3 do without",
        ),
        (
            {"layers": "class A:\n  def f(self):\n    from torch import nn"},
            "layers (layer 1) imports torch, which layers 0 to 3 do without",
        ),
        ({"train": "import optuna"}, "train (layer 6) imports optuna, which only layer 8 may"),
        ({"cli": "from optuna.trial import Trial"}, "cli (layer 10) imports optuna, which only layer 8 may"),
        (
            {"jobs": "def f():\n    import ray"},
            "jobs imports ray, which only ray_connection, ray_task, cluster may, inside a function",
        ),
        (
            {"cluster": "from ray.util import x"},
            "cluster imports ray, which only ray_connection, ray_task, cluster may, inside a function",
        ),
    ],
)
def test_what_breaks_a_layer_is_found(sources, message):
    assert violations(sources) == [message]


def test_a_circle_is_found():
    (found,) = violations({"cost": "import budgetnet.budget", "budget": "from budgetnet.cost import cost"})
    assert found in (
        "imports go in a circle: cost → budget → cost",
        "imports go in a circle: budget → cost → budget",
    )


@pytest.mark.parametrize(
    "sources",
    [
        {"cost": "from budgetnet.layers import Conv", "layers": ""},
        {"budget": "from budgetnet.cost import cost", "cost": ""},
        {"cost": "if TYPE_CHECKING:\n    import torch\n    from budgetnet.build import build", "build": ""},
        {"build": "import torch"},
        {"coordinator": "import optuna"},
        {"cluster": "def f():\n    import ray.util"},
        {"architecture": "def f():\n    import budgetnet.notation", "notation": "import budgetnet.architecture"},
    ],
)
def test_what_keeps_the_layers_is_not(sources):
    assert violations(sources) == []


@pytest.mark.parametrize(
    "module",
    [name for name in sorted(LAYERS) if LAYERS[name] <= LAST_WITHOUT_TORCH and (PACKAGE / f"{name}.py").exists()],
)
def test_the_lower_layers_run_without_torch(module):
    """Also what they import in turn. (``import budgetnet`` itself runs first.)"""
    code = f"import sys, budgetnet.{module}; print(sorted({{'torch', 'optuna'}} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_readme_shows_every_module_in_its_layer():
    readme = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (\d+) \| (.*?) \|", readme, flags=re.MULTILINE)
    shown = {name: int(layer) for layer, cell in rows for name in re.findall(r"`(\w+)`", cell)}
    modules = {path.stem for path in PACKAGE.glob("*.py")} - {"__init__", "__main__", "model"}
    assert shown == {name: LAYERS[name] for name in modules}
