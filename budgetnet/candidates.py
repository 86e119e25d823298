"""From what a sampler proposes to a network that fits: every candidate is under the budget and meets the space."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from budgetnet.architecture import Architecture
from budgetnet.dimension import RandomDraw, Suggester
from budgetnet.errors import ArchitectureError, BudgetError
from budgetnet.fields import extent, feature_field
from budgetnet.recipe import Recipe
from budgetnet.space import SearchSpace
from budgetnet.study import Settings


@dataclass(frozen=True)
class Candidate:
    """A network that may be trained, and how."""

    architecture: Architecture
    recipe: Recipe

    @cached_property
    def key(self) -> str:
        """Equal for equal networks with equal recipes."""
        return json.dumps([self.architecture.to_dict(), self.recipe.to_dict()], sort_keys=True)

    @cached_property
    def receptive_field(self) -> int:
        """The smaller side of what a cell of the last map sees, in pixels."""
        return min(extent(feature_field(self.architecture)[1]))

    @property
    def attributes(self) -> dict[str, Any]:
        """What a trial of it is stored with; what it costs is added by who has counted."""
        return {
            "notation": str(self.architecture),
            "architecture": self.architecture.to_dict(),
            "recipe": self.recipe.to_dict(),
            "receptive_field": self.receptive_field,
        }


@dataclass(frozen=True)
class Rejection:
    """Why a proposal is not trained, in a word for the tally and in full; and the network, where there is one."""

    kind: str
    reason: str
    architecture: Architecture | None = None


def draw(space: SearchSpace, settings: Settings, trial: Suggester) -> Candidate | Rejection:
    """What the trial suggests, its widths fitted to the budget."""
    try:
        draft, recipe = space.sample(trial)
        architecture = draft.fit(settings.limits)
    except BudgetError as error:
        return Rejection("over budget", str(error))
    except ArchitectureError as error:
        return Rejection("map vanished", str(error))
    if missed := space.shortcoming(architecture):
        return Rejection(*missed, architecture)
    return Candidate(architecture, replace(recipe, epochs=settings.epochs))


def screened(space: SearchSpace, settings: Settings, seeds: Iterable[int]) -> dict[str, Any] | None:
    """What the first random draw that is a candidate has drawn; None if none of the seeds gives one.

    Some thousand draws a second: for spaces of which next to nothing is valid under the budget.
    """
    for seed in seeds:
        dice = RandomDraw(seed)
        if isinstance(draw(space, settings, dice), Candidate):
            return dice.params
    return None
