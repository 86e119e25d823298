"""One choice of a search space: a constant, a list of choices, or a range – read from YAML, suggested to a trial."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import inf, isfinite
from random import Random
from typing import Any, Protocol

from pydantic import BeforeValidator

from budgetnet.pieces import Pair

Scalar = bool | int | float | str | Pair | None


class Suggester(Protocol):
    """The part of an Optuna trial that a space needs; FixedTrial and RandomDraw have it too."""

    def suggest_categorical(self, name: str, choices: Any, /) -> Any:
        """One of the choices."""

    def suggest_int(self, name: str, low: int, high: int, /, *, step: int = 1, log: bool = False) -> int:
        """A whole number, both ends included."""

    def suggest_float(
        self, name: str, low: float, high: float, /, *, step: float | None = None, log: bool = False
    ) -> float:
        """A number, both ends included."""


class RandomDraw:
    """A trial without a study: every suggestion is drawn uniformly. For tests, benchmarks and looking for corners."""

    def __init__(self, seed: int) -> None:
        self._random = Random(seed)
        self.params: dict[str, Any] = {}

    def suggest_categorical(self, name: str, choices: Any, /) -> Any:
        return self._once(name, lambda: self._random.choice(list(choices)))

    def suggest_int(self, name: str, low: int, high: int, /, *, step: int = 1, log: bool = False) -> int:
        value: int = self._once(name, lambda: self._random.randrange(low, high + 1, step))
        return value

    def suggest_float(
        self, name: str, low: float, high: float, /, *, step: float | None = None, log: bool = False
    ) -> float:
        value: float = self._once(name, lambda: self._float(low, high, step, log))
        return value

    def _float(self, low: float, high: float, step: float | None, log: bool) -> float:
        if step is not None:
            return min(high, low + step * self._random.randrange(round((high - low) / step) + 1))
        if log:
            return float(low * (high / low) ** self._random.random())
        return self._random.uniform(low, high)

    def _once(self, name: str, draw: Callable[[], Any]) -> Any:
        return self.params.setdefault(name, draw()) if name not in self.params else self.params[name]


class FixedDraw(RandomDraw):
    """A draw of which some values are given. ``asked``: all names so far. Raises ValueError for a value that cannot be
    drawn: rule, value and place."""

    def __init__(self, seed: int, given: Mapping[str, Any]) -> None:
        super().__init__(seed)
        self.given = given
        self.asked: set[str] = set()

    def suggest_categorical(self, name: str, choices: Any, /) -> Any:
        found = self._given(name, lambda value: any(value == c and type(value) is type(c) for c in choices), choices)
        return super().suggest_categorical(name, (found,) if name in self.given else choices)

    def suggest_int(self, name: str, low: int, high: int, /, *, step: int = 1, log: bool = False) -> int:
        self._given(name, lambda value: type(value) is int and value in range(low, high + 1, step), f"{low} to {high}")
        return self.given[name] if name in self.given else super().suggest_int(name, low, high, step=step, log=log)

    def suggest_float(
        self, name: str, low: float, high: float, /, *, step: float | None = None, log: bool = False
    ) -> float:
        def allowed(value: Any) -> bool:
            is_number = isinstance(value, int | float) and not isinstance(value, bool)
            return is_number and low <= value <= high and _is_on_step(value - low, step)

        self._given(name, allowed, f"{low:g} to {high:g}")
        drawn = super().suggest_float(name, low, high, step=step, log=log)
        return float(self.given.get(name, drawn))

    def _given(self, name: str, allowed: Callable[[Any], bool], what: Any) -> Any:
        self.asked.add(name)
        value = self.given.get(name)
        if name in self.given and not allowed(value):
            may = ", ".join(map(str, what)) if isinstance(what, tuple) else what
            raise ValueError(f"{name}: must be one that the space can draw ({may}), but is {value!r}")
        return value


def _is_on_step(distance: float, step: float | None) -> bool:
    return step is None or abs(distance / step - round(distance / step)) < 1e-9


@dataclass(frozen=True)
class Dimension:
    """Either ``choices`` (one of them: a constant) or a range from ``low`` to ``high``, both ends included."""

    choices: tuple[Scalar, ...] = ()
    low: float = 0
    high: float = 0
    step: float | None = None
    log: bool = False
    whole: bool = False

    def suggest(self, trial: Suggester, name: str) -> Any:
        """The trial's value; a constant is not worth a question."""
        if self.choices:
            if len(self.choices) == 1:
                return self.choices[0]
            return self._by_text(trial.suggest_categorical(name, tuple(map(_as_text, self.choices))))
        if self.whole:
            return trial.suggest_int(name, int(self.low), int(self.high), step=int(self.step or 1), log=self.log)
        value = trial.suggest_float(name, self.low, self.high, step=self.step, log=self.log)
        return round(value, 12) if self.step else value  # 3 steps of 0.025 are 0.075, not 0.07500000000000001

    def _by_text(self, chosen: Any) -> Scalar:
        """The choice itself: a kernel goes to Optuna as "3x5", which every storage can keep."""
        return next(choice for choice in self.choices if _as_text(choice) == chosen)

    def ends(self) -> tuple[Scalar, ...]:
        """All choices, or both ends of the range: what must be valid for every value to be."""
        if self.choices:
            return self.choices
        return (int(self.low), int(self.high)) if self.whole else (self.low, self.high)

    def to_plain(self) -> Any:
        """As written in YAML, in one normal form; what two spaces are compared by."""
        if self.choices:
            texts = [_as_text(choice) for choice in self.choices]
            return texts[0] if len(texts) == 1 else {"choices": texts}
        low, high = self.ends()
        return (
            {"min": low, "max": high} | ({"step": self.step} if self.step else {}) | ({"log": True} if self.log else {})
        )


def _as_text(choice: Scalar) -> Any:
    return f"{choice[0]}x{choice[1]}" if isinstance(choice, tuple) else choice


Check = Callable[[Any], Scalar]
"""Turns one written value into the value meant. Raises ValueError: rule and value."""


def dimension(check: Check) -> BeforeValidator:
    """A pydantic validator for a field whose every value must pass ``check``."""

    def parse(raw: Any) -> Dimension:
        if isinstance(raw, Dimension):
            return raw
        if not isinstance(raw, Mapping):
            return Dimension((check(raw),))
        return _choices(raw, check) if "choices" in raw else _range(raw, check)

    return BeforeValidator(parse)


def _choices(raw: Mapping[str, Any], check: Check) -> Dimension:
    _only(raw, ("choices",))
    listed = raw["choices"]
    if not isinstance(listed, list) or not listed:
        raise ValueError(f"choices must be a list of at least one value, but is {listed!r}")
    values = tuple(check(value) for value in listed)
    if len(set(map(repr, values))) < len(values):
        raise ValueError(f"choices must differ, but are {listed!r}")
    return Dimension(values)


def _range(raw: Mapping[str, Any], check: Check) -> Dimension:
    _only(raw, ("min", "max", "step", "log"))
    for end in ("min", "max"):
        if end not in raw:
            raise ValueError(f"a range needs min and max, but {end} is missing")
    low, high = check(raw["min"]), check(raw["max"])
    if isinstance(low, bool) or not isinstance(low, int | float) or not isinstance(high, int | float):
        raise ValueError("a range needs numbers; use choices")
    if low > high:
        raise ValueError(f"minimum {low} is above maximum {high}")
    step, log = raw.get("step"), raw.get("log", False)
    whole = isinstance(low, int) and isinstance(high, int)
    _check_step(step, low, high, whole)
    if not isinstance(log, bool):
        raise ValueError(f"log must be true or false, but is {log!r}")
    if log and (low <= 0 or step is not None):
        raise ValueError(f"a log range needs min above 0 and no step, but min={low}, step={step}")
    return Dimension((low,)) if low == high else Dimension((), low, high, step, log, whole)


def _check_step(step: Any, low: float, high: float, whole: bool) -> None:
    """The upper end must be reachable, or it would be a value that is written and never drawn."""
    if step is None:
        return
    if isinstance(step, bool) or not isinstance(step, int if whole else (int, float)) or not 0 < step < inf:
        raise ValueError(f"step must be a positive {'whole ' if whole else ''}number, but is {step!r}")
    steps = (high - low) / step
    if not isfinite(steps) or abs(steps - round(steps)) > 1e-9:
        raise ValueError(f"maximum {high} cannot be reached from minimum {low} in steps of {step}")


def _only(raw: Mapping[str, Any], allowed: tuple[str, ...]) -> None:
    for key in raw:
        if key not in allowed:
            raise ValueError(f"unknown key {key!r}; a dimension has choices, or min, max, step and log")


# --- checks -----------------------------------------------------------------------------------------------------------


def whole(least: int, most: int) -> Check:
    """A whole number in [least, most]."""

    def check(value: Any) -> Scalar:
        if isinstance(value, bool) or not isinstance(value, int):
            raise ValueError(f"must be a whole number, but is {value!r}")
        if not least <= value <= most:
            raise ValueError(f"must be between {least} and {most}, but is {value}")
        return value

    return check


def real(least: float, most: float) -> Check:
    """A number in [least, most], as float."""

    def check(value: Any) -> Scalar:
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise ValueError(f"must be a number, but is {value!r}")
        if not least <= value <= most:
            raise ValueError(f"must be between {least:g} and {most:g}, but is {value:g}")
        return float(value)

    return check


def one_of(*allowed: Scalar) -> Check:
    """One of a few names."""

    def check(value: Any) -> Scalar:
        if not any(value == option and type(value) is type(option) for option in allowed):
            raise ValueError(f"must be one of {', '.join(map(str, allowed))}, but is {value!r}")
        found: Scalar = value
        return found

    return check


def kernel_size(value: Any) -> Scalar:
    """``3`` or ``"3x5"`` as a pair (height, width)."""
    from budgetnet.notation import parse_pair

    text = str(value)
    if isinstance(value, bool) or not re.fullmatch(r"\d{1,9}(x\d{1,9})?", text):
        raise ValueError(f"must be a kernel such as 3 or 3x5, but is {value!r}")
    pair = parse_pair(text)
    if min(pair) < 1:
        raise ValueError(f"must be at least 1, but is {value!r}")
    return pair
