"""The text block of a frozen model: Target, Result, Analysis, receptive field and origin, all from its evidence.

A rule looks at the recorded numbers and returns a sentence as a template, or None where it has nothing to say; numbers
enter a sentence only as ``{names}`` of facts. A new sentence is one more function in RULES. What a person has written
in the study's file follows the rules' sentences, under the same conditions.
"""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import prod

from budgetnet.errors import SentenceError
from budgetnet.evidence import Evidence
from budgetnet.facts import Case, facts_of, standard_error, swing
from budgetnet.fields import extent, feature_field, whole_views
from budgetnet.sentences import Fact, Sentence, fill
from budgetnet.source import rows, summary
from budgetnet.words import Accuracies

COLUMNS = 116  # 120 less the indentation of a class
WIDE_GAP = 0.01  # clean training accuracy so far above test accuracy is more than mild overfitting
NEARLY_ALL = 0.95  # share of the budget from which on it counts as used up


Rule = Callable[[Case], str | None]


# --- rules ------------------------------------------------------------------------------------------------------------


def _held(case: Case) -> str:
    held = case.evidence.confirmation.holds(case.evidence.provenance.target, case.evidence.last)
    claim = "The target held in {held} ({confidence} Wilson interval of the share of seeds: {held_interval})"
    if held.passes == 0:
        return f"{claim}: it is missed, and this network is no proof that the target can be held."
    if held.passes < held.n:
        return f"{claim}: whether it holds depends on the seed; the lowest of the {{tail}} is {{lowest}}."
    return f"{claim}: from {{seeds}} nobody may conclude that it always does."


def _fit(case: Case) -> str:
    """Over- or underfitting, from the same weights on clean training and test images."""
    runs = case.evidence.confirmation
    gap, error = runs.clean_train - runs.mean, standard_error(runs)
    ends = "on images as they are, the last weights classify {train} of the training and {mean} of the test images"
    noise = "two standard errors of {images} images ({error} each)"
    if abs(gap) <= 2 * error:
        fit = f"No overfitting beyond noise: {ends}, {{gap}} apart, within {noise}."
    elif gap < 0:
        fit = f"No overfitting: {ends}, which lie {{gap}} higher, beyond {noise}: the training images are harder."
    else:
        how = "Overfitting" if gap >= WIDE_GAP else "Mild overfitting"
        fit = f"{how}: {ends}, {{gap}} apart, beyond {noise}."
    if runs.clean_train < case.evidence.provenance.target:
        limit = "capacity, epochs or recipe limit it, not memorising"
        return f"{fit} It underfits: even the training images stay below the target of {{target}}, so {limit}."
    return fit


def _trend(case: Case) -> str | None:
    runs, last = case.evidence.confirmation, case.evidence.last
    if last < 2:
        return None
    ends = "mean test accuracy is {tail_first} at the first and {tail_last} at the last of the {last_epochs}"
    trend = runs.trend(last)
    if trend is None:
        return f"Of one seed, so no trend to be told from chance: {ends}."
    grounds = "{confidence} interval of the rise {trend_interval}, paired by seed, p {trend_p}"
    if 0 in trend.interval:
        return f"No trend beyond the noise between seeds: {ends} ({grounds})."
    if trend.interval.low > 0:
        return f"Still rising: {ends} ({grounds})."
    return f"Falling: {ends} ({grounds}), so more epochs of this recipe will hardly help."


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
    shape = case.evidence.architecture.input_shape
    shape_of_map, field = feature_field(case.evidence.architecture)
    beyond = any(seen > pixels for seen, pixels in zip(extent(field), shape[1:], strict=True))
    size = "{receptive_field} pixels" + (", padding included" if beyond else "")
    what = f"The receptive field of a cell of the last map ({{last_map}}) is {size}, the image {{image}}"
    if whole_views(field, shape):
        return f"{what}: {{whole_views}} of the {{cells}} cells see all of it."
    if prod(shape_of_map[1:]) == 1:
        return f"{what}: it does not see all of it, and what lies outside decides nothing."
    return f"{what}: no cell sees all of it, and only the head joins the parts."


def _changed(case: Case) -> str | None:
    if case.previous is None:
        return None
    before, after = case.previous, case.evidence
    same = before.architecture == after.architecture
    network = "the same network" if same else "{notation} ({params} params) for {previous_notation} ({previous_params})"
    recipe = "the same recipe" if before.recipe == after.recipe else "in the recipe {recipe_changes}"
    return f"Changed against {{previous}}: {network}; {recipe}."


def _previous(case: Case) -> str | None:
    """Whether the difference to the model before is larger than noise."""
    if case.previous_name is None:
        return None
    if case.previous is None:
        return "Not compared with {previous}, whose evidence is missing or unreadable."
    if not case.comparable:
        return "Not comparable with {previous}, which was tested on other images or trained from other seeds."
    found = case.comparison
    if found.interval is None:
        return (
            "The last epoch of the seed shared with {previous} differs by {difference} (mean {mean} against "
            "{previous_mean}): not distinguishable, since a single seed shows no spread."
        )
    side = "above" if found.gap > 0 else "below" if found.gap < 0 else "from"
    what = f"Over {{shared_seeds}} it ends {{difference}} {side} {{previous}}"
    grounds = "{confidence} interval {difference_interval}, paired by seed, p {difference_p}"
    images = (
        "{more_here} test images are classified correctly by more of its seeds, {more_previous} by more of "
        "{previous}'s (exact paired test over images, p {images_p})"
    )
    if not found.beyond_seeds:
        return f"{what}: not distinguishable ({grounds}); {images}."
    meaning = "larger than the noise between seeds"
    if found.beyond_images:
        return f"{what}: {meaning} ({grounds}) and between images: {images}."
    return f"{what}: {meaning} ({grounds}), but other test images might reverse it: {images}."


RULES: tuple[Rule, ...] = (_held, _spread, _fit, _trend, _steadiness, _budget, _field, _changed, _previous)


def sentences(case: Case) -> list[str]:
    """The analysis: a sentence or two a rule, then those of a person. Raises SentenceError where one is wrong."""
    return _sentences(case, facts_of(case))


def _sentences(case: Case, facts: Mapping[str, Fact]) -> list[str]:
    ours = [fill(template, facts) for rule in RULES if (template := rule(case))]
    return [*ours, *_said(case.evidence.provenance.analysis, facts, "analysis")]


def _said(sentences: Sequence[Sentence], facts: Mapping[str, Fact], place: str) -> list[str]:
    """A person's sentences, each claim checked. Raises SentenceError that names the sentence's place."""
    said = []
    for index, sentence in enumerate(sentences):
        try:
            said.append(sentence.said(facts))
        except SentenceError as error:
            raise SentenceError(f"{place}[{index}]: {error}") from None
    return said


# --- the block --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Account:
    """Target, Result and Analysis in whole sentences; ``figures``: numbers below the result, as (what, words)."""

    target: str
    result: str
    figures: tuple[tuple[str, str], ...]
    analysis: tuple[str, ...]


def account(case: Case) -> Account:
    """What is to be said of a confirmed network. Raises SentenceError where a person's sentence is wrong."""
    return _account(case, facts_of(case))


def _account(case: Case, facts: Mapping[str, Fact]) -> Account:
    runs = case.evidence.confirmation
    result = _ONE_SEED if runs.std is None else _SEVERAL_SEEDS
    return Account(
        _target(case.evidence, facts),
        fill(result, facts),
        tuple(_figures(case.evidence, facts)),
        tuple(_sentences(case, facts)),
    )


def block(case: Case) -> str:
    """The docstring of the frozen class, without quotes, in lines of at most 116 columns."""
    evidence = case.evidence
    facts = facts_of(case)
    said = _account(case, facts)
    parts = [
        fill("{shapes}, {params} params.", {**facts, "shapes": Fact(summary(evidence.architecture))}),
        _wrap(f"Target: {said.target}", "", ""),
        "\n".join([_wrap(f"Result: {said.result}", "", ""), *_entries(said.figures)]),
        "Analysis:\n" + "\n".join(_wrap(sentence, "- ", "  ") for sentence in said.analysis),
        "Receptive field:\n" + _table(evidence),
        "Origin:\n" + "\n".join(_entries(_origin(evidence, facts))),
    ]
    return "\n\n".join(parts)


def _target(evidence: Evidence, facts: Mapping[str, Fact]) -> str:
    when = "the last" if evidence.last == 1 else "every one of the last {last}"
    text = f"at least {{target}} of the test images in {when} of {{epochs}}, with fewer than {{budget}} params."
    return " ".join([fill(text, facts), *_said(evidence.provenance.aim, facts, "aim")])


_ONE_SEED = "{mean} (the last epoch of one seed, {images} test images)."
_SEVERAL_SEEDS = "{mean_std} (mean ± standard deviation of the last epoch over {seeds}, {images} test images)."


def _figures(evidence: Evidence, facts: Mapping[str, Fact]) -> list[tuple[str, str]]:
    """Numbers below the result, each with what it is."""
    entries = {
        "params": "{params_of_budget}",
        "MACs": "{macs}",
        "activations": "{peak_activations} at the peak",
        "best train": "{best_train} (running figure of an epoch: changing weights, images as augmented)",
        "clean train": "{train} (mean of the last weights, images as they are)",
        "best test": "{best_test} (chosen on test, so it flatters)",
        "lowest": "{lowest} in the {tail} of any seed",
        "held": "{held}",
    }
    lines = [(key, fill(template, facts)) for key, template in entries.items()]
    written = Accuracies(evidence.confirmation.images)
    for run in evidence.confirmation.runs:
        tail = " ".join(written.bare(epoch.accuracy) for epoch in run.last(evidence.last))
        lines.append((f"seed {run.seed}", f"{tail} % ({facts['tail']})"))
    return lines


def _origin(evidence: Evidence, facts: Mapping[str, Fact]) -> list[tuple[str, str]]:
    origin = evidence.provenance
    recipe = ", ".join(f"{name}={value}" for name, value in evidence.recipe.to_dict().items())
    entries = {
        "study": "{study}, trial {trial}, search seed {search_seed}, validation accuracy {validation}",
        "data": "{data}; retrained on all training images, seeds {seed_numbers}; test read once an epoch, to report",
        "network": "{notation}",
    }
    less, over = (" ".join(f"{each:.4f}" for each in values) for values in (origin.mean, origin.std))
    return [
        *((key, fill(template, facts)) for key, template in entries.items()),
        ("input", f"pixels from 0 to 1, less {less}, over {over}"),
        ("recipe", recipe),
        ("trained by", "; ".join(_machines(evidence))),
        (
            "weights",
            f"{evidence.name}.safetensors, of seed {evidence.confirmation.seeds[0]}, the first, after its last epoch",
        ),
        ("", f"sha256 {evidence.weights_sha256}"),
        ("evidence", f"{evidence.name}.json, all that was recorded"),
        ("", f"sha256 {evidence.digest}"),
    ]


def _machines(evidence: Evidence) -> list[str]:
    """What trained the seeds, each machine once; with the seeds where there are several."""
    by_machine: dict[str, list[str]] = {}
    for run in evidence.confirmation.runs:
        by_machine.setdefault(str(run.machine), []).append(str(run.seed))
    if len(by_machine) == 1:
        return list(by_machine)
    return [f"{machine} (seeds {', '.join(seeds)})" for machine, seeds in by_machine.items()]


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
