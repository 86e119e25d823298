"""How fast ``budgetnet.train`` is beside the loop that everybody writes, at the same accuracy.

    python tests/benchmarks/training.py speed       # images a second: one trial alone, and one a core side by side
    python tests/benchmarks/training.py accuracy    # 15 epochs from three seeds each
    python tests/benchmarks/training.py precision   # the probe network in float32 and in bfloat16, three seeds each

The plain loop: torchvision's MNIST, PIL's RandomRotation, ToTensor and Normalize in a DataLoader with two workers, torch's
default of a thread a core. Both train network A3 of the baselines (7,330 params, dropout 0.05) on all 60,000 images with
its own recipe (SGD 0.01, momentum 0.9, batch 128, rotation ±7°, bilinear) and read 10,000 test images after each epoch.
Every run is a process of its own, the first epoch is not timed, and the two sides take turns. Peak memory is that of the
process, without the DataLoader's workers.
"""

from __future__ import annotations

import argparse
import gzip
import multiprocessing
import os
import resource
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from importlib.resources import files
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import mean, stdev

import torch
import torch.nn.functional as F
from torch import nn

from budgetnet.build import build
from budgetnet.data import load
from budgetnet.notation import parse
from budgetnet.recipe import Recipe
from budgetnet.train import train

A3 = "[relu-bn @0.05] 10 10 12 14 M 12 10 10 | avg4 1x1:10 nobias"
A4_RECIPE = Recipe(
    learning_rate=0.01, nesterov=False, batch_size=128, weight_decay=0.0, schedule="constant",
    rotation=7.0, scale=0.0, shift=0.0, shear=0.0,
)  # fmt: skip
PROBE = "8 12 M c12 c12 14 16"
PROBE_RECIPE = Recipe(ema=0.999)
MEAN, STD = 0.1307, 0.3081
IMAGES = 60_000
ROUNDS = 1
SEEDS = (1, 2, 3)


# --- the two sides: a generator of test accuracies, one an epoch --------------------------------------------------------


def plain(seed: int, epochs: int, folder: Path) -> Iterator[float]:
    """The loop of every tutorial; ``folder`` holds MNIST as torchvision unpacks it."""
    from torch.utils.data import DataLoader
    from torchvision.datasets import MNIST
    from torchvision.transforms import Compose, InterpolationMode, Normalize, RandomRotation, ToTensor

    torch.manual_seed(seed)
    as_tensor = [ToTensor(), Normalize((MEAN,), (STD,))]
    augmented = Compose([RandomRotation(7.0, InterpolationMode.BILINEAR), *as_tensor])
    training = DataLoader(
        MNIST(folder, train=True, transform=augmented), A4_RECIPE.batch_size, shuffle=True, num_workers=2
    )
    test = DataLoader(MNIST(folder, train=False, transform=Compose(as_tensor)), A4_RECIPE.batch_size, num_workers=2)
    model = build(parse(A3), seed)
    optimizer = torch.optim.SGD(model.parameters(), A4_RECIPE.learning_rate, A4_RECIPE.momentum)
    for _ in range(epochs):
        model.train()
        for images, labels in training:
            optimizer.zero_grad()
            F.cross_entropy(model(images), labels).backward()
            optimizer.step()
        yield _accuracy(model, test)


def plain_one_thread(seed: int, epochs: int, folder: Path) -> Iterator[float]:
    torch.set_num_threads(1)
    yield from plain(seed, epochs, folder)


def _accuracy(model: nn.Module, loader: torch.utils.data.DataLoader) -> float:
    model.eval()
    with torch.no_grad():
        correct = sum(int((model(images).argmax(1) == labels).sum()) for images, labels in loader)
    return correct / len(loader.dataset)  # type: ignore[arg-type]


def ours(seed: int, epochs: int, folder: Path, threads: int = 1) -> Iterator[float]:
    torch.set_num_threads(threads)
    yield from _train(A3, replace(A4_RECIPE, epochs=epochs), seed)


def _train(network: str, recipe: Recipe, seed: int, bf16: bool | None = None) -> Iterator[float]:
    data = load("mnist")
    results = train(
        build(parse(network), seed), recipe, *data.final_splits(), mean=data.mean, std=data.std, seed=seed, bf16=bf16
    )
    for result in results:
        yield result.accuracy


def ours_all_threads(seed: int, epochs: int, folder: Path) -> Iterator[float]:
    yield from ours(seed, epochs, folder, torch.get_num_threads())


def probe_float32(seed: int, epochs: int, folder: Path) -> Iterator[float]:
    torch.set_num_threads(1)
    yield from _train(PROBE, replace(PROBE_RECIPE, epochs=epochs), seed, bf16=False)


def probe_bfloat16(seed: int, epochs: int, folder: Path) -> Iterator[float]:
    torch.set_num_threads(1)
    yield from _train(PROBE, replace(PROBE_RECIPE, epochs=epochs), seed, bf16=True)


Side = Callable[[int, int, Path], Iterator[float]]


# --- running them, each in a process of its own -------------------------------------------------------------------------


@dataclass(frozen=True)
class Run:
    """What one process did: its accuracies, the seconds of its epochs from the second on, its peak memory in MB."""

    accuracies: list[float]
    seconds: float
    peak: int


def _child(side: Side, seed: int, epochs: int, folder: Path, ready: object, pipe: Connection) -> None:
    steps = side(seed, epochs, folder)
    accuracies = [next(steps)]
    ready.wait()  # type: ignore[attr-defined]  # all start their timed epochs together
    started = time.perf_counter()
    accuracies += steps
    seconds = time.perf_counter() - started
    pipe.send(Run(accuracies, seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024))


def run(side: Side, seeds: tuple[int, ...], epochs: int, folder: Path) -> list[Run]:
    """One process a seed, all at once."""
    context = multiprocessing.get_context("spawn")
    ready = context.Barrier(len(seeds))
    pipes = []
    for seed in seeds:
        receive, send = context.Pipe(duplex=False)
        context.Process(target=_child, args=(side, seed, epochs, folder, ready, send)).start()
        send.close()
        pipes.append(receive)
    return [pipe.recv() for pipe in pipes]


def speed(folder: Path) -> None:
    cores = len(os.sched_getaffinity(0))
    alone: dict[Side, list[float]] = {plain: [], plain_one_thread: [], ours: [], ours_all_threads: []}
    beside: dict[Side, list[float]] = {plain_one_thread: [], ours: []}
    peaks: dict[Side, int] = {}
    for _ in range(ROUNDS):
        for seeds, table in (((0,), alone), (tuple(range(cores)), beside)):
            for side, rates in table.items():
                runs = run(side, seeds, 2, folder)
                rates.append(len(seeds) * IMAGES / max(r.seconds for r in runs))
                peaks[side] = max(peaks.get(side, 0), *(r.peak for r in runs))
    for title, table in (("alone", alone), (f"{cores} side by side", beside)):
        for side, rates in table.items():
            ratios = [rate / base for rate, base in zip(rates, next(iter(table.values())), strict=True)]
            print(
                f"{title:16} {side.__name__:16} {mean(rates):7,.0f}  images/s  "
                f"{mean(ratios):5.2f}  × plain (n={ROUNDS})  peak {peaks[side]:,} MB",
                flush=True,
            )


def accuracy(sides: tuple[Side, ...], folder: Path) -> None:
    """The last five epochs' mean, for three seeds a side; one process a core at a time."""
    cores = len(os.sched_getaffinity(0))
    for side in sides:
        runs = []
        for first in range(0, len(SEEDS), cores):
            runs += run(side, SEEDS[first : first + cores], 15, folder)
        for seed, result in zip(SEEDS, runs, strict=True):
            print(f"{side.__name__:16} seed {seed}", *(f"{100 * a:.2f}" for a in result.accuracies[-5:]), flush=True)
        ends = [100 * mean(result.accuracies[-5:]) for result in runs]
        print(
            f"{side.__name__:16} last five epochs: {mean(ends):.3f} ± {stdev(ends):.3f} % (n={len(ends)})", flush=True
        )


def unpack(folder: Path) -> None:
    """The embedded MNIST as torchvision unpacks it."""
    raw = folder / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for packed in files("budgetnet").joinpath("mnist").iterdir():
        if packed.name.endswith(".gz"):
            (raw / packed.name.removesuffix(".gz")).write_bytes(gzip.decompress(packed.read_bytes()))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("what", choices=("speed", "accuracy", "precision"))
    what = parser.parse_args().what
    with tempfile.TemporaryDirectory() as folder:
        unpack(Path(folder))
        if what == "speed":
            speed(Path(folder))
        else:
            accuracy((plain, ours) if what == "accuracy" else (probe_float32, probe_bfloat16), Path(folder))


if __name__ == "__main__":
    main()
