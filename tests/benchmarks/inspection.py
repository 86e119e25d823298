"""How long ``budgetnet rf`` takes: in Python after import, and from the shell to the end.

    python tests/benchmarks/inspection.py [--rounds 5]

Asked for: ResNet-50 at 224 × 224 in 1 s, a small MNIST network in 5 ms, ``budgetnet rf Model_1`` from shell to table
in 2 s, ``budgetnet --help`` in 0.3 s. Expected: 0.3 s; 5 ms by tracing, 1 ms by description; 2 s, for importing torch
takes 1.5 s; 0.2 s.

Came out on two quiet cores:

    milliseconds, n = 5, 2 threads              median  longest
    ResNet-50 at 224 x 224, traced               163.3    736.9
    Model_1, traced                               12.4     18.0
    Model_1, as its evidence describes it          9.4     10.7
    its notation                                   0.9      0.9
    budgetnet rf Model_1                         235.7    317.2
    budgetnet rf torchvision.models:resnet50    4502.7   5764.1
    budgetnet --help                              86.8     87.0

``rf Model_1`` reads the architecture in the model's evidence and compares the code of the class with what that gives,
so torch is not imported. Tracing Model_1 took 9.3 ms after the modules were looked up once and the layouts handed on:
some 3 ms of it is torch.fx, 2 ms the run on zeros; 5 ms is not reached so. Of ResNet-50's 4.5 s in the shell nearly all
is torch, torchvision, and its random weights.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time
from collections.abc import Callable

import torch
from torchvision.models import resnet50

import budgetnet
from budgetnet.inspection import Inspection
from budgetnet.notation import parse
from budgetnet.tabulate import receptive_field

SMALL = parse("c11 c8 M s19 s18 s18 M c17 c16")


def shell(*arguments: str) -> None:
    command = [sys.executable, "-m", "budgetnet", *arguments]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def main() -> None:
    """Print the median and the longest of some rounds, all cases in turn."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    big, small = resnet50(), budgetnet.load("Model_1")
    cases: dict[str, Callable[[], object]] = {
        "ResNet-50 at 224 x 224, traced": lambda: receptive_field(big, (3, 224, 224)),
        "Model_1, traced": lambda: receptive_field(small),
        "Model_1, as its evidence describes it": lambda: Inspection.of("Model_1"),
        "its notation": lambda: receptive_field(SMALL),
        "budgetnet rf Model_1": lambda: shell("rf", "Model_1"),
        "budgetnet rf torchvision.models:resnet50": lambda: shell(
            "rf", "torchvision.models:resnet50", "--input", "3x224x224"
        ),
        "budgetnet --help": lambda: shell("--help"),
    }
    taken: dict[str, list[float]] = {name: [] for name in cases}
    for _ in range(rounds):
        for name, run in cases.items():
            started = time.perf_counter()
            run()
            taken[name].append(1000 * (time.perf_counter() - started))
    print(f"milliseconds, n = {rounds}, {torch.get_num_threads()} threads      median  longest")
    for name, times in taken.items():
        print(f"{name:<42}{statistics.median(times):8.1f} {max(times):8.1f}")


if __name__ == "__main__":
    main()
