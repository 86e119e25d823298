"""What a confirmation and a comparison show, and what may and may not be concluded from it: lines, and JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from budgetnet.comparison import Comparison
from budgetnet.facts import standard_error
from budgetnet.results import Confirmation
from budgetnet.words import Accuracies, count, plural, probability, share, target_words, the_last

# --- several seeds of one network -------------------------------------------------------------------------------------


def confirmation_lines(runs: Confirmation, target: float, last: int, width: int) -> list[str]:
    """Every epoch of every seed, then what the seeds say together. ``width``: columns of the terminal."""
    written, last = Accuracies(runs.images), min(last, runs.epochs)
    held = runs.holds(target, last)
    spread = written.spread(runs.std)
    over = "of one seed" if runs.interval is None else f"mean ± standard deviation over {plural(runs.n, 'seed')}"
    between = "" if runs.interval is None else f"; 95 % interval of the mean {written.interval(runs.interval)}"
    return [
        f"test accuracy in % of {count(runs.images)} images, a row an epoch, a column a seed",
        *_table(runs, target, last, width),
        "",
        f"last epoch: {written.bare(runs.mean)}{spread} % ({over}{between})",
        f"training images as they are: {written.percent(runs.clean_train)} (the same weights)",
        f"lowest of {the_last(last)}: {written.percent(min(runs.lowest(last)))}",
        f"{target_words(target)} {'in' if last == 1 else 'in every one of'} {the_last(last)}: {held.passes} of "
        f"{plural(held.n, 'seed')} (95 % Wilson interval {share(held.interval.low)} to {share(held.interval.high)})",
        f"conclusion: {conclusion(runs, target, last)}",
    ]


def conclusion(runs: Confirmation, target: float, last: int) -> str:
    """What may and what may not be said, in one line."""
    written, held = Accuracies(runs.images), runs.holds(target, last)
    if runs.n == 1:
        return "one seed says nothing about the next: neither that the target holds nor that it fails"
    if held.passes == held.n:
        may = f"it held in each of {held.n} seeds"
        may_not = f"that it always does, for up to {share(1 - held.interval.low)} of all seeds might fail"
    elif held.passes:
        may = f"whether it holds depends on the seed ({held.passes} of {held.n} did)"
        may_not = "that it holds, by pointing at a seed that did"
    else:
        may = f"it held in none of {held.n} seeds"
        may_not = f"that it never does, for up to {share(held.interval.high)} of all seeds might hold"
    assert runs.interval is not None
    where = (
        "at or above" if runs.interval.low >= target else "below" if runs.interval.high < target else "on both sides of"
    )
    mean = f"the interval of the mean last epoch lies {where} {target_words(target)}"
    images = f"other test images would shift all of it by some {written.points(standard_error(runs))}"
    return f"may be said: {may}, and {mean}; {images}; may not be said: {may_not}"


def _table(runs: Confirmation, target: float, last: int, width: int) -> list[str]:
    """Columns of seeds, in as many blocks as the width asks for."""
    written = Accuracies(runs.images)
    cell = max(len(written.bare(1.0)), *(len(str(seed)) for seed in runs.seeds)) + 1
    head = len("lowest") + 1
    fit = max(1, (width - head) // cell)
    lines: list[str] = []
    for start in range(0, runs.n, fit):
        block = runs.runs[start : start + fit]
        rows = [("epoch", [str(run.seed) for run in block])]
        for number, results in enumerate(zip(*(run.epochs for run in block), strict=True), 1):
            rows.append((str(number), [written.bare(result.accuracy) for result in results]))
        rows.append(("lowest", [written.bare(run.lowest(last)) for run in block]))
        rows.append(("holds", ["yes" if run.holds(target, last) else "no" for run in block]))
        lines += ["", *(f"{name:>{head - 1}} " + "".join(f"{text:>{cell}}" for text in cells) for name, cells in rows)]
    return lines


def confirmation_dict(runs: Confirmation, target: float, last: int) -> dict[str, Any]:
    """All of it, JSON-able; accuracies are fractions."""
    last = min(last, runs.epochs)
    held = runs.holds(target, last)
    return {
        "n": runs.n,
        "images": runs.images,
        "mean": runs.mean,
        "std": runs.std,
        "interval": None if runs.interval is None else asdict(runs.interval),
        "clean_train": runs.clean_train,
        "target": target,
        "last": last,
        "lowest": list(runs.lowest(last)),
        "held": asdict(held),
        "conclusion": conclusion(runs, target, last),
        **runs.to_dict(),
    }


# --- one network against another --------------------------------------------------------------------------------------


def comparison_lines(found: Comparison, names: tuple[str, str], runs: Sequence[Confirmation]) -> list[str]:
    """The size of the difference first, then its noise, then what follows."""
    first, second = names
    written = Accuracies(runs[0].images)
    interval = "" if found.interval is None else f", 95 % interval {written.signed_interval(found.interval)}"
    p = "" if found.p is None else f", p {probability(found.p)}"
    return [
        f"{second} less {first}: {written.signed(found.gap)} points{interval}{p}",
        f"  last epoch on test, paired over {plural(found.n, 'shared seed')} ({', '.join(map(str, found.seeds))})",
        *(f"  {name}: {_mean(written, _shared(run, found.seeds))}" for name, run in zip(names, runs, strict=True)),
        f"images: {count(found.more_second)} that more networks of {second} classify correctly, "
        f"{count(found.more_first)} of {first}; exact paired test over images, p {probability(found.images_p)}",
        f"conclusion: {comparison_verdict(found, names, written)}",
    ]


def comparison_verdict(found: Comparison, names: tuple[str, str], written: Accuracies) -> str:
    """Whether the second is better, in one line."""
    first, second = names
    if not found.beyond_seeds:
        few = {1: "a single seed shows no spread", 2: "two seeds show too little of the spread"}
        known = few.get(found.n, "the interval holds 0")
        more = found.seeds_needed
        enough = f"; a difference of this size would take about {plural(more, 'seed')} in all to show" if more else ""
        return f"not distinguishable with n = {found.n}: {known}{enough}"
    is_ = "better" if found.gap > 0 else "worse"
    images = "though the images on which they differ do not show it: other test images might turn it"
    if found.beyond_images:
        images = "and other test images would hardly change that"
    return f"{second} is {is_} than {first} by {written.points(found.gap)} on these test images, {images}"


def _mean(written: Accuracies, runs: Confirmation) -> str:
    spread = written.spread(runs.std)
    return f"{written.bare(runs.mean)}{spread} % ({plural(runs.n, 'seed')})"


def _shared(runs: Confirmation, seeds: Sequence[int]) -> Confirmation:
    """Only the seeds that are compared."""
    return Confirmation(tuple(run for run in runs.runs if run.seed in seeds))


def comparison_dict(found: Comparison, names: tuple[str, str], runs: Sequence[Confirmation]) -> dict[str, Any]:
    """All of it, JSON-able; accuracies are fractions."""
    return {
        "first": names[0],
        "second": names[1],
        "gap": found.gap,
        "interval": None if found.interval is None else asdict(found.interval),
        "p": found.p,
        "n": found.n,
        "seeds": list(found.seeds),
        "differences": list(found.differences),
        "means": [_shared(run, found.seeds).mean for run in runs],
        "more_first": found.more_first,
        "more_second": found.more_second,
        "images_p": found.images_p,
        "seeds_needed": None if found.beyond_seeds else found.seeds_needed,
        "conclusion": comparison_verdict(found, names, Accuracies(runs[0].images)),
    }
