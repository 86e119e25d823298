"""How many candidates a second one thread screens: params, MACs, activations, receptive field and validity, no torch.

    python tests/benchmarks/screening.py

A candidate is a random network of three stages (as in search_spaces/mnist.yaml: 4 to 14 pieces, plain, separable and
residual blocks, kernels 3 and 5, widths 4 to 64 drawn block by block, so that hardly any pair of widths was seen before).
It is screened as the search does it: its cost against a budget, its receptive field and last map against what is required.
"""

from __future__ import annotations

import random
from time import perf_counter

from budgetnet.architecture import Architecture, Block, Head, Transition, same_padding
from budgetnet.budget import Limits
from budgetnet.cost import cost
from budgetnet.errors import ArchitectureError
from budgetnet.fields import extent, feature_field

CANDIDATES = 5_000  # a round
ROUNDS = 7
LIMITS = Limits(8000, max_macs=2_000_000)


def candidate(draw: random.Random) -> Architecture:
    """A random network of three stages."""
    body: list[Block | Transition] = [_block(draw, "plain", (3, 3), draw.random() < 0.5)]
    for most, kinds, opens in ((2, 2, False), (4, 3, True), (3, 2, True)):
        stride = draw.random() < 0.3 if opens else False
        if opens and not stride:
            body.append(Transition(draw.choice(("max", "avg"))))
        if opens and draw.random() < 0.5:
            body.append(_block(draw, "plain", (1, 1), False))
        kind = draw.choice(("plain", "separable", "residual")[:kinds])
        kernel = draw.choice(((3, 3), (3, 3), (5, 5)))
        padded = kind == "residual" or draw.random() < 0.5
        for index in range(draw.randint(1, most)):
            body.append(_block(draw, kind, kernel, padded, 2 if stride and index == 0 else 1))
    return Architecture(tuple(body), Head(10))


def _block(draw: random.Random, kind: str, kernel: tuple[int, int], padded: bool, stride: int = 1) -> Block:
    padding = same_padding(kernel) if padded else (0, 0)
    return Block(draw.randint(4, 64), kind, kernel, stride, padding, dropout=draw.random() / 10)


def screen(architecture: Architecture) -> bool:
    """Whether a candidate would be trained."""
    try:
        if LIMITS.overshoot(cost(architecture)):
            return False
        shape, field = feature_field(architecture)
    except ArchitectureError:
        return False
    return min(extent(field)) >= 16 and min(shape[1:]) >= 3


def both(architecture: Architecture) -> bool:
    """Count and receptive field in every case, also where the count alone would reject."""
    try:
        cost(architecture)
        shape, field = feature_field(architecture)
    except ArchitectureError:
        return False
    return min(extent(field)) >= 16 and min(shape[1:]) >= 3


def rate(seed: int) -> float:
    """Candidates a second over one round of new candidates."""
    draw = random.Random(seed)
    candidates = [candidate(draw) for _ in range(CANDIDATES)]
    start = perf_counter()
    for architecture in candidates:
        both(architecture)
    return CANDIDATES / (perf_counter() - start)


if __name__ == "__main__":
    print(rate(0), [round(rate(s)) for s in range(1, ROUNDS)])
