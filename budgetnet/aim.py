"""A study's own file, ``studies/<name>/study.yaml``: what its winners are to reach and why, and what a person adds.

    about: |        # what the report says first: Markdown
      The skeleton of step 1, squeezed.
    target: 99.4    # percent of the test images
    last: 5         # in every one of so many last epochs
    aim:            # why this aim at this step
      - The skeleton reached {previous_mean}; now the budget is {budget}.
    analysis:       # sentences that follow ours; one that compares carries its claim
      - text: Squeezed to {params} params, it ends {difference} below {previous}.
        claim: difference_high < 0

Every number is the name of a fact, filled in and checked when a trial is frozen; a name that is none is answered with
all that there are.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from budgetnet.errors import ModelError, StudyError
from budgetnet.files import parse_yaml
from budgetnet.results import LAST
from budgetnet.sentences import Sentence, sentences_of

FILE = "study.yaml"
TARGET = 0.994


@dataclass(frozen=True)
class Aim:
    """What a study is for. ``target``: fraction of the test images that every one of the ``last`` epochs is to reach;
    ``why``: why this aim at this step; ``analysis``: what a person adds; ``place``: the file; ``about``: Markdown that
    a report begins with."""

    target: float = TARGET
    last: int = LAST
    why: tuple[Sentence, ...] = ()
    analysis: tuple[Sentence, ...] = ()
    place: Path = Path(FILE)
    about: str = ""

    def __post_init__(self) -> None:
        if not 0.01 <= self.target <= 1:  # who writes 0.994 means a fraction
            raise StudyError(f"target must be from 1 to 100 percent, but is {100 * self.target:g}")
        if self.last < 1:
            raise StudyError(f"last must be at least 1 epoch, but is {self.last}")


def read_aim(folder: Path, target: float | None = None, last: int | None = None) -> Aim:
    """The aim in a study's folder, the default where it has no file; ``target`` and ``last`` go before the file's.

    Raises StudyError that names the file and the field.
    """
    path = folder / FILE
    values: dict[str, Any] = {}
    text = ""
    try:
        text = path.read_text(encoding="utf-8")
        values = _fields(parse_yaml(text))
    except FileNotFoundError:
        pass
    except OSError as error:
        raise StudyError(f"{path}: cannot be read: {error.strerror}") from None
    except (ModelError, StudyError) as error:
        raise StudyError(f"{path}: {error}") from None
    except ValueError as error:
        quotes = "; a sentence that begins with { needs quotes" if re.search(r"[-:]\s+\{", text) else ""
        raise StudyError(f"{path}: {error}{quotes}") from None
    given = {"target": target, "last": last}
    try:
        return Aim(**{**values, **{name: value for name, value in given.items() if value is not None}}, place=path)
    except StudyError as error:
        raise StudyError(f"--{error}") from None


def _fields(data: Any) -> dict[str, Any]:
    known = ("about", "target", "last", "aim", "analysis")
    if not isinstance(data, Mapping):
        raise StudyError(f"must be a mapping with {', '.join(known)}, but is {data!r}")
    for name in data:
        if name not in known:
            raise StudyError(f"{name}: must be one of {', '.join(known)}")
    values: dict[str, Any] = {}
    if "target" in data:
        if isinstance(data["target"], bool) or not isinstance(data["target"], int | float):
            raise StudyError(f"target: must be a percentage, but is {data['target']!r}")
        values["target"] = data["target"] / 100
    if "last" in data:
        if isinstance(data["last"], bool) or not isinstance(data["last"], int):
            raise StudyError(f"last: must be a whole number of epochs, but is {data['last']!r}")
        values["last"] = data["last"]
    if "about" in data:
        if not isinstance(data["about"], str):
            raise StudyError(f"about: must be text, but is {data['about']!r}")
        values["about"] = data["about"].strip()
    if "aim" in data:
        values["why"] = sentences_of(data["aim"], "aim")
    if "analysis" in data:
        values["analysis"] = sentences_of(data["analysis"], "analysis")
    Aim(**values)
    return values
