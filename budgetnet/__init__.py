"""budgetnet: the most accurate small convolutional network that fits a parameter budget, as code anyone can read.

The names below are imported when they are first used, so that ``import budgetnet`` stays light.
"""

from __future__ import annotations

import sys
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
    from budgetnet.tabulate import receptive_field as receptive_field

__version__ = "0.1.2"

# No name here may be that of a submodule: importing the submodule would put the module in its place.
_HOME = {
    "Architecture": "architecture",
    "BudgetnetError": "errors",
    "Recipe": "recipe",
    "load": "models",
    "open_study": "study",
    "parse": "notation",
    "receptive_field": "tabulate",
    "search": "coordinator",
}


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(f"budgetnet.{_HOME[name]}"), name)
    raise AttributeError(f"module 'budgetnet' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOME])


def load_ipython_extension(shell: Any) -> None:
    """Show architectures as tables; ``%load_ext budgetnet`` where budgetnet was imported before IPython."""
    html = shell.display_formatter.formatters["text/html"]
    html.for_type_by_name("budgetnet.architecture", "Architecture", _architecture_html)


def _architecture_html(architecture: Architecture) -> str:
    from budgetnet.notebook import architecture_html

    return architecture_html(architecture)


def _notebook() -> Any:
    """The notebook or IPython that this is imported in, if any."""
    get = getattr(sys.modules.get("IPython"), "get_ipython", None)
    return get() if get is not None else None


if (_shell := _notebook()) is not None:
    load_ipython_extension(_shell)
