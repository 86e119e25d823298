"""One training job and what it tells: build, audit, train, an event at a time; no processes and no studies here."""

from __future__ import annotations

import platform
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from budgetnet.architecture import Architecture
from budgetnet.cost import Cost, cost
from budgetnet.errors import reason
from budgetnet.layers import Shape
from budgetnet.recipe import Recipe
from budgetnet.results import BFLOAT16, FLOAT32, EpochResult, Machine, Outcome

if TYPE_CHECKING:
    from budgetnet.checkpoint import Checkpoint
    from budgetnet.dataset import DataSet, Split


@dataclass(frozen=True)
class Job:
    """One training run. ``split``: "search" trains on the training part and judges on validation, "final" trains on
    all training images and judges on test. ``weights``: file that receives the final state dict (safetensors).
    ``images``: train on so many, a stratified part; None is all. ``beside``: further seeds that train in the same
    steps, for a GPU that one small network leaves idle; the weights are those of ``seed``. ``bf16``: whether a "final"
    job computes its steps in bfloat16, as one for "search" does wherever the hardware has it. ``checkpoint``: how
    the file begins that receives its whole epochs, and from which the same job, on the same machine, goes on."""

    id: int
    architecture: Architecture
    recipe: Recipe
    data: str
    split: str
    seed: int
    weights: str | None = None
    images: int | None = None
    beside: tuple[int, ...] = ()
    bf16: bool = False
    checkpoint: str | None = None

    @property
    def seeds(self) -> tuple[int, ...]:
        return (self.seed, *self.beside)


@dataclass(frozen=True)
class Audited:
    """The network is built, and fvcore agrees with our count."""

    job: int
    cost: Cost


@dataclass(frozen=True)
class EpochDone:
    """One more epoch of a job, for one of its seeds."""

    job: int
    seed: int
    result: EpochResult


@dataclass(frozen=True)
class SeedDone:
    """A seed of a final job is through: what its network makes of every image, and what trained it."""

    job: int
    seed: int
    outcome: Outcome
    machine: Machine


@dataclass(frozen=True)
class Finished:
    """All epochs are done and the weights, if asked for, are on disk."""

    job: int


@dataclass(frozen=True)
class Stopped:
    """The job ended early because ``stop`` was called."""

    job: int


@dataclass(frozen=True)
class Failed:
    """The job ended with an error; ``reason`` is one line."""

    job: int
    reason: str


MAX_LOSSES = 3  # times that a job is lost with its machine before it is held to be the reason


@dataclass(frozen=True)
class Lost:
    """The machine that ran the job is gone; nothing is wrong with the job itself. ``reason`` is one line."""

    job: int
    reason: str


Event = Audited | EpochDone | SeedDone | Finished | Stopped | Failed | Lost


def run_job(job: Job, device: str, should_stop: Callable[[], bool]) -> Iterator[Event]:
    """Build, audit, train, and yield what happens. The last event is Finished, Stopped or Failed."""
    from budgetnet.audit import audit
    from budgetnet.build import build
    from budgetnet.train import outcome, train_together
    from budgetnet.weights import save_weights

    try:
        data, training, evaluation = _splits(job.data, job.architecture.input_shape, job.split, job.images)
        models = [build(job.architecture, seed) for seed in job.seeds]
        yield Audited(job.id, audit(models[0], cost(job.architecture), job.architecture.input_shape))
        epochs = train_together(
            models,
            job.recipe,
            training,
            evaluation,
            mean=data.mean,
            std=data.std,
            seeds=job.seeds,
            device=device,
            bf16=_in_bf16(job, device),
            should_stop=should_stop,
            checkpoint=_checkpoint(job, data, training, evaluation, device),
        )
        done = 0
        for results in epochs:
            done = results[0].epoch
            for seed, result in zip(job.seeds, results, strict=True):
                yield EpochDone(job.id, seed, result)
        if done < job.recipe.epochs:
            yield Stopped(job.id)
            return
        if job.split == "final":
            for seed, model in zip(job.seeds, models, strict=True):
                made = outcome(model, training, evaluation, data.mean, data.std, device=device)
                yield SeedDone(job.id, seed, made, machine(device, len(job.seeds), job.bf16))
        if job.weights is not None:
            save_weights(models[0].state_dict(), Path(job.weights), job.architecture, (job.data, job.split))
        yield Finished(job.id)
    except EOFError:
        raise  # the coordinator is gone; there is nobody to tell
    except Exception as error:  # whatever a job meets is that job's own failure
        yield Failed(job.id, reason(error))


def _checkpoint(job: Job, data: DataSet, training: Split, evaluation: Split, device: str) -> Checkpoint | None:
    """The file of a job, told apart from others by all that decides what its epochs give. None without one."""
    import torch

    from budgetnet.checkpoint import Checkpoint

    if job.checkpoint is None:
        return None
    identity = {
        "architecture": job.architecture.to_dict(),
        "recipe": job.recipe.to_dict(),
        "images": [asdict(split.fingerprint()) for split in (training, evaluation)],
        "mean and std": [data.mean, data.std],
        "seeds": job.seeds,
        "machine": machine(device, len(job.seeds), _in_bf16(job, device)).to_dict(),
        "instructions": torch.backends.cpu.get_cpu_capability(),
    }
    return Checkpoint(Path(job.checkpoint), identity)


def _in_bf16(job: Job, device: str) -> bool:
    from budgetnet.machine import has_bf16

    return has_bf16(device) if job.split == "search" else job.bf16


@lru_cache(maxsize=1)
def _splits(spec: str, shape: Shape, split: str, images: int | None) -> tuple[DataSet, Split, Split]:
    """The data that a job needs, read once a process: (description, to train on, to judge on)."""
    from budgetnet.data import load

    data = load(spec, image_shape=shape)
    if images is not None:
        data = data.limited(images, sys.maxsize)
    return data, *(data.search_splits() if split == "search" else data.final_splits())


def machine(device: str, together: int = 1, bf16: bool = False) -> Machine:
    """What trains here: versions, processor and threads, or the GPU; and in which precision."""
    import torch

    return Machine(
        budgetnet=version("budgetnet"),
        torch=version("torch"),
        numba=version("numba"),
        python=platform.python_version(),
        processor=processor(),
        device=torch.cuda.get_device_name(device) if device.startswith("cuda") else device,
        threads=torch.get_num_threads(),
        together=together,
        precision=BFLOAT16 if bf16 else FLOAT32,
    )


def processor() -> str:
    """The processor's name where Linux tells it; elsewhere what Python knows of it."""
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
