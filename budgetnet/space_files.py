"""Search spaces in YAML files, those that ship with budgetnet and others, validated before anything runs."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from budgetnet.dimension import FixedDraw
from budgetnet.errors import ArchitectureError, SpaceError
from budgetnet.files import parse_yaml
from budgetnet.space import SearchSpace

STARTS = 50  # draws that are looked at for the names of a start


def space_folders() -> tuple[Path, ...]:
    """Where named spaces lie: in the installed package, and at the top of a clone."""
    package = Path(__file__).parent
    return tuple(p for p in (package / "search_spaces", package.parent / "search_spaces") if p.is_dir())


def space_names() -> list[str]:
    """Names of the spaces that ship with budgetnet."""
    return sorted({path.stem for folder in space_folders() for path in folder.glob("*.yaml")})


def load_space(spec: str) -> SearchSpace:
    """A space by name (``mnist``) or file (``my/space.yaml``). Raises SpaceError: rule, value, place."""
    path = _find(spec)
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise SpaceError(f"{path}: cannot be read: {error}") from None
    try:
        data = parse_yaml(text)
    except ValueError as error:
        raise SpaceError(f"{path}: {error}") from None
    return parse_space(data, str(path))


def parse_space(data: Any, place: str) -> SearchSpace:
    """Validate plain data. Raises SpaceError that names the first wrong field."""
    if not isinstance(data, Mapping):
        raise SpaceError(f"{place}: a space is a mapping with name and network, but this is {type(data).__name__}")
    try:
        space = SearchSpace.model_validate(dict(data))
    except ValidationError as error:
        raise SpaceError(f"{place}: {_first_problem(error)}") from None
    counts = space.network.stage_count.ends() if space.network.stage_count else ()
    for value in counts:
        if isinstance(value, int) and value > len(space.network.stages):
            stages = len(space.network.stages)
            raise SpaceError(
                f"{place}: network.stage_count: must be at most the {stages} stages written, but is {value}"
            )
    for index, start in enumerate(space.start):
        try:
            _check_start(space, start)
        except ValueError as error:
            number = f"[{index}]" if len(space.start) > 1 else ""
            raise SpaceError(f"{place}: start{number}.{error}") from None
    return space


def _check_start(space: SearchSpace, start: Mapping[str, Any]) -> None:
    """Raise ValueError for a name that no draw asks for, or a value that it could not give."""
    asked: set[str] = set()
    for seed in range(STARTS):  # what is drawn beside it decides what else is asked for
        draw = FixedDraw(seed, start)
        with suppress(ArchitectureError):
            space.sample(draw)
        asked |= draw.asked
        if set(start) <= asked:
            return
    unknown = sorted(set(start) - asked)
    known = f"there are {', '.join(sorted(asked))}" if asked else "the space draws nothing"
    raise ValueError(f"{unknown[0]}: nothing of this name is drawn; {known}")


def _find(spec: str) -> Path:
    if spec.endswith((".yaml", ".yml")) or "/" in spec or "\\" in spec:
        if not Path(spec).is_file():
            raise SpaceError(f"no such space file: {spec}")
        return Path(spec)
    for folder in space_folders():
        if (folder / f"{spec}.yaml").is_file():
            return folder / f"{spec}.yaml"
    raise SpaceError(f"unknown space {spec!r}; there are {', '.join(space_names())}, or name a .yaml file")


def _first_problem(error: ValidationError) -> str:
    problem = error.errors()[0]
    place = ""
    for step in problem["loc"]:
        place += f"[{step}]" if isinstance(step, int) else f".{step}" if place else str(step)
    if problem["type"] == "extra_forbidden":
        return f"{place}: unknown field"
    if problem["type"] == "missing":
        return f"{place}: is missing"
    message = problem["msg"].removeprefix("Value error, ")
    return (
        f"{place}: {message}"
        if "but is" in message or problem["type"] == "value_error"
        else (f"{place}: {message[0].lower()}{message[1:]}, but is {problem['input']!r}")
    )
