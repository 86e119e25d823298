"""Runs training jobs on a Ray cluster: each is a Ray task that streams its events back. Needs the extra ``ray``.

The coordinator's machine must be a node of the cluster. Ray itself is imported when a RayCluster is made, not before.
"""

from __future__ import annotations

import itertools
import logging
import math
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from budgetnet.errors import ModelError, WorkerError
from budgetnet.executor import LONGEST_LOOK, cores
from budgetnet.files import replace_together
from budgetnet.jobs import Event, Failed, Finished, Job, Lost, Stopped, run_job

if TYPE_CHECKING:
    from types import ModuleType

CONNECT_LIMIT = 20.0  # seconds that a cluster is given to answer
START_LIMIT = 60.0  # seconds that the first worker process is given to start
HEAD_LIMIT = 30.0  # seconds without a word from the head before it counts as gone; Ray kills this process after 60
NODE_LIMIT = 300.0  # seconds without any node that could run a job before the executor gives up
VERDICT = 5.0  # seconds after a worker's death in which the death of its node explains it
WATCH = 1.0  # seconds between two looks at the nodes
SLICE = 0.5  # seconds that one wait for events takes at most
STOP_LOOK = 1.0  # seconds between two questions of a task whether it should stop
QUANTUM = 10_000  # Ray counts resources in units of 1/10,000

QUIET = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0"}  # `uv run` would ship this folder

PROBE = """
import sys, logging, os, ray
try:
    ray.init(address=sys.argv[1], logging_level=logging.CRITICAL)
except Exception as error:
    print(type(error).__name__ + ":", *str(error).split(), flush=True)
    os._exit(1)
os._exit(0)
"""


# --- what a cluster has, and what a job asks of it --------------------------------------------------------------------


@dataclass(frozen=True)
class Node:
    """A machine of the cluster and what it has in all, used or not."""

    id: str
    host: str
    alive: bool
    cpus: float
    gpus: float


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
    if not 1 / QUANTUM <= job_cpus < math.inf:
        raise WorkerError(f"--job-cpus must be at least {1 / QUANTUM}, but got {job_cpus:g}")
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


# --- the executor -----------------------------------------------------------------------------------------------------


@dataclass(eq=False)
class _Running:
    """A job under way. ``node``: where, once it has begun; ``died``: when its worker did, by the monotonic clock."""

    job: Job
    key: int
    stream: Any  # ray.ObjectRefGenerator
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
        self._ray = _import_ray()
        self._running: list[_Running] = []
        self._keys = itertools.count()
        self._undo = ExitStack()
        try:
            if _connect(self._ray, address):
                self._undo.callback(_disconnect, self._ray)
            self._watch = _Watch(self._ray)
            self._undo.callback(self._watch.close)
            self._device, self._needs = choose_needs(workers, device, job_cpus, job_gpus, self._watch.nodes)
            most = capacity(self._watch.nodes, self._needs)
            self.slots = workers or most
            self._here = self._ray.get_runtime_context().get_node_id()
            self._stops = _start_stops(self._ray, self._here)
            self._undo.callback(_kill, self._ray, self._stops)
        except BaseException:
            self._undo.close()
            raise
        self._train = self._ray.remote(
            num_cpus=self._needs.cpus,
            num_gpus=self._needs.gpus,
            num_returns="streaming",
            max_retries=0,  # what becomes of a job is for the coordinator to decide
            scheduling_strategy="SPREAD",
        )(_train)
        self._taken = self._looked = self._fits_since = time.monotonic()
        self._unanswered = 0.0  # seconds since the head was last heard

    @property
    def takes_seeds_together(self) -> bool:
        return self._device == "cuda"

    def submit(self, job: Job) -> None:
        key, threads = next(self._keys), max(1, int(self._needs.cpus))
        order = _Order(replace(job, data=_absolute(job.data)), self._device, threads, version("budgetnet"))
        self._running.append(_Running(job, key, self._train.remote(order, self._stops, key)))

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
        if isinstance(message, _Begun):
            running.node = message.node
            return []
        if isinstance(message, _Weights):
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
            return self._end(running, Failed(running.job.id, _one_line(error)))
        # The worker died, or its words were lost. A node that goes down may end its workers before it is known to be
        # gone, so we wait a little; a worker that dies alone has failed, or a job that kills its worker would be queued
        # for ever.
        crashed = isinstance(error, known.WorkerCrashedError)
        running.reason = f"the worker process on {self._where(running)} died" if crashed else _one_line(error)
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


# --- connecting -------------------------------------------------------------------------------------------------------


def _import_ray() -> Any:
    """Raises WorkerError where it is missing."""
    try:
        with _environment(QUIET):  # Ray reads some of it as it is imported
            import ray
    except ImportError:
        raise WorkerError("--executor ray needs the extra: pip install 'budgetnet[ray]'") from None
    return ray


def _connect(ray: ModuleType, address: str | None) -> bool:
    """Connect to a cluster or start one, in silence; whether the connection is ours to close. Raises WorkerError."""
    if ray.is_initialized():
        found = ray.get_runtime_context().gcs_address
        if address not in (None, "auto", found):
            raise WorkerError(f"this process is connected to the Ray cluster {found} already, but got {address}")
        return False
    address = address or os.environ.get("RAY_ADDRESS") or "local"
    if "://" in address:
        raise WorkerError(f"--ray-address must be auto or host:port, on a machine of the cluster, but got {address!r}")
    with _environment(QUIET):
        _init(ray, address)
    return True


def _init(ray: ModuleType, address: str) -> None:
    options: dict[str, object] = {"num_cpus": cores(), "include_dashboard": False}
    if address != "local":
        _probe(address)
        options = {}
    _silence(ray, True)
    try:
        with _sigterm_kept():
            ray.init(address=address, log_to_driver=False, logging_level=logging.CRITICAL, **options)
    except Exception as error:
        _disconnect(ray)
        raise WorkerError(f"Ray cluster {address}: {_one_line(error)}") from None


def _disconnect(ray: ModuleType) -> None:
    ray.shutdown()
    _silence(ray, False)


def _probe(address: str) -> None:
    """Connect to a running cluster from another process. Raises WorkerError where that fails or takes too long.

    Where nothing answers, ``ray.init`` tries for minutes, cannot be interrupted, and writes to the terminal.
    """
    command = [sys.executable, "-c", PROBE, address]
    try:
        done = subprocess.run(command, capture_output=True, timeout=CONNECT_LIMIT, stdin=subprocess.DEVNULL)
        failed, said, logged = done.returncode, done.stdout.decode(errors="replace"), done.stderr
    except subprocess.TimeoutExpired as error:
        failed, logged = 1, error.stderr or b""
        said = f"no answer in {CONNECT_LIMIT:g} seconds; Ray must run there, and this machine be one of its nodes"
    if failed:
        if b"Unauthenticated" in logged:
            said = "its token is missing or wrong here; with the token in place, set RAY_AUTH_MODE=token"
        raise WorkerError(f"Ray cluster {address}: {said.strip()[:300]}")


def _silence(ray: ModuleType, silent: bool) -> None:
    """What raylets report of workers is printed even without ``log_to_driver``; only this switch keeps it back."""
    with suppress(AttributeError):
        ray._private.worker._worker_logs_enabled = not silent


@contextmanager
def _environment(changes: Mapping[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in changes}
    os.environ.update(changes)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


@contextmanager
def _sigterm_kept() -> Iterator[None]:
    """``ray.init`` takes over SIGTERM; it is the caller's."""
    if threading.current_thread() is not threading.main_thread():
        yield  # where ray.init leaves it alone
        return
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        if before is not None:
            signal.signal(signal.SIGTERM, before)


class _Watch:
    """The nodes as they are, looked at again and again by a thread: with the head gone, Ray's answer would not come."""

    def __init__(self, ray: ModuleType) -> None:
        self._ray = ray
        self._ended = threading.Event()
        self.nodes = self._look()
        self.taken = time.monotonic()
        self._thread = threading.Thread(target=self._run, name="budgetnet-ray-nodes", daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._ended.set()
        self._thread.join(WATCH)

    def _run(self) -> None:
        while not self._ended.wait(WATCH):
            asked = time.monotonic()
            with suppress(Exception):  # no answer: ``taken`` grows old, and that is acted on
                self.nodes = self._look()
                self.taken = asked

    def _look(self) -> tuple[Node, ...]:
        return tuple(map(_node, self._ray.nodes()))


def _node(entry: Mapping[str, Any]) -> Node:
    has = entry["Resources"]
    return Node(entry["NodeID"], entry["NodeManagerAddress"], entry["Alive"], has.get("CPU", 0.0), has.get("GPU", 0.0))


# --- stopping ---------------------------------------------------------------------------------------------------------

# A tiny actor on the coordinator's node holds the wishes to stop, and tasks ask it now and then. ``ray.cancel`` would
# interrupt a task anywhere, even between the last epoch and its event, and the task would end as cancelled whatever it
# had to say. The questions cost a task about 0.15 % of its time, no answer is waited for, and the actor's node is the
# one without which the search is over anyway.


class _Stops:
    """Which submissions should end early; keys are never used twice, so a late wish meets nobody else."""

    def __init__(self) -> None:
        self._asked: set[int] = set()

    def ask(self, key: int) -> None:
        self._asked.add(key)

    def asked(self, key: int) -> bool:
        return key in self._asked

    def version(self) -> str:
        return version("budgetnet")


def _start_stops(ray: ModuleType, node: str) -> Any:
    """The actor, once it runs: then Ray's workers can import budgetnet here. Raises WorkerError."""
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    place = NodeAffinitySchedulingStrategy(node_id=node, soft=False)
    stops = ray.remote(num_cpus=0, max_restarts=0, scheduling_strategy=place)(_Stops).remote()
    try:
        ray.get(stops.version.remote(), timeout=START_LIMIT)
    except ray.exceptions.GetTimeoutError:
        raise WorkerError(f"no Ray worker has started on this machine in {START_LIMIT:g} seconds") from None
    except ray.exceptions.RayError as error:
        raise WorkerError(f"a Ray worker on this machine cannot start: {_one_line(error)}") from None
    return stops


def _kill(ray: ModuleType, stops: Any) -> None:
    with suppress(ray.exceptions.RayError):  # somebody else has closed the connection
        ray.kill(stops)


# --- in the worker ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Order:
    """A job, how it is to be run, and by which version of budgetnet."""

    job: Job
    device: str
    threads: int
    version: str


@dataclass(frozen=True)
class _Begun:
    """The first message of every task: it runs, on this node."""

    node: str


@dataclass(frozen=True)
class _Weights:
    """The file of weights, which comes before Finished."""

    content: bytes


def _train(order: _Order, stops: Any, key: int) -> Iterator[Event | _Begun | _Weights]:
    """The Ray task: all that a job has to tell, in order."""
    import ray

    yield _Begun(ray.get_runtime_context().get_node_id())
    found = version("budgetnet")
    if found != order.version:
        yield Failed(order.job.id, f"every node must have budgetnet {order.version}, but one has {found}")
        return
    import torch

    torch.set_num_threads(order.threads)
    with tempfile.TemporaryDirectory(prefix="budgetnet-") as folder:
        weights = Path(folder) / "weights.safetensors"
        job = order.job if order.job.weights is None else replace(order.job, weights=str(weights))
        for event in run_job(job, order.device, _asked_to_stop(stops, key)):
            if isinstance(event, Finished) and job.weights is not None:
                yield _Weights(weights.read_bytes())
            yield event


def _asked_to_stop(stops: Any, key: int) -> Callable[[], bool]:
    """Whether a wish to stop has come, by what the actor last answered; training never waits for it."""
    import ray

    question: Any = None
    asked_at = -math.inf
    gone = False  # the actor: then nobody can wish any more, and the job goes on to its end

    def asked() -> bool:
        nonlocal question, asked_at, gone
        if gone:
            return False
        if question is None:
            if time.monotonic() >= asked_at + STOP_LOOK:
                question, asked_at = stops.asked.remote(key), time.monotonic()
            return False
        if not ray.wait([question], timeout=0)[0]:
            return False
        answer, question = question, None
        try:
            return bool(ray.get(answer))
        except ray.exceptions.RayError:
            gone = True
            return False

    return asked


# --- words ------------------------------------------------------------------------------------------------------------


def _absolute(data: str) -> str:
    """A path as one that does not depend on a worker's folder; the name of a known data set as it is."""
    from budgetnet.data import TORCHVISION

    path = Path(data).expanduser()
    known = data.lower().replace("_", "-") in ("mnist", *TORCHVISION)
    return data if known or not path.exists() else str(path.resolve())


def _one_line(error: BaseException) -> str:
    """What an exception says; of one that a task raised, what the task's own said."""
    cause = getattr(error, "cause", None)
    told = cause if isinstance(cause, BaseException) else error
    words = str(told).partition("traceback:")[0].split()  # which Ray would append
    return f"{type(told).__name__}: {' '.join(words)}"[:300]
