"""Recorded numbers as words, each formatted in this one place; sentences name them and never spell them out."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil, log10

from budgetnet.confirm import Confirmation
from budgetnet.errors import ModelError
from budgetnet.evidence import Evidence
from budgetnet.fields import extent, feature_field
from budgetnet.source import times
from budgetnet.statistics import CONFIDENCE, Interval, binomial_error, difference_interval, mean


@dataclass(frozen=True)
class Case:
    """What sentences are about: the evidence, and the model frozen before, with its evidence if that is there."""

    evidence: Evidence
    previous_name: str | None = None
    previous: Evidence | None = None


_NAME = re.compile(r"\{(\w+)\}")


# --- formats ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Accuracies:
    """How accuracies counted on ``images`` images are written: with as many decimals as one image is worth."""

    images: int

    @property
    def decimals(self) -> int:
        return max(2, ceil(log10(self.images)) - 2)

    def bare(self, fraction: float) -> str:
        """``99.41``."""
        return f"{100 * fraction:.{self.decimals}f}"

    def percent(self, fraction: float) -> str:
        """``99.41 %``."""
        return f"{self.bare(fraction)} %"

    def points(self, difference: float) -> str:
        """A difference without its sign: ``0.05 points``."""
        return f"{self.bare(abs(difference))} points"


def count(value: int) -> str:
    """``7,964``."""
    return f"{value:,}"


def share(fraction: float) -> str:
    """A proportion of few runs or of a budget: ``72.2 %``."""
    return f"{100 * fraction:.1f} %"


def plural(n: int, noun: str) -> str:
    """``1 seed``, ``3 seeds``."""
    return f"{count(n)} {noun}{'' if n == 1 else 's'}"


# --- filling in -------------------------------------------------------------------------------------------------------


def fill(template: str, facts: Mapping[str, str]) -> str:
    """The template with every ``{name}`` replaced by its fact. Raises ModelError for an unknown name, and for a digit:
    a number that nobody recorded could be wrong."""
    rest = _NAME.sub("", template)
    if found := re.search(r"[\d{}]", rest):
        raise ModelError(f"a sentence names its numbers as {{facts}}, but {template!r} spells out {found[0]!r}")
    for name in _NAME.findall(template):
        if name not in facts:
            raise ModelError(f"there is no fact {name!r}; there are {', '.join(sorted(facts))}")
    return _NAME.sub(lambda match: facts[match[1]], template)


def facts_of(case: Case) -> dict[str, str]:
    """Every fact that a sentence can name, and its words."""
    evidence = case.evidence
    facts = {
        **_network(evidence),
        **_search(evidence),
        **_accuracies(evidence),
        **_target(evidence),
        "confidence": share(CONFIDENCE).replace(".0", ""),
    }
    if case.previous_name is not None:
        facts["previous"] = case.previous_name
    if case.previous is not None:
        facts |= _against(case.previous, evidence)
    return facts


def _network(evidence: Evidence) -> dict[str, str]:
    shape, field = feature_field(evidence.architecture)
    return {
        "name": evidence.name,
        "notation": str(evidence.architecture),
        "params": count(evidence.cost.params),
        "macs": count(evidence.cost.macs),
        "peak_activations": count(evidence.cost.peak_activations),
        "image": times(evidence.architecture.input_shape[1:]),
        "last_map": times(shape[1:]),
        "receptive_field": times(extent(field)),
    }


def _search(evidence: Evidence) -> dict[str, str]:
    origin = evidence.provenance
    return {
        "budget": count(origin.budget),
        "params_of_budget": f"{count(evidence.cost.params)} / {count(origin.budget)}",
        "used": share(evidence.cost.params / origin.budget),
        "unused": count(origin.budget - evidence.cost.params),
        "study": origin.study,
        "trial": str(origin.trial),
        "search_seed": str(origin.search_seed),
        "data": origin.data,
        "validation": Accuracies(evidence.confirmation.images).percent(origin.validation_accuracy),
    }


def _accuracies(evidence: Evidence) -> dict[str, str]:
    runs, last = evidence.confirmation, evidence.last
    written = Accuracies(runs.images)
    tail = runs.by_epoch()[-last:]
    facts = {
        "images": count(runs.images),
        "seeds": plural(runs.n, "seed"),
        "seed_numbers": ", ".join(map(str, runs.seeds)),
        "epochs": plural(runs.epochs, "epoch"),
        "last": count(last),
        "last_epochs": plural(last, "epoch"),
        "mean": written.percent(runs.mean),
        "lowest": written.percent(min(runs.lowest(last))),
        "best_train": written.percent(runs.best_train),
        "best_test": written.percent(runs.best_test),
        "train": written.percent(final_train(runs)),
        "gap": written.points(final_train(runs) - runs.mean),
        "tail_first": written.percent(tail[0]),
        "tail_last": written.percent(tail[-1]),
        "change": written.points(tail[-1] - tail[0]),
        "swing": written.points(swing(runs, last)),
        "error": written.points(standard_error(runs)),
        "flattery": written.points(mean([run.best.accuracy for run in runs.runs]) - runs.mean),
    }
    if runs.std is not None and runs.interval is not None:
        facts |= {
            "std": written.points(runs.std),
            "mean_std": f"{written.bare(runs.mean)} ± {written.percent(runs.std)}",
            "mean_interval": _between(written, runs.interval),
        }
    return facts


def _target(evidence: Evidence) -> dict[str, str]:
    runs, origin = evidence.confirmation, evidence.provenance
    held = runs.holds(origin.target, evidence.last)
    return {
        "target": Accuracies(runs.images).percent(origin.target),
        "held": f"{held.passes} of {plural(held.n, 'seed')}",
        "held_interval": f"{share(held.interval.low)} to {share(held.interval.high)}",
    }


def _against(previous: Evidence, evidence: Evidence) -> dict[str, str]:
    """Facts of a comparison. Both accuracies are those of the last epoch, on the same test images."""
    before, after = previous.confirmation, evidence.confirmation
    written = Accuracies(after.images)
    facts = {
        "previous_mean": written.percent(before.mean),
        "previous_params": count(previous.cost.params),
        "previous_seeds": plural(before.n, "seed"),
        "difference": written.points(after.mean - before.mean),
    }
    interval = difference_interval(before.finals, after.finals)
    if interval is not None:
        facts["difference_interval"] = _signed(written, interval)
    return facts


def _between(written: Accuracies, interval: Interval) -> str:
    return f"{written.percent(max(interval.low, 0))} to {written.percent(min(interval.high, 1))}"


def _signed(written: Accuracies, interval: Interval) -> str:
    ends = (f"{100 * end:+.{written.decimals}f}" for end in (interval.low, interval.high))
    return " to ".join(ends) + " points"


# --- numbers that rules and facts share -------------------------------------------------------------------------------


def final_train(runs: Confirmation) -> float:
    """Mean over seeds of the last epoch's running training accuracy."""
    return mean([run.final.train_accuracy for run in runs.runs])


def standard_error(runs: Confirmation) -> float:
    """Standard error of the mean accuracy as one counted on so many test images."""
    return binomial_error(runs.mean, runs.images)


def swing(runs: Confirmation, last: int) -> float:
    """Largest distance between the best and the worst of the last epochs, in any seed."""
    return max(max(tail) - min(tail) for tail in (_tail(run.accuracies, last) for run in runs.runs))


def _tail(accuracies: Sequence[float], last: int) -> Sequence[float]:
    return accuracies[-last:]
