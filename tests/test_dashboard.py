"""``budgetnet dashboard``: notes over HTTP, nothing written to the study, one line where it cannot be shown."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from budgetnet import coordinator
from budgetnet.cost import cost
from budgetnet.files import sha256
from budgetnet.notation import parse
from budgetnet.notes import NotedStorage, study_note, trial_note
from budgetnet.place import place
from budgetnet.progress import Started
from budgetnet.study import open_study
from tests.quick import quick_search, quick_study
from tests.test_cli import run
from tests.tiny import write_space

NAME = "tiny-600"


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty directory to work in."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@contextmanager
def dashboard(folder: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A dashboard in a process of its own, and the address of its HTTP API for the study."""
    process = subprocess.Popen(
        [sys.executable, "-m", "budgetnet", "dashboard", "--port", "0", "--no-browser"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=folder,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line.startswith(f"study {NAME}: http://127.0.0.1:"), line
        yield process, line.split()[-1].replace("/dashboard/", "/api/")
    finally:
        process.kill()
        process.communicate()


def ask(address: str, method: str = "GET", **body: Any) -> dict[str, Any]:
    """The answer of the HTTP API, without a proxy in between."""
    data = json.dumps(body).encode() if body else None
    request = urllib.request.Request(address, data, {"Content-Type": "application/json"}, method=method)
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=120) as answer:
        content = answer.read()
    return dict(json.loads(content)) if content else {}


def test_the_note_of_a_study_names_its_storage(tmp_path: Path, small_mnist: Path) -> None:
    settings = quick_study(tmp_path, small_mnist).settings
    assert "`budgetnet show --study a --trial N`" in study_note(settings, place("a"))
    told = "`budgetnet show --study a --storage sqlite:///b.db --trial N`"
    assert told in study_note(settings, place("a", "sqlite:///b.db"))


@pytest.mark.skipif(os.name == "nt", reason="signals as on POSIX")
def test_every_trial_has_a_readable_note_and_the_study_stays_as_it_was(here: Path, small_mnist: Path) -> None:
    write_space(here, require={"receptive_field": 5, "final_map": 10})
    records = quick_study(here, small_mnist, trials=4).records()
    database = here / "studies" / NAME / "study.db"
    before = sha256(database)
    with dashboard(here) as (process, address):
        shown = ask(f"{address}?after=0")
        assert "fewer than **600** params" in shown["note"]["body"]
        assert len(shown["trials"]) == len(records)
        assert {"finished", "rejected"} <= {record.state for record in records}
        for record, trial in zip(records, shown["trials"], strict=True):
            note = trial["note"]["body"]
            attributes = {item["key"]: item["value"] for item in trial["user_attrs"]}
            if record.state == "finished":
                assert record.cost is not None
                assert f"| network | `{record.architecture}` |" in note
                assert f"| params | {record.cost.params:,} / 600 |" in note
                assert f"| MACs | {record.cost.macs:,} |" in note
                assert f"| receptive field | {record.receptive_field} |" in note
                assert "| state | finished |" in note
                assert attributes["notation"] == str(record.architecture)
            else:
                assert f"| state | rejected: {record.reason} |" in note
                assert f"| network | `{attributes['notation']}` |" in note
                assert f"| params | {cost(parse(attributes['notation'])).params:,} / 600 |" in note
        assert sha256(database) == before

        first = shown["trials"][0]["trial_id"]
        ask(f"{address}/{first}/note", "PUT", version=1, body="what a person wrote")
        notes = [trial["note"] for trial in ask(f"{address}?after=0")["trials"]]
        assert notes[0] == {"version": 1, "body": "what a person wrote"}
        assert "| state |" in notes[1]["body"]

        process.send_signal(signal.SIGINT)
        assert process.wait(120) == 0
        assert process.stderr is not None
        assert process.stderr.read() == ""
    more = quick_study(here, small_mnist, trials=5)
    assert [record.state for record in more.records()].count("finished") == 5
    assert more.records()[: len(records)] == records


def test_the_note_of_a_trial_that_trains_changes_with_it(
    here: Path, small_mnist: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(coordinator, "SAVE_AFTER", 0.0)
    with quick_search(here, small_mnist, trials=2) as search:
        events = search.run()
        assert isinstance(next(events), Started)
        storage = NotedStorage(search.study)
        try:
            study = storage.get_study_id_from_name(NAME)
            notes = [storage.get_study_system_attrs(study)["dashboard:1:note_str:0"]]
            for _ in events:
                pass
            notes.append(storage.get_study_system_attrs(study)["dashboard:1:note_str:0"])
        finally:
            storage.engine.dispose()
    assert "| state | running |" in notes[0]
    assert "| state | finished |" in notes[1]


def test_a_bar_in_a_notation_stays_in_its_cell(here: Path, small_mnist: Path) -> None:
    trial = quick_study(here, small_mnist, trials=1).inner.get_trials()[0]
    trial.user_attrs["notation"] = "12 | 1x1:10 gap"
    assert "| network | `12 \\| 1x1:10 gap` |" in trial_note(trial, 600)


def test_what_keeps_it_from_being_shown_is_one_line(
    here: Path, small_mnist: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, capsys, "dashboard")[::2] == (
        2,
        "error: no study under studies/; make one with: budgetnet search --budget 8000\n",
    )
    quick_study(here, small_mnist, trials=1)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        code, _, err = run(monkeypatch, capsys, "dashboard", "--port", port, "--no-browser")
    assert (code, err) == (
        2,
        f"error: --host 127.0.0.1 --port {port}: cannot be listened to: Address already in use\n",
    )
    code, _, err = run(monkeypatch, capsys, "dashboard", "--port", "65536", "--no-browser")
    assert (code, err) == (2, "error: --port must be between 0 and 65535, but got 65536\n")
    code, _, err = run(monkeypatch, capsys, "dashboard", "--study", "other")
    assert (code, "no study 'other' in " in err) == (2, True)
    monkeypatch.setitem(sys.modules, "optuna_dashboard", None)
    code, _, err = run(monkeypatch, capsys, "dashboard")
    assert code == 2
    assert err == (
        "error: budgetnet dashboard needs optuna_dashboard; install with: "
        "pip install 'budgetnet[dashboard]' (in a clone: '.[dashboard]')\n"
    )
    assert open_study(NAME).where.name == NAME
