"""Commands around the others: a study in the browser, and whether all that is needed is there."""

from __future__ import annotations

from typing import Annotated

import typer

from budgetnet.options import StorageOption, StudyOption


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
