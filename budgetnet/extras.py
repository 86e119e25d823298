"""Packages that only some commands need: which extra brings them, and one line where they are missing."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec

from budgetnet.errors import ExtraError

EXTRAS: Mapping[str, tuple[str, ...]] = {  # by the names under which they are imported
    "dashboard": ("optuna_dashboard",),
    "onnx": ("onnx", "onnxruntime", "onnxscript"),
    "postgresql": ("psycopg",),
    "ray": ("ray",),
    "tensorboard": ("tensorboard",),
}
SERVES = {
    "dashboard": "budgetnet dashboard",
    "onnx": "budgetnet export",
    "postgresql": "--storage postgresql://…",
    "ray": "--executor ray",
    "tensorboard": "--tensorboard",
}


def require(extra: str) -> None:
    """Raise ExtraError, with the command that installs them, where packages of an extra are missing."""
    if packages := missing(extra):
        raise ExtraError(f"{SERVES[extra]} needs {' and '.join(packages)}; install with: {command(extra)}")


def missing(extra: str) -> list[str]:
    """The packages of an extra that are not there; whether the others can be imported is not tried."""
    return [name for name in EXTRAS[extra] if find_spec(name) is None]


def command(extra: str) -> str:
    """What installs an extra."""
    return f"pip install 'budgetnet[{extra}]' (in a clone: '.[{extra}]')"
