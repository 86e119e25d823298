"""A search whose study lies on a PostgreSQL server: a real one, started here."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from typer.testing import CliRunner

from budgetnet.cli import app
from budgetnet.coordinator import Ended, Search, opened, search
from budgetnet.errors import StudyError
from budgetnet.lock import locked
from budgetnet.place import place
from budgetnet.study import create_or_open, open_study
from tests import postgres
from tests.instant import Instant
from tests.test_survival import KILLS, kill_while_it_writes
from tests.tiny import tiny_request, write_space

pytestmark = pytest.mark.skipif(postgres.why_not() is not None, reason=str(postgres.why_not()))


@pytest.fixture(scope="module")
def server() -> Iterator[postgres.Server]:
    """One server for this file."""
    with postgres.server() as running:
        yield running


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty directory to work in."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def command(folder: Path, data: Path, url: str, study: str, trials: int) -> list[str]:
    found = [sys.executable, "-m", "budgetnet", "search", "--space", str(write_space(folder)), "--data", str(data)]
    found += ["--budget", "600", "--epochs", "3", "--workers", "2", "--device", "cpu", "--pruner", "none"]
    return [*found, "--storage", url, "--study", study, "--trials", str(trials)]


def test_a_search_trains_and_goes_on_as_on_sqlite(server: postgres.Server, here: Path, small_mnist: Path) -> None:
    def records(**options: object) -> list[object]:
        study = search(tiny_request(here, small_mnist, study="same", seed=3, **options))
        return [(r.number, r.state, r.architecture, r.recipe, r.cost, r.curve, r.drawn) for r in study.records()]

    for trials in (2, 4):
        assert records(trials=trials) == records(trials=trials, storage=server.url)
    url = server.url
    assert [r.state for r in open_study("same", url).records()].count("finished") == 4
    listed = CliRunner().invoke(app, ["trials", "--study", "same", "--storage", url, "--csv"])
    assert (listed.exit_code, listed.output.count("\n")) == (0, 5)


def test_optuna_reads_what_the_ledger_wrote(server: postgres.Server, here: Path, small_mnist: Path) -> None:
    """Trial for trial the same as Optuna's own storage gives back, on both databases."""
    found = []
    for options in ({}, {"storage": server.url}):
        request = tiny_request(here, small_mnist, study="ledger", trials=30, **options)
        space, settings, plan = request.check()
        where = request.place(space)
        with locked(where):
            running = Search(create_or_open(where, settings), space, plan, Instant(slots=3))
            ended = [event.record for event in running.run() if isinstance(event, Ended)]
            memory = running._ledger.study.get_trials()
        stored = open_study("ledger", options.get("storage")).inner.get_trials()
        assert len(stored) == len(memory) >= len(ended)
        for ours, theirs in zip(memory, stored, strict=True):
            for name in ("number", "state", "params", "distributions", "values"):
                assert getattr(ours, name) == getattr(theirs, name), name
            for name in ("user_attrs", "system_attrs"):
                assert json.loads(json.dumps(getattr(ours, name))) == getattr(theirs, name), name
            assert ours.intermediate_values == theirs.intermediate_values
            assert (ours.datetime_start, ours.datetime_complete) == (theirs.datetime_start, theirs.datetime_complete)
        found.append([(trial.params, trial.values) for trial in stored])
    assert found[0] == found[1]


def test_kill_9_while_it_writes_loses_no_finished_trial(server: postgres.Server, here: Path, small_mnist: Path) -> None:
    """Kills while training do not depend on the storage: test_survival has those."""
    kill_while_it_writes(here, small_mnist, max(2, KILLS // 2), server.url)


def test_one_search_at_a_time_whatever_machine_asks(
    server: postgres.Server, here: Path, small_mnist: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    request = tiny_request(here, small_mnist, storage=server.url, study="held", trials=1)
    with opened(request):
        monkeypatch.setenv("BUDGETNET_CACHE", str(here / "another machine's cache"))
        asked = command(here, small_mnist, server.url, "held", 1)
        second = subprocess.run(asked, check=False, capture_output=True, text=True)
        with locked(place("another", server.url)):
            pass  # another study of the same server is free
    assert second.returncode == 2
    assert f"error: study held is in use by process {os.getpid()} on " in second.stderr
    assert second.stderr.count("\n") == 1
    with locked(place("held", server.url)):
        pass


def test_a_server_that_goes_away_is_one_line_without_the_password(here: Path, small_mnist: Path) -> None:
    with postgres.server() as mortal:
        request = tiny_request(here, small_mnist, storage=mortal.url, study="orphan", trials=500, epochs=1)
        space, settings, plan = request.check()
        where = request.place(space)
        with locked(where), closing(Search(create_or_open(where, settings), space, plan, Instant(slots=2)).run()) as on:
            for _ in range(20):
                next(on)
            mortal.stop()
            with pytest.raises(StudyError) as caught:
                list(on)
        assert "the study cannot be read or written: " in str(caught.value)
        assert "\n" not in str(caught.value)
        assert "secret" not in str(caught.value)
        mortal.start()
        kept = open_study("orphan", mortal.url).records()
        assert sum(record.trained for record in kept) >= 5
    gone = subprocess.run(
        command(here, small_mnist, mortal.url, "orphan", 1), check=False, capture_output=True, text=True
    )
    assert gone.returncode == 2
    assert gone.stderr.count("\n") == 1
    assert "secret" not in gone.stderr
