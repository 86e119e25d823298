"""The README's reference, told from the program itself. ``python -m tests.reference`` writes it anew."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator
from html import escape
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

from typer.models import ArgumentInfo, OptionInfo

from budgetnet.cli import app
from budgetnet.page import table

README = Path(__file__).parents[1] / "README.md"
BEGIN = "<!-- from here to the next mark: python -m tests.reference -->"
END = "<!-- end of the reference -->"


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
            value = "" if kind is bool else f" {_kind(kind)}"
            unset = parameter.default is False or parameter.default in (None, "")
            default = "required" if required else "" if unset or kind is bool else f"`{parameter.default}`"
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


if __name__ == "__main__":
    text = README.read_text(encoding="utf-8")
    before, rest = text.split(BEGIN)
    README.write_text(f"{before}{BEGIN}\n\n{reference()}\n\n{END}{rest.split(END)[1]}", encoding="utf-8")
