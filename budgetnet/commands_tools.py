"""Commands around the others: a study in the browser, and whether all that is needed is there."""

from __future__ import annotations

import sys
from textwrap import fill
from typing import TYPE_CHECKING, Annotated

import typer

from budgetnet.options import JsonOption, StorageOption, StudyOption, console

if TYPE_CHECKING:
    from budgetnet.doctor import Finding


def dashboard(
    study: StudyOption = None,
    storage: StorageOption = None,
    host: Annotated[
        str, typer.Option(help="Address to listen on; 0.0.0.0 shows it to the whole network.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on; 0 takes any that is free.")] = 8080,
    browser: Annotated[bool, typer.Option("--browser/--no-browser", help="Open the page in a browser.")] = True,
) -> None:
    """Show a study in the browser with optuna-dashboard.

    Runs until Ctrl-C; may run beside a search, and shows it as it goes on. A trial's note says its network, params,
    MACs, receptive field and what became of it. Needs the extra budgetnet[dashboard].

    Example: budgetnet dashboard --study mnist-8000
    """
    from budgetnet.extras import require

    require("dashboard")
    from budgetnet.dashboard import listening, open_browser
    from budgetnet.study import open_study

    opened = open_study(study, storage)
    with listening(opened, host, port) as page:
        typer.echo(f"study {opened.where.name}: {page.address}\nstop with Ctrl-C")
        if browser:
            open_browser(page.address)
        try:
            page.serve()
        except KeyboardInterrupt:
            typer.echo("")  # the terminal has just shown ^C


def doctor(as_json: JsonOption = False) -> None:
    """Check versions, devices, a training, data, studies and extras.

    Takes some seconds, for it imports all that there is. Exit code 1 if something that budgetnet needs is broken.

    Example: budgetnet doctor
    """
    import json
    from dataclasses import asdict

    from budgetnet.doctor import examined

    found = {}
    for topic, findings in examined():
        found[topic] = findings
        if not as_json:
            typer.echo("\n".join((topic, *map(_finding, findings))))
    broken = [finding for findings in found.values() for finding in findings if finding.broken]
    if as_json:
        typer.echo(json.dumps({topic: [asdict(finding) for finding in findings] for topic, findings in found.items()}))
    else:
        said = [f"broken: {finding.name}: {finding.text}" for finding in broken]
        typer.echo("\n".join(["", *(said or ["all is well"])]))
    if broken:
        raise typer.Exit(1)


def _finding(finding: Finding) -> str:
    """A name and what is found; on a terminal, long ones are broken between words, below each other."""
    head = f"  {finding.name:<12} "
    if not sys.stdout.isatty():
        return head + finding.text
    left = " " * len(head)
    return fill(finding.text, console().width, initial_indent=head, subsequent_indent=left, break_long_words=False)
