"""Runs training jobs, in this process or in spawned worker processes, and streams their epochs back as events.

An executor knows nothing of studies: it is given jobs, and it answers with events. Workers only train.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Protocol

from budgetnet.errors import WorkerError
from budgetnet.jobs import EpochDone, Event, Failed, Finished, Job, Stopped, run_job
from budgetnet.machine import cores, set_up

MAX_DEATHS = 3  # workers that die one after the other without finishing an epoch before the executor gives up
STOP_GRACE = 5.0  # seconds that a worker is given to leave before it is terminated
HANG_LIMIT = 600.0  # seconds without a sign of life from a worker before it is killed; reading the data has none
UNCAUGHT = 1  # the exit code of a Python process that an exception has ended
BEAT = 2.0  # seconds between two signs of life of a worker that trains
LONGEST_LOOK = 10.0  # seconds of silence that one look can prove: this process, too, may have been held up


class Executor(Protocol):
    """What the coordinator needs of a place to train."""

    @property
    def slots(self) -> int:
        """How many jobs can run at once."""

    @property
    def takes_seeds_together(self) -> bool:
        """Whether one job with several seeds ends before as many jobs would."""

    def submit(self, job: Job) -> None:
        """Start a job; at most ``slots`` may be under way."""

    def stop(self, job: int) -> None:
        """Ask a job to end early; its Stopped, or its end if that came first, still arrives."""

    def events(self, timeout: float | None = None) -> Iterator[Event]:
        """What happened since the last call; waits for something to happen, at most ``timeout`` seconds."""

    def close(self) -> None:
        """End all jobs and free what they hold."""


# --- in this process --------------------------------------------------------------------------------------------------


class InProcess:
    """Runs one job at a time, in this process, an event a call: for tests, debugging and machines without spawn."""

    slots = 1

    def __init__(self, device: str = "cpu") -> None:
        self._device = device
        self._running: Iterator[Event] = iter(())
        self._stop = False

    @property
    def takes_seeds_together(self) -> bool:
        return self._device.startswith("cuda")

    def submit(self, job: Job) -> None:
        self._stop = False
        self._running = run_job(job, self._device, lambda: self._stop)

    def stop(self, job: int) -> None:
        self._stop = True

    def events(self, timeout: float | None = None) -> Iterator[Event]:
        event = next(self._running, None)
        return iter(() if event is None else (event,))

    def close(self) -> None:
        self._running = iter(())


# --- in worker processes ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Stop:
    """The message that asks a worker to give up a job."""

    job: int


@dataclass(frozen=True)
class _Beat:
    """A worker's sign of life, sent when it has started and between two batches."""


@dataclass(eq=False)
class _Worker:
    process: BaseProcess
    pipe: Connection
    index: int  # of the slot; with several GPUs, which one
    job: int | None = None
    silent: float = 0.0  # seconds since it was last heard
    started: bool = False  # it has given a sign of life


Run = Callable[[Job, str, Callable[[], bool]], Iterator[Event]]  # run_job, or what a test puts in its place


@dataclass
class LocalProcesses:
    """One spawned process a slot, each with ``threads`` threads.

    A process that dies, or gives no sign of life for ``hang_limit`` seconds and is killed for that, fails its job and
    is replaced. With CUDA the processes share the GPUs in turn. Raises WorkerError when workers die again and again,
    and when one cannot start: another would fail likewise.
    """

    slots: int
    device: str = "cpu"
    threads: int = 1
    hang_limit: float = HANG_LIMIT
    run: Run = run_job
    _workers: list[_Worker] = field(default_factory=list, init=False)
    _deaths: int = field(default=0, init=False)
    _looked: float = field(default=0.0, init=False)

    @property
    def takes_seeds_together(self) -> bool:
        return self.device == "cuda"

    def submit(self, job: Job) -> None:
        worker = next((w for w in self._idle() if w.process.is_alive()), None) or self._spawn()
        worker.job, worker.silent, self._looked = job.id, 0.0, time.monotonic()
        with suppress(OSError):  # it has just died; the end of its pipe is the event that says so
            worker.pipe.send(job)

    def stop(self, job: int) -> None:
        for worker in self._workers:
            if worker.job == job:
                with suppress(OSError):
                    worker.pipe.send(_Stop(job))

    def events(self, timeout: float | None = None) -> Iterator[Event]:
        busy = {worker.pipe: worker for worker in self._workers if worker.job is not None}
        heard = [busy[pipe] for pipe in wait(list(busy), timeout)] if busy else []  # type: ignore[index]
        passed = min(time.monotonic() - self._looked, LONGEST_LOOK)
        self._looked = time.monotonic()
        for worker in busy.values():
            worker.silent = 0.0 if worker in heard else worker.silent + passed
            if worker in heard:
                yield from self._hear(worker)
            elif worker.silent > self.hang_limit:
                yield self._kill(worker)

    def close(self) -> None:
        for worker in self._workers:
            worker.pipe.close()  # a worker whose pipe has ended leaves at its next look
        deadline = time.monotonic() + STOP_GRACE
        for worker in self._workers:
            worker.process.join(max(0.0, deadline - time.monotonic()))
            if worker.process.is_alive():
                worker.process.kill()
                worker.process.join()
        self._workers.clear()

    def _spawn(self) -> _Worker:
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        for dead in [worker for worker in self._idle() if not worker.process.is_alive()]:
            self._remove(dead)
        index = min(set(range(self.slots)) - {worker.index for worker in self._workers})
        work = (theirs, self._device_of(index), self.threads, self.run)
        process = context.Process(target=_work, args=work, daemon=True)
        try:
            with _deaf_to_interrupts():
                process.start()
        except OSError as error:
            raise WorkerError(f"a worker process cannot be started: {error}") from None
        theirs.close()
        worker = _Worker(process, ours, index)
        self._workers.append(worker)
        return worker

    def _idle(self) -> list[_Worker]:
        return [worker for worker in self._workers if worker.job is None]

    def _remove(self, worker: _Worker) -> None:
        worker.process.join(STOP_GRACE)
        worker.pipe.close()
        self._workers.remove(worker)

    def _device_of(self, index: int) -> str:
        if self.device != "cuda":
            return self.device
        import torch

        return f"cuda:{index % max(torch.cuda.device_count(), 1)}"

    def _hear(self, worker: _Worker) -> Iterator[Event]:
        """All that a worker has to tell."""
        yield from self._receive(worker)
        while worker.job is not None and worker in self._workers and worker.pipe.poll():
            yield from self._receive(worker)

    def _receive(self, worker: _Worker) -> Iterator[Event]:
        try:
            event: Event | _Beat | None = worker.pipe.recv()
        except (EOFError, OSError):
            event = None
        if event is None:
            yield self._lost(worker)
            return
        worker.started = True
        if isinstance(event, _Beat):
            return
        if isinstance(event, EpochDone):
            self._deaths = 0
        if isinstance(event, Finished | Stopped | Failed):
            worker.job = None
        yield event

    def _lost(self, worker: _Worker) -> Failed:
        self._remove(worker)
        if not worker.started and worker.process.exitcode == UNCAUGHT:
            raise WorkerError("a worker process cannot start; what it said of that is above")
        return self._bury(worker, f"the worker process died ({_exit(worker.process.exitcode)})")

    def _kill(self, worker: _Worker) -> Failed:
        worker.process.kill()
        self._remove(worker)
        return self._bury(worker, f"the worker process gave no sign of life for {self.hang_limit:g} s and was killed")

    def _bury(self, worker: _Worker, reason: str) -> Failed:
        self._deaths += 1
        if self._deaths >= MAX_DEATHS:
            raise WorkerError(f"{self._deaths} worker processes in a row died before an epoch ended; last: {reason}")
        assert worker.job is not None
        return Failed(worker.job, reason)


@contextmanager
def _deaf_to_interrupts() -> Iterator[None]:
    """A process started in here ignores Ctrl-C from its first moment on; that is the coordinator's to handle."""
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread may set handlers; _work sets the worker's own
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _exit(code: int | None) -> str:
    if code is not None and code < 0:
        return f"signal {-code}, {signal.Signals(-code).name}"
    return f"exit code {code}"


def _work(pipe: Connection, device: str, threads: int, run: Run) -> None:
    """A worker's life: receive a job, send its events, until the pipe ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the coordinator's to handle
    threading.Thread(target=_leave_with_parent, daemon=True).start()
    set_up(threads)
    try:
        pipe.send(_Beat())
        while True:
            message = pipe.recv()
            if isinstance(message, Job):
                for event in run(message, device, _asked_to_stop(pipe, message.id)):
                    pipe.send(event)
    except (EOFError, OSError):  # the coordinator has closed its end, or is gone
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)  # to take torch apart in good order takes a second


def _leave_with_parent() -> None:
    """End this process when the coordinator has died, whatever it is busy with."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)


def _asked_to_stop(pipe: Connection, job: int) -> Callable[[], bool]:
    """Whether a message to stop this very job has come; a stale one, for a job that has ended, is dropped.

    Asked between two batches, it also gives the signs of life.
    """
    beaten = time.monotonic()

    def asked() -> bool:
        nonlocal beaten
        if time.monotonic() - beaten > BEAT:
            beaten = time.monotonic()
            pipe.send(_Beat())
        while pipe.poll():
            message = pipe.recv()
            if isinstance(message, _Stop) and message.job == job:
                return True
        return False

    return asked


# --- choosing ---------------------------------------------------------------------------------------------------------


def check_workers(workers: int | None) -> None:
    """Raise WorkerError for fewer than none."""
    if workers is not None and workers < 0:
        raise WorkerError(f"--workers must be at least 0, but got {workers}")


def local(workers: int | None, device: str, hang_limit: float = HANG_LIMIT) -> Executor:
    """The executor for this machine. ``workers``: processes, by default one a core (a GPU: one each); 0: none.

    Raises WorkerError.
    """
    check_workers(workers)
    if workers == 0:
        return InProcess(device)
    if workers is None:
        import torch

        workers = torch.cuda.device_count() if device == "cuda" else 1 if device == "mps" else cores()
    return LocalProcesses(workers, device, max(1, cores() // workers), hang_limit)
