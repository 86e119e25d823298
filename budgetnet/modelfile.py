"""The file that holds frozen models, edited as text: one class is added or exchanged, all else stays byte for byte."""

from __future__ import annotations

import ast
import io
import keyword
import os
import re
import tokenize
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from budgetnet.errors import ModelError
from budgetnet.source import IMPORTS, RESIDUAL

HEADER = '''"""Networks found by budgetnet; the weights and the evidence of each lie beside this file under its name."""

'''
NEEDED = {"Tensor": "torch.Tensor", "nn": "torch.nn"}
RESERVED = {*NEEDED, "Residual", "torch", "super", "__debug__"}
MAX_NAME = 64
BOM = "\ufeff"


def check_name(name: str) -> str:
    """The name, if it can be a class and part of a file name. Raises ModelError."""
    if not (name.isascii() and name.isidentifier()) or keyword.iskeyword(name) or len(name) > MAX_NAME:
        raise ModelError(f"a model's name must be a Python identifier like Model_3, but got {name!r}")
    if name in RESERVED:
        raise ModelError(f"a model cannot be called {name}: the file needs that name for itself")
    return name


@dataclass(frozen=True)
class ModelFile:
    """The content of a model file; empty where there is none yet."""

    path: Path
    content: bytes

    @staticmethod
    def read(path: Path) -> ModelFile:
        """Raises ModelError when the file is there but cannot be read as Python."""
        try:
            content = path.read_bytes()
        except FileNotFoundError:
            content = b""
        except OSError as error:
            raise ModelError(f"{path}: cannot be read: {error.strerror}") from error
        file = ModelFile(path, content)
        _ = file._tree, file._text
        return file

    @cached_property
    def _tree(self) -> ast.Module:
        try:
            return ast.parse(self.content, str(self.path))
        except SyntaxError as error:
            raise ModelError(f"{self.path}:{error.lineno}: is no Python: {error.msg}") from error
        except (ValueError, RecursionError, MemoryError) as error:
            raise ModelError(f"{self.path}: is no Python: {error}") from error

    @cached_property
    def _text(self) -> str:
        try:
            declared, _ = tokenize.detect_encoding(io.BytesIO(self.content).readline)
            if not declared.startswith("utf-8"):
                raise ModelError(f"{self.path}: must be UTF-8, but declares {declared}")
            return self.content.decode("utf-8")
        except (SyntaxError, UnicodeDecodeError) as error:
            raise ModelError(f"{self.path}: must be UTF-8: {error}") from error

    @cached_property
    def _lines(self) -> list[str]:
        """As Python counts them: form feeds and the like end no line."""
        return list(io.StringIO(self._text, newline=""))

    @property
    def _eol(self) -> str:
        return "\r\n" if self._lines and self._lines[0].endswith("\r\n") else "\n"

    @cached_property
    def names(self) -> dict[str, list[ast.stmt]]:
        """Every name that the top level binds, with the statements that do so."""
        bound: dict[str, list[ast.stmt]] = {}
        for statement in self._tree.body:
            for name in _bound(statement):
                bound.setdefault(name, []).append(statement)
        return bound

    @property
    def classes(self) -> list[str]:
        """Names of the classes at the top level, in the order of the file."""
        return [statement.name for statement in self._tree.body if isinstance(statement, ast.ClassDef)]

    def source_of(self, name: str) -> str:
        """The text of one class, with its decorators."""
        start, end = self._span(name)
        return "".join(self._lines[start:end])

    def with_class(self, name: str, source: str, *, residual: bool) -> bytes:
        """The content with the class in it: in place of the class of that name, else at the end.

        residual: whether the class needs ``Residual``, which is written before it unless the file has it. Raises
        ModelError where the content would be no Python.
        """
        content = self._with_class(name, source, residual=residual)
        _ = ModelFile(self.path, content)._tree
        return content

    def _with_class(self, name: str, source: str, *, residual: bool) -> bytes:
        new = self._residual() + source if residual else source
        if name in self.names:
            start, end = self._span(name)
            lines = [*self._lines[:start], self._ended(new), *self._lines[end:]]
            return self._with_imports("".join(lines))
        text = self._with_imports(self._text).decode() if self._text.strip() else HEADER + IMPORTS
        gap = "" if text.endswith(("\n", "\r")) else self._eol
        blank = len(text) - len(text.rstrip("\r\n"))
        have = text[len(text) - blank :].count("\n") - 1 if not gap else 0
        return (text + gap + self._eol * max(0, 2 - have) + self._ended(new)).encode()

    def _ended(self, text: str) -> str:
        return text.replace("\n", self._eol)

    def _span(self, name: str) -> tuple[int, int]:
        """First line and the line after the last, counted from 0. Raises ModelError unless there is one such class."""
        found = self.names.get(name, [])
        if len(found) != 1 or not isinstance(found[0], ast.ClassDef):
            what = "is missing" if not found else "is defined twice" if len(found) > 1 else "is not a class"
            raise ModelError(f"{self.path}: {name} {what}")
        assert found[0].end_lineno is not None
        return _first_line(found[0]) - 1, found[0].end_lineno

    def _residual(self) -> str:
        """What stands before a class that needs ``Residual``: nothing where the file has it already."""
        if "Residual" not in self.names:
            return RESIDUAL + "\n\n"
        if ast.dump(ast.parse(self.source_of("Residual"))) != ast.dump(ast.parse(RESIDUAL)):
            raise ModelError(f"{self.path}: Residual is not the class that budgetnet writes; rename one of them")
        return ""

    def _with_imports(self, text: str) -> bytes:
        """The text with an import of what a frozen class needs, behind the imports that are there."""
        missing = []
        for name, origin in NEEDED.items():
            origins = {found for statement in self.names.get(name, []) for found in _origins(statement, name)}
            if not origins:
                missing.append(name)
            elif origins != {origin}:
                raise ModelError(
                    f"{self.path}: {name} must be {origin}, but the file gives that name to something else"
                )
        if not missing:
            return text.encode()
        mark = BOM if text.startswith(BOM) else ""
        lines = list(io.StringIO(text.removeprefix(BOM), newline=""))
        at, gap = self._import_place()
        before, after = "".join(lines[:at]), "".join(lines[at:])
        if before and not before.endswith(("\n", "\r")):
            before += self._eol
        return f"{mark}{before}{gap}from torch import {', '.join(missing)}{self._eol}{after}".encode()

    def _import_place(self) -> tuple[int, str]:
        """The line behind the docstring and the imports at the top, and what parts the new import from it."""
        body = self._tree.body
        line, gap = len(self._lines) if not body else _first_line(body[0]) - 1, ""
        for index, statement in enumerate(body):
            docstring = index == 0 and isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)
            if not docstring and not isinstance(statement, ast.Import | ast.ImportFrom):
                break
            line, gap = statement.end_lineno or line, self._eol if docstring else ""
        return line, gap


def _first_line(statement: ast.stmt) -> int:
    """Line of a statement, or of the first of its decorators, counted from 1."""
    decorators: list[ast.expr] = getattr(statement, "decorator_list", [])
    return min([statement.lineno, *(decorator.lineno for decorator in decorators)])


def _bound(statement: ast.stmt) -> list[str]:
    if isinstance(statement, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
        return [statement.name]
    if isinstance(statement, ast.Import | ast.ImportFrom):
        return [alias.asname or alias.name.split(".")[0] for alias in statement.names]
    return [node.id for node in ast.walk(statement) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)]


def _origins(statement: ast.stmt, name: str) -> list[str]:
    """What an import binds the name to; "" for anything but an import."""
    if isinstance(statement, ast.ImportFrom):
        return [f"{statement.module}.{alias.name}" for alias in statement.names if (alias.asname or alias.name) == name]
    if isinstance(statement, ast.Import):
        return [alias.name for alias in statement.names if (alias.asname or alias.name.split(".")[0]) == name]
    return [""]


def next_name(path: Path) -> str:
    """``Model_N`` with N one above the highest in the file or beside it."""
    names = [*ModelFile.read(path).names, *(sibling.stem for sibling in _siblings(path))]
    numbers = [int(match[1]) for name in names if (match := re.fullmatch(r"Model_(\d{1,9})", name))]
    return f"Model_{max(numbers, default=0) + 1}"


def _siblings(path: Path) -> list[Path]:
    """Weights and evidence files beside a model file."""
    try:
        return [entry for entry in path.parent.iterdir() if entry.suffix in (".safetensors", ".json")]
    except OSError:
        return []


def free_name(path: Path, name: str | None = None, *, force: bool = False) -> str:
    """The name to freeze under: the next one, or ``name`` if nobody has it or ``force`` is given.

    To be asked before anything is trained. Raises ModelError when the name is taken or impossible.
    """
    if not os.access(path.parent, os.W_OK | os.X_OK):
        raise ModelError(f"{path.parent}: must be a folder that can be written to")
    if name is None:
        return next_name(path)
    check_name(name)
    file = ModelFile.read(path)
    if name in file.names and force:
        file.source_of(name)  # must be one class
    if force:
        return name
    if name in file.names:
        raise ModelError(f"{path}: {name} exists already; --force replaces it")
    taken = [*file.names, *(sibling.stem for sibling in _siblings(path))]
    if name.casefold() in map(str.casefold, taken):  # file systems that ignore case would mix up the weights
        raise ModelError(f"{path}: files or a class called {name} exist already; --force replaces them")
    return name
