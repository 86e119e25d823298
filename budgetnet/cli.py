"""The command line. Every command is a few lines; here alone an error becomes a message and an exit code.

Exit codes: 0 done · 1 a claim does not hold (verify), something needed is broken (doctor) · 2 bad input, or nothing to
be done about it · 130 interrupted.
"""

from __future__ import annotations

import os
import signal
import sys
from io import TextIOWrapper
from typing import Annotated, cast

import typer

from budgetnet.commands_models import export, predict, rf, train
from budgetnet.commands_search import search
from budgetnet.commands_studies import report, show, trials
from budgetnet.commands_tools import dashboard, doctor
from budgetnet.commands_winners import add, compare, confirm, freeze, verify
from budgetnet.errors import BudgetnetError
from budgetnet.options import stop

# Click's UsageError; typer brings click along under a name of its own.
UsageError = cast("type[typer.BadParameter]", typer.BadParameter.__mro__[1])

INTERRUPTED = 130  # also what typer gives back after Ctrl-C

app = typer.Typer(
    name="budgetnet",
    help="Finds the most accurate small convolutional network that fits a parameter budget, and hands it back as code.",
    epilog="Exit codes: 0 done; 1 a claim does not hold (verify) or something that is needed is broken (doctor); "
    "2 bad input, one line says what; 130 interrupted, the study is kept.",
    add_completion=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def main() -> None:
    """Entry point of the program."""
    signal.signal(signal.SIGTERM, _interrupt)  # as Ctrl-C: stop the workers, keep the study
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):  # a name or a line that its encoding has no signs for
            stream.reconfigure(errors="backslashreplace")
    try:
        plain = False if os.environ.get("NO_COLOR") else None  # None: colours on a terminal
        asked = None if sys.argv[1:] else ["--help"]  # None: as it was typed
        code = app(asked, prog_name="budgetnet", standalone_mode=False, color=plain)
        if code == INTERRUPTED:
            stop("interrupted", code)
        sys.exit(code)
    except SystemExit as end:
        if isinstance(end.__context__, BrokenPipeError):  # typer's and rich's for a reader that has gone: trials | head
            sys.exit(0)
        raise
    except BudgetnetError as error:
        stop(f"error: {error}", 2)
    except UsageError as error:
        stop(f"error: {error.format_message()}", 2)
    except (KeyboardInterrupt, typer.Abort):
        stop("interrupted", INTERRUPTED)
    except OSError as error:  # a folder that may not be read, a name that is too long
        stop(f"error: {error}", 2)


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def _version(wanted: bool) -> None:
    if wanted:
        from budgetnet import __version__

        typer.echo(f"budgetnet {__version__}")
        raise typer.Exit


@app.callback()
def _common(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    pass


for command in (
    search,
    trials,
    show,
    report,
    add,
    confirm,
    compare,
    freeze,
    verify,
    rf,
    train,
    export,
    predict,
    dashboard,
    doctor,
):
    app.command()(command)


if __name__ == "__main__":
    main()
