"""How this process comes to a Ray cluster, in silence and within a time limit, and what nodes it has.

Ray is an extra: it is imported when somebody asks for a cluster, not before.
"""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from budgetnet.errors import WorkerError
from budgetnet.machine import cores

if TYPE_CHECKING:
    from types import ModuleType

CONNECT_LIMIT = 20.0  # seconds that a cluster is given to answer
WATCH = 1.0  # seconds between two looks at the nodes

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


def import_ray() -> Any:
    """Raises WorkerError where it is missing."""
    try:
        with _environment(QUIET):  # Ray reads some of it as it is imported
            import ray
    except ImportError:
        raise WorkerError("--executor ray needs the extra: pip install 'budgetnet[ray]'") from None
    return ray


def connect(ray: ModuleType, address: str | None) -> bool:
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
        disconnect(ray)
        raise WorkerError(f"Ray cluster {address}: {one_line(error)}") from None


def disconnect(ray: ModuleType) -> None:
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


@dataclass(frozen=True)
class Node:
    """A machine of the cluster and what it has in all, used or not."""

    id: str
    host: str
    alive: bool
    cpus: float
    gpus: float


class Watch:
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


def one_line(error: BaseException) -> str:
    """What an exception says; of one that a task raised, what the task's own said."""
    cause = getattr(error, "cause", None)
    told = cause if isinstance(cause, BaseException) else error
    words = str(told).partition("traceback:")[0].split()  # which Ray would append
    return f"{type(told).__name__}: {' '.join(words)}"[:300]
