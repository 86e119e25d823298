"""The one-line notation of an architecture, as the tables of this field write it: ``8 12 M c12 c12 14 16``.

    network  = ["[" setting … "]"] piece … ["|" head]
    setting  = CxHxW (input, default 1x28x28) · bn-relu | relu-bn | relu (any activation; default bn-relu) · bias
             · @dropout (of every block that does not write its own)
    piece    = M | A (max, average pooling by 2; M3 by 3) | block
    block    = flags [HxW:] width [^loops] [*] [/stride] [%dilation] [gGroups] [pPadding] [@dropout]
    flags    = c padded to keep the map's size · s depthwise-separable, padded · r residual, padded · v not padded
    head     = gap | avgK (before or after the classifier, or neither) · 1x1:N | fc:N · nobias

A kernel is 3x3 unless written (``1x1:10``); ``*`` is a bare convolution without norm and activation; ``c12^3`` is
``c12`` and then one more convolution, applied three times with the same weights. The head is
``gap 1x1:10`` unless written. ``write(parse(text))`` is the shortest form, ``parse(write(a)) == a`` for every a.
"""

from __future__ import annotations

import re

from budgetnet.architecture import Architecture
from budgetnet.errors import ArchitectureError
from budgetnet.layers import ACTIVATIONS, Shape
from budgetnet.pieces import Block, Head, Pair, Style, Transition, same_padding

_KINDS = {"": "plain", "s": "separable", "r": "residual"}
_LETTERS = {kind: letter for letter, kind in _KINDS.items()}
_POOLS = {"M": "max", "A": "avg"}

# Nine digits are more than any rule allows, so that an absurd number is told apart before it is computed with.
_N = r"[0-9]{1,9}"
_DROPOUT = r"@[0-9]*\.?[0-9]+(?:e-[0-9]+)?"
_BLOCK = re.compile(
    rf"(?P<pad>[cv]?)(?P<kind>[sr]?)(?:(?P<kernel>{_N}x{_N}):)?(?P<width>{_N})(?:\^(?P<loops>{_N}))?(?P<bare>\*?)"
    rf"(?:/(?P<stride>{_N}))?(?:%(?P<dilation>{_N}))?(?:g(?P<groups>{_N}))?(?:p(?P<padding>{_N}(?:x{_N})?))?"
    rf"(?P<dropout>{_DROPOUT})?"
)
_POOL = re.compile(rf"([MA])({_N})?")


def parse(text: str) -> Architecture:
    """The architecture that ``text`` describes. Raises ArchitectureError that names the token it cannot read."""
    match = re.fullmatch(r"\s*(?:\[([^\]]*)\])?([^|\[\]]*)(?:\|([^|\[\]]*))?", text)
    if match is None:
        raise ArchitectureError(f"notation must read '[settings] pieces | head', but got {_shown(text)}")
    settings, pieces, head = (group.split() if group is not None else None for group in match.groups())
    shared, rest = _split_dropout(settings or [])
    style, input_shape = _parse_settings(rest)
    body = tuple(_parse_piece(token, shared) for token in pieces or [])
    return Architecture(body, Head() if head is None else _parse_head(head), style, input_shape)


def written(text: str) -> dict[str, bool]:
    """Which of ``input`` and ``classes`` a notation says itself, instead of leaving them to the default."""
    settings = re.match(r"\s*\[([^\]]*)\]", text)
    shape = any(re.fullmatch(rf"{_N}(x{_N})+", token) for token in (settings[1].split() if settings else []))
    return {"input": shape, "classes": "|" in text}


def is_notation(text: str) -> bool:
    """Whether ``text`` is meant as a notation, not as the name of a class or file: its end or its first piece tells."""
    if re.search(r"\.py(:\w*)?\s*$", text):
        return False
    first = re.sub(r"^\s*\[[^\]]*\]", "", text).split()
    return " " in text.strip() or not first or bool(_BLOCK.fullmatch(first[0]) or _POOL.fullmatch(first[0]))


def write(architecture: Architecture) -> str:
    """The shortest notation of ``architecture``."""
    shared = _shared_dropout(architecture)
    settings = _write_settings(architecture.style, architecture.input_shape, shared)
    body = [_write_piece(piece, shared) for piece in architecture.body]
    head = [] if architecture.head == Head() else ["|", *_write_head(architecture.head)]
    return " ".join([*settings, *body, *head])


def write_rooms(architecture: Architecture) -> dict[str, str]:
    """What ``write`` writes of each room, ``stem``, ``stage1`` …, ``head``; the settings and a usual head included."""
    shared = _shared_dropout(architecture)
    rooms: dict[str, list[str]] = {}
    for room, piece in zip(architecture.rooms(), architecture.body, strict=True):
        rooms.setdefault(room, []).append(_write_piece(piece, shared))
    rooms["head"] = _write_head(architecture.head)
    return {room: " ".join(pieces) for room, pieces in rooms.items()}


def _shared_dropout(architecture: Architecture) -> float:
    """The dropout that is worth writing once: that of all blocks, where there are several; else 0."""
    dropouts = {block.dropout for block in architecture.blocks}
    return dropouts.pop() if len(dropouts) == 1 and len(architecture.blocks) > 1 else 0.0


def _split_dropout(settings: list[str]) -> tuple[float, list[str]]:
    """The dropout that the settings give to every block, and the other settings."""
    given = [token for token in settings if token.startswith("@")]
    if not given:
        return 0.0, settings
    if len(given) > 1 or not re.fullmatch(_DROPOUT, given[0]):
        raise ArchitectureError(f"a dropout is given once, like @0.05, but got {_shown(' '.join(given))}")
    return float(given[0][1:]), [token for token in settings if token not in given]


def _parse_settings(tokens: list[str]) -> tuple[Style, Shape]:
    style = Style()
    input_shape: Shape = (1, 28, 28)
    given = []
    for token in tokens:
        if re.fullmatch(rf"{_N}x{_N}x{_N}", token):
            given.append("input")
            input_shape = parse_shape(token)
        elif token == "bias":
            given.append("bias")
            style = Style(style.norm, style.activation, bias=True)
        else:
            given.append("order")
            norm, activation = _parse_order(token)
            style = Style(norm, activation, style.bias)
    if len(set(given)) < len(given):
        raise ArchitectureError(f"a setting is given once, but got {_shown(' '.join(tokens))}")
    return style, input_shape


def _parse_order(token: str) -> tuple[str, str]:
    for activation in ACTIVATIONS:
        for norm, order in _orders(activation).items():
            if token == order:
                return norm, activation
    raise ArchitectureError(f"a setting is CxHxW, bn-relu, relu-bn, relu or bias, but got {_shown(token)}")


def _orders(activation: str) -> dict[str, str]:
    """How each place of the norm is written."""
    return {"before": f"bn-{activation}", "after": f"{activation}-bn", "none": activation}


def _write_settings(style: Style, input_shape: Shape, dropout: float) -> list[str]:
    order = _orders(style.activation)[style.norm]
    settings = [
        *(["x".join(map(str, input_shape))] if input_shape != (1, 28, 28) else []),
        *([order] if order != "bn-relu" else []),
        *(["bias"] if style.bias else []),
        *([f"@{dropout!r}"] if dropout else []),
    ]
    return [f"[{' '.join(settings)}]"] if settings else []


def _parse_piece(token: str, dropout: float) -> Block | Transition:
    pool, block = _POOL.fullmatch(token), _BLOCK.fullmatch(token)
    try:
        if pool:
            return Transition(_POOLS[pool[1]], int(pool[2] or 2))
        if block:
            return _parse_block(block, dropout)
    except ArchitectureError as error:
        raise ArchitectureError(f"{_shown(token)}: {error}") from None
    raise ArchitectureError(f"a piece is a width such as 12, c12, s12, r12, 1x1:10*, or M, but got {_shown(token)}")


def _parse_block(match: re.Match[str], dropout: float) -> Block:
    kernel = parse_pair(match["kernel"] or "3x3")
    dilation = int(match["dilation"] or 1)
    kind = _KINDS[match["kind"]]
    return Block(
        width=int(match["width"]),
        kind=kind,
        kernel=kernel,
        stride=int(match["stride"] or 1),
        padding=_parse_padding(match["pad"], match["padding"], kind, kernel, dilation),
        dilation=dilation,
        groups=int(match["groups"] or 1),
        bare=bool(match["bare"]),
        dropout=dropout if match["dropout"] is None else float(match["dropout"][1:]),
        loops=int(match["loops"] or 0),
    )


def _parse_padding(flag: str, written: str | None, kind: str, kernel: Pair, dilation: int) -> Pair:
    if written and flag:
        raise ArchitectureError(f"{flag} and p{written} both say the padding")
    if written:
        return parse_pair(written)
    padded = flag == "c" or (kind != "plain" and flag != "v")
    return same_padding(kernel, dilation) if padded else (0, 0)


def _write_piece(piece: Block | Transition, shared_dropout: float) -> str:
    if isinstance(piece, Transition):
        letter = "M" if piece.kind == "max" else "A"
        return letter if piece.kernel == 2 else f"{letter}{piece.kernel}"
    flag, padding = _write_padding(piece)
    kernel = "" if piece.kernel == (3, 3) else f"{piece.kernel[0]}x{piece.kernel[1]}:"
    return "".join(
        [
            f"{flag}{_LETTERS[piece.kind]}{kernel}{piece.width}",
            f"^{piece.loops}" if piece.loops else "",
            "*" if piece.bare else "",
            f"/{piece.stride}" if piece.stride > 1 else "",
            f"%{piece.dilation}" if piece.dilation > 1 else "",
            f"g{piece.groups}" if piece.groups > 1 else "",
            padding,
            f"@{piece.dropout!r}" if piece.dropout != shared_dropout else "",
        ]
    )


def _write_padding(block: Block) -> tuple[str, str]:
    """The flag and the suffix that say how a block is padded."""
    odd = block.kernel[0] % 2 == 1 and block.kernel[1] % 2 == 1
    same = same_padding(block.kernel, block.dilation) if odd else None
    if block.padding == _parse_padding("v" if same is None else "", None, block.kind, block.kernel, block.dilation):
        return ("v" if same is None and block.kind != "plain" else ""), ""
    if block.padding == same:
        return "c", ""
    if block.padding == (0, 0):
        return "v", ""
    high, wide = block.padding
    return "", f"p{high}" if high == wide else f"p{high}x{wide}"


def _parse_head(tokens: list[str]) -> Head:
    kind, classes, pool, order, bias = "", 0, None, [], True
    for token in tokens:
        if token == "gap" or re.fullmatch(rf"avg{_N}", token):
            pool = "global" if token == "gap" else int(token[3:])
            order.append("pool")
        elif re.fullmatch(rf"(1x1|fc):{_N}", token):
            kind, classes = ("conv" if token.startswith("1x1") else "linear"), int(token.partition(":")[2])
            order.append("classifier")
        elif token == "nobias":
            bias = False
        else:
            raise ArchitectureError(f"a head is made of gap, avg4, 1x1:10, fc:10 and nobias, but got {_shown(token)}")
    if order.count("classifier") != 1 or order.count("pool") > 1:
        raise ArchitectureError(
            f"a head needs one classifier and at most one pooling, but got {_shown(' '.join(tokens))}"
        )
    return Head(classes, kind, pool, order[0] if pool is not None else "pool", bias)


def _write_head(head: Head) -> list[str]:
    pool = [] if head.pool is None else ["gap" if head.pool == "global" else f"avg{head.pool}"]
    classifier = [f"{'1x1' if head.kind == 'conv' else 'fc'}:{head.classes}"]
    order = [*pool, *classifier] if head.first == "pool" else [*classifier, *pool]
    return order if head.bias else [*order, "nobias"]


def parse_pair(text: str) -> Pair:
    """``"3x5"`` → (3, 5); ``"3"`` → (3, 3)."""
    first, _, second = text.partition("x")
    return int(first), int(second or first)


def parse_shape(text: str) -> Shape:
    """``"1x28x28"`` → (1, 28, 28). Raises ArchitectureError."""
    if not re.fullmatch(rf"{_N}(x{_N})+", text):
        raise ArchitectureError(f"a shape is written like 1x28x28, but got {_shown(text)}")
    return tuple(map(int, text.split("x")))


def _shown(text: str) -> str:
    """Quoted for a message, and cut where it is too long to read."""
    return repr(text if len(text) <= 60 else f"{text[:59]}…")
