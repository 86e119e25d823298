"""How many candidates one thread screens a second, without torch: params, MACs, activations, receptive field, validity.

    python tests/benchmarks/screening.py

A candidate is a random network of three stages, as search_spaces/mnist.yaml draws them: 4 to 15 pieces, plain,
separable and residual blocks, kernels 3 and 5, padded or not. Every block has a width of its own between 4 and 64, so
that hardly any candidate has a block that was counted before: what is remembered is the law of a form of block on a
map, never a count. "cold" is a fresh process, "warm" the same process after the forms of the space have been met. A
quarter of the candidates are impossible (a map vanishes). ``fit`` is the search's own first step: finding the widths,
eight of them on average, that use up 8,000 params.

Predicted for laws in place of remembered counts, before they were written: 10.4 pieces at about 2.5 µs each for the
cost and 1 µs for the field make 36 µs, 27,000 candidates a second; a fit is about 25 evaluations, 0.3 to 0.7 ms.
Measured (Python 3.11, one thread on two shared cores with other work running, rounds of 5,000):

                      remembered counts       laws
    screening, cold   not measured apart      15,900 ± 1,300 candidates/s (n=7)
    screening, warm   520 ± 60 (n=7)          29,900 ± 1,500 candidates/s (n=7)
    fit, median       14.1 ms (n=459)         0.40 ms; 99th percentile 0.7 to 1.0 ms (n=2,593)
"""

from __future__ import annotations

import random
import subprocess
import sys
from collections.abc import Callable
from statistics import mean, median, stdev
from time import perf_counter

from budgetnet.architecture import Architecture
from budgetnet.budget import Limits, Width, fit
from budgetnet.cost import cost
from budgetnet.errors import ArchitectureError, BudgetError
from budgetnet.fields import extent, feature_field
from budgetnet.pieces import Block, Transition, same_padding

CANDIDATES = 5_000  # a round
FITS = 500
ROUNDS = 7
LIMITS = Limits(8000, max_macs=2_000_000)


def candidate(draw: random.Random) -> Architecture:
    """A random network of three stages."""
    body: list[Block | Transition] = [_block(draw, "plain", draw.choice(((3, 3), (5, 5))), draw.random() < 0.5)]
    for stage, (most, kinds) in enumerate(((2, 2), (4, 3), (3, 2))):
        strided = stage > 0 and draw.random() < 0.3
        if stage > 0 and not strided:
            body.append(Transition(draw.choice(("max", "avg"))))
        if stage > 0 and draw.random() < 0.5:
            body.append(_block(draw, "plain", (1, 1), padded=False))
        kind = draw.choice(("plain", "separable", "residual")[:kinds])
        kernel = draw.choice(((3, 3), (3, 3), (5, 5)))
        padded = kind == "residual" or draw.random() < 0.5
        for index in range(draw.randint(1, most)):
            body.append(_block(draw, kind, kernel, padded, stride=2 if strided and index == 0 else 1))
    return Architecture(tuple(body))


def _block(draw: random.Random, kind: str, kernel: tuple[int, int], padded: bool, stride: int = 1) -> Block:
    padding = same_padding(kernel) if padded else (0, 0)
    return Block(draw.randint(4, 64), kind, kernel, stride, padding, dropout=draw.random() / 10)


def screen(architecture: Architecture) -> bool:
    """Whether a candidate would be trained; both folds run, also where the first would reject."""
    try:
        spent = cost(architecture)
        shape, field = feature_field(architecture)
    except ArchitectureError:
        return False
    return LIMITS.allow(spent) and min(extent(field)) >= 16 and min(shape[1:]) >= 3


def screening_rate(seed: int) -> float:
    """Candidates a second over a round of candidates never seen before."""
    draw = random.Random(seed)
    candidates = [candidate(draw) for _ in range(CANDIDATES)]
    return CANDIDATES / _seconds(lambda: [screen(architecture) for architecture in candidates])


def fit_milliseconds(seed: int) -> list[float]:
    """Time of each fit of a template that can be fitted."""
    draw = random.Random(seed)
    times = []
    for _ in range(FITS):
        template = candidate(draw)
        widths = [Width((index,), draw.uniform(0.4, 2.0)) for index in range(len(template.blocks))]
        start = perf_counter()
        try:
            fit(template, widths, Limits(8000))
        except (ArchitectureError, BudgetError):
            continue
        times.append(1000 * (perf_counter() - start))
    return times


def _seconds(work: Callable[[], object]) -> float:
    start = perf_counter()
    work()
    return perf_counter() - start


def _cold_rate(seed: int) -> float:
    """The rate of a first round, in a process of its own."""
    command = [sys.executable, __file__, "--cold", str(seed)]
    return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def _report(name: str, rates: list[float]) -> None:
    spread = f"± {stdev(rates):,.0f} (lowest {min(rates):,.0f}, n={len(rates)} rounds of {CANDIDATES:,})"
    print(f"{name:22} {mean(rates):>8,.0f} candidates/s {spread}")


def main() -> None:
    """Print the rates, cold and warm interleaved, and the time of a fit."""
    screening_rate(-1)
    cold, warm, fits = [], [], []
    for round_ in range(ROUNDS):
        cold.append(_cold_rate(round_))
        warm.append(screening_rate(round_))
        fits += fit_milliseconds(round_)
    _report("screening, cold", cold)
    _report("screening, warm", warm)
    fits.sort()
    high = fits[int(0.99 * len(fits))]
    print(f"{'fit to 8,000 params':22} {median(fits):>8.2f} ms median, {high:.2f} ms 99th percentile (n={len(fits):,})")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--cold"]:
        print(screening_rate(int(sys.argv[2])))
    else:
        main()
