"""Runs training jobs on a Ray cluster: each is a Ray task that streams its events back. Needs the extra ``ray``.

The coordinator's machine must be a node of the cluster. Ray itself is imported when a RayCluster is made, not before.
"""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

from budgetnet.errors import ModelError, WorkerError
from budgetnet.executor import LONGEST_LOOK
from budgetnet.files import replace_together
from budgetnet.jobs import Event, Failed, Finished, Job, Lost, Stopped
from budgetnet.ray_connection import Node, Watch, connect, disconnect, import_ray, one_line
from budgetnet.ray_task import Begun, Order, Weights, absolute, end_stops, start_stops, train_task

HEAD_LIMIT = 30.0  # seconds without a word from the head before it counts as gone; Ray kills this process after 60
NODE_LIMIT = 300.0  # seconds without any node that could run a job before the executor gives up
STARTS = 3  # of a job whose worker process dies before the job has begun
VERDICT = 5.0  # seconds after a worker's death in which the death of its node explains it
SLICE = 0.5  # seconds that one wait for events takes at most
MOST_CPUS = 1_000_000  # that a job may ask for: more than there will be
QUANTUM = 10_000  # Ray counts resources in units of 1/10,000

# --- what a cluster has, and what a job asks of it --------------------------------------------------------------------


@dataclass(frozen=True)
class Needs:
    """What Ray sets aside for one job; ``gpus`` is a share of one."""

    cpus: float = 1
    gpus: float = 0

    def __str__(self) -> str:
        return f"{self.cpus:g} CPU and {self.gpus:g} GPU"

    def fit(self, node: Node) -> int:
        """How many such jobs a node can run at once. A share lies on one GPU, so what is left of each is lost."""
        if not node.alive:
            return 0
        by_cpu = _units(node.cpus) // _units(self.cpus)
        return by_cpu if not self.gpus else min(by_cpu, int(node.gpus) * (QUANTUM // _units(self.gpus)))


def _units(amount: float) -> int:
    return round(amount * QUANTUM)


def choose_needs(
    workers: int | None, device: str, job_cpus: float, job_gpus: float, nodes: Sequence[Node]
) -> tuple[str, Needs]:
    """The device and the resources of a job. ``auto`` goes by what is asked for, not by this machine: cuda with GPUs.

    ``cuda`` without a share of a GPU: one each, or, where more workers are asked for than there are GPUs, an equal
    share. Raises WorkerError.
    """
    if device not in ("auto", "cpu", "cuda"):
        raise WorkerError(f"--device must be auto, cpu or cuda with --executor ray, but got {device!r}")
    if workers is not None and workers < 1:
        raise WorkerError(f"--workers must be at least 1 with --executor ray, but got {workers}")
    if not 1 / QUANTUM <= job_cpus <= MOST_CPUS:
        raise WorkerError(f"--job-cpus must be between {1 / QUANTUM} and {MOST_CPUS:,}, but got {job_cpus:g}")
    if not (job_gpus == 0 or 1 / QUANTUM <= job_gpus <= 1):
        raise WorkerError(f"--job-gpus must be 0, or between {1 / QUANTUM} and 1, but got {job_gpus:g}")
    if device == "cpu" and job_gpus:
        raise WorkerError(f"--job-gpus must be 0 with --device cpu, but got {job_gpus:g}")
    if device == "cuda" and not job_gpus:
        job_gpus = _share(workers, int(sum(node.gpus for node in nodes if node.alive)))
    return "cuda" if job_gpus else "cpu", Needs(job_cpus, job_gpus)


def _share(workers: int | None, gpus: int) -> float:
    """The share of a GPU that lets so many workers run at once, rounded down to what Ray can count."""
    return QUANTUM // max(1, math.ceil((workers or 1) / max(1, gpus))) / QUANTUM


def capacity(nodes: Sequence[Node], needs: Needs) -> int:
    """How many jobs the cluster can run at once. Raises WorkerError where it is none."""
    most = sum(needs.fit(node) for node in nodes)
    if not most:
        have = sorted({str(Needs(node.cpus, node.gpus)) for node in nodes if node.alive})
        raise WorkerError(
            f"a job must fit on a node of the Ray cluster: it needs {needs}; nodes have {', '.join(have)}"
        )
    return most


def anywhere(job: Job) -> Job:
    """The job with paths that mean the same in whatever folder a worker is."""
    path, mark, digest = job.recipe.teacher.partition("#")
    recipe = job.recipe.taught_by(f"{absolute(path)}{mark}{digest}") if path else job.recipe
    return replace(job, data=absolute(job.data), recipe=recipe)


# --- the executor -----------------------------------------------------------------------------------------------------


@dataclass(eq=False)
class _Running:
    """A job under way. ``node``: where, once it has begun; ``died``: when its worker did, by the monotonic clock."""

    job: Job
    key: int
    stream: Any = None  # ray.ObjectRefGenerator
    starts: int = 0
    node: str | None = None
    died: float | None = None
    reason: str = ""


class RayCluster:
    """Runs each job as a Ray task that asks for ``job_cpus`` CPUs and ``job_gpus`` GPUs (0.25: four jobs share one).

    workers: jobs under way at once, by default as many as the nodes that are there now can run; where more are asked
    for, the others wait in Ray's queue. device: cpu, cuda, or auto, which is cuda if ``job_gpus`` is above 0.
    ``cuda`` alone takes a GPU a job, or an equal share where there are more workers than GPUs. address: ``host:port``
    or ``auto`` of a running cluster; by default RAY_ADDRESS, or else a cluster of this machine alone, started here. A
    connection to Ray that this process already has is used, and left open at the end.

    A job whose node is gone ends in Lost; a worker process that dies on a node that lives ends its job in Failed. Data
    sets are read by the workers, so a path must mean the same on every node; weights are written by this process.

    Raises WorkerError: Ray is missing, the cluster does not answer, or cannot run such a job; later, when the head of
    the cluster or the node on this machine is gone, or no node that could run a job has been there for 300 seconds.
    """

    def __init__(
        self,
        workers: int | None = None,
        device: str = "auto",
        address: str | None = None,
        job_cpus: float = 1,
        job_gpus: float = 0,
    ) -> None:
        choose_needs(workers, device, job_cpus, job_gpus, ())
        self._ray = import_ray()
        self._running: list[_Running] = []
        self._keys = itertools.count()
        self._undo = ExitStack()
        try:
            if connect(self._ray, address):
                self._undo.callback(disconnect, self._ray)
            self._watch = Watch(self._ray)
            self._undo.callback(self._watch.close)
            self._device, self._needs = choose_needs(workers, device, job_cpus, job_gpus, self._watch.nodes)
            most = capacity(self._watch.nodes, self._needs)
            self.slots = workers or most
            self._here = self._ray.get_runtime_context().get_node_id()
            self._stops = start_stops(self._ray, self._here)
            self._undo.callback(end_stops, self._ray, self._stops)
        except BaseException:
            self._undo.close()
            raise
        self._train = self._ray.remote(
            num_cpus=self._needs.cpus,
            num_gpus=self._needs.gpus,
            num_returns="streaming",
            max_retries=0,  # what becomes of a job is for the coordinator to decide
            scheduling_strategy="SPREAD",
        )(train_task)
        self._taken = self._looked = self._fits_since = time.monotonic()
        self._unanswered = 0.0  # seconds since the head was last heard

    @property
    def takes_seeds_together(self) -> bool:
        return self._device == "cuda"

    def submit(self, job: Job) -> None:
        running = _Running(job, next(self._keys))
        self._start(running)
        self._running.append(running)

    def _start(self, running: _Running) -> None:
        threads = max(1, int(self._needs.cpus))
        order = Order(anywhere(running.job), self._device, threads, version("budgetnet"))
        running.stream = self._train.remote(order, self._stops, running.key)
        running.starts += 1

    def stop(self, job: int) -> None:
        for running in self._running:
            if running.job.id == job:
                self._stops.ask.remote(running.key)

    def events(self, timeout: float | None = None) -> Iterator[Event]:
        deadline = math.inf if timeout is None else time.monotonic() + timeout
        while self._running:
            left = deadline - time.monotonic()
            found = self._look(min(SLICE, max(0.0, left)))
            if found or left <= SLICE:
                return iter(found)
        return iter(())

    def close(self) -> None:
        for running in self._running:
            self._cancel(running)
        self._running.clear()
        self._undo.close()

    # --- what the streams bring ---------------------------------------------------------------------------------------

    def _look(self, seconds: float) -> list[Event]:
        """What every job has to tell by now, and the ends of those that can tell nothing any more."""
        silent = list(self._running)
        events: list[Event] = []
        heard = self._wait(seconds)
        enough = time.monotonic() + SLICE
        while heard:
            silent = [running for running in silent if running not in heard]
            events += [event for running in heard for event in self._read(running)]
            heard = self._wait(0.0) if time.monotonic() < enough else []
        return events + self._judge(silent)

    def _wait(self, seconds: float) -> list[_Running]:
        """The jobs that something has come of; waits for the first of them."""
        streams = {running.stream: running for running in self._running if running.died is None}
        if not streams:
            time.sleep(seconds)
            return []
        ready, _ = self._ray.wait(list(streams), timeout=seconds)
        if ready:  # what else has come by now
            ready, _ = self._ray.wait(list(streams), num_returns=len(streams), timeout=0)
        return [streams[stream] for stream in ready]

    def _read(self, running: _Running) -> list[Event]:
        try:
            message = self._ray.get(next(running.stream))
        except StopIteration:
            return self._end(running, Failed(running.job.id, "the Ray task ended without saying how the job did"))
        except self._ray.exceptions.RayError as error:
            return self._broken(running, error)
        if isinstance(message, Begun):
            running.node = message.node
            return []
        if isinstance(message, Weights):
            return self._keep(running, message.content)
        if isinstance(message, Finished | Stopped | Failed):
            return self._end(running, message)
        return [message]

    def _keep(self, running: _Running, weights: bytes) -> list[Event]:
        """Weights come as bytes, since a worker's disk need not be ours."""
        try:
            replace_together({Path(str(running.job.weights)): weights})
        except ModelError as error:
            self._cancel(running)
            return self._end(running, Failed(running.job.id, str(error)))
        return []

    def _broken(self, running: _Running, error: Exception) -> list[Event]:
        """A task that ends with an error of Ray's. Only Ray's word that the node died is final."""
        known = self._ray.exceptions
        if isinstance(error, known.NodeDiedError):
            return self._end(running, Lost(running.job.id, f"{self._where(running)} died"))
        if isinstance(error, known.RayTaskError | known.OutOfMemoryError):
            return self._end(running, Failed(running.job.id, one_line(error)))
        # The worker died, or its words were lost. A node that goes down may end its workers before it is known to be
        # gone, so we wait a little; a worker that dies alone has failed, or a job that kills its worker would be queued
        # for ever.
        crashed = isinstance(error, known.WorkerCrashedError)
        if crashed and running.node is None and running.starts < STARTS:  # Ray may end a worker that was idle too long
            self._start(running)
            return []
        running.reason = f"the worker process on {self._where(running)} died" if crashed else one_line(error)
        running.died = time.monotonic()
        return []

    def _end(self, running: _Running, event: Event) -> list[Event]:
        self._running.remove(running)
        return [event]

    def _where(self, running: _Running) -> str:
        hosts = {node.id: node.host for node in self._watch.nodes}
        return f"node {hosts.get(running.node or '', 'unknown')}"

    # --- what the nodes say -------------------------------------------------------------------------------------------

    def _judge(self, silent: Sequence[_Running]) -> list[Event]:
        """Jobs that will not be heard of again. Ray does not end the task of a machine that has gone without a word
        (power, network), even once it counts the node as dead."""
        self._check_cluster()
        nodes, taken = self._watch.nodes, self._watch.taken
        dead = {node.id for node in nodes if not node.alive}
        events: list[Event] = []
        for running in silent:
            if running.node in dead:
                self._cancel(running)
                events += self._end(running, Lost(running.job.id, f"{self._where(running)} died"))
            elif running.died is not None and taken > running.died + VERDICT:
                events += self._end(running, Failed(running.job.id, running.reason))
        return events

    def _check_cluster(self) -> None:
        """Raise WorkerError where nothing can go on."""
        now, nodes = time.monotonic(), self._watch.nodes
        self._unanswered += min(now - self._looked, LONGEST_LOOK)
        self._looked = now
        if self._watch.taken != self._taken:
            self._taken, self._unanswered = self._watch.taken, 0.0
        if self._unanswered > HEAD_LIMIT:
            raise WorkerError(f"the head of the Ray cluster has not answered for {HEAD_LIMIT:g} seconds")
        if any(node.id == self._here and not node.alive for node in nodes):
            raise WorkerError("the Ray node of this machine died")
        if any(self._needs.fit(node) for node in nodes):
            self._fits_since = now
        elif now > self._fits_since + NODE_LIMIT:
            raise WorkerError(
                f"no node of the Ray cluster has been able to run a job ({self._needs}) for {NODE_LIMIT:g} seconds"
            )

    def _cancel(self, running: _Running) -> None:
        with suppress(self._ray.exceptions.RayError):  # somebody else has closed the connection
            self._ray.cancel(running.stream, force=True)
