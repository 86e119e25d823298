"""The text block of a frozen model: Target, Result, Analysis, receptive field and origin, all from its evidence.

A rule looks at the recorded numbers and returns a sentence as a template, or None where it has nothing to say; numbers
enter a sentence only as ``{names}`` of facts. A new sentence is one more function in RULES.
"""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Mapping, Sequence

from budgetnet.evidence import Evidence
from budgetnet.facts import Accuracies, Case, facts_of, fill, final_train, standard_error, swing
from budgetnet.fields import extent, feature_field
from budgetnet.layers import Dropout
from budgetnet.recipe import Recipe
from budgetnet.source import rows, summary
from budgetnet.statistics import difference_interval

COLUMNS = 116  # 120 less the indentation of a class
HARD_TO_FIT = 0.01  # training accuracy so far below test accuracy: augmentation leaves much unlearned
NEARLY_ALL = 0.95  # share of the budget from which on it counts as used up


Rule = Callable[[Case], str | None]


# --- rules ------------------------------------------------------------------------------------------------------------


def _held(case: Case) -> str:
    held = case.evidence.confirmation.holds(case.evidence.provenance.target, case.evidence.last)
    claim = "The target held in {held} ({confidence} Wilson interval of the share of seeds: {held_interval})"
    if held.passes == 0:
        return f"{claim}: it is missed, and this network is no proof that the target can be held."
    if held.passes < held.n:
        return f"{claim}: whether it holds depends on the seed; the lowest of the last {{last_epochs}} is {{lowest}}."
    return f"{claim}: from {{seeds}} nobody may conclude that it always does."


def _fit(case: Case) -> str:
    runs = case.evidence.confirmation
    gap = final_train(runs) - runs.mean
    caveat = f"training accuracy is a running figure of weights that still change{_harder(case.evidence)}"
    if gap > 2 * standard_error(runs):
        start = "Overfitting: training accuracy ({train}) ends {gap} above test accuracy ({mean})"
        return f"{start}, although {caveat}."
    if gap >= 0:
        return f"Training and test accuracy end {{gap}} apart ({{train}} and {{mean}}): little overfitting; {caveat}."
    start = "No sign of overfitting: training accuracy ({train}) ends {gap} below test accuracy ({mean})"
    if gap > -HARD_TO_FIT:
        return f"{start}; the two are not measured alike: {caveat}."
    return f"{start}; {caveat}. The training images stay hard: capacity or epochs limit the network, not memorising."


def _harder(evidence: Evidence) -> str:
    """What makes the training figure lower than that of clean images at rest."""
    reasons = ["augmented images"] if _augments(evidence.recipe) else []
    if any(isinstance(node.layer, Dropout) for node in evidence.architecture.graph()):
        reasons.append("dropout")
    words = f", on {' with '.join(reasons)}" if _augments(evidence.recipe) else ", with dropout" if reasons else ""
    return words + (", while the test figure is that of averaged weights" if evidence.recipe.ema else "")


def _augments(recipe: Recipe) -> bool:
    return recipe.flip or any((recipe.rotation, recipe.scale, recipe.shift, recipe.shear))


def _trend(case: Case) -> str | None:
    runs, last = case.evidence.confirmation, case.evidence.last
    if last < 2:
        return None
    tail = runs.by_epoch()[-last:]
    change = tail[-1] - tail[0]
    if abs(change) <= standard_error(runs):
        start = "Flat: mean test accuracy is {tail_first} at the first and {tail_last} at the last of the {last_epochs}"
        return f"{start}, no further apart than one standard error of {{images}} images ({{error}})."
    move = "rose" if change > 0 else "fell"
    what = f"Over the last {{last_epochs}} mean test accuracy {move} from {{tail_first}} to {{tail_last}}"
    meaning = "still improving, so more epochs may help" if change > 0 else "more epochs will hardly help"
    return f"{what}, by more than one standard error of {{images}} images ({{error}}): {meaning}."


def _steadiness(case: Case) -> str | None:
    runs, last = case.evidence.confirmation, case.evidence.last
    if last < 2:
        return None
    steady = swing(runs, last) <= 2 * standard_error(runs)
    moved = "Steady: no seed moved by more than {swing}" if steady else "Unsteady: one seed moved by {swing}"
    return (
        f"{moved} within the last {{last_epochs}}. "
        "Naming each seed's best epoch instead of its last would flatter it by {flattery} on average."
    )


def _spread(case: Case) -> str:
    if case.evidence.confirmation.std is None:
        return "One seed says nothing about spread: another seed may well differ by more than any gap named here."
    return (
        "Between seeds the last epoch varies by {std} (standard deviation); the {confidence} interval of its mean, "
        "by Student's t, is {mean_interval}."
    )


def _budget(case: Case) -> str:
    evidence = case.evidence
    if evidence.cost.params >= evidence.provenance.budget:
        return "The budget is broken: {params_of_budget} params, though they must stay below it."
    nearly = ", nearly all of it" if evidence.cost.params >= NEARLY_ALL * evidence.provenance.budget else ""
    return f"It uses {{params_of_budget}} params, {{used}} of the budget{nearly}; {{unused}} are left."


def _field(case: Case) -> str:
    _, field = feature_field(case.evidence.architecture)
    image, seen = case.evidence.architecture.input_shape[1:], extent(field)
    what = "A cell of the last map ({last_map}) sees {receptive_field} pixels of the {image} image"
    if all(pixels >= size for pixels, size in zip(seen, image, strict=True)):
        return f"{what}: wide enough for the whole image, before the head joins the cells."
    return f"{what}: a part; only the head joins the parts to the whole."


def _previous(case: Case) -> str | None:
    if case.previous_name is None:
        return None
    if case.previous is None:
        return "Not compared with {previous}, whose evidence is missing or unreadable."
    before, after = case.previous, case.evidence
    if (before.provenance.data, before.confirmation.images) != (after.provenance.data, after.confirmation.images):
        return "Not comparable with {previous}, which was tested on other images."
    gap = after.confirmation.mean - before.confirmation.mean
    size = "{params} params against {previous_params}"
    side = "above" if gap > 0 else "below" if gap < 0 else "equal to"
    by = "" if gap == 0 else "{difference} "
    what = f"Against {{previous}} ({size}) the mean is {by}{side} {{previous_mean}}"
    interval = difference_interval(before.confirmation.finals, after.confirmation.finals)
    if interval is None:
        return f"{what}: not distinguishable, since a single seed shows no spread."
    grounds = "{confidence} Welch interval {difference_interval}; {previous_seeds} against {seeds}, same test images"
    if 0 in interval:
        return f"{what}: not distinguishable ({grounds})."
    if abs(gap) <= standard_error(after.confirmation):
        return f"{what}: more than seeds differ ({grounds}), but other images might reverse it (one error: {{error}})."
    return f"{what}: more than the noise between seeds ({grounds})."


RULES: tuple[Rule, ...] = (_held, _spread, _fit, _trend, _steadiness, _budget, _field, _previous)


def sentences(case: Case) -> list[str]:
    """The analysis, a sentence or two a rule."""
    facts = facts_of(case)
    return [fill(template, facts) for rule in RULES if (template := rule(case))]


# --- the block --------------------------------------------------------------------------------------------------------


def block(case: Case) -> str:
    """The docstring of the frozen class, without quotes, in lines of at most 116 columns."""
    evidence = case.evidence
    facts = facts_of(case)
    parts = [
        fill("{shapes}, {params} params.", facts | {"shapes": summary(evidence.architecture)}),
        _target(evidence, facts),
        _result(evidence, facts),
        "Analysis:\n" + "\n".join(_wrap(sentence, "- ", "  ") for sentence in sentences(case)),
        "Receptive field:\n" + _table(evidence),
        "Origin:\n" + "\n".join(_entries(_origin(evidence, facts))),
    ]
    return "\n\n".join(parts)


def _target(evidence: Evidence, facts: Mapping[str, str]) -> str:
    text = (
        "Target: at least {target} of the test images in every one of the last {last} of {epochs}, "
        "with fewer than {budget} params."
    )
    return _wrap(fill(f"{text} {evidence.provenance.aim}", facts), "", "")


def _result(evidence: Evidence, facts: Mapping[str, str]) -> str:
    runs = evidence.confirmation
    if runs.std is None:
        head = "Result: {mean} (the last epoch of one seed, {images} test images)."
    else:
        head = "Result: {mean_std} (mean ± standard deviation of the last epoch over {seeds}, {images} test images)."
    entries = {
        "params": "{params_of_budget}",
        "MACs": "{macs}",
        "activations": "{peak_activations} at the peak",
        "best train": "{best_train}",
        "best test": "{best_test} (chosen on test, so it flatters)",
        "lowest": "{lowest} in the last {last_epochs} of any seed",
        "held": "{held}",
    }
    lines = [(key, fill(template, facts)) for key, template in entries.items()]
    written = Accuracies(runs.images)
    for run in runs.runs:
        tail = " ".join(written.bare(epoch.accuracy) for epoch in run.last(evidence.last))
        lines.append((f"seed {run.seed}", f"{tail} % (last {facts['last_epochs']})"))
    return "\n".join([_wrap(fill(head, facts), "", ""), *_entries(lines)])


def _origin(evidence: Evidence, facts: Mapping[str, str]) -> list[tuple[str, str]]:
    recipe = ", ".join(f"{name}={value}" for name, value in evidence.recipe.to_dict().items())
    entries = {
        "study": "{study}, trial {trial}, search seed {search_seed}, validation accuracy {validation}",
        "data": "{data}; retrained on all training images, seeds {seed_numbers}; test was read, never chosen on",
        "network": "{notation}",
    }
    versions = ", ".join(f"{name} {version}" for name, version in evidence.provenance.versions.items())
    return [
        *((key, fill(template, facts)) for key, template in entries.items()),
        ("recipe", recipe),
        ("versions", versions),
        ("weights", f"{evidence.name}.safetensors, the last epoch of seed {evidence.confirmation.seeds[0]}"),
        ("sha256", evidence.weights_sha256),
    ]


def _table(evidence: Evidence) -> str:
    """Layers that move or mix cells, in aligned columns."""
    cells = [("layer", "kind", "output", "jump", "sees")]
    cells += [(row.name, row.kind, row.size, row.jump, row.sees) for row in rows(evidence.architecture)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return "\n".join(
        f"    {name:<{widths[0]}}  {kind:<{widths[1]}}  {size:>{widths[2]}}  {jump:>{widths[3]}}  {sees:>{widths[4]}}"
        for name, kind, size, jump, sees in cells
    )


def _entries(entries: Sequence[tuple[str, str]]) -> list[str]:
    """``key   words`` with the words in one column."""
    width = max(len(key) for key, _ in entries) + 2
    return [_wrap(words, f"    {key:<{width}}", " " * (width + 4)) for key, words in entries]


def _wrap(text: str, first: str, rest: str) -> str:
    """Filled lines; a number is not parted from its sign or unit."""
    text = _plain(text)
    for unit in ("%", "×", "/", "±", "points", "params"):
        text = text.replace(f" {unit}", f"\u00a0{unit}")
    for sign in ("×", "/", "±"):
        text = text.replace(f"{sign} ", f"{sign}\u00a0")
    lines = textwrap.wrap(text, COLUMNS, initial_indent=first, subsequent_indent=rest, break_on_hyphens=False)
    return "\n".join(lines).replace("\u00a0", " ")


def _plain(text: str) -> str:
    """One line of printable characters that a docstring can hold as they are, whatever a person or a name brings."""
    printable = "".join(char if char.isprintable() else "?" for char in " ".join(text.split()))
    return printable.replace("\\", "/").replace('"""', "'''")
