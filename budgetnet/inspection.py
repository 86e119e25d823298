"""One network as ``budgetnet rf`` looks at it: its table, the measured field of a layer, and a picture of both."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from budgetnet.architecture import Architecture
from budgetnet.errors import ModelError
from budgetnet.generated import generated_from
from budgetnet.layers import Shape
from budgetnet.models import find, load, locate
from budgetnet.notation import is_notation, parse
from budgetnet.table import ReceptiveFieldTable
from budgetnet.tabulate import receptive_field

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor, nn

    from budgetnet.effective import EffectiveField

FORMATS = ("png", "svg", "pdf")
IMAGES = 64  # of a data set, for the measured field


def check_plot(path: Path) -> None:
    """Raise ModelError unless a picture of this name can be written."""
    if path.suffix[1:].lower() not in FORMATS:
        raise ModelError(f"--plot must end in {', '.join('.' + name for name in FORMATS)}, but is {path}")
    if not path.resolve().parent.is_dir():
        raise ModelError(f"--plot: there is no folder {path.resolve().parent}")


@dataclass(frozen=True)
class Inspection:
    """A table, and what makes the module that it is of, for when it must run; a notation has random weights."""

    table: ReceptiveFieldTable
    name: str
    module: Callable[[], nn.Module]

    @classmethod
    def of(
        cls, name: str, input_shape: Shape | None = None, models: Path | None = None, *, strict: bool = False
    ) -> Inspection:
        """What ``name`` stands for: a notation, a class of a file or package; with its weights where it has some.

        Executes the file, unless the class is what its evidence's architecture gives: that is counted without torch.
        Raises ArchitectureError, ModelError, TraceError.
        """
        if is_notation(name):
            architecture = parse(name)
            if input_shape is not None:
                architecture = replace(architecture, input_shape=tuple(input_shape))
            return cls(
                receptive_field(architecture, input_shape, name, strict=strict), name, partial(_built, architecture)
            )
        make = partial(_loaded, name, models)
        path = locate(name, models)
        known = generated_from(path, name.rpartition(":")[2]) if path is not None else None
        if known is not None and input_shape in (None, known.input_shape):
            return cls(receptive_field(known, input_shape, name, strict=strict), name, make)
        module = make()
        return cls(receptive_field(module, input_shape, name, strict=strict), name, lambda: module)

    def measure(self, layer: str | None = None, data: str | None = None) -> EffectiveField:
        """The effective field of a layer, by default the last feature map, over images of ``data`` or noise."""
        from budgetnet.effective import effective_field

        return effective_field(self.module(), self.table.input_shape, self._named(layer), self._images(data))

    def draw(
        self, path: Path, layer: str | None = None, measured: EffectiveField | None = None, data: str | None = None
    ) -> None:
        """Write a picture of what the centre cell of a layer sees. Raises ModelError for what is no image."""
        from budgetnet.field_plot import plot_field

        check_plot(path)
        name = self._named(layer)
        axes = self.table.field(name)
        if len(axes) != 2:
            raise ModelError(f"--plot needs images, but the input of {self.name} is {self.table.input_shape}")
        box = tuple(span for axis in axes if (span := axis.span(len(axis.intervals) // 2)))
        if len(box) < len(axes):
            raise ModelError(f"the centre of {name} sees only padding")
        plot_field(path, f"{self.name}: {name}", self._background(data), box, measured)

    def _named(self, layer: str | None) -> str:
        """The layer, by default that of the last feature map. Raises ModelError where there is none."""
        if layer is None and self.table.feature_layer not in (row.name for row in self.table.rows):
            raise ModelError(f"{self.name} has no feature map; say which layer is meant with --layer")
        return layer or self.table.feature_layer

    def _images(self, data: str | None) -> Tensor | None:
        """Validation images of a data set as its networks are given them; None for noise. Raises DataError."""
        spec = data or ("mnist" if self.table.input_shape == (1, 28, 28) else None)
        if spec is None:
            return None
        from budgetnet.augment import normalise
        from budgetnet.data import load

        found = load(spec, image_shape=self.table.input_shape)
        images = found.search_splits()[1].images
        return normalise(images[:: max(1, len(images) // IMAGES)][:IMAGES], found.mean, found.std)

    def _background(self, data: str | None) -> np.ndarray[Any, Any]:
        """What the picture shows behind the field: the mean image, or plain grey."""
        import numpy as np

        images = self._images(data)
        if images is None:
            return np.full(self.table.input_shape[1:], 0.15)
        mean: np.ndarray[Any, Any] = images.mean((0, 1)).numpy()
        return mean


def _built(architecture: Architecture) -> nn.Module:
    from budgetnet.build import build

    return build(architecture, seed=0)


def _loaded(name: str, models: Path | None) -> nn.Module:
    """The class with its weights where it has some, else with random ones, the same every time."""
    import torch

    weights = find(name, models).weights
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        return load(name, weights is not None and weights.is_file(), models)
