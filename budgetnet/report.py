"""A study as a Markdown page: what was asked, what became of the trials, and the best of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from budgetnet.display import percent, spark
from budgetnet.errors import StudyError
from budgetnet.study import VALUE_EPOCHS, Study, TrialRecord
from budgetnet.words import short

MARK = "<!-- written by budgetnet report; changes are lost when it is written again -->"
BEST = 20  # trials in the table


def write_report(study: Study, path: Path | None = None) -> Path:
    """Write the page, by default as README.md in the study's folder, and return where it is.

    Raises StudyError when a page that budgetnet did not write is in the way, or nothing can be written.
    """
    path = path or study.where.folder / "README.md"
    try:
        if path.exists() and MARK not in path.read_text(encoding="utf-8"):
            raise StudyError(f"{path}: is not a report of budgetnet's, and is left as it is; choose another --out")
        path.write_text(markdown(study), encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise StudyError(f"{path}: cannot be written: {error}") from None
    return path


def markdown(study: Study) -> str:
    """The page as text."""
    return "\n".join([f"# Study {study.where.name}", "", MARK, "", *_asked(study), *_became(study), *_best(study)])


def _asked(study: Study) -> Iterator[str]:
    settings = study.settings
    limits = [f"fewer than {settings.budget:,} params"]
    if settings.max_macs is not None:
        limits.append(f"at most {settings.max_macs:,} MACs")
    images = "the training split" if settings.images is None else f"{settings.images:,} images of the training split"
    yield (
        f"Space `{settings.space['name']}` on `{settings.data}`: {', '.join(limits)}; {settings.epochs} epochs a trial "
        f"on {images}; seed {settings.seed}. A trial's value is its mean validation accuracy over the last "
        f"{VALUE_EPOCHS} epochs; no test image was read."
    )
    yield ""


def _became(study: Study) -> Iterator[str]:
    states = Counter(record.state for record in study.records())
    yield "## Trials"
    yield ""
    yield " · ".join(f"{count} {state}" for state, count in states.most_common()) or "none yet"
    yield ""


def _best(study: Study) -> Iterator[str]:
    yield f"| trial | validation % | params / {study.settings.budget:,} | MACs | field | curve | network |"
    yield "|--:|--:|--:|--:|--:|---|---|"
    best = study.leaderboard()[:BEST]
    yield from map(_row, best)
    if best and best[0].recipe is not None:
        recipe = ", ".join(f"{name} {short(value)}" for name, value in best[0].recipe.to_dict().items())
        yield ""
        yield f"Recipe of trial {best[0].number}: {recipe}."
    yield ""


def _row(record: TrialRecord) -> str:
    params = f"{record.cost.params:,}" if record.cost else "–"
    macs = f"{record.cost.macs:,}" if record.cost else "–"
    network = str(record.architecture).replace("|", "\\|")
    cells = (
        record.number,
        percent(record.value),
        params,
        macs,
        record.receptive_field,
        spark(record.curve),
        f"`{network}`",
    )
    return f"| {' | '.join(map(str, cells))} |"
