"""Hypothesis strategies for architectures: everything an Architecture can say, valid by construction.

Pieces are drawn freely; those that do not fit the map that reaches them are left out, and the head is chosen to suit
what remains. So every example is a network, and shrinking drops pieces.
"""

from __future__ import annotations

from hypothesis import strategies as st

from budgetnet.architecture import Architecture
from budgetnet.errors import ArchitectureError
from budgetnet.expansion import piece_shape
from budgetnet.layers import ACTIVATIONS, Shape
from budgetnet.pieces import BLOCKS, NORMS, POOLS, Block, Head, Pair, Style, Transition, same_padding

DROPOUTS = st.just(0.0) | st.floats(0.0, 0.9)


def styles() -> st.SearchStrategy[Style]:
    return st.builds(Style, st.sampled_from(NORMS), st.sampled_from(sorted(ACTIVATIONS)), st.booleans())


def kernels(most: int = 5) -> st.SearchStrategy[Pair]:
    """Square ones first, for shrinking; then rectangular, even and odd."""
    sizes = st.integers(1, most)
    return st.just((3, 3)) | sizes.map(lambda k: (k, k)) | st.tuples(sizes, sizes)


@st.composite
def blocks(draw: st.DrawFn, max_width: int = 9, kind: str | None = None) -> Block:
    """Any block that is valid by itself; ``groups`` divide its own width."""
    kind = kind or draw(st.sampled_from(BLOCKS))
    kernel = draw(kernels())
    dilation = draw(st.sampled_from((1, 1, 1, 2, 3)))
    odd = kernel[0] % 2 == 1 and kernel[1] % 2 == 1
    if kind == "residual" and not odd:
        kernel, odd = (3, 3), True
    paddings = [same_padding(kernel, dilation)] if odd else []
    if kind != "residual":
        paddings += [(0, 0), draw(st.tuples(st.integers(0, 3), st.integers(0, 3)))]
    groups = 1 if kind == "separable" else draw(st.sampled_from((1, 1, 1, 2, 3)))
    is_bare = kind == "plain" and draw(st.sampled_from((False, False, True)))
    return Block(
        width=groups * draw(st.integers(1, max(1, max_width // groups))),
        kind=kind,
        kernel=kernel,
        stride=draw(st.sampled_from((1, 1, 1, 2, 3))),
        padding=draw(st.sampled_from(paddings)),
        dilation=dilation,
        groups=groups,
        bare=is_bare,
        dropout=draw(DROPOUTS),
        loops=0 if is_bare or kind == "residual" else draw(st.sampled_from((0, 0, 0, 1, 3))),
    )


def transitions() -> st.SearchStrategy[Transition]:
    return st.builds(Transition, st.sampled_from(POOLS), st.sampled_from((2, 2, 3)))


@st.composite
def heads(draw: st.DrawFn, shape: Shape) -> Head:
    """Any head that leaves one cell of a map of ``shape``."""
    fits: list[int | str | None] = ["global"]
    fits += [k for k in range(1, min(shape[1:]) + 1) if shape[1] // k == shape[2] // k == 1]
    if shape[1:] == (1, 1):
        fits.append(None)
    kind = draw(st.sampled_from(("conv", "linear")))
    any_pool = [None, "global", *range(1, min(shape[1:]) + 1)]
    pool = draw(st.sampled_from(fits if kind == "conv" else any_pool))
    may_lead = kind == "conv" and pool is not None
    first = draw(st.sampled_from(("pool", "classifier"))) if may_lead else "pool"
    return Head(draw(st.integers(1, 11)), kind, pool, first, draw(st.booleans()))


@st.composite
def architectures(draw: st.DrawFn, max_width: int = 9, max_pieces: int = 6, max_side: int = 16) -> Architecture:
    """A network of one to ``max_pieces`` pieces on a small image, rarely square."""
    side = st.integers(4, max_side)
    shape = (draw(st.integers(1, 3)), draw(side), draw(side))
    style, input_shape, body = draw(styles()), shape, []
    for piece in draw(st.lists(blocks(max_width) | blocks(max_width) | transitions(), min_size=1, max_size=max_pieces)):
        try:
            shape = piece_shape(piece, style, shape)
        except ArchitectureError:
            continue
        body.append(piece)
    if not any(isinstance(piece, Block) for piece in body):
        body.append(Block(draw(st.integers(1, max_width)), kernel=(1, 1)))
        shape = piece_shape(body[-1], style, shape)
    return Architecture(tuple(body), draw(heads(shape)), style, input_shape)
