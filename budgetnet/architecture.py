"""A network as plain frozen data: a body of blocks and transitions, and a head; its rooms, its graph, its JSON.

The first block is the stem; a pooling transition or a strided block opens the next stage; the head ends in one logit
per class. ``sections`` names those rooms and fills them with layers.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import MISSING, asdict, dataclass, field, fields, replace
from typing import Any

from budgetnet.errors import ArchitectureError
from budgetnet.expansion import expand, piece_shape
from budgetnet.graph import Graph, graph_of
from budgetnet.layers import Part, Shape
from budgetnet.pieces import MOST_PIXELS, Block, Head, Piece, Style, Transition, check_one_of, check_whole


@dataclass(frozen=True)
class Architecture:
    """A whole network for images of ``input_shape`` = (channels, height, width)."""

    body: tuple[Block | Transition, ...]
    head: Head = field(default_factory=Head)
    style: Style = field(default_factory=Style)
    input_shape: Shape = (1, 28, 28)

    def __post_init__(self) -> None:
        if not any(isinstance(piece, Block) for piece in self.body):
            raise ArchitectureError("a network needs at least one block, but got none")
        if not isinstance(self.input_shape, tuple) or len(self.input_shape) != 3:
            raise ArchitectureError(f"input_shape must be (channels, height, width), but got {self.input_shape!r}")
        for name, value in zip(("channels", "height", "width"), self.input_shape, strict=True):
            check_whole(f"input_shape.{name}", value, 1, MOST_PIXELS)

    @property
    def blocks(self) -> tuple[Block, ...]:
        """The blocks without the transitions."""
        return tuple(piece for piece in self.body if isinstance(piece, Block))

    @property
    def widths(self) -> tuple[int, ...]:
        """Output channels of every block."""
        return tuple(block.width for block in self.blocks)

    def with_widths(self, widths: Sequence[int]) -> Architecture:
        """The same network with other widths, one per block. Raises ArchitectureError."""
        if len(widths) != len(self.blocks):
            raise ArchitectureError(
                f"a network of {len(self.blocks)} blocks needs as many widths, but got {len(widths)}"
            )
        remaining = iter(widths)
        body = tuple(
            replace(piece, width=next(remaining)) if isinstance(piece, Block) else piece for piece in self.body
        )
        return Architecture(body, self.head, self.style, self.input_shape)

    def sections(self) -> tuple[tuple[str, tuple[Part, ...]], ...]:
        """Named rooms and their layers: ``stem``, ``stage1``, …, ``head``.

        Raises ArchitectureError when a map vanishes, shapes do not join, or the head leaves more than one cell.
        """
        rooms: list[tuple[str, list[Part]]] = []
        for name, piece, shape in self._walk():
            if not rooms or rooms[-1][0] != name:
                rooms.append((name, []))
            rooms[-1][1].extend(expand(piece, self.style, shape))
        return tuple((name, tuple(layers)) for name, layers in rooms)

    def feature_shape(self) -> Shape:
        """Shape (C, H, W) of the last map before the head."""
        *_, (_, _, shape) = self._walk()
        return shape

    def features(self) -> Graph:
        """The graph without its head: what the receptive field of the last map is read from."""
        return self._graph(self.sections()[:-1])

    def graph(self) -> Graph:
        """All layers in topological order, named by their path in the state dict."""
        return self._graph(self.sections())

    @staticmethod
    def _graph(sections: Sequence[tuple[str, tuple[Part, ...]]]) -> Graph:
        return graph_of([(f"{room}.{i}", part) for room, parts in sections for i, part in enumerate(parts)])

    def _walk(self) -> Iterator[tuple[str, Piece, Shape]]:
        """Every piece with the name of its room and the shape that enters it."""
        shape = self.input_shape
        for position, (name, piece) in enumerate(zip(self.rooms(), self.body, strict=True)):
            yield name, piece, shape
            try:
                shape = piece_shape(piece, self.style, shape)
            except ArchitectureError as error:
                raise self.located(error, position) from None
        yield "head", self.head, shape

    def rooms(self) -> list[str]:
        """The room of every piece of the body: ``stem``, ``stage1``, …"""
        rooms, stage, seen_block = [], 0, False
        for piece in self.body:
            opens = isinstance(piece, Transition) or piece.stride > 1
            if seen_block and (opens or stage == 0):
                stage += 1
            rooms.append(f"stage{stage}" if stage else "stem")
            seen_block = seen_block or isinstance(piece, Block)
        return rooms

    def located(self, error: ArchitectureError, position: int) -> ArchitectureError:
        """``error`` with the room of the piece at ``position`` in front; the head names itself."""
        if position == len(self.body):
            return error
        return ArchitectureError(f"{self.rooms()[position]}: {error}")

    def to_dict(self) -> dict[str, Any]:
        """JSON-able; every field written out, but ``loops``, younger than frozen models, only where there are any."""
        body = [{"type": type(piece).__name__.lower(), **asdict(piece)} for piece in self.body]
        for piece in body:
            if not piece.get("loops", True):
                del piece["loops"]
        rest = {"head": asdict(self.head), "style": asdict(self.style), "input_shape": list(self.input_shape)}
        return {"body": body, **rest}

    @staticmethod
    def from_dict(data: Mapping[str, Any]) -> Architecture:
        """Inverse of ``to_dict``. Raises ArchitectureError that names the field."""
        _known("architecture", data, ("body", "head", "style", "input_shape"))
        if "body" not in data:
            raise ArchitectureError("architecture.body is missing")
        return Architecture(
            tuple(_piece(index, item) for index, item in enumerate(_listed("body", data["body"]))),
            _record(Head, "head", data.get("head", {})),
            _record(Style, "style", data.get("style", {})),
            tuple(_listed("input_shape", data.get("input_shape", (1, 28, 28)))),
        )

    def __str__(self) -> str:
        from budgetnet.notation import write

        return write(self)


# --- reading records from JSON ----------------------------------------------------------------------------------------


def _known(place: str, data: Mapping[str, Any], allowed: Sequence[str]) -> None:
    if not isinstance(data, Mapping):
        raise ArchitectureError(f"{place} must be a mapping, but got {data!r}")
    for key in data:
        if key not in allowed:
            raise ArchitectureError(f"{place} has no field {key!r}; it has {', '.join(allowed)}")


def _listed(place: str, data: Any) -> Sequence[Any]:
    if not isinstance(data, list | tuple):
        raise ArchitectureError(f"{place} must be a list, but got {data!r}")
    return data


def _record(kind: Any, place: str, data: Mapping[str, Any]) -> Any:
    _known(place, data, [item.name for item in fields(kind)])
    for item in fields(kind):
        if item.default is MISSING and item.name not in data:
            raise ArchitectureError(f"{place}.{item.name} is missing")
    values = {key: tuple(value) if isinstance(value, list) else value for key, value in data.items()}
    try:
        return kind(**values)
    except ArchitectureError as error:
        raise ArchitectureError(f"{place}: {error}") from None


def _piece(index: int, data: Mapping[str, Any]) -> Block | Transition:
    place = f"body[{index}]"
    kinds = {"block": Block, "transition": Transition}
    if not isinstance(data, Mapping):
        raise ArchitectureError(f"{place} must be a mapping, but got {data!r}")
    check_one_of(f"{place}.type", data.get("type"), tuple(kinds))
    piece: Block | Transition = _record(kinds[data["type"]], place, {k: v for k, v in data.items() if k != "type"})
    return piece
