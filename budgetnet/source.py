"""An architecture as the source of one PyTorch class that needs torch alone, written and laid out as a person would.

The lines are those that ``ruff format`` leaves alone at 120 columns, and every constructor is the very ``Call`` that
``build`` runs, so names in the state dict and outputs are the same.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from budgetnet.architecture import Architecture
from budgetnet.fields import Field, fields_of
from budgetnet.graph import bare, input_shapes, origins_of, shape_after, shapes_along, shapes_of
from budgetnet.layers import Call, Conv, Layer, Linear, Part, Pool, Residual, Shape

COLUMNS = 120
INDENT = "    "
IMPORTS = "from torch import Tensor, nn\n"

RESIDUAL = '''\
class Residual(nn.Module):
    """``body(x) + shortcut(x)``; without a shortcut, x itself."""

    def __init__(self, body: nn.Module, shortcut: nn.Module | None = None) -> None:
        super().__init__()
        self.body = body
        self.shortcut = nn.Identity() if shortcut is None else shortcut

    def forward(self, x: Tensor) -> Tensor:
        """Same shape from both branches, summed."""
        total: Tensor = self.body(x) + self.shortcut(x)
        return total
'''


# --- what a layer sees, in words --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Row:
    """One layer that moves or mixes cells: where it is, its call, and what its output sees of the image."""

    name: str
    layer: Layer
    call: Call
    output: Shape
    field: Field

    @property
    def kind(self) -> str:
        """``Conv2d 3 × 3``, with the stride of a convolution where it has one."""
        kernel = times(self.layer.kernel) if isinstance(self.layer, Conv | Pool) else ""
        stride = times(self.layer.stride, short=True) if isinstance(self.layer, Conv) else "1"
        return f"{self.call.name} {kernel}{f', stride {stride}' if stride != '1' else ''}".strip()

    @property
    def size(self) -> str:
        """Cells of the output map, or features once flattened."""
        return times(self.output[1:] or self.output)

    @property
    def jump(self) -> str:
        """Pixels between two neighbouring cells, "–" where the cells are no regular grid."""
        return times(["–" if axis.jump is None else axis.jump for axis in self.field], short=True)

    @property
    def sees(self) -> str:
        """Receptive field in pixels."""
        return times([axis.extent for axis in self.field], short=True)


def rows(architecture: Architecture) -> list[Row]:
    """Every convolution, pooling and linear layer in order."""
    graph, shape = architecture.graph(), architecture.input_shape
    shapes = shapes_of(graph, shape)
    found = []
    for node, output, field in zip(graph, shapes, fields_of(graph, shape), strict=True):
        inputs = input_shapes(node, shapes, shape)
        if _moves(node.layer, inputs[0]):
            found.append(Row(node.name, bare(node.layer), node.layer.call(*inputs), output, field))
    return found


def _moves(layer: Layer, shape: Shape) -> bool:
    """Convolution, pooling and linear layers; flattening only lays the cells out in another order."""
    return isinstance(layer, Linear) or (layer.views(shape) is not None and layer.call(shape).name != "Flatten")


def times(values: Sequence[object], *, short: bool = False) -> str:
    """``26 × 26``; ``short``: one number where all are equal."""
    return str(values[0]) if short and len(set(values)) == 1 else " × ".join(map(str, values))


def batch(shape: Shape) -> str:
    """``(N, 1, 28, 28)``."""
    return f"(N, {', '.join(map(str, shape))})"


# --- the class --------------------------------------------------------------------------------------------------------


def needs_residual(architecture: Architecture) -> bool:
    """Whether the class uses ``Residual``, which is then to stand in the file too."""
    return any(isinstance(part, Residual) for _, parts in architecture.sections() for part in parts)


def class_source(architecture: Architecture, name: str, docstring: str = "") -> str:
    """The source of ``class name(nn.Module)``; the file around it has to import ``Tensor`` and ``nn`` from torch.

    docstring: plain text of the class, lines of at most 116 columns; the shapes of input and output by default.
    """
    lines = [
        f"class {name}(nn.Module):",
        *_docstring(docstring or f"{summary(architecture)}."),
        "",
        f"{INDENT}input_shape = {architecture.input_shape!r}",
        "",
        f"{INDENT}def __init__(self) -> None:",
        f"{INDENT * 2}super().__init__()",
        *_aligned(list(_constructor(architecture))),
        "",
        f"{INDENT}def forward(self, x: Tensor) -> Tensor:",
        f'{INDENT * 2}"""{summary(architecture)}."""',
        *_aligned(list(_forward(architecture))),
        f"{INDENT * 2}return logits",
    ]
    return "\n".join(lines) + "\n"


def summary(architecture: Architecture) -> str:
    """``(N, 1, 28, 28) images → (N, 10) logits``."""
    output = shapes_of(architecture.graph(), architecture.input_shape)[-1]
    return f"{batch(architecture.input_shape)} images → {batch(output)} logits"


def _docstring(text: str) -> list[str]:
    """Indented and quoted; whatever would end the string early is escaped."""
    escaped = text.strip().replace("\\", "\\\\").replace('"""', '\\"\\"\\"')
    lines = [f"{INDENT}{line}".rstrip() for line in escaped.split("\n")]
    lines[0] = f'{INDENT}"""{lines[0].strip()}'
    if len(lines) == 1:
        return [f'{lines[0]}"""']
    return [*lines, f'{INDENT}"""']


@dataclass(frozen=True)
class _Line:
    """A line of code at some depth, and what a comment behind it says."""

    depth: int
    code: str
    comment: str = ""

    @property
    def text(self) -> str:
        return INDENT * self.depth + self.code


def _constructor(architecture: Architecture) -> Iterator[_Line]:
    comments = _comments(rows(architecture))
    shape = architecture.input_shape
    for room, parts in architecture.sections():
        shared = _shared(parts)
        shapes = [shape, *shapes_along(parts, shape)]
        for place, variable in shared.items():
            layer = parts[place]
            assert isinstance(layer, Layer)
            yield _Line(2, f"{variable} = {layer.call(shapes[place])}")
        yield _Line(2, f"self.{room} = nn.Sequential(")
        yield from _sequence(parts, room, shape, 3, comments, shared)
        yield _Line(2, ")")
        shape = shapes[-1]


def _shared(parts: Sequence[Part]) -> dict[int, str]:
    """The variables of the layers that are applied more than once, by their places."""
    repeated = [place for place, count in Counter(origins_of(parts)).items() if count > 1]
    numbers = range(1, len(repeated) + 1)
    return {
        place: f"shared{number if len(repeated) > 1 else ''}" for place, number in zip(repeated, numbers, strict=True)
    }


def _sequence(
    parts: Sequence[Part], path: str, shape: Shape, depth: int, comments: dict[str, str], shared: Mapping[int, str]
) -> Iterator[_Line]:
    """A line or more a part; ``shared``: variables of the layers that are applied more than once, by their places."""
    origins = origins_of(parts)
    for index, (part, after) in enumerate(zip(parts, shapes_along(parts, shape), strict=True)):
        name, origin = f"{path}.{index}", origins[index]
        if isinstance(part, Residual):
            yield from _residual(part, name, shape, depth, comments)
        elif origin in shared:
            use = origins[: index + 1].count(origin)
            applied = f"{path}.{origin}@{use}" if use > 1 else name
            yield _Line(depth, f"{shared[origin]},", comments.get(applied, ""))
        else:
            assert isinstance(part, Layer)
            yield _Line(depth, f"{part.call(shape)},", comments.get(name, ""))
        shape = after


def _residual(part: Residual, name: str, shape: Shape, depth: int, comments: dict[str, str]) -> Iterator[_Line]:
    yield _Line(depth, "Residual(")
    for branch, layers in (("body", part.body), ("shortcut", part.shortcut)):
        if layers:
            yield _Line(depth + 1, f"{branch}=nn.Sequential(")
            yield from _sequence(layers, f"{name}.{branch}", shape, depth + 2, comments, {})
            yield _Line(depth + 1, "),")
    yield _Line(depth, "),")


def _forward(architecture: Architecture) -> Iterator[_Line]:
    shape = architecture.input_shape
    *before, (last, parts) = architecture.sections()
    for room, layers in before:
        shape = shape_after(layers, shape)
        yield _Line(2, f"x = self.{room}(x)", batch(shape))
    yield _Line(2, f"logits: Tensor = self.{last}(x)", batch(shape_after(parts, shape)))


# --- comments ---------------------------------------------------------------------------------------------------------


def _comments(table: Sequence[Row]) -> dict[str, str]:
    """Output size, jump and receptive field of every convolution and pooling, each in a column of its own."""
    maps = [row for row in table if len(row.output) > 1]
    cells = [(row.size, row.jump, row.sees) for row in maps]
    size, jump, sees = (max(map(len, column), default=0) for column in zip(*cells, strict=True)) if cells else (0, 0, 0)
    return {
        row.name: f"{cell[0]:>{size}}, jump {cell[1]:>{jump}}, receptive field {cell[2]:>{sees}}"
        for row, cell in zip(maps, cells, strict=True)
    }


def _aligned(lines: Sequence[_Line]) -> list[str]:
    """Lines with the text of their comments in one column; a comment that does not fit goes above its line.

    Ruff puts a comment two blanks behind the code, so the text is moved, not the hash.
    """
    widest = max((len(line.comment) for line in lines), default=0)
    room = COLUMNS - len("  # ") - widest
    column = max((len(line.text) for line in lines if line.comment and len(line.text) <= room), default=0)
    written: list[str] = []
    for line in lines:
        if line.comment and len(line.text) <= room:
            written.append(f"{line.text}  # {' ' * (column - len(line.text))}{line.comment}")
            continue
        if line.comment:
            written.append(f"{INDENT * line.depth}# {line.comment.strip()}")
        written.extend(_broken(line))
    return written


def _broken(line: _Line) -> list[str]:
    """The line, or, where it is too long, its call with the arguments on a line of their own."""
    if len(line.text) <= COLUMNS:
        return [line.text]
    start, rest = line.code.split("(", 1)
    arguments, end = rest.rsplit(")", 1)
    indent = INDENT * line.depth
    return [f"{indent}{start}(", f"{indent}{INDENT}{arguments}", f"{indent}){end}"]
