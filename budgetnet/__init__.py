"""budgetnet: the most accurate small convolutional network that fits a parameter budget, as code anyone can read.

The names below are imported when they are first used, so that ``import budgetnet`` stays light.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from budgetnet.architecture import Architecture as Architecture
    from budgetnet.coordinator import search as search
    from budgetnet.errors import BudgetnetError as BudgetnetError
    from budgetnet.models import load as load
    from budgetnet.notation import parse as parse
    from budgetnet.recipe import Recipe as Recipe
    from budgetnet.study import open_study as open_study
    from budgetnet.table import receptive_field as receptive_field

__version__ = "0.1.0"

# No name here may be that of a submodule: importing the submodule would put the module in its place.
_HOME = {
    "Architecture": "architecture",
    "BudgetnetError": "errors",
    "Recipe": "recipe",
    "load": "models",
    "open_study": "study",
    "parse": "notation",
    "receptive_field": "table",
    "search": "coordinator",
}


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(f"budgetnet.{_HOME[name]}"), name)
    raise AttributeError(f"module 'budgetnet' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOME])
