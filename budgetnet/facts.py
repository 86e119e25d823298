"""Recorded numbers as facts, which sentences name and never spell out."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

from budgetnet.catalogue import same_data, same_images
from budgetnet.comparison import Comparison, compare
from budgetnet.evidence import Evidence
from budgetnet.fields import extent, feature_field, whole_views
from budgetnet.results import Confirmation
from budgetnet.sentences import Fact
from budgetnet.source import times
from budgetnet.statistics import CONFIDENCE, binomial_error, mean
from budgetnet.words import Accuracies, count, plural, probability, recipe_changes, share, target_words, the_last


@dataclass(frozen=True)
class Case:
    """What sentences are about: the evidence, and the model frozen before, with its evidence if that is there."""

    evidence: Evidence
    previous_name: str | None = None
    previous: Evidence | None = None

    @property
    def comparable(self) -> bool:
        """Whether the previous model was trained on the same data and tested on the same images, from shared seeds."""
        if self.previous is None or not same_data(self.previous.provenance.data, self.evidence.provenance.data):
            return False
        before, after = self.previous.confirmation, self.evidence.confirmation
        if not same_images(self.previous.provenance.test_images, self.evidence.provenance.test_images):
            return False
        return before.images == after.images and bool(set(before.seeds) & set(after.seeds))

    @property
    def comparison(self) -> Comparison:
        """The evidence against the previous model's; only where they are comparable."""
        assert self.previous is not None
        return compare(self.previous.confirmation, self.evidence.confirmation)


# --- the facts --------------------------------------------------------------------------------------------------------


def facts_of(case: Case) -> dict[str, Fact]:
    """Every fact that a sentence can name."""
    evidence = case.evidence
    facts = {
        **_network(evidence),
        **_search(evidence),
        **_accuracies(evidence.confirmation, evidence.last),
        **_target(evidence),
        "confidence": Fact(share(CONFIDENCE).replace(".0", "")),
    }
    if case.previous_name is not None:
        facts["previous"] = Fact(case.previous_name)
    if case.previous is not None:
        facts |= {f"previous_{name}": fact for name, fact in _previous(case.previous).items()}
        facts["recipe_changes"] = Fact(recipe_changes(case.previous.recipe, evidence.recipe))
    if case.comparable:
        facts |= _compared(case.comparison, Accuracies(evidence.confirmation.images))
    return facts


def _network(evidence: Evidence) -> dict[str, Fact]:
    shape, field = feature_field(evidence.architecture)
    cost, image = evidence.cost, evidence.architecture.input_shape[1:]
    seeing = whole_views(field, evidence.architecture.input_shape)
    return {
        "name": Fact(evidence.name),
        "notation": Fact(str(evidence.architecture)),
        "params": Fact(count(cost.params), cost.params),
        "macs": Fact(count(cost.macs), cost.macs),
        "peak_activations": Fact(count(cost.peak_activations), cost.peak_activations),
        "image": Fact(times(image), max(image)),
        "last_map": Fact(times(shape[1:]), min(shape[1:])),
        "receptive_field": Fact(times(extent(field)), min(extent(field))),
        "cells": Fact(count(prod(shape[1:])), prod(shape[1:])),
        "whole_views": Fact(count(seeing), seeing),
    }


def _search(evidence: Evidence) -> dict[str, Fact]:
    origin, params = evidence.provenance, evidence.cost.params
    value = origin.validation_accuracy
    validation = "none, for it was given" if value is None else Accuracies(evidence.confirmation.images).percent(value)
    return {
        "budget": Fact(count(origin.budget), origin.budget),
        "params_of_budget": Fact(f"{count(params)} / {count(origin.budget)}"),
        "used": Fact(share(params / origin.budget), params / origin.budget),
        "unused": Fact(count(origin.budget - params), origin.budget - params),
        "study": Fact(origin.study),
        "trial": Fact(str(origin.trial)),
        "search_seed": Fact(str(origin.search_seed)),
        "data": Fact(origin.data),
        "validation": Fact(validation, value),
    }


def _accuracies(runs: Confirmation, last: int) -> dict[str, Fact]:
    written = Accuracies(runs.images)

    def percent(fraction: float) -> Fact:
        return Fact(written.percent(fraction), fraction)

    def points(difference: float) -> Fact:
        return Fact(written.points(difference), difference)

    tail = runs.by_epoch()[-last:]
    facts = {
        "images": Fact(count(runs.images), runs.images),
        "seeds": Fact(plural(runs.n, "seed"), runs.n),
        "seed_numbers": Fact(", ".join(map(str, runs.seeds))),
        "epochs": Fact(plural(runs.epochs, "epoch"), runs.epochs),
        "last": Fact(count(last), last),
        "last_epochs": Fact(plural(last, "epoch"), last),
        "tail": Fact(the_last(last).removeprefix("the ")),
        "mean": percent(runs.mean),
        "lowest": percent(min(runs.lowest(last))),
        "best_train": percent(runs.best_train),
        "best_test": percent(runs.best_test),
        "train": percent(runs.clean_train),
        "gap": points(runs.clean_train - runs.mean),
        "tail_first": percent(tail[0]),
        "tail_last": percent(tail[-1]),
        "change": points(tail[-1] - tail[0]),
        "swing": points(swing(runs, last)),
        "error": points(standard_error(runs)),
        "flattery": points(mean([run.best.accuracy for run in runs.runs]) - runs.mean),
    }
    if runs.std is not None and runs.interval is not None:
        facts |= {
            "std": points(runs.std),
            "mean_std": Fact(f"{written.bare(runs.mean)} ± {written.percent(runs.std)}"),
            "mean_interval": Fact(written.interval(runs.interval)),
            "mean_low": percent(runs.interval.low),
            "mean_high": percent(runs.interval.high),
        }
    trend = runs.trend(last)
    if trend is not None:
        facts |= {
            "trend_interval": Fact(written.signed_interval(trend.interval)),
            "trend_p": Fact(probability(trend.p), trend.p),
        }
    return facts


def _target(evidence: Evidence) -> dict[str, Fact]:
    runs, target = evidence.confirmation, evidence.provenance.target
    held = runs.holds(target, evidence.last)
    return {
        "target": Fact(target_words(target), target),
        "held": Fact(f"{held.passes} of {plural(held.n, 'seed')}", held.passes),
        "held_interval": Fact(f"{share(held.interval.low)} to {share(held.interval.high)}"),
    }


def _previous(previous: Evidence) -> dict[str, Fact]:
    """Facts of the model before; each is called like that of this model, behind ``previous_``."""
    return {**_network(previous), **_accuracies(previous.confirmation, previous.last), **_target(previous)}


def _compared(comparison: Comparison, written: Accuracies) -> dict[str, Fact]:
    """Facts of the difference to the previous model, over the seeds that both share."""
    facts = {
        "difference": Fact(written.points(comparison.gap), comparison.gap),
        "shared_seeds": Fact(plural(comparison.n, "shared seed"), comparison.n),
        "more_here": Fact(count(comparison.more_second), comparison.more_second),
        "more_previous": Fact(count(comparison.more_first), comparison.more_first),
        "images_p": Fact(probability(comparison.images_p), comparison.images_p),
    }
    interval, p = comparison.interval, comparison.p
    if interval is not None and p is not None:
        facts |= {
            "difference_interval": Fact(written.signed_interval(interval)),
            "difference_low": Fact(f"{written.signed(interval.low)} points", interval.low),
            "difference_high": Fact(f"{written.signed(interval.high)} points", interval.high),
            "difference_p": Fact(probability(p), p),
        }
    return facts


# --- numbers that rules and facts share -------------------------------------------------------------------------------


def standard_error(runs: Confirmation) -> float:
    """Standard error of the mean accuracy as one counted on so many test images."""
    return binomial_error(runs.mean, runs.images)


def swing(runs: Confirmation, last: int) -> float:
    """Largest distance between the best and the worst of the last epochs, in any seed."""
    return max(max(tail) - min(tail) for tail in (run.accuracies[-last:] for run in runs.runs))
