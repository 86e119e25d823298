"""What all tests share: hypothesis profiles, and a small data set of real MNIST images.

``ci`` (the default) draws the same examples in every run; ``HYPOTHESIS_PROFILE=thorough pytest`` draws many new ones.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, settings

torch.set_num_threads(1)

settings.register_profile(
    "ci",
    derandomize=True,
    deadline=None,
    max_examples=40,
    database=None,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.register_profile(
    "thorough",
    settings.get_profile("ci"),
    derandomize=False,
    max_examples=1000,
)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))


@pytest.fixture(autouse=True)
def environment_of_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a caller's environment says of colours, widths and clusters is not what is tested."""
    for name in ("FORCE_COLOR", "NO_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE", "COLUMNS", "LINES", "RAY_ADDRESS"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def every_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every epoch is kept, however short it is."""
    monkeypatch.setattr("budgetnet.checkpoint.EVERY", 0.0)


@pytest.fixture(scope="session")
def small_mnist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An .npz of 720 training and 300 test images of MNIST: enough to learn something in a second."""
    from budgetnet.data import load

    training, test = load("mnist").limited(720, 300).final_splits()
    path = tmp_path_factory.mktemp("data") / "small.npz"
    np.savez(
        path,
        x_train=training.images.numpy()[:, 0],
        y_train=training.labels.numpy(),
        x_test=test.images.numpy()[:, 0],
        y_test=test.labels.numpy(),
    )
    return path
