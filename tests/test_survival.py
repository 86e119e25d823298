"""A search survives what happens to it: kill -9 at any moment, workers that hang or lie, a folder that refuses.

The kills are few here, to be quick: ``BUDGETNET_KILLS=100 pytest tests/test_survival.py -k kill`` is the long form.
Networks are tiny and images few, but processes, signals, SQLite and training are real.
"""

from __future__ import annotations

import ctypes
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from dataclasses import replace
from math import nan
from pathlib import Path

import pytest

from budgetnet import samplers
from budgetnet.candidates import Candidate
from budgetnet.coordinator import Ended, Search, opened, search
from budgetnet.errors import StudyError, WorkerError
from budgetnet.executor import HANG_LIMIT, MAX_DEATHS, LocalProcesses
from budgetnet.given import add_network, made
from budgetnet.jobs import EpochDone, Event, Failed, Finished, Job
from budgetnet.lock import locked
from budgetnet.notation import parse
from budgetnet.place import place
from budgetnet.recipe import Recipe
from budgetnet.study import TrialRecord, create_or_open, open_study
from budgetnet.weights import read_all
from tests.instant import Instant, instant_job
from tests.tiny import tiny_request, write_space

KILLS = int(os.environ.get("BUDGETNET_KILLS", "4")) // 2  # in each of the two tests

pytestmark = pytest.mark.skipif(os.name == "nt", reason="signals as on POSIX")


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty directory to work in."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


# --- kill -9 ----------------------------------------------------------------------------------------------------------


def children(pid: int) -> list[int]:
    """The worker processes of a coordinator: spawned by multiprocessing, its resource tracker left out."""
    found = subprocess.run(
        ["ps", "-ww", "-o", "pid=,args=", "--ppid", str(pid)], check=False, capture_output=True, text=True
    )
    return [int(line.split()[0]) for line in found.stdout.splitlines() if "spawn_main" in line]


def trained(name: str, storage: str | None = None) -> dict[int, TrialRecord]:
    """The trained trials of a study by number; none before there is a study, and the study opens."""
    try:
        study = open_study(name, storage)
    except StudyError as error:
        if "no study" in str(error):
            return {}  # killed before it was made
        raise
    return {record.number: record for record in study.records() if record.trained}


def check_nothing_is_lost_or_counted_twice(before: dict[int, TrialRecord], now: dict[int, TrialRecord]) -> None:
    for number, record in before.items():
        assert now[number] == record
    keys = [Candidate(r.architecture, r.recipe).key for r in now.values() if r.architecture and r.recipe]
    assert len(keys) == len(now) == len(set(keys))


def killed_again_and_again(command: list[str], study: str, kills: int, longest: float, dice: random.Random) -> int:
    """Run a search, kill it or a worker of it after random times; the number of kills that met their process alive.

    Each waits for a trial to finish after a start, so that there is something to lose.
    """
    done, known = 0, trained(study)
    while done < kills:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        try:
            assert process.stdout is not None
            next((line for line in process.stdout if ": finished" in line), None)
            while done < kills and process.poll() is None:
                time.sleep(dice.uniform(0.0, longest))
                if process.poll() is not None:
                    break
                workers = children(process.pid)
                victim = dice.choice([process.pid, *workers[:1]])
                with suppress(ProcessLookupError):
                    os.kill(victim, signal.SIGKILL)
                    done += 1
        finally:
            process.kill()
            _, errors = process.communicate(timeout=300)
        assert process.returncode == -signal.SIGKILL or "in a row" in errors or process.returncode == 0, errors
        now = trained(study)
        check_nothing_is_lost_or_counted_twice(known, now)
        known = now
        if process.returncode == 0:
            break
    return done


def test_kill_9_of_coordinator_or_worker_loses_no_finished_trial_and_counts_none_twice(
    here: Path, small_mnist: Path
) -> None:
    trials = 12 * KILLS
    command = [sys.executable, "-m", "budgetnet", "search", "--space", str(write_space(here)), "--data"]
    command += [str(small_mnist), "--trials", str(trials), "--budget", "600", "--epochs", "3", "--workers", "2"]
    command += ["--device", "cpu", "--study", "stress"]
    done = killed_again_and_again(command, "stress", KILLS, 1.0, random.Random(1))
    before = trained("stress")
    assert before, "no kill came after a trained trial"
    last = subprocess.run(command, check=True, capture_output=True, text=True)
    after = trained("stress")
    check_nothing_is_lost_or_counted_twice(before, after)
    assert len(after) == trials
    assert done == KILLS, "the search ended before it could be killed"
    assert "running" not in {record.state for record in open_study("stress").records()}
    assert "Traceback" not in last.stderr


INSTANT = """
import sys
from tests.test_survival import instantly
instantly({folder!r}, {data!r}, {trials}, {storage!r})
"""


def instantly(folder: str, data: str, trials: int, storage: str | None) -> None:
    """A search whose training takes no time: most kills fall into writing. Prints when it begins, and each trial."""
    request = tiny_request(Path(folder), Path(data), trials=trials, storage=storage, study="stress", epochs=5)
    space, settings, plan = request.check()
    where = request.place(space)
    with locked(where):
        running = Search(create_or_open(where, settings), space, plan, Instant(slots=4))
        print("begins", flush=True)
        for event in running.run():
            if isinstance(event, Ended):
                print(event.record.number, flush=True)


def test_kill_9_while_it_writes_loses_no_finished_trial_and_counts_none_twice(here: Path, small_mnist: Path) -> None:
    kill_while_it_writes(here, small_mnist, KILLS)


def kill_while_it_writes(folder: Path, data: Path, kills: int, storage: str | None = None) -> None:
    """Kill searches without training after some of their trials; what was finished before must be there after."""
    dice, known = random.Random(2), {}
    write_space(folder)
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}

    def script(trials: int) -> list[str]:
        code = INSTANT.format(folder=str(folder), data=str(data), trials=trials, storage=storage)
        return [sys.executable, "-c", code]

    for _ in range(kills):
        process = subprocess.Popen(
            script(10_000), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
        )
        assert process.stdout is not None
        assert process.stdout.readline() == "begins\n", process.communicate()[1]
        told = {int(process.stdout.readline()) for _ in range(dice.randint(1, 60))}
        process.kill()
        assert process.wait() == -signal.SIGKILL, "it ended before it could be killed"
        process.communicate()
        now = trained("stress", storage)
        check_nothing_is_lost_or_counted_twice(known, now)
        assert len(now) > len(known)
        ended = {r.number for r in open_study("stress", storage).records() if r.state not in ("running", "waiting")}
        assert told <= ended, "what was told has been kept before"
        known = now
    trials = len(known) + 10
    subprocess.run(script(trials), check=True, capture_output=True, env=environment)
    after = trained("stress", storage)
    check_nothing_is_lost_or_counted_twice(known, after)
    assert len(after) == trials


def test_kill_9_of_a_confirmation_loses_no_whole_epoch(here: Path, small_mnist: Path) -> None:
    study = made(place("stress"), NETWORK, 8000, str(small_mnist), 40)
    add_network(study, NETWORK, Recipe())
    command = [sys.executable, "-m", "budgetnet", "confirm", "--study", "stress", "--trial", "0", "--seeds", "1"]
    command += ["--workers", "2", "--device", "cpu"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert next(line for line in process.stdout if study.unfinished_seed(0, 0).files())
        process.kill()
    with locked(study.where):  # and the worker has ended, or is about to
        (unfinished,) = study.unfinished_seed(0, 0).files()
        before = read_all(unfinished)[0]["epochs"]
    assert 1 <= len(before) < 40, "killed too late to tell"
    subprocess.run(command, check=True, capture_output=True)
    (run,) = study.runs(0)
    assert [epoch.to_dict() for epoch in run.epochs[: len(before)]] == [result for (result,) in before]
    assert study.unfinished_seed(0, 0).files() == []


def test_a_killed_coordinator_leaves_no_worker_behind(here: Path, small_mnist: Path) -> None:
    command = [sys.executable, "-m", "budgetnet", "search", "--space", str(write_space(here)), "--data"]
    command += [str(small_mnist), "--trials", "9", "--budget", "600", "--epochs", "2000", "--workers", "2"]
    with subprocess.Popen([*command, "--device", "cpu"], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if "epoch 1/" in line:
                break
        workers = children(process.pid)
        process.kill()
    assert len(workers) == 2
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and any(Path(f"/proc/{pid}/exe").exists() for pid in workers):
        time.sleep(0.1)
    assert not any(Path(f"/proc/{pid}/exe").exists() for pid in workers)


# --- workers that die, hang, or lie -----------------------------------------------------------------------------------

NETWORK = parse("4 M 6")


def job(number: int) -> Job:
    return Job(number, NETWORK, Recipe(epochs=3), "none", "search", seed=number)


def hanging(job: Job, device: str, should_stop: Callable[[], bool]) -> Iterator[Event]:
    """Job 0 hangs without a sign of life, job 1 is slow but gives them, others are instant."""
    if job.id == 0:
        time.sleep(1000)
    if job.id == 1:
        end = time.monotonic() + 9.0
        while time.monotonic() < end:
            time.sleep(0.05)
            should_stop()
    yield from instant_job(job, device, should_stop)


def ends(executor: LocalProcesses, count: int) -> list[Event]:
    """The ends of ``count`` jobs; five minutes at most, for a busy machine is slow."""
    found: list[Event] = []
    deadline = time.monotonic() + 300
    while len(found) < count and time.monotonic() < deadline:
        found += [event for event in executor.events(0.5) if isinstance(event, Failed | Finished)]
    assert len(found) >= count, "a job did not end"
    return found


def test_a_worker_that_hangs_is_killed_and_replaced_and_a_slow_one_is_not() -> None:
    with closing(LocalProcesses(2, run=hanging)) as executor:
        executor.submit(job(2))
        executor.submit(job(3))
        assert len(ends(executor, 2)) == 2
        executor.hang_limit = 6.0  # from now on, for to start takes a while where there is much else to do
        executor.submit(job(0))
        executor.submit(job(1))
        reason = "the worker process gave no sign of life for 6 s and was killed"
        assert ends(executor, 2) == [Failed(0, reason), Finished(1)]
        executor.hang_limit = HANG_LIMIT
        executor.submit(job(4))
        assert ends(executor, 1) == [Finished(4)]


def test_workers_that_hang_one_after_the_other_end_it() -> None:
    def hang(number: int) -> list[Event]:
        executor.submit(replace(job(0), id=0))
        return ends(executor, 1)

    with closing(LocalProcesses(1, hang_limit=1.0, run=hanging)) as executor:
        for number in range(MAX_DEATHS - 1):
            assert isinstance(hang(number)[0], Failed)
        with pytest.raises(WorkerError, match=f"{MAX_DEATHS} worker processes in a row .*no sign of life for 1 s"):
            hang(MAX_DEATHS)


class Lying(Instant):
    """Every second job reports an accuracy that is not a number."""

    def events(self, timeout: float | None = None) -> Iterator[Event]:
        for event in super().events(timeout):
            if isinstance(event, EpochDone) and event.job % 2 and event.result.epoch == 2:
                event = replace(event, result=replace(event.result, accuracy=nan))
            yield event


def test_an_accuracy_that_is_no_number_fails_its_trial_alone(here: Path, small_mnist: Path) -> None:
    request = tiny_request(here, small_mnist, trials=5)
    space, settings, plan = request.check()
    where = request.place(space)
    with locked(where):
        running = Search(create_or_open(where, settings), space, plan, Lying(slots=2))
        ended = [event.record for event in running.run() if isinstance(event, Ended)]
    failed = [record for record in ended if record.state == "failed"]
    assert failed
    assert {record.reason for record in failed} == {"validation accuracy must be finite: nan in epoch 2"}
    assert running.trained == 5
    assert {r.number for r in open_study("tiny-600").records() if r.state == "failed"} == {r.number for r in failed}


# --- the same again, somebody else, no room ---------------------------------------------------------------------------


def test_one_worker_and_the_same_seed_give_the_same_trials_and_values(
    here: Path, small_mnist: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(samplers, "STARTUP", 3)  # so that the sampler's learning part is tried, too

    def records(study: str) -> list[tuple[object, ...]]:
        request = tiny_request(here, small_mnist, study=study, workers=1, trials=7, seed=5, epochs=2, pruner="median")
        return [(r.state, r.architecture, r.recipe, r.curve, r.value) for r in search(request).records()]

    first = records("first")
    assert first == records("second")
    assert {"finished", "pruned"} <= {str(record[0]) for record in first}


def test_a_second_search_names_the_process_that_has_the_study(here: Path, small_mnist: Path) -> None:
    command = [sys.executable, "-m", "budgetnet", "search", "--space", str(write_space(here)), "--data"]
    command += [str(small_mnist), "--budget", "600", "--workers", "0", "--device", "cpu"]
    with opened(tiny_request(here, small_mnist, epochs=15, trials=14)):
        second = subprocess.run(command, check=False, capture_output=True, text=True)
    assert second.returncode == 2
    assert re.search(
        rf"error: study tiny-600 is in use by process {os.getpid()} on \S+; wait until it ends", second.stderr
    )
    assert second.stderr.count("\n") == 1


def without_root_rights() -> None:
    """In a child of root's: file modes hold for it as for anybody else, once it has started its program."""
    CAP_DAC_OVERRIDE, PR_CAPBSET_DROP = 1, 24
    if os.geteuid() == 0:
        ctypes.CDLL(None).prctl(PR_CAPBSET_DROP, CAP_DAC_OVERRIDE, 0, 0, 0)


@pytest.mark.skipif(sys.platform != "linux", reason="root's rights are taken away as on Linux")
def test_a_folder_that_may_not_be_written_is_one_line(here: Path, small_mnist: Path) -> None:
    command = [sys.executable, "-m", "budgetnet", "search", "--space", str(write_space(here)), "--data"]
    command += [str(small_mnist), "--budget", "600", "--workers", "0", "--device", "cpu"]
    here.chmod(0o555)
    result = subprocess.run(command, check=False, capture_output=True, text=True, preexec_fn=without_root_rights)
    here.chmod(0o755)
    assert result.returncode == 2
    assert re.search(r"error: studies/tiny-600/study.db: .* cannot be read or written: .*denied", result.stderr)
    assert result.stderr.count("\n") == 1
    assert not (here / "studies").exists()
