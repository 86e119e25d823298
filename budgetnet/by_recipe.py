"""Networks that were confirmed by several recipes: what of a difference is the recipe's, and what the network's."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import combinations

from budgetnet.architecture import Architecture
from budgetnet.page import table
from budgetnet.recipe import Recipe
from budgetnet.results import Confirmation
from budgetnet.statistics import mean, std
from budgetnet.survey import Survey
from budgetnet.words import Accuracies, count, recipe_changes, short

Crossed = dict[Architecture, dict[Recipe, Confirmation]]


def networks_by_recipe(found: Survey) -> Iterator[str]:
    """Markdown: a table of networks against recipes, and one of what two recipes differ by over the networks that both
    have trained. Nothing where no network has more than one recipe."""
    crossed = _crossed(found)
    if not crossed:
        return
    recipes = [recipe for recipe in _recipes(found) if any(recipe in by for by in crossed.values())]
    names = {recipe: f"R{number}" for number, recipe in enumerate(recipes, 1)}
    params = {record.architecture: record.cost.params for record in found.records if record.cost is not None}
    written = Accuracies(next(iter(found.confirmed.values())).images)
    yield "## The same networks by several recipes"
    yield "Mean and standard deviation of the last epoch on test, in percent, over the seeds that the table above has."
    yield table(
        ("network", "params>", *(f"{name}>" for name in names.values())),
        [
            (f"`{network}`", count(params[network]), *(_cell(by.get(recipe), written) for recipe in recipes))
            for network, by in crossed.items()
        ],
    )
    yield "\n".join(_legend(names))
    yield (
        "What two recipes differ by, over the networks that both have trained, and how far these lie apart by each of "
        "them (standard deviations over networks, of which the noise of seeds is a part):"
    )
    columns = ("recipes", "networks>", "second against first, points>", "apart by the first>", "by the second>")
    yield table(columns, _pairs(crossed, names, written))


def _crossed(found: Survey) -> Crossed:
    """By network and recipe, in the order of the trials; of networks with several recipes alone."""
    cells: Crossed = {}
    for number, runs in found.confirmed.items():
        record = found.records[number]
        assert record.architecture is not None
        assert record.recipe is not None
        cells.setdefault(record.architecture, {}).setdefault(record.recipe, runs)
    return {network: by for network, by in cells.items() if len(by) > 1}


def _recipes(found: Survey) -> list[Recipe]:
    """In the order of the trials."""
    told = (found.records[number].recipe for number in found.confirmed)
    return list(dict.fromkeys(recipe for recipe in told if recipe is not None))


def _cell(runs: Confirmation | None, written: Accuracies) -> str:
    if runs is None:
        return "–"
    return written.bare(runs.mean) + written.spread(runs.std)


def _legend(names: dict[Recipe, str]) -> Iterator[str]:
    """The first recipe in full, of the others what they do otherwise."""
    first, *others = names
    yield f"- {names[first]}: {', '.join(f'{name} {short(value)}' for name, value in first.to_dict().items())}"
    for recipe in others:
        yield f"- {names[recipe]}: {recipe_changes(first, recipe)}"


def _pairs(crossed: Crossed, names: dict[Recipe, str], written: Accuracies) -> Iterator[Sequence[object]]:
    for first, second in combinations(names, 2):
        both = [(by[first].mean, by[second].mean) for by in crossed.values() if first in by and second in by]
        if not both:
            continue
        differences = [later - earlier for earlier, later in both]
        gap = written.signed(mean(differences)) + written.spread(std(differences))
        apart = [std(side) for side in zip(*both, strict=True)]
        yield (
            f"{names[first]}, {names[second]}",
            len(both),
            gap,
            *("–" if value is None else written.bare(value) for value in apart),
        )
