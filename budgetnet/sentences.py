"""Sentences whose numbers are names of recorded facts, and claims that are checked against the same facts.

A number that a person typed could be wrong, so a sentence says ``{mean}`` where it means a number; one that compares
("better", "above", "than") carries the claim that backs it, such as ``mean > previous_mean``.
"""

from __future__ import annotations

import operator
import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from budgetnet.errors import SentenceError

OPERATORS = {
    ">": operator.gt,
    ">=": operator.ge,
    "<": operator.lt,
    "<=": operator.le,
    "=": operator.eq,
}

_NAME = re.compile(r"\{(\w+)\}")
_NUMBER = re.compile(
    r"\d|[{}]|\b(?:two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|\w+teen|twenty|thirty|forty|fifty|sixty"
    r"|seventy|eighty|ninety|hundreds?|thousands?|millions?|dozens?|twice|thrice|double[ds]?|triple[ds]?|half|halve[ds]?"
    r"|thirds?|quarters?|fourths?|(?:fif|six|seven|eigh|nin|ten)ths?|\w+fold|one point|zero)\b",
    re.IGNORECASE,
)
_COMPARES = re.compile(
    r"\b(?:than|above|below|beats?|exceeds?|outperforms?|improve[sd]?|improvement|gain(?:s|ed)?|los(?:es|t)|worsen(?:s|ed)?"
    r"|better|worse|best|worst|higher|lower|highest|lowest|larger|smaller|greater|fewer|stronger|weaker|wider|narrower"
    r"|deeper|shallower|steadier|faster|slower|equals?|as good as|more|most|less|least|same|ahead|behind|increase[sd]?"
    r"|decrease[sd]?|rises?|rose|drop(?:s|ped)?|falls?|fell|reduc(?:es?|ed|tion)|surpass(?:es|ed)?|match(?:es|ed)?)\b",
    re.IGNORECASE,
)
_CLAIM = re.compile(rf"(\w+)\s*({'|'.join(sorted(map(re.escape, OPERATORS), key=len, reverse=True))})\s*(\w+)")


@dataclass(frozen=True)
class Fact:
    """A recorded number as words, and its value where claims can compare it."""

    words: str
    value: float | None = None

    def __str__(self) -> str:
        return self.words


@dataclass(frozen=True)
class Sentence:
    """One sentence of a person. ``claim``: what makes it true, comparisons of facts (or of one with 0) joined by "and".

    Raises SentenceError for a number that is spelled out, and for a comparison without a claim.
    """

    text: str
    claim: str = ""

    def __post_init__(self) -> None:
        if not self.text:
            raise SentenceError("a sentence needs a text")
        bare = _NAME.sub("", self.text)
        numbers = [match[0] for match in _NUMBER.finditer(bare)] + [char for char in bare if _counts(char)]
        if numbers:
            raise SentenceError(
                f"a number is written as the name of a fact, such as {{mean}}, "
                f"but {self.text!r} spells out {numbers[0]!r}"
            )
        if not self.claim and (found := _COMPARES.search(bare)):
            raise SentenceError(
                f"{self.text!r} compares ({found[0]!r}), "
                "so it needs a claim that backs it, such as mean > previous_mean"
            )
        _comparisons(self.claim)

    def said(self, facts: Mapping[str, Fact]) -> str:
        """The sentence with its numbers filled in. Raises SentenceError where its claim does not hold."""
        for left, sign, right in _comparisons(self.claim):
            first, second = _value(left, facts), _value(right, facts)
            if not OPERATORS[sign](first, second):
                raise SentenceError(f"{self.text!r} claims {left} {sign} {right}, but that is {first:g} and {second:g}")
        return fill(self.text, facts)

    def to_dict(self) -> dict[str, str]:
        return {"text": self.text, "claim": self.claim}

    @staticmethod
    def from_dict(data: Any) -> Sentence:
        """A text, or a mapping with ``text`` and ``claim``. Raises SentenceError."""
        if isinstance(data, str):
            return Sentence(" ".join(data.split()))
        if (
            isinstance(data, Mapping)
            and set(data) <= {"text", "claim"}
            and all(isinstance(v, str) for v in data.values())
        ):
            return Sentence(" ".join(data.get("text", "").split()), data.get("claim", ""))
        quotes = "; one that begins with { needs quotes" if isinstance(data, Mapping) else ""
        raise SentenceError(f"a sentence must be a text, or text and claim, but is {data!r}{quotes}")


def _counts(char: str) -> bool:
    """Whether a character is a number in any script: ½, ², Ⅳ, ٣."""
    return unicodedata.numeric(char, None) is not None


def sentences_of(data: Any, place: str) -> tuple[Sentence, ...]:
    """One sentence, or a list of them, as a file holds them. Raises SentenceError that names the place."""
    found = []
    for index, item in enumerate(data if isinstance(data, list | tuple) else [data]):
        try:
            found.append(Sentence.from_dict(item))
        except SentenceError as error:
            raise SentenceError(f"{place}[{index}]: {error}") from None
    return tuple(found)


def fill(template: str, facts: Mapping[str, Fact]) -> str:
    """The template with every ``{name}`` replaced by its fact.

    Raises SentenceError for an unknown name, and for a digit: a number that nobody recorded could be wrong."""
    if found := re.search(r"[\d{}]", _NAME.sub("", template)):
        raise SentenceError(f"a sentence names its numbers as {{facts}}, but {template!r} spells out {found[0]!r}")
    return _NAME.sub(lambda match: _fact(match[1], facts).words, template)


def _fact(name: str, facts: Mapping[str, Fact]) -> Fact:
    if name not in facts:
        raise SentenceError(f"there is no fact {name!r}; there are {', '.join(sorted(facts))}")
    return facts[name]


def _value(name: str, facts: Mapping[str, Fact]) -> float:
    if name == "0":
        return 0.0
    value = _fact(name, facts).value
    if value is None:
        numbers = ", ".join(sorted(key for key, fact in facts.items() if fact.value is not None))
        raise SentenceError(f"the fact {name!r} is no number that can be compared; these are: {numbers}")
    return value


def _comparisons(claim: str) -> Sequence[tuple[str, str, str]]:
    """The claim's parts. Raises SentenceError unless it reads like ``mean > previous_mean and used < budget``."""
    parts = [part.strip() for part in claim.split(" and ")] if claim else []
    found = []
    for part in parts:
        match = _CLAIM.fullmatch(part)
        if match is None or any(name[0].isdigit() and name != "0" for name in (match[1], match[3])):
            raise SentenceError(f"a claim reads like mean > previous_mean or difference_low > 0, but got {part!r}")
        found.append((match[1], match[2], match[3]))
    return found
