"""Whether a class is still, word for word, what its architecture gives: then nothing needs to be run to know it."""

from __future__ import annotations

import ast
import json
from pathlib import Path

from budgetnet.architecture import Architecture
from budgetnet.errors import ArchitectureError, ModelError
from budgetnet.files import beside
from budgetnet.modelfile import ModelFile
from budgetnet.source import IMPORTS, RESIDUAL, class_source


def generated_from(path: Path, name: str) -> Architecture | None:
    """The architecture in the evidence of a frozen class, if the code of the class, docstrings aside, is what it gives
    and the file around it holds classes and torch's imports alone; None otherwise. Executes nothing."""
    try:
        file = ModelFile.read(path)
        data = json.loads(beside(path, f"{name}.json").read_text(encoding="utf-8"))
        architecture = Architecture.from_dict(data["architecture"])
        if name not in file.classes or not _is_plain(file):
            return None
        same = _code(file.source_of(name)) == _code(class_source(architecture, name))
    except (OSError, ValueError, LookupError, TypeError, ArchitectureError, ModelError):
        return None  # whoever runs the class will say what is wrong
    return architecture if same else None


def _is_plain(file: ModelFile) -> bool:
    """Whether ``nn`` and ``Tensor`` are torch's and ``Residual`` is ours, and nothing else is done."""
    known = _code(IMPORTS), _code(RESIDUAL)
    for statement in ast.parse(file.content).body:
        docstring = isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)
        if docstring or _code(ast.unparse(statement)) in known:
            continue
        if not isinstance(statement, ast.ClassDef) or statement.name in ("Residual", "nn", "Tensor"):
            return False
    return True


def _code(source: str) -> str:
    """The syntax tree of a source, without docstrings."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node) is not None:
            node.body = node.body[1:]
    return ast.dump(tree)
