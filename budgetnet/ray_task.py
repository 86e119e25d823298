"""What of a job runs on a node of a Ray cluster: the task, its messages, and how it hears that it should stop."""

from __future__ import annotations

import math
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from budgetnet.catalogue import known_name
from budgetnet.errors import WorkerError
from budgetnet.files import expanded
from budgetnet.jobs import Event, Failed, Finished, Job, run_job
from budgetnet.machine import set_up
from budgetnet.ray_connection import one_line

if TYPE_CHECKING:
    from types import ModuleType

START_LIMIT = 60.0  # seconds that the first worker process is given to start
STOP_LOOK = 0.5  # seconds between two questions of a task whether it should stop


@dataclass(frozen=True)
class Order:
    """A job, how it is to be run, and by which version of budgetnet."""

    job: Job
    device: str
    threads: int
    version: str


@dataclass(frozen=True)
class Begun:
    """The first message of every task: it runs, on this node."""

    node: str


@dataclass(frozen=True)
class Weights:
    """The file of weights, which comes before Finished."""

    content: bytes


def train_task(order: Order, stops: Any, key: int) -> Iterator[Event | Begun | Weights]:
    """The Ray task: all that a job has to tell, in order."""
    import ray

    yield Begun(ray.get_runtime_context().get_node_id())
    found = version("budgetnet")
    if found != order.version:
        yield Failed(order.job.id, f"every node must have budgetnet {order.version}, but one has {found}")
        return
    set_up(order.threads)
    with tempfile.TemporaryDirectory(prefix="budgetnet-") as folder:
        weights = Path(folder) / "weights.safetensors"
        job = replace(order.job, checkpoint=None, weights=None if order.job.weights is None else str(weights))
        for event in run_job(job, order.device, _asked_to_stop(stops, key)):
            if isinstance(event, Finished) and job.weights is not None:
                yield Weights(weights.read_bytes())
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


def absolute(data: str) -> str:
    """A path as one that does not depend on a worker's folder; the name of a known data set as it is."""
    path = expanded(data)
    return data if known_name(data) or not path.exists() else str(path.resolve())


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


def start_stops(ray: ModuleType, node: str) -> Any:
    """The actor, once it runs: then Ray's workers can import budgetnet here. Raises WorkerError."""
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    place = NodeAffinitySchedulingStrategy(node_id=node, soft=False)
    stops = ray.remote(num_cpus=0, max_restarts=0, scheduling_strategy=place)(_Stops).remote()
    try:
        ray.get(stops.version.remote(), timeout=START_LIMIT)
    except ray.exceptions.GetTimeoutError:
        raise WorkerError(f"no Ray worker has started on this machine in {START_LIMIT:g} seconds") from None
    except ray.exceptions.RayError as error:
        raise WorkerError(f"a Ray worker on this machine cannot start: {one_line(error)}") from None
    return stops


def end_stops(ray: ModuleType, stops: Any) -> None:
    """The actor is needed no more."""
    with suppress(ray.exceptions.RayError):  # somebody else has closed the connection
        ray.kill(stops)
