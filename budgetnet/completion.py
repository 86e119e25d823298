"""What a shell offers after Tab: names of studies, models, spaces and methods. Quick, so neither torch nor optuna."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterable
from pathlib import Path

Names = Callable[[str], list[str]]

EXECUTORS = ("local", "ray")
DEVICES = ("auto", "cpu", "cuda", "mps")


def among(names: Iterable[str]) -> Names:
    """Those of ``names`` that begin as what is typed."""
    return lambda incomplete: [name for name in names if name.startswith(incomplete)]


def samplers(incomplete: str) -> list[str]:
    """Names for ``--sampler``."""
    return among(_keys("samplers.py", "SAMPLERS"))(incomplete)


def pruners(incomplete: str) -> list[str]:
    """Names for ``--pruner``."""
    return among(_keys("plan.py", "PRUNERS"))(incomplete)


def _keys(file: str, table: str) -> list[str]:
    """The keys of a table of a module, read from its text: to import it would take seconds."""
    tree = ast.parse(Path(__file__).with_name(file).read_text(encoding="utf-8"))
    for node in tree.body:
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.target.id == table:
            assert isinstance(node.value, ast.Dict)
            return [ast.literal_eval(key) for key in node.value.keys if key is not None]
    return []


def studies(incomplete: str) -> list[str]:
    """Studies under the working directory."""
    from budgetnet.place import names

    return among(sorted(names()))(incomplete)


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
    from budgetnet.space_files import space_names

    return among(space_names())(incomplete)
