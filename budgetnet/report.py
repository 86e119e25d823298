"""A study as a page: README.md with its pictures for a repository, report.html for everybody else."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from budgetnet.aim import Aim
from budgetnet.display import percent, spark
from budgetnet.drawing import THEME, Picture
from budgetnet.errors import StudyError
from budgetnet.page import html, shown, table
from budgetnet.public_records import DATA, RECORDS, PublicRecord
from budgetnet.results import Confirmation
from budgetnet.study import VALUE_EPOCHS, Study, TrialRecord
from budgetnet.study_pictures import lettered, study_pictures
from budgetnet.survey import Champion, Survey, survey
from budgetnet.table import receptive_field
from budgetnet.winner_pictures import champion_pictures
from budgetnet.words import plural, short

MARK = "<!-- written by budgetnet report; changes are lost when it is written again, but for those in study.yaml -->"
OURS = "<!-- written by budgetnet report"  # how every version's mark begins
PICTURES = "pictures"
BEST = 20  # trials in the table


@dataclass(frozen=True)
class Written:
    """Files of a report."""

    markdown: Path
    html: Path


def write_report(study: Study, folder: Path | None = None) -> Written:
    """Write README.md, report.html and pictures/, by default into the study's folder.

    Raises StudyError when a README that budgetnet did not write is in the way, or nothing can be written.
    """
    folder = folder or study.where.home
    written = Written(folder / "README.md", folder / "report.html")
    try:
        for path in (written.markdown, written.html):
            if path.exists() and OURS not in path.read_text(encoding="utf-8"):
                raise StudyError(f"{path}: is not a report of budgetnet's, and is left as it is; choose another --out")
        found = survey(study)
        pictures = Pictures.of(found)
        text = markdown(found, pictures)
        _write(folder / PICTURES, pictures)
        written.markdown.write_text(text.replace("\n", f"\n\n{MARK}\n", 1), encoding="utf-8")
        by_address = {f"{PICTURES}/{each.name}.svg": each for each in pictures.all}
        written.html.write_text(html(f"Study {found.name}", text, by_address, MARK), encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise StudyError(f"{folder}: cannot be written: {error}") from None
    return written


def _write(folder: Path, pictures: Pictures) -> None:
    """The pictures as files; those of an earlier report that are no longer drawn go, anybody else's stay."""
    folder.mkdir(parents=True, exist_ok=True)
    drawn = {f"{picture.name}.svg": picture.svg for picture in pictures.all}
    for path in folder.glob("*.svg"):
        if path.name not in drawn and THEME in path.read_text(encoding="utf-8"):
            path.unlink()
    for name, svg in drawn.items():
        (folder / name).write_text(svg, encoding="utf-8")


@dataclass(frozen=True)
class Pictures:
    """The pictures of a report: of the study, and of its confirmed winner."""

    study: tuple[Picture, ...]
    champion: tuple[Picture, ...]

    @staticmethod
    def of(found: Survey) -> Pictures:
        winner = () if found.champion is None else tuple(champion_pictures(found.champion))
        return Pictures(tuple(study_pictures(found)), winner)

    @property
    def all(self) -> tuple[Picture, ...]:
        return (*self.study, *self.champion)


def markdown(found: Survey, pictures: Pictures) -> str:
    """The page as Markdown."""
    parts = [f"# Study {found.name}", *_preface(found)]
    if found.champion is not None:
        parts += _account(found.champion)
    parts += [*_trials(found), *_confirmed(found)]
    for picture in pictures.study:
        parts += [f"## {picture.title}", shown(picture, PICTURES)]
        if picture.name == "accuracy_against_params" and found.settings.data == DATA:
            parts.append(_records(RECORDS))
    if found.champion is not None:
        parts += _seeds(found.champion)
    for picture in pictures.champion:
        parts += [f"## {picture.title}", shown(picture, PICTURES)]
    return "\n\n".join([*parts, *_again(found)]) + "\n"


# --- its parts --------------------------------------------------------------------------------------------------------


def _preface(found: Survey) -> Iterator[str]:
    settings = found.settings
    limits = [f"fewer than {settings.budget:,} params"]
    if settings.max_macs is not None:
        limits.append(f"at most {settings.max_macs:,} MACs")
    images = "the training split" if settings.images is None else f"{settings.images:,} images of the training split"
    if found.aim.about:
        yield found.aim.about
    yield (
        f"Space `{settings.space['name']}` on `{settings.data}`: {', '.join(limits)}; {settings.epochs} epochs a trial "
        f"on {images}; seed {settings.seed}. A trial's value is its mean validation accuracy over the last "
        f"{VALUE_EPOCHS} epochs; no test image was read to choose it."
    )


def _account(champion: Champion) -> Iterator[str]:
    name = f"trial {champion.record.number}" + (f", frozen as {champion.frozen_as}" if champion.frozen_as else "")
    said = champion.account
    yield f"## The winner: {name}"
    yield f"`{champion.record.architecture}`"
    yield f"**Target:** {said.target}"
    yield f"**Result:** {said.result}"
    yield table(("", " "), [(what, words) for what, words in said.figures if not what.startswith("seed ")])
    yield "**Analysis:**"
    yield "\n".join(f"- {sentence}" for sentence in said.analysis)
    assert champion.record.architecture is not None
    yield "**Receptive field and cost:**"
    yield f"```\n{receptive_field(champion.record.architecture)}\n```"


def _trials(found: Survey) -> Iterator[str]:
    yield "## Trials"
    states = Counter(record.state for record in found.records)
    yield " · ".join(f"{count:,} {state}" for state, count in states.most_common()) or "none yet"
    best = found.finished[:BEST]
    if not best:
        return
    columns = ("trial>", "validation %>", f"params / {found.settings.budget:,}>", "MACs>", "field>", "curve", "network")
    yield table(columns, map(_row, best))
    if best[0].recipe is not None:
        recipe = ", ".join(f"{name} {short(value)}" for name, value in best[0].recipe.to_dict().items())
        yield f"Recipe of trial {best[0].number}: {recipe}."


def _confirmed(found: Survey) -> Iterator[str]:
    """All that is confirmed, in the order of the trials; a single winner has its own part."""
    if found.champion is not None and len(found.confirmed) == 1:
        return
    if not found.confirmed:
        return
    yield "## Confirmed on test"
    columns = (
        "trial>",
        "params>",
        "seeds>",
        "last epoch %>",
        "lowest of last {} %>",
        "held",
        "best epoch>",
        "network",
        "",
    )
    yield table(
        tuple(each.format(found.aim.last) for each in columns),
        [_confirmed_row(found.records[number], runs, found.aim) for number, runs in found.confirmed.items()],
    )


def _confirmed_row(record: TrialRecord, runs: Confirmation, aim: Aim) -> Sequence[object]:
    last = min(aim.last, runs.epochs)
    held = runs.holds(aim.target, last)
    spread = "" if runs.std is None else f" ± {percent(runs.std)}"
    return (
        record.number,
        f"{record.cost.params:,}" if record.cost else "–",
        runs.n,
        f"{percent(runs.mean)}{spread}",
        percent(min(runs.lowest(last))),
        f"{held.passes} of {held.n}",
        percent(runs.best_test),
        f"`{record.architecture}`",
        record.reason or "",
    )


def _row(record: TrialRecord) -> Sequence[object]:
    params, macs = (f"{record.cost.params:,}", f"{record.cost.macs:,}") if record.cost else ("–", "–")
    curve, network = spark(record.curve), f"`{record.architecture}`"
    return record.number, percent(record.value), params, macs, record.receptive_field, curve, network


def _records(records: Sequence[PublicRecord]) -> str:
    rows = [
        (
            letter,
            record.what,
            f"{record.params:,}",
            f"{record.epochs:,}",
            percent(record.best),
            percent(record.last),
            percent(record.lowest),
            record.how,
        )
        for letter, record in lettered(records)
    ]
    return table(("", "public record", "params>", "epochs>", "best %>", "last %>", "last five %>", "how"), rows)


def _seeds(champion: Champion) -> Iterator[str]:
    last, aim = min(champion.aim.last, champion.runs.epochs), champion.aim
    yield f"## Trial {champion.record.number} over {plural(champion.runs.n, 'seed')}"
    rows = [
        (
            run.seed,
            percent(run.final.accuracy),
            percent(run.lowest(last)),
            percent(run.best.accuracy),
            percent(run.outcome.train_accuracy),
            "yes" if run.holds(aim.target, last) else "no",
        )
        for run in champion.runs.runs
    ]
    columns = (
        "seed>",
        "last epoch, test %>",
        f"lowest of the last {last} %>",
        "best epoch %>",
        "clean train %>",
        "held",
    )
    yield table(columns, rows)


def _again(found: Survey) -> Iterator[str]:
    yield "## To look further"
    lines = [f"budgetnet trials --study {found.name} --all", f"budgetnet show --study {found.name} --trial 0"]
    if found.champion is not None:
        number = found.champion.record.number
        lines[1] = f"budgetnet show --study {found.name} --trial {number}"
        lines.append(f"budgetnet confirm --study {found.name} --trial {number} --seeds {found.champion.runs.n}")
    lines.append(f"budgetnet report {found.name}")
    yield "\n".join(["```sh", *lines, "```"])
