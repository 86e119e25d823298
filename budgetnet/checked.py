"""Values of parsed JSON, each checked where it enters; an error names the place, the rule and the value."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import fields
from typing import Any, TypeVar

from budgetnet.errors import ModelError

T = TypeVar("T")
Reader = Callable[[str, Any], Any]

LARGEST = 2**63  # JSON may hold integers beyond every float


def whole(place: str, value: Any) -> int:
    """A whole number."""
    if not isinstance(value, int) or isinstance(value, bool) or abs(value) >= LARGEST:
        raise ModelError(f"{place} must be a whole number, but is {_short(value)}")
    return value


def number(place: str, value: Any) -> float:
    """A number; a whole one stays whole."""
    if not isinstance(value, int | float) or isinstance(value, bool) or abs(value) >= LARGEST:
        raise ModelError(f"{place} must be a number, but is {_short(value)}")
    return value


def text(place: str, value: Any) -> str:
    if not isinstance(value, str):
        raise ModelError(f"{place} must be a text, but is {_short(value)}")
    return value


def items(place: str, value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise ModelError(f"{place} must be a list, but is {_short(value)}")
    return value


def numbers(place: str, value: Any) -> tuple[float, ...]:
    return tuple(number(f"{place}[{index}]", item) for index, item in enumerate(items(place, value)))


def texts(place: str, value: Any) -> tuple[str, ...]:
    return tuple(text(f"{place}[{index}]", item) for index, item in enumerate(items(place, value)))


def perhaps(reader: Reader) -> Reader:
    """Reads null as None, all else as ``reader`` does."""
    return lambda place, value: None if value is None else reader(place, value)


READERS: dict[str, Reader] = {
    "int": whole,
    "float": number,
    "float | None": perhaps(number),
    "str": text,
    "tuple[float, ...]": numbers,
    "tuple[str, ...]": texts,
}


def record(kind: type[T], place: str, data: Any, readers: Mapping[str, Reader] = READERS) -> T:
    """A dataclass whose fields are exactly those of ``data``, each read by its annotation."""
    check_fields(kind, place, data)
    return kind(
        **{
            field.name: readers[str(field.type)](f"{place}.{field.name}", data[field.name])
            for field in fields(kind)  # type: ignore[arg-type]
        }
    )


def check_fields(kind: type, place: str, data: Any) -> None:
    """Raise ModelError unless ``data`` is a mapping with exactly the fields of a dataclass."""
    known = [field.name for field in fields(kind)]
    if not isinstance(data, Mapping) or set(data) != set(known):
        raise ModelError(f"{place} must have the fields {', '.join(known)}")


def _short(value: object) -> str:
    """What an error shows of a value, however long."""
    shown = repr(value)
    return shown if len(shown) <= 80 else f"{shown[:77]}…"
