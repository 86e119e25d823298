"""A frozen file run by a Python of its own that has no budgetnet: what its network answers, as a hash."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path

import torch
from torch import Tensor, nn

from budgetnet.errors import ModelError
from budgetnet.layers import Shape

IMAGES = 8
TIMEOUT = 300  # seconds

_SCRIPT = f"""
import hashlib, importlib.util, sys
from importlib.machinery import SourceFileLoader
sys.modules["budgetnet"] = None  # whoever imports it fails
sys.path = [place for place in sys.path if place]
import torch
from safetensors.torch import load_file
path, name, weights, *shape = sys.argv[1:]
torch.set_num_threads(1)
spec = importlib.util.spec_from_loader("model", SourceFileLoader("model", path))
module = importlib.util.module_from_spec(spec)
sys.dont_write_bytecode = True
spec.loader.exec_module(module)
network = getattr(module, name)().eval()
network.load_state_dict(load_file(weights))
images = torch.rand({IMAGES}, *map(int, shape), generator=torch.Generator().manual_seed(0))
with torch.inference_mode():
    print(hashlib.sha256(network(images).numpy().tobytes()).hexdigest())
"""


def answers_alone(path: Path, name: str, weights: Path, shape: Shape) -> str:
    """Hash of the answers of class ``name`` in ``path``, with its weights, to some fixed images of ``shape`` (C, H, W).

    Raises ModelError with the last line of the error when it does not run.
    """
    command = [sys.executable, "-c", _SCRIPT, str(path.resolve()), name, str(weights.resolve()), *map(str, shape)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False, timeout=TIMEOUT)
    except subprocess.TimeoutExpired:
        raise ModelError(f"{path}: {name} does not run alone: no answer in {TIMEOUT} s") from None
    except OSError as error:
        raise ModelError(f"{path}: {name} does not run alone: {error}") from None
    if done.returncode:
        lines = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
        raise ModelError(f"{path}: {name} does not run alone: {lines[-1]}")
    words = done.stdout.split()
    if not words:
        raise ModelError(f"{path}: {name} does not run alone: it ends without an answer")
    return words[-1]


@torch.inference_mode()
def answers(network: nn.Module, shape: Shape) -> str:
    """The same hash of a network in this process, which has to run on one thread."""
    images = torch.rand(IMAGES, *shape, generator=torch.Generator().manual_seed(0))
    logits: Tensor = network.eval()(images)
    return hashlib.sha256(logits.numpy().tobytes()).hexdigest()
