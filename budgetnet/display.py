"""How numbers and curves read wherever a person meets them: percent, times, a curve in one line, counters."""

from __future__ import annotations

from collections.abc import Sequence
from math import log10
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from budgetnet.progress import Rank, Tally
    from budgetnet.study import TrialRecord

SPARKS = "▁▂▃▄▅▆▇█"


def percent(fraction: float | None) -> str:
    """0.9943 → "99.43"; a dash for nothing."""
    return "–" if fraction is None else f"{100 * fraction:.2f}"


def duration(seconds: float) -> str:
    """75 → "1:15"; 3700 → "1:01:40"."""
    minutes, second = divmod(int(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02}:{second:02}" if hours else f"{minute}:{second:02}"


def spark(curve: Sequence[float]) -> str:
    """A learning curve in one line, scaled by the logarithm of its error: 90 % is the floor, 99.9 % the top."""
    levels = (len(SPARKS) - 1) / 2  # two decades of error, 10 % to 0.1 %
    heights = (levels * log10(0.1 / max(1 - accuracy, 1e-6)) for accuracy in curve)
    return "".join(SPARKS[round(min(max(height, 0), len(SPARKS) - 1))] for height in heights)


def narrow_spark(curve: Sequence[float], epochs: int, width: int) -> str:
    """``spark`` in at most ``width`` signs for a run of ``epochs``: where there are more, a sign shows the last of
    several epochs."""
    each = -(-epochs // width)
    return spark([curve[min(end, len(curve)) - 1] for end in range(each, len(curve) + each, each)])


def ordinal(n: int) -> str:
    """``1st``, ``2nd``, ``3rd``, ``4th``, ``11th``."""
    suffix = "th" if n % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(n % 10, "th")
    return f"{n}{suffix}"


def cut(text: str, width: int) -> str:
    """``text`` in at most ``width`` signs, with an ellipsis where it is cut."""
    return text if len(text) <= width else f"{text[: width - 1].rstrip()}…"


def why(record: TrialRecord, rank: Rank | None) -> str:
    """What became of a trial, short: ``pruned: 9th of 12``, ``finished: 2nd of 5``, ``failed: …``."""
    told = f"{ordinal(rank.place)} of {rank.of}" if rank else record.reason
    return f"{record.state}: {told}" if told else record.state


def why_in_full(record: TrialRecord, rank: Rank | None) -> str:
    """``pruned after epoch 4: 9th of 12 there``; any other as ``why`` tells it."""
    if rank is None or record.state != "pruned":
        return why(record, rank)
    return f"{record.reason or record.state}: {ordinal(rank.place)} of {rank.of} there"


def tally_line(tally: Tally) -> str:
    """Counters of a run in one line."""
    parts = [f"{tally.sampled} sampled", f"{tally.finished} finished", f"{tally.pruned} pruned"]
    for name, reasons in (("rejected before training", tally.rejected), ("failed", tally.failed)):
        if total := sum(reasons.values()):
            parts.append(f"{total} {name} ({', '.join(f'{reason} {n}' for reason, n in reasons.most_common())})")
    if tally.duplicates:
        parts.append(f"{tally.duplicates} answered from the record")
    if tally.lost:
        parts.append(f"{tally.lost} lost with their machine, queued again")
    return " · ".join(parts)
