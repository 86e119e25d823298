"""Options that commands share, and how they print."""

from __future__ import annotations

import ast
import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from textwrap import fill
from typing import TYPE_CHECKING, Annotated, NoReturn, TypeVar

import typer

from budgetnet.completion import DEVICES, EXECUTORS, among, studies

if TYPE_CHECKING:
    from rich.console import Console

T = TypeVar("T")
UNBROKEN = 1000  # columns of a pipe or a file

StudyOption = Annotated[
    str | None,
    typer.Option("--study", help="Name of the study; by default the one written last.", autocompletion=studies),
]
StorageOption = Annotated[str | None, typer.Option("--storage", help="Optuna storage URL instead of SQLite.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]
RecipeOption = Annotated[
    str,
    typer.Option(
        "--recipe", help="learning_rate=0.05,ema=0.999, or a JSON or YAML file, or both; the rest keeps its defaults."
    ),
]
DeviceOption = Annotated[str, typer.Option("--device", help="auto, cpu, cuda or mps.", autocompletion=among(DEVICES))]
WorkersOption = Annotated[
    int | None, typer.Option("--workers", help="Training processes; by default one a core, or one a GPU. 0: none.")
]
ExecutorOption = Annotated[
    str,
    typer.Option(
        help="Where trials train: local processes, or tasks on a ray cluster.", autocompletion=among(EXECUTORS)
    ),
]
RayAddressOption = Annotated[
    str | None,
    typer.Option(help="Ray cluster, as host:port or auto; else RAY_ADDRESS; else one is started on this machine."),
]
JobCpusOption = Annotated[float, typer.Option(help="CPUs that a ray task asks for.")]
JobGpusOption = Annotated[float, typer.Option(help="GPUs that a ray task asks for; 0.25 shares one among four.")]
ModelsOption = Annotated[
    Path | None, typer.Option("--models", help="File with the classes; else ./model.py, then ours.")
]
TensorboardOption = Annotated[
    Path | None,
    typer.Option(
        "--tensorboard", metavar="DIR", help="Folder for curves and hyperparameters as TensorBoard reads them."
    ),
]


def console() -> Console:
    """Standard output as rich writes it; where it is no terminal, no line is broken, unless COLUMNS says how wide."""
    from rich.console import Console

    return Console(highlight=False, width=None if sys.stdout.isatty() or "COLUMNS" in os.environ else UNBROKEN)


def say(lines: Iterable[str]) -> None:
    """Print lines; on a terminal, those that are too long are broken between words."""
    width = console().width if sys.stdout.isatty() else 0
    for line in lines:
        typer.echo(fill(line, width, subsequent_indent="  ") if 0 < width < len(line) else line)


def stop(message: str, code: int) -> NoReturn:
    """End the program with a line on standard error."""
    print(message, file=sys.stderr)
    sys.exit(code)


def remark(notes: Iterable[str]) -> None:
    """Say on standard error what a person should know, and no program has to read."""
    for note in notes:
        print(f"note: {note}", file=sys.stderr)


def again() -> str:
    """The command as it was typed."""
    from shlex import join

    return join(["budgetnet", *sys.argv[1:]])


@contextmanager
def aside() -> Iterator[None]:
    """Within, what somebody's own code prints goes to standard error: standard output is what the command says."""
    with redirect_stdout(sys.stderr):
        yield


def made_aside(things: Iterable[T]) -> Iterator[T]:
    """Those things, each made within ``aside``."""
    iterator = iter(things)
    while True:
        with aside():
            try:
                thing = next(iterator)
            except StopIteration:
                return
        yield thing


def announce(path: Path | None) -> None:
    """Say on standard error that somebody's file is about to be run; our own, and one that cannot run, need no word."""
    if path is None or path.resolve().parent == Path(__file__).resolve().parent:
        return
    try:
        ast.parse(path.read_bytes())
    except (OSError, ValueError, SyntaxError):
        return  # whoever runs it will say what is wrong
    print(f"note: runs the code of {path}; do so only with files that you trust", file=sys.stderr)
