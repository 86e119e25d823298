"""Layers as frozen records: each knows its output shape, params, MACs, what it sees, and its torch constructor.

A shape is ``(channels, *map)`` without the batch, or ``(features,)`` once flattened. Adding a layer type means writing
one record here: counting, receptive field, building and source code are folds that ask the record.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

from budgetnet.errors import ArchitectureError
from budgetnet.views import Adaptive, Slide, View

Shape = tuple[int, ...]

ACTIVATIONS = {
    "relu": "ReLU",
    "leaky_relu": "LeakyReLU",
    "elu": "ELU",
    "gelu": "GELU",
    "silu": "SiLU",
    "mish": "Mish",
    "hardswish": "Hardswish",
    "tanh": "Tanh",
    "sigmoid": "Sigmoid",
}


# --- how a layer is written in torch ----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Call:
    """A constructor call in ``torch.nn``: ``build`` runs it, ``freeze`` writes it down."""

    name: str
    args: tuple[object, ...] = ()
    kwargs: tuple[tuple[str, object], ...] = ()

    def __str__(self) -> str:
        arguments = [repr(value) for value in self.args] + [f"{key}={value!r}" for key, value in self.kwargs]
        return f"nn.{self.name}({', '.join(arguments)})"


def _short(values: tuple[int, ...]) -> int | tuple[int, ...]:
    """``(3, 3)`` → ``3``: torch takes both, people write the second."""
    return values[0] if len(set(values)) == 1 else values


def _times(values: Sequence[int]) -> str:
    return " × ".join(map(str, values))


# --- records ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Layer:
    """Base record: one input, same shape out, no parameters, no MACs, every cell sees itself."""

    @property
    def in_place(self) -> bool:
        """Whether the result can overwrite the input, so that no second buffer is alive."""
        return False

    def out_shape(self, *shapes: Shape) -> Shape:
        """Shape of the output. Raises ArchitectureError where the layer cannot be applied."""
        return shapes[0]

    def params(self, *shapes: Shape) -> int:
        """Elements of all learned parameters."""
        return 0

    def macs(self, *shapes: Shape) -> int:
        """Multiply-accumulates of convolutions and matrix products at batch 1."""
        return 0

    def views(self, shape: Shape) -> tuple[View, ...] | None:
        """Per map axis, what each output index sees of the input; None when every cell sees itself."""
        return None

    def strict_views(self, shape: Shape) -> tuple[View, ...] | None:
        """``views``, with what statistics of the map let a cell see as well."""
        return self.views(shape)

    def followed(self, *shapes: Shape) -> tuple[int, ...]:
        """Which of its inputs a receptive field is followed through: all but gates."""
        return tuple(range(len(shapes)))

    def call(self, *shapes: Shape) -> Call:
        """The torch constructor for inputs of these shapes."""
        raise NotImplementedError(type(self).__name__)


@dataclass(frozen=True, slots=True)
class _Windowed(Layer):
    """What convolution and pooling share: a window over every axis of the map."""

    kernel: tuple[int, ...] = (3, 3)
    stride: tuple[int, ...] = (1, 1)
    padding: tuple[int, ...] = (0, 0)
    dilation: tuple[int, ...] = (1, 1)
    ceil_mode: bool = False

    def _outputs(self, axis: int, size: int) -> int:
        """Cells along one axis (torch.nn.Conv2d and MaxPool2d, "Shape")."""
        kernel, stride, padding = self.kernel[axis], self.stride[axis], self.padding[axis]
        span = size + 2 * padding - self.dilation[axis] * (kernel - 1) - 1
        outputs = (span + (stride - 1 if self.ceil_mode else 0)) // stride + 1
        if self.ceil_mode and (outputs - 1) * stride >= size + padding:
            outputs -= 1  # torch: the last window must start inside the input or the left padding
        return max(0, outputs)

    def map_shape(self, shape: Shape) -> Shape:
        """Output map of an input ``(C, *map)``. Raises ArchitectureError when nothing is left of it."""
        if len(shape) != len(self.kernel) + 1:
            raise ArchitectureError(f"{self.title} needs a map of {len(self.kernel)} axes, but its input is {shape}")
        outputs = tuple(self._outputs(axis, size) for axis, size in enumerate(shape[1:]))
        if min(outputs) < 1:
            raise ArchitectureError(
                f"{self.title} {_times(self.kernel)} leaves nothing of a map of {_times(shape[1:])} cells"
            )
        return outputs

    @property
    def title(self) -> str:
        return "convolution"

    def views(self, shape: Shape) -> tuple[View, ...] | None:
        return tuple(
            Slide(self.kernel[a], self.stride[a], self.padding[a], self.dilation[a], outputs)
            for a, outputs in enumerate(self.map_shape(shape))
        )

    def _window_kwargs(self, default_stride: tuple[int, ...]) -> tuple[tuple[str, object], ...]:
        """``stride``, ``padding`` and ``dilation``, each only where it is not what torch assumes."""
        axes = len(self.kernel)
        named = (
            ("stride", self.stride, default_stride),
            ("padding", self.padding, (0,) * axes),
            ("dilation", self.dilation, (1,) * axes),
        )
        return tuple((name, _short(value)) for name, value, default in named if value != default)


@dataclass(frozen=True, slots=True)
class Conv(_Windowed):
    """Convolution to ``width`` channels. MACs: one per weight and output cell; the bias adds none."""

    width: int = 1
    groups: int = 1
    bias: bool = False

    def _fan_in(self, shape: Shape) -> int:
        if shape[0] % self.groups or self.width % self.groups:
            raise ArchitectureError(
                f"groups must divide both widths, but got groups={self.groups} for {shape[0]} → {self.width} channels"
            )
        return shape[0] // self.groups * prod(self.kernel)

    def out_shape(self, *shapes: Shape) -> Shape:
        outputs = self.map_shape(shapes[0])
        self._fan_in(shapes[0])  # or groups that do not divide the widths would pass as a network
        return (self.width, *outputs)

    def params(self, *shapes: Shape) -> int:
        return self.width * (self._fan_in(shapes[0]) + self.bias)

    def macs(self, *shapes: Shape) -> int:
        return prod(self.out_shape(shapes[0])) * self._fan_in(shapes[0])

    def call(self, *shapes: Shape) -> Call:
        kwargs = self._window_kwargs((1,) * len(self.kernel))
        if self.groups != 1:
            kwargs += (("groups", self.groups),)
        if not self.bias:
            kwargs += (("bias", False),)
        return Call(f"Conv{len(self.kernel)}d", (shapes[0][0], self.width, _short(self.kernel)), kwargs)


@dataclass(frozen=True, slots=True)
class Pool(_Windowed):
    """Max or average pooling (``kind`` "max" or "avg"). An average sees its padding as zeros, like torch's default."""

    kind: str = "max"

    @property
    def title(self) -> str:
        return f"{self.kind} pooling"

    def out_shape(self, *shapes: Shape) -> Shape:
        return (shapes[0][0], *self.map_shape(shapes[0]))

    def call(self, *shapes: Shape) -> Call:
        kwargs = self._window_kwargs(self.kernel)
        if self.ceil_mode:
            kwargs += (("ceil_mode", True),)
        return Call(f"{self.kind.capitalize()}Pool{len(self.kernel)}d", (_short(self.kernel),), kwargs)


@dataclass(frozen=True, slots=True)
class AdaptivePool(Layer):
    """Adaptive pooling to a map of ``output`` cells; 1 × 1 is global pooling."""

    output: tuple[int, ...] = (1, 1)
    kind: str = "avg"

    def out_shape(self, *shapes: Shape) -> Shape:
        if len(shapes[0]) != len(self.output) + 1:
            raise ArchitectureError(f"pooling needs a map of {len(self.output)} axes, but its input is {shapes[0]}")
        return (shapes[0][0], *self.output)

    def views(self, shape: Shape) -> tuple[View, ...] | None:
        return tuple(Adaptive(outputs) for outputs in self.output)

    def call(self, *shapes: Shape) -> Call:
        return Call(f"Adaptive{self.kind.capitalize()}Pool{len(self.output)}d", (_short(self.output),))


@dataclass(frozen=True, slots=True)
class BatchNorm(Layer):
    """Batch normalisation: a scale and a shift per channel; the running statistics are buffers, not params."""

    @property
    def in_place(self) -> bool:
        return True

    def params(self, *shapes: Shape) -> int:
        return 2 * shapes[0][0]

    def call(self, *shapes: Shape) -> Call:
        return Call(f"BatchNorm{max(len(shapes[0]) - 1, 1)}d", (shapes[0][0],))


@dataclass(frozen=True, slots=True)
class Activation(Layer):
    """An elementwise non-linearity, named as in ACTIVATIONS."""

    kind: str = "relu"

    @property
    def in_place(self) -> bool:
        return True

    def call(self, *shapes: Shape) -> Call:
        return Call(ACTIVATIONS[self.kind])


@dataclass(frozen=True, slots=True)
class Dropout(Layer):
    """Zeroes each element with probability ``p`` while training."""

    p: float = 0.0

    @property
    def in_place(self) -> bool:
        return True

    def call(self, *shapes: Shape) -> Call:
        return Call("Dropout", (self.p,))


@dataclass(frozen=True, slots=True)
class Identity(Layer):
    """Nothing happens."""

    @property
    def in_place(self) -> bool:
        return True

    def call(self, *shapes: Shape) -> Call:
        return Call("Identity")


@dataclass(frozen=True, slots=True)
class Flatten(Layer):
    """``(C, *map)`` → ``(C · cells,)``; the values do not move, so it needs no second buffer."""

    @property
    def in_place(self) -> bool:
        return True

    def out_shape(self, *shapes: Shape) -> Shape:
        return (prod(shapes[0]),)

    def views(self, shape: Shape) -> tuple[View, ...] | None:
        return tuple(Adaptive(1) for _ in shape[1:])

    def call(self, *shapes: Shape) -> Call:
        return Call("Flatten")


@dataclass(frozen=True, slots=True)
class Linear(Layer):
    """A matrix product over the last axis of a flattened input, to ``width`` features."""

    width: int = 1
    bias: bool = True

    def out_shape(self, *shapes: Shape) -> Shape:
        if len(shapes[0]) != 1:
            raise ArchitectureError(f"a linear layer needs a flattened input, but got the shape {shapes[0]}")
        return (self.width,)

    def params(self, *shapes: Shape) -> int:
        return self.width * (prod(shapes[0]) + self.bias)

    def macs(self, *shapes: Shape) -> int:
        return self.width * prod(shapes[0])

    def call(self, *shapes: Shape) -> Call:
        return Call("Linear", (shapes[0][0], self.width), () if self.bias else (("bias", False),))


@dataclass(frozen=True, slots=True)
class Add(Layer):
    """Elementwise sum of its inputs; the first input's buffer holds the result."""

    @property
    def in_place(self) -> bool:
        return True

    def out_shape(self, *shapes: Shape) -> Shape:
        if len(set(shapes)) != 1:
            raise ArchitectureError(f"a sum needs inputs of one shape, but got {' and '.join(map(str, shapes))}")
        return shapes[0]


@dataclass(frozen=True, slots=True)
class Multiply(Add):
    """Elementwise product of its inputs, all of one shape."""


@dataclass(frozen=True, slots=True)
class Concat(Layer):
    """Inputs side by side along the channels; their maps must agree."""

    def out_shape(self, *shapes: Shape) -> Shape:
        if len({shape[1:] for shape in shapes}) != 1:
            raise ArchitectureError(f"a concat needs maps of one size, but got {' and '.join(map(str, shapes))}")
        return (sum(shape[0] for shape in shapes), *shapes[0][1:])


@dataclass(frozen=True, slots=True)
class Residual:
    """``body(x) + shortcut(x)``; an empty shortcut is the input itself."""

    body: tuple[Layer, ...]
    shortcut: tuple[Layer, ...] = ()


@dataclass(frozen=True, slots=True)
class Again:
    """The layer ``back`` places before, applied once more: the same weights, which count once."""

    back: int


Part = Layer | Residual | Again
