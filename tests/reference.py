"""What the README has from elsewhere: the reference from the program, the frozen models from their evidence.

``python -m tests.reference`` writes both anew.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator, Sequence
from html import escape
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

from typer.models import ArgumentInfo, OptionInfo

from budgetnet.aim import TARGET
from budgetnet.cli import app
from budgetnet.display import percent
from budgetnet.evidence import Evidence, read_evidence
from budgetnet.freeze import evidence_path
from budgetnet.models import names_with_evidence
from budgetnet.page import table
from budgetnet.public_records import RECORDS, PublicRecord
from budgetnet.results import LAST
from budgetnet.words import plural

README = Path(__file__).parents[1] / "README.md"
MODELS = Path(__file__).parents[1] / "budgetnet" / "model.py"
BEGIN = "<!-- {}, from here to the next mark: python -m tests.reference -->"
END = "<!-- end of {} -->"
RIVALS = ("highest last epoch", "highest last five", "fewest params, last five all 99.4")  # public records shown


def part_of(text: str, name: str) -> str:
    """The generated part of the README between its marks."""
    return text.split(BEGIN.format(name))[1].split(END.format(name))[0].strip()


def models() -> str:
    """The frozen models of the package, the public records beside them, as a Markdown table."""
    rows = [_model(name, read_evidence(evidence_path(MODELS, name))) for name in names_with_evidence(MODELS)]
    rows += [_record(record) for what in RIVALS for record in RECORDS if record.what == what]
    columns = (
        "network",
        "params>",
        "runs>",
        "last epoch, test %>",
        "lowest of the last five %>",
        "all of them ≥ 99.4 %",
    )
    return table(columns, rows)


def _model(name: str, evidence: Evidence) -> Sequence[str]:
    runs = evidence.confirmation
    held = runs.holds(TARGET, LAST)
    return (
        f"**`{name}`** `{evidence.architecture}`",
        f"{evidence.cost.params:,}",
        f"{plural(runs.n, 'seed')}",
        f"**{percent(runs.mean)} ± {percent(runs.std)}**",
        percent(min(runs.lowest(LAST))),
        f"{held.passes} of {plural(held.n, 'seed')}",
    )


def _record(record: PublicRecord) -> Sequence[str]:
    told = f"public record: {record.what.replace('99.4', '≥ 99.4 %')}"
    lowest = record.lowest or 0.0
    return (
        told,
        f"{record.params:,}",
        "1",
        percent(record.last),
        percent(record.lowest),
        "yes" if lowest >= TARGET else "no",
    )


def reference() -> str:
    """Every command with its help, its arguments and its options, as Markdown."""
    commands = [command.callback for command in app.registered_commands if command.callback is not None]
    return "\n\n".join(part for command in commands for part in _command(command))


def _command(function: Callable[..., Any]) -> Iterator[str]:
    arguments, options = _parameters(function)
    yield f"#### `{' '.join(['budgetnet', function.__name__.replace('_', '-'), *(name for name, *_ in arguments)])}`"
    yield re.sub(r"Example: (.*)", r"Example: `\1`", inspect.cleandoc(function.__doc__ or ""))
    rows = [(f"`{name}`", escape(told, quote=False), default) for name, told, default in [*arguments, *options]]
    if rows:
        yield table(("argument, option", "", "default"), rows)


def _parameters(function: Callable[..., Any]) -> tuple[list[tuple[str, str, str]], list[tuple[str, str, str]]]:
    """(name, help, default) of arguments and of options."""
    hints = get_type_hints(function, include_extras=True)
    arguments, options = [], []
    for name, parameter in inspect.signature(function).parameters.items():
        kind, info = get_args(hints[name])[:2]
        required = parameter.default is inspect.Parameter.empty
        if isinstance(info, ArgumentInfo):
            shown = name.upper() + ("…" if _holds(kind, list) else "")
            arguments.append((shown if required else f"[{shown}]", info.help or "", ""))
        else:
            assert isinstance(info, OptionInfo)
            named = [each for each in (info.default, *(info.param_decls or ())) if isinstance(each, str)]
            flag = next(iter(named), f"--{name.replace('_', '-')}").replace("/", " / ")
            value = "" if _holds(kind, bool) else f" {_kind(kind)}"
            unset = parameter.default is False or parameter.default in (None, "")
            default = "required" if required else "" if unset or _holds(kind, bool) else f"`{parameter.default}`"
            options.append((f"{flag}{value}", info.help or "", default))
    return arguments, options


def parameters_of(function: Callable[..., Any]) -> list[tuple[str, str, str]]:
    """(name, help, default) of every argument and option of a command."""
    arguments, options = _parameters(function)
    return [*arguments, *options]


def _holds(kind: Any, wanted: type) -> bool:
    return any(get_origin(each) is wanted or each is wanted for each in (kind, *get_args(kind)))


def _kind(kind: Any) -> str:
    """What an option takes: ``INT``."""
    if get_origin(kind) in (Union, UnionType):
        kind = next(each for each in get_args(kind) if each is not NoneType)
    return str(kind.__name__).upper().replace("STR", "TEXT")


PARTS = {"models": models, "reference": reference}


if __name__ == "__main__":
    text = README.read_text(encoding="utf-8")
    for name, written in PARTS.items():
        begin, end = BEGIN.format(name), END.format(name)
        before, rest = text.split(begin)
        text = f"{before}{begin}\n\n{written()}\n\n{end}{rest.split(end)[1]}"
    README.write_text(text, encoding="utf-8")
