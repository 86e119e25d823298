"""Finding a model class and its weights: ``Model_3``, ``path/to/net.py:Net`` or ``torchvision.models:resnet18``.

Loading a Python file executes it, as ``import`` does: load only files that you trust. Weights are safetensors, which
hold numbers and no code.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from itertools import count
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from budgetnet.errors import FOREIGN, ModelError, first_line, reason
from budgetnet.files import beside

if TYPE_CHECKING:
    from torch import nn

_serial = count()


@dataclass(frozen=True)
class ModelSource:
    """A class, or a function that makes a module, and where it was found; ``path`` is None for an installed package."""

    name: str
    place: str
    path: Path | None
    make: Callable[..., Any]

    def module(self) -> nn.Module:
        """A new module. Raises ModelError when the constructor needs arguments, fails, or makes something else."""
        from torch import nn

        if isinstance(self.make, nn.Module):
            return self.make
        if not callable(self.make) or (isinstance(self.make, type) and not issubclass(self.make, nn.Module)):
            raise ModelError(f"{self.place}: {self.name} must be an nn.Module, but is {_kind(self.make)}")
        try:
            module = self.make()
        except FOREIGN as error:
            needs = "needs arguments" if isinstance(error, TypeError) and _missing(error) else "fails"
            raise ModelError(f"{self.place}: the constructor of {self.name} {needs}: {first_line(error)}") from None
        if not isinstance(module, nn.Module):
            raise ModelError(f"{self.place}: {self.name}() must give an nn.Module, but gives {_kind(module)}")
        return module

    @property
    def weights(self) -> Path | None:
        """Where this model's weights belong: ``<Name>.safetensors`` beside its file."""
        return beside(self.path, f"{self.name}.safetensors") if self.path is not None else None


def load(name: str, pretrained: bool = False, models: Path | None = None) -> nn.Module:
    """A new module of the class that ``find`` finds, with its weights when ``pretrained``. Executes the class's file.

    Raises ModelError.
    """
    source = find(name, models)
    module = source.module()
    if pretrained:
        _load_weights(module, source)
    return module


def find(name: str, models: Path | None = None) -> ModelSource:
    """The class called ``name``; executes the file that it is in.

    ``Model_3``: in ``models`` where given, else in ``./model.py``, else in the ``model.py`` of this package.
    ``path/to/net.py:Net``: in that file. ``package.module:Name``: imported; a function that returns a module will do.
    Raises ModelError.
    """
    place, _, attribute = name.rpartition(":")
    path = locate(name, models)
    return _from_package(place, attribute) if path is None else _from_file(path, attribute)


def locate(name: str, models: Path | None = None) -> Path | None:
    """The file that ``find`` would execute, told without executing anything; None for an installed package.

    Raises ModelError.
    """
    place, colon, _ = name.rpartition(":")
    if not colon:
        if name.endswith(".py"):
            raise ModelError(f"{name}: which class? Write {name}:Name; it has {_listed(_classes(Path(name)))}")
        return file_with(name, models)
    return Path(place) if place.endswith(".py") or "/" in place or "\\" in place else None


def names(path: Path) -> list[str]:
    """The ``Model_N`` classes of a file, in its order, without executing it. Raises ModelError if it is no Python."""
    return [name for name in _classes(path) if re.fullmatch(r"Model_\d+", name)]


def model_file(models: Path | None = None) -> Path:
    """``models`` where given, else ``./model.py`` if there is one, else the ``model.py`` of this package."""
    if models is not None:
        return models
    here = Path("model.py")
    return here if here.is_file() else Path(__file__).with_name("model.py")


def names_with_evidence(path: Path) -> list[str]:
    """The classes of a file that have evidence beside them. Raises ModelError if there are none."""
    found = [name for name in _classes(path) if beside(path, f"{name}.json").is_file()]
    if not found:
        raise ModelError(f"{path}: no class has its evidence beside it")
    return found


def file_with(name: str, models: Path | None) -> Path:
    """The file that defines the class ``name``, told from its text: where ``find`` looks. Raises ModelError."""
    candidates = [models] if models is not None else [Path("model.py"), Path(__file__).with_name("model.py")]
    found = []
    for path in candidates:
        if models is None and not path.exists():
            continue
        defined = _classes(path)
        if name in defined:
            return path
        found.append(f"{path} has {_listed(defined)}")
    where = "; ".join(found) if found else "there is no ./model.py, and the package has none"
    raise ModelError(f"there is no class {name!r}: {where}")


# --- where a name is --------------------------------------------------------------------------------------------------


def _classes(path: Path) -> list[str]:
    return [node.name for node in _parsed(path).body if isinstance(node, ast.ClassDef)]


def _parsed(path: Path) -> ast.Module:
    """The syntax tree of a file. Raises ModelError where it cannot be read or is no Python, with the line."""
    try:
        return ast.parse(path.read_bytes(), str(path))
    except SyntaxError as error:
        line = f"line {error.lineno}: " if error.lineno else ""
        raise ModelError(f"{path}: {line}not Python: {error.msg}") from None
    except ValueError as error:
        raise ModelError(f"{path}: not Python: {first_line(error)}") from None
    except FileNotFoundError:
        raise ModelError(f"{path}: there is no such file") from None
    except OSError as error:
        raise ModelError(f"{path}: cannot be read: {error.strerror}") from None


def _from_file(path: Path, name: str) -> ModelSource:
    module = _executed(path)
    if not name or not hasattr(module, name):
        raise ModelError(f"{path} has no class {name!r}; it has {_listed(_classes(path))}")
    return ModelSource(name, str(path), path, getattr(module, name))


def _from_package(package: str, name: str) -> ModelSource:
    try:
        module = import_module(package)
    except FOREIGN as error:
        raise ModelError(f"{package}: cannot be imported: {first_line(error)}") from None
    if not hasattr(module, name):
        raise ModelError(f"{package} has no class or function {name!r}")
    return ModelSource(name, package, None, getattr(module, name))


# --- executing a file -------------------------------------------------------------------------------------------------


def _executed(path: Path) -> ModuleType:
    """The file as a module of a name of its own, executed; leaves nothing in ``sys.modules`` or beside the file."""
    code = compile(_parsed(path), str(path), "exec")
    module = ModuleType(f"budgetnet_model_{next(_serial)}")
    module.__file__ = str(path)
    module.__package__ = ""
    with _importable(module, path.resolve().parent):
        try:
            exec(code, vars(module))
        except FOREIGN as error:
            raise ModelError(
                f"{path}: {_line_of(error, path)}raises {type(error).__name__} on import: {first_line(error)}"
            ) from None
    return module


@contextmanager
def _importable(module: ModuleType, folder: Path) -> Iterator[None]:
    """For the time being ``module`` can be looked up, and modules beside it imported, unless they are a package's."""
    before, writes, script = set(sys.modules), sys.dont_write_bytecode, not (folder / "__init__.py").exists()
    sys.modules[module.__name__] = module
    sys.dont_write_bytecode = True
    if script:
        sys.path.append(str(folder))  # last: a user's random.py is not what torch means by it
    try:
        yield
    finally:
        sys.dont_write_bytecode = writes
        if script:
            sys.path.remove(str(folder))
        del sys.modules[module.__name__]
        for name in set(sys.modules) - before:
            file = getattr(sys.modules[name], "__file__", None)
            if script and file and folder in Path(file).resolve().parents and _top(name, folder):
                del sys.modules[name]


def _top(name: str, folder: Path) -> bool:
    """Whether the module ``name`` was found in ``folder`` itself, as itself or in a package there."""
    first = name.partition(".")[0]
    return (folder / f"{first}.py").exists() or (folder / first).is_dir()


@contextmanager
def running(path: Path, name: str) -> Iterator[None]:
    """Whatever the code of a class raises while it runs becomes a ModelError of one line."""
    try:
        yield
    except FOREIGN as error:
        raise ModelError(f"{path}: {name} fails when it is run: {reason(error)}") from None


# --- weights ----------------------------------------------------------------------------------------------------------


def _load_weights(module: nn.Module, source: ModelSource) -> None:
    """Give a module its weights; of a frozen model, only those that it was frozen with."""
    from budgetnet.evidence import frozen_digest
    from budgetnet.weights import load_weights, read_weights

    path = source.weights
    if path is None:
        raise ModelError(f"{source.place}:{source.name} comes without weights; only a model file has them beside it")
    digest = frozen_digest(path.with_suffix(".json"))
    load_weights(module, read_weights(path, digest), source.name, path)


# --- words ------------------------------------------------------------------------------------------------------------


def _listed(found: Sequence[str]) -> str:
    return ", ".join(found) if found else "no classes"


def _kind(thing: object) -> str:
    name = thing.__name__ if isinstance(thing, type) else type(thing).__name__
    return f"a class {name}" if isinstance(thing, type) else f"a {name}"


def _missing(error: TypeError) -> bool:
    return "missing" in str(error) and "argument" in str(error)


def _line_of(error: BaseException, path: Path) -> str:
    """The last line of ``path`` that the exception passed through."""
    line, trace = 0, error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == str(path):
            line = trace.tb_lineno
        trace = trace.tb_next
    return f"line {line}: " if line else ""
