"""How fast ``budgetnet.train`` is beside the loop that everybody writes, at the same accuracy.

    python tests/benchmarks/training.py speed       # images a second: one trial alone, and one a core side by side
    python tests/benchmarks/training.py accuracy    # 15 epochs on all images from three seeds each
    python tests/benchmarks/training.py precision   # the probe network in float32 and in bfloat16
    python tests/benchmarks/training.py wide        # steps of networks with wide layers, with and without Winograd
    python tests/benchmarks/training.py gpu         # the probe network on a GPU: alone, side by side, ten seeds at once

The plain loop: torchvision's MNIST, PIL's RandomRotation, ToTensor and Normalize in a DataLoader with two workers.
Both sides train network A3 of the baselines (7,330 params, dropout 0.05) with its own recipe (SGD 0.01, momentum 0.9,
batch 128, rotation ±7°, bilinear) and read the test images after each epoch. Every run of epochs is a process of its
own, the first epoch is not timed, and the two sides take turns. Peak memory is the process's own, without DataLoader
workers.
Alone, the plain loop has torch's default of a thread a core; side by side it is given one thread each, as ours, for
with the default two of them take minutes an epoch, waiting for each other.

Expected: 2 × alone, 3.5 × side by side. Measured on two cores of a shared Xeon (AMX, torch 2.15, numba 0.68), three
interleaved rounds of 20,000 images:

    alone           plain             1,078 ±  51 images/s                           905 MB
    alone           ours, one thread  6,416 ±  97             5.96 ± 0.19 × plain  1,033 MB
    alone           ours, two         7,959 ± 486             7.39 ± 0.62 × plain    956 MB
    2 side by side  plain             1,310 ±  20                                    904 MB
    2 side by side  ours             12,910 ± 126             9.85 ± 0.09 × plain  1,033 MB

and when the host was slower, half as fast: 5.9 ± 0.8, 6.3 ± 1.3 and 9.9 ± 0.4; a quarter: 4.5 ± 1.4, 5.5 ± 1.1 and
10.2 ± 0.5 × (three rounds each).

Mean of the last five test accuracies on all images, seeds 1 to 3: plain 99.25, 99.26, 99.32 %, ours 99.25, 99.29,
99.25 %; seed by seed +0.00, +0.03, -0.07: -0.01 ± 0.05 points (n=3), within noise.

The probe network in both precisions, mean of the last five test accuracies, seeds 1 to 8: expected no difference;
float32 99.44 ± 0.05, bfloat16 99.47 ± 0.02 %, seed by seed +0.03 ± 0.06 points (n=8; 95 % interval -0.02 to +0.08).
Search trains in bfloat16; what is reported stays in float32, which processors without bfloat16 can repeat.

The last three of what was kept, together, on a processor without bfloat16 (one core of a shared Zen 3, another training
on the other; a step of 64 images with Model_3's network as teacher, float32; five interleaved pairs of 60 steps each;
expected 1.4 ×):

    separable, 3,992 params   c9 s10 M s22 s22 s22 s22^1                  67 ± 9 → 49 ± 6 ms  1.38 ± 0.27 ×
    separable, 966 params     c8 M vs15^2                                 32 ± 4 → 25 ± 4     1.29 ± 0.16
    Model_3                   7 c11 M 14 14 14 13                         47 ± 5 → 36 ± 4     1.30 ± 0.17
    A3, without SiLU itself   10 10 12 14 M 12 10 10                      55 ± 3 → 44 ± 4     1.27 ± 0.06

Wide networks ("wide": float32, 128 images a step, one process, oneDNN's convolutions and Winograd's by turns, 8 pairs;
two shared Zen 3 cores without bfloat16; expected 1.4 to 1.8 ×). On two threads oneDNN's step takes half as long,
Winograd's about two thirds: its transforms stay in one.

    A1   [relu-bn] 32 64 128 256 M 128 64 32 | avg4 1x1:10      one thread   2,422 ± 165 → 1,022 ± 57 ms  2.38 ± 0.18 ×
    B2   32 64 128 256 M 1x1:32* 64 128 256 512* M | 1x1:10                  2,419 ± 157 → 1,083 ± 56     2.24 ± 0.18
    64   32 64 M c64 c64 M c96 | gap 1x1:10                                    309 ±  20 →   229 ± 17     1.36 ± 0.10
    A1                                                          two          1,182 ± 150 →   639 ± 33     1.85 ± 0.19
    B2                                                                       1,082 ±  21 →   637 ± 20     1.70 ± 0.07
    64                                                                         179 ±   6 →   169 ±  5     1.06 ± 0.04

With 64 channels at least on the narrower side, too, "64" gains 1.19 × instead of 1.34 on one thread (3 pairs each), A1
and B2 the same (4); 48 to 48 channels gain nothing (3). A pool of threads for the transforms gained nothing on two
cores: torch's other thread spins while it waits, and takes the second core.

Maps of A1 have 52 MB, more than glibc's largest threshold for memory that it maps apart: without mallopt(M_MMAP_MAX, 0)
36,000 page faults a step, with it 300 (1 but for one process); 716 ± 21 → 598 ± 20 ms, 1.20 ± 0.05 × (three pairs of
processes by turns), and 1,272 MB at the peak for 1,220. A process that trained 16 wide networks one after the other,
all different, had 1,232 MB at its peak, and 1,331 without.

What was tried for a step of A3 at batch 128, one thread (interleaved; ms are those of a quiet machine):

    kept
    channels-last                          1.16 ×
    bfloat16 steps on top                  1.37 ×; search only (see "precision")
    affine grid as one matrix product      6.8 × of 1 % of the step
    BatchNorm, ReLU, dropout as one kernel 38 → 18 ms the step, with the pool (2.05 ×, n=2 interleaved pairs);
                                           for 10 × 26 × 26 torch's norm alone takes 0.5 + 1.0 ms, the kernel 0.3 + 0.5
    a random number a cell by hashing      0.15 ms of a layer's 0.45, where torch took 20 % of the whole step
    max pooling                            1.5 + 0.9 → 0.3 + 0.4 ms; with the window's size a constant, four times as
                                           fast as with a variable
    grouped convolutions in float32        oneDNN takes 14 ms in bfloat16, 0.4 in float32, for the gradient of a strided
                                           depthwise layer (24 × 12 × 12, batch 128); 5.4 against 0.9 for a 5 × 5 weight
    evaluation by the same kernels         10,000 images in 0.6 s for 1.6, in batches of 250, and 100 MB less
    512 images augmented at once           1.03 × against 1,024
    BatchNorm and SiLU as one kernel       float32: 1.64 + 2.05 → 1.22 + 1.65 ns a cell there and back; in bfloat16,
                                           on a Xeon, torch's SiLU with its vectors of 512 bits stays ahead (2.0 : 1.75)
    SiLU in place, without gradients       1.21 → 0.71 ns a cell; a kernel that is given one array as both source and
                                           target is not vectorised, and took 6.8
    freed memory kept (mallopt)            1,500 page faults a step → 0; 1.04 × on the Xeon, a tenth on Zen 3
    Winograd's convolutions, see below     a step of wide networks: 1.4 to 2.4 × on one thread, 1.1 to 1.9 × on two
    dropped
    a kernel for convolutions of one input channel (first layer, depthwise): 0.4 to 0.9 of oneDNN's speed
    a kernel for augmentation and normalisation: 1.00 × (it is 6 % of a step)
    in-place ReLU 1.03 ×, flush-denormal 1.03 × (noise), opaque oneDNN
    tensors 0.94 ×, contiguous bfloat16 0.5 ×
    vectors of 512 bits: 1.35 × for the bfloat16 kernels, 1.0 for float32; needs a switch of numba's that acts on
    everything a process compiles
    a core of its own for each of two processes (thread pinning): 1.01 ± 0.04 × (n=4)
"""

from __future__ import annotations

import argparse
import ctypes
import gzip
import multiprocessing
import resource
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from importlib.resources import files
from multiprocessing.connection import Connection
from multiprocessing.synchronize import Barrier
from pathlib import Path
from statistics import mean, stdev

import torch
import torch.nn.functional as F
from torch import nn

from budgetnet import winograd
from budgetnet.build import build
from budgetnet.data import load
from budgetnet.fused import fused
from budgetnet.machine import MMAP_MAX, cores, set_up
from budgetnet.notation import parse
from budgetnet.recipe import Recipe
from budgetnet.step import Step
from budgetnet.train import train_together

A3 = "[relu-bn @0.05] 10 10 12 14 M 12 10 10 | avg4 1x1:10 nobias"
A4_RECIPE = Recipe(
    learning_rate=0.01, nesterov=False, batch_size=128, weight_decay=0.0, schedule="constant",
    rotation=7.0, scale=0.0, shift=0.0, shear=0.0,
)  # fmt: skip
PROBE = "8 12 M c12 c12 14 16"
PROBE_RECIPE = Recipe(ema=0.999)
WIDE = {
    "A1": "[relu-bn] 32 64 128 256 M 128 64 32 | avg4 1x1:10 nobias",
    "B2": "[relu-bn bias] 32 64 128 256 M 1x1:32* 64 128 256 512* M | 1x1:10",
    "64": "[bn-relu] 32 64 M c64 c64 M c96 | gap 1x1:10",
}
STEPS = 8
MMAP_THRESHOLD = -3  # M_MMAP_THRESHOLD of malloc.h
MEAN, STD = 0.1307, 0.3081
ROUNDS = 3
SEEDS = (1, 2, 3)
PRECISION_SEEDS = tuple(range(1, 9))


@dataclass(frozen=True)
class Task:
    """What a run trains on: so many of MNIST's images, for so many epochs, from a seed. ``folder``: for torchvision."""

    seed: int
    epochs: int
    folder: Path
    images: int = 60_000
    test_images: int = 10_000


# --- the two sides: a generator of test accuracies, one an epoch ------------------------------------------------------


def plain(task: Task) -> Iterator[float]:
    """The loop of every tutorial."""
    from torch.utils.data import DataLoader, Subset
    from torchvision.datasets import MNIST
    from torchvision.transforms import Compose, InterpolationMode, Normalize, RandomRotation, ToTensor

    torch.manual_seed(task.seed)
    as_tensor = [ToTensor(), Normalize((MEAN,), (STD,))]
    augmented = Compose([RandomRotation(7.0, InterpolationMode.BILINEAR), *as_tensor])
    seen = Subset(MNIST(task.folder, train=True, transform=augmented), range(task.images))
    unseen = Subset(MNIST(task.folder, train=False, transform=Compose(as_tensor)), range(task.test_images))
    training = DataLoader(seen, A4_RECIPE.batch_size, shuffle=True, num_workers=2)
    test = DataLoader(unseen, A4_RECIPE.batch_size, num_workers=2)
    model = build(parse(A3), task.seed)
    optimizer = torch.optim.SGD(model.parameters(), A4_RECIPE.learning_rate, A4_RECIPE.momentum)
    for _ in range(task.epochs):
        model.train()
        for images, labels in training:
            optimizer.zero_grad()
            F.cross_entropy(model(images), labels).backward()
            optimizer.step()
        yield _accuracy(model, test)


def plain_one_thread(task: Task) -> Iterator[float]:
    torch.set_num_threads(1)
    yield from plain(task)


def _accuracy(model: nn.Module, loader: torch.utils.data.DataLoader) -> float:
    model.eval()
    with torch.no_grad():
        correct = sum(int((model(images).argmax(1) == labels).sum()) for images, labels in loader)
    return correct / len(loader.dataset)  # type: ignore[arg-type]


def ours(task: Task) -> Iterator[float]:
    torch.set_num_threads(1)
    yield from _train(A3, A4_RECIPE, task)


def ours_all_threads(task: Task) -> Iterator[float]:
    yield from _train(A3, A4_RECIPE, task)


def probe_float32(task: Task) -> Iterator[float]:
    torch.set_num_threads(1)
    yield from _train(PROBE, PROBE_RECIPE, task, bf16=False)


def probe_bfloat16(task: Task) -> Iterator[float]:
    torch.set_num_threads(1)
    yield from _train(PROBE, PROBE_RECIPE, task, bf16=True)


def probe_gpu(task: Task) -> Iterator[float]:
    """A trial of a search, after an epoch on a few images that wakes the device up."""
    for each in (_awaking(task), task):
        yield from _train(PROBE, PROBE_RECIPE, each, split="search", device="cuda")


def ten_seeds_gpu(task: Task) -> Iterator[float]:
    for each in (_awaking(task), task):
        yield from _train(PROBE, PROBE_RECIPE, each, seeds=range(10), device="cuda")


def _awaking(task: Task) -> Task:
    return replace(task, epochs=1, images=1_000, test_images=1_000)


def _train(
    network: str,
    recipe: Recipe,
    task: Task,
    *,
    seeds: Sequence[int] = (),
    split: str = "final",
    device: str = "cpu",
    bf16: bool | None = None,
) -> Iterator[float]:
    """The accuracies of the task's seed, or the mean of several ``seeds`` that train together."""
    seeds = seeds or [task.seed]
    data = load("mnist").limited(task.images, task.test_images)
    models = [build(parse(network), seed) for seed in seeds]
    recipe = replace(recipe, epochs=task.epochs)
    splits = data.search_splits() if split == "search" else data.final_splits()
    for results in train_together(
        models, recipe, *splits, mean=data.mean, std=data.std, seeds=seeds, device=device, bf16=bf16
    ):
        yield mean(result.accuracy for result in results)


Side = Callable[[Task], Iterator[float]]


# --- running them, each in a process of its own -----------------------------------------------------------------------


@dataclass(frozen=True)
class Run:
    """What one process did: its accuracies, the seconds of its epochs from the second on, its peak memory in MB."""

    accuracies: list[float]
    seconds: float
    peak: int


def _child(side: Side, task: Task, ready: Barrier, pipe: Connection) -> None:
    epochs = side(task)
    accuracies = [next(epochs)]
    ready.wait()  # all start their timed epochs together
    started = time.perf_counter()
    accuracies += epochs
    seconds = time.perf_counter() - started
    pipe.send(Run(accuracies, seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024))


def run(side: Side, tasks: Sequence[Task]) -> list[Run]:
    """One process a task, all at once."""
    context = multiprocessing.get_context("spawn")
    ready = context.Barrier(len(tasks))
    pipes = []
    for task in tasks:
        receive, send = context.Pipe(duplex=False)
        context.Process(target=_child, args=(side, task, ready, send)).start()
        send.close()
        pipes.append(receive)
    return [pipe.recv() for pipe in pipes]


def speed(folder: Path) -> None:
    task = Task(0, 2, folder, 20_000, 3_000)
    alone: dict[Side, list[float]] = {plain: [], ours: [], ours_all_threads: []}
    beside: dict[Side, list[float]] = {plain_one_thread: [], ours: []}
    peaks: dict[Side, int] = {}
    for _ in range(ROUNDS):
        for tasks, table in (([task], alone), ([task] * cores(), beside)):
            for side, rates in table.items():
                runs = run(side, tasks)
                rates.append(len(tasks) * task.images / max(each.seconds for each in runs))
                peaks[side] = max(peaks.get(side, 0), *(each.peak for each in runs))
    for title, table in (("alone", alone), (f"{cores()} side by side", beside)):
        base = next(iter(table.values()))
        for side, rates in table.items():
            ratios = [rate / other for rate, other in zip(rates, base, strict=True)]
            print(
                f"{title:14} {side.__name__:16} {mean(rates):6,.0f} ± {stdev(rates):4,.0f} images/s  "
                f"{mean(ratios):5.2f} ± {stdev(ratios):.2f} × plain (n={ROUNDS})  peak {peaks[side]:,} MB"
            )


def gpu(folder: Path) -> None:
    """Aims on one H200: a trial in 5 s alone, one finished trial a second side by side, ten seeds in 30 s."""
    print(torch.cuda.get_device_name(), f"torch {torch.__version__}")
    for side, count in ((probe_gpu, 1), (probe_gpu, 2), (probe_gpu, 4), (probe_gpu, 8), (ten_seeds_gpu, 1)):
        for _ in range(ROUNDS):
            runs = run(side, [Task(seed, 15, folder) for seed in range(count)])
            seconds = max(each.seconds for each in runs)
            ends = " ".join(f"{100 * each.accuracies[-1]:.2f}" for each in runs)
            print(
                f"{side.__name__:14} × {count}: {seconds:.1f} s, {count / seconds:.2f} runs a second, {ends} %",
                flush=True,
            )


def accuracy(sides: Sequence[Side], seeds: Sequence[int], folder: Path) -> None:
    """The last five of 15 epochs, one process a core; the sides take turns."""
    found: dict[Side, list[float]] = {side: [] for side in sides}
    for first in range(0, len(seeds), cores()):
        tasks = [Task(seed, 15, folder) for seed in seeds[first : first + cores()]]
        for side in sides:
            for task, result in zip(tasks, run(side, tasks), strict=True):
                last = [100 * each for each in result.accuracies[-5:]]
                found[side].append(mean(last))
                shown = " ".join(f"{each:.2f}" for each in last)
                print(
                    f"{side.__name__:14} seed {task.seed:2}  {shown}  {result.seconds / 14:.1f} s an epoch", flush=True
                )
    for side, ends in found.items():
        print(f"{side.__name__:14} mean of the last five: {mean(ends):.3f} ± {stdev(ends):.3f} % (n={len(ends)})")
    gaps = [second - first for first, second in zip(*found.values(), strict=True)]
    print(f"difference, seed by seed: {mean(gaps):+.3f} ± {stdev(gaps):.3f} points (n={len(gaps)})")


def wide() -> None:
    """A step of 128 images, milliseconds: oneDNN's convolutions and Winograd's by turns, on one thread and on all; then
    Winograd's in processes by turns, which hand large maps back to the system when they are freed, or keep them."""
    pays = winograd.pays
    for threads in sorted({1, cores()}):
        set_up(threads)
        for name, network in WIDE.items():
            times: dict[bool, list[float]] = {False: [], True: []}
            step = _step(network)
            for turn in range(-2, 2 * STEPS):
                ours = bool(turn % 2)
                winograd.pays = pays if ours else _never
                milliseconds = step()
                if turn >= 0:
                    times[ours].append(milliseconds)
            _compare(f"{name} on {threads} threads", times)
    winograd.pays = pays
    ends: dict[bool, list[float]] = {False: [], True: []}
    for _ in range(ROUNDS):
        for kept, found in ends.items():
            with multiprocessing.get_context("spawn").Pool(1) as process:
                milliseconds, faults, peak = process.apply(_with_memory, (kept,))
            found.append(milliseconds)
            print(f"A1, freed memory kept: {kept}; {faults:,.0f} page faults a step, peak {peak:,} MB", flush=True)
    _compare("A1, memory kept", ends)


def _never(*_: object) -> bool:
    return False


def _with_memory(kept: bool) -> tuple[float, float, int]:
    """Milliseconds and page faults of a step of A1, and MB at the peak."""
    set_up(cores())
    if not kept:  # glibc's largest threshold
        ctypes.CDLL(None).mallopt(MMAP_MAX, 65_536)
        ctypes.CDLL(None).mallopt(MMAP_THRESHOLD, 32 * 2**20)
    step = _step(WIDE["A1"])
    for _ in range(3):
        step()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    milliseconds = mean(step() for _ in range(STEPS))
    used = resource.getrusage(resource.RUSAGE_SELF)
    return milliseconds, (used.ru_minflt - before) / STEPS, used.ru_maxrss // 1024


def _step(network: str) -> Callable[[], float]:
    """A function that trains the network with one batch, and says how many milliseconds that took."""
    images, labels = torch.rand(128, 1, 28, 28).contiguous(memory_format=torch.channels_last), torch.arange(128) % 10
    model = build(parse(network), 0).to(memory_format=torch.channels_last)
    step = Step(model, model, A4_RECIPE, bf16=False)
    step.prepare(0, 1)

    def timed() -> float:
        started = time.perf_counter()
        with fused(model, torch.device("cpu")):
            step(images, labels)
        return 1000 * (time.perf_counter() - started)

    return timed


def _compare(title: str, times: dict[bool, list[float]]) -> None:
    ratios = [plain / ours for plain, ours in zip(*times.values(), strict=True)]
    ends = " → ".join(f"{mean(each):5,.0f} ± {stdev(each):3.0f}" for each in times.values())
    print(f"{title:16} {ends} ms  {mean(ratios):.2f} ± {stdev(ratios):.2f} × (n={len(ratios)})", flush=True)


def unpack(folder: Path) -> None:
    """The embedded MNIST as torchvision unpacks it."""
    raw = folder / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for packed in files("budgetnet").joinpath("mnist").iterdir():
        if packed.name.endswith(".gz"):
            (raw / packed.name.removesuffix(".gz")).write_bytes(gzip.decompress(packed.read_bytes()))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("what", choices=("speed", "accuracy", "precision", "wide", "gpu"))
    what = parser.parse_args().what
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        unpack(folder)
        if what == "speed":
            speed(folder)
        elif what == "wide":
            wide()
        elif what == "gpu":
            gpu(folder)
        elif what == "accuracy":
            accuracy((plain_one_thread, ours), SEEDS, folder)
        else:
            accuracy((probe_float32, probe_bfloat16), PRECISION_SEEDS, folder)


if __name__ == "__main__":
    main()
