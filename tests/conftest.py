"""What all tests share: a small data set of real MNIST images, and hypothesis settings that repeat themselves."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, settings

settings.register_profile(
    "repeatable", derandomize=True, deadline=None, max_examples=40, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("repeatable")


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
