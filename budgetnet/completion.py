"""What a shell offers after Tab: names of studies, models, spaces and methods. Quick, so neither torch nor optuna."""

from __future__ import annotations

from collections.abc import Callable, Iterable

Names = Callable[[str], list[str]]

SAMPLERS = ("tpe", "gp", "random")
PRUNERS = ("halving", "median", "percentile", "hyperband", "none")
EXECUTORS = ("local", "ray")
DEVICES = ("auto", "cpu", "cuda", "mps")


def among(names: Iterable[str]) -> Names:
    """Those of ``names`` that begin as what is typed."""
    return lambda incomplete: [name for name in names if name.startswith(incomplete)]


def studies(incomplete: str) -> list[str]:
    """Studies under the working directory."""
    from budgetnet.place import DATABASE, STUDIES

    return among(sorted(path.parent.name for path in STUDIES.glob(f"*/{DATABASE}")))(incomplete)


def models(incomplete: str) -> list[str]:
    """Frozen models of ``./model.py``, else of the package; none from a file that cannot be read."""
    from budgetnet.errors import ModelError
    from budgetnet.models import model_file, names

    try:
        return among(names(model_file()))(incomplete)
    except ModelError:
        return []


def data_sets(incomplete: str) -> list[str]:
    """MNIST, which is embedded, and the sets of torchvision."""
    from budgetnet.catalogue import SETS

    return among(("mnist", *SETS))(incomplete)


def spaces(incomplete: str) -> list[str]:
    """Search spaces that ship with budgetnet."""
    from budgetnet.space import space_names

    return among(space_names())(incomplete)
