"""Where jobs are trained: in processes of this machine, or as tasks on a Ray cluster."""

from __future__ import annotations

from dataclasses import dataclass

from budgetnet.errors import WorkerError
from budgetnet.executor import HANG_LIMIT, LONGEST_LOOK, Executor, check_workers, local
from budgetnet.machine import choose_device

EXECUTORS = ("local", "ray")


@dataclass(frozen=True)
class Workplace:
    """As a person asks for it. The last three are for Ray, ``hang_limit`` is for processes of this machine.

    Raises WorkerError for what contradicts itself, or a device that this machine has not; nothing is started.
    """

    executor: str = "local"
    workers: int | None = None  # by default one a core, or one a GPU
    device: str = "auto"
    hang_limit: float = HANG_LIMIT  # seconds
    ray_address: str | None = None  # by default a Ray of our own on this machine
    job_cpus: float = 1.0  # of a Ray task
    job_gpus: float = 0.0

    def __post_init__(self) -> None:
        check_workers(self.workers)
        if not self.hang_limit >= LONGEST_LOOK:  # NaN is not either
            raise WorkerError(f"--hang-limit must be at least {LONGEST_LOOK:g} seconds, but got {self.hang_limit:g}")
        if self.executor not in EXECUTORS:
            raise WorkerError(f"--executor must be one of {', '.join(EXECUTORS)}, but got {self.executor!r}")
        if self.executor == "ray" and self.workers == 0:
            raise WorkerError("--workers must be at least 1 with --executor ray, but got 0")
        if self.executor == "ray" and self.hang_limit != HANG_LIMIT:
            raise WorkerError("--hang-limit needs --executor local")
        for option, value, default in (
            ("--ray-address", self.ray_address, None),
            ("--job-cpus", self.job_cpus, 1.0),
            ("--job-gpus", self.job_gpus, 0.0),
        ):
            if self.executor != "ray" and value != default:
                raise WorkerError(f"{option} needs --executor ray")
        if self.executor == "local":
            choose_device(self.device)

    def open(self) -> Executor:
        """To be closed by the caller. Raises WorkerError."""
        if self.executor == "local":
            return local(self.workers, choose_device(self.device), self.hang_limit)
        from budgetnet.cluster import RayCluster

        return RayCluster(self.workers, self.device, self.ray_address, self.job_cpus, self.job_gpus)
