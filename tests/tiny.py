"""A search space and requests so small that a search takes seconds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from budgetnet.plan import Request

TINY: dict[str, Any] = {
    "name": "tiny",
    "require": {"receptive_field": 5},
    "network": {
        "stem": {"width": {"min": 0.5, "max": 1.0}},
        "stages": [
            {"depth": 1, "padding": {"choices": ["valid", "same"]}},
            {"depth": {"min": 1, "max": 2}, "width": {"min": 1.0, "max": 2.0}},
        ],
    },
    "recipe": {"learning_rate": {"min": 0.02, "max": 0.2, "log": True}, "batch_size": 64},
}


def write_space(folder: Path, **changes: Any) -> Path:
    """The tiny space as a YAML file, with top-level fields changed."""
    path = folder / "tiny.yaml"
    path.write_text(yaml.safe_dump({**TINY, **changes}))
    return path


def tiny_request(folder: Path, images: Path, **options: Any) -> Request:
    """A search of the tiny space over the small data set, in this process, kept under ``folder``."""
    if not (folder / "tiny.yaml").exists():
        write_space(folder)
    defaults = {"budget": 600, "trials": 3, "epochs": 3, "workers": 0, "pruner": "none", "device": "cpu"}
    merged = {
        "space": str(folder / "tiny.yaml"),
        "data": str(images),
        "root": folder / "studies",
        **defaults,
        **options,
    }
    return Request(**merged)
