"""A search space, from which a trial draws the shape of a network and its recipe.

Shape means relative widths, depths, kernels, where to downsample – and the share of the budget to fill. The widths
themselves come from ``budget.fit``, so every candidate that is trained is under the budget.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import floor
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, field_validator

from budgetnet.architecture import Architecture
from budgetnet.budget import Limits, Width, fit
from budgetnet.cost import Cost, cost
from budgetnet.dimension import Dimension, RandomDraw, Suggester, dimension, kernel_size, one_of, real, whole
from budgetnet.errors import ArchitectureError, BudgetError, RecipeError, SpaceError
from budgetnet.fields import extent, feature_field
from budgetnet.layers import ACTIVATIONS
from budgetnet.pieces import BLOCKS, NORMS, POOLS, Block, Head, Pair, Style, Transition, same_padding
from budgetnet.recipe import Recipe

DRAWS = 3000  # random shapes looked at before a budget is called out of reach
INPUT, CLASSES = (1, 28, 28), 10  # of MNIST
UNIT = 1000  # templates carry widths in thousandths, so that proportions survive being whole numbers


Size = Annotated[int, Field(ge=1, strict=True)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, arbitrary_types_allowed=True)


class Requirements(_Strict):
    """What a network must have to be worth training."""

    receptive_field: Size = 1  # least that a cell of the last map sees, pixels a side
    final_map: Size = 1  # least side of the last map before the head, cells


class Stem(_Strict):
    """The first block."""

    width: Annotated[Dimension, dimension(real(0.01, 100))] = Dimension((1.0,))
    kernel: Annotated[Dimension, dimension(kernel_size)] = Dimension(((3, 3),))
    padding: Annotated[Dimension, dimension(one_of("valid", "same"))] = Dimension(("valid",))
    stride: Annotated[Dimension, dimension(whole(1, 4))] = Dimension((1,))


class Stage(_Strict):
    """Blocks at one resolution. ``downsample``: how the stage is entered; the first stage is not asked.

    ``depth`` 0 leaves of a stage its pooling and the squeeze; of one entered by a stride, nothing. ``squeeze``: width
    of a 1x1 block that follows a pooling, relative to the block before; 0 is none. ``loops``: how often one more
    convolution, always the same, is applied after the last block; residual blocks have none.
    """

    depth: Annotated[Dimension, dimension(whole(0, 32))] = Dimension((1,))
    width: Annotated[Dimension, dimension(real(0.01, 100))] = Dimension((1.0,))
    block: Annotated[Dimension, dimension(one_of(*BLOCKS))] = Dimension(("plain",))
    kernel: Annotated[Dimension, dimension(kernel_size)] = Dimension(((3, 3),))
    padding: Annotated[Dimension, dimension(one_of("valid", "same"))] = Dimension(("valid",))
    dilation: Annotated[Dimension, dimension(whole(1, 8))] = Dimension((1,))
    downsample: Annotated[Dimension, dimension(one_of(*POOLS, "stride", "none"))] = Dimension(("max",))
    squeeze: Annotated[Dimension, dimension(real(0, 4))] = Dimension((0.0,))
    loops: Annotated[Dimension, dimension(whole(0, 16))] = Dimension((0,))


class HeadSpace(_Strict):
    """From the last map to the logits. ``pool``: global averaging first, or none, so that every cell counts its own.

    A ``conv`` without pooling needs a last map of one cell; ``linear`` flattens whatever map there is.
    """

    pool: Annotated[Dimension, dimension(one_of("global", "none"))] = Dimension(("global",))
    kind: Annotated[Dimension, dimension(one_of("conv", "linear"))] = Dimension(("conv",))
    bias: Annotated[Dimension, dimension(one_of(True, False))] = Dimension((True,))


class NetworkSpace(_Strict):
    """Shapes of networks. ``stage_count``: how many of the ``stages`` are used, from the first on; all by default."""

    stem: Stem = Stem()
    stages: tuple[Stage, ...] = Field(min_length=1)
    stage_count: Annotated[Dimension, dimension(whole(1, 16))] | None = None
    norm: Annotated[Dimension, dimension(one_of(*NORMS))] = Dimension(("before",))
    activation: Annotated[Dimension, dimension(one_of(*ACTIVATIONS))] = Dimension(("relu",))
    bias: Annotated[Dimension, dimension(one_of(True, False))] = Dimension((False,))
    dropout: Annotated[Dimension, dimension(real(0, 0.95))] = Dimension((0.0,))
    fill: Annotated[Dimension, dimension(real(0.05, 1))] = Dimension((1.0,))
    head: HeadSpace = HeadSpace()


@dataclass(frozen=True)
class Draft:
    """A network whose shape is drawn and whose widths are not: ``fit`` finds them."""

    template: Architecture
    widths: tuple[Width, ...]
    fill: float

    def fit(self, limits: Limits) -> Architecture:
        """The largest network of this shape in the drawn share of the budget. Raises BudgetError, ArchitectureError."""
        return fit(self.template, self.widths, limits.filled(self.fill))


class SearchSpace(_Strict):
    """A validated space. ``recipe`` maps fields of recipe.Recipe to what may be drawn; the rest keep their defaults.
    ``start``: what the first trials of a study draw, each by the names in the study; what it does not name is drawn.
    ``input`` (C, H, W) and ``classes`` follow the data set where they are None; drawn without one, they are MNIST's."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    about: str = ""
    data: str = "mnist"
    input: tuple[Size, Size, Size] | None = None
    classes: int | None = Field(default=None, ge=2, strict=True)
    require: Requirements = Requirements(receptive_field=1, final_map=1)
    network: NetworkSpace
    recipe: dict[str, Dimension] = {}
    start: tuple[dict[str, Any], ...] = ()

    @field_validator("recipe", mode="before")
    @classmethod
    def _recipe(cls, raw: Any) -> dict[str, Dimension]:
        if not isinstance(raw, Mapping):
            raise ValueError(f"must be a mapping of recipe fields, but is {raw!r}")
        if "epochs" in raw:
            raise ValueError("epochs: are a resource, set by --epochs, and not searched")
        if "distill" in raw and "teacher" not in raw:
            raise ValueError("distill: needs a teacher, a file of weights")
        return {str(name): _recipe_dimension(str(name), value) for name, value in raw.items()}

    @field_validator("start", mode="before")
    @classmethod
    def _start(cls, raw: Any) -> Any:
        """A single start needs no list around it."""
        starts = [raw] if isinstance(raw, Mapping) else raw
        if not isinstance(starts, list | tuple) or not all(_is_start(start) for start in starts):
            raise ValueError(f"must be a mapping of names, or a list of such, but is {raw!r}")
        return tuple(start for start in starts if start)

    def sample(self, trial: Suggester) -> tuple[Draft, Recipe]:
        """Draw a shape and a recipe. Names in the study: ``stage1.depth``, ``learning_rate``, …"""
        recipe = {name: dim.suggest(trial, name) for name, dim in self.recipe.items()}
        return self.draw(trial), Recipe.from_dict(recipe)

    def draw(self, trial: Suggester) -> Draft:
        """Draw the shape alone. Raises ArchitectureError when the drawn pieces cannot be a network of any width."""
        network = self.network
        style = Style(
            network.norm.suggest(trial, "norm"),
            network.activation.suggest(trial, "activation"),
            network.bias.suggest(trial, "bias"),
        )
        head = Head(
            self.classes or CLASSES,
            network.head.kind.suggest(trial, "head.kind"),
            "global" if network.head.pool.suggest(trial, "head.pool") == "global" else None,
            bias=network.head.bias.suggest(trial, "head.bias"),
        )
        count = len(network.stages)
        if network.stage_count is not None:
            count = network.stage_count.suggest(trial, "stage_count")
        pieces = _Pieces(network.dropout.suggest(trial, "dropout"))
        pieces.add_stem(network.stem, trial)
        for number, stage in enumerate(network.stages[:count], 1):
            pieces.add_stage(stage, number, trial)
        template = Architecture(tuple(pieces.body), head, style, self.input or INPUT)
        return Draft(template, tuple(pieces.widths), network.fill.suggest(trial, "fill"))

    def shortcoming(self, architecture: Architecture) -> tuple[str, str] | None:
        """The requirement of the space that a network misses, and how; None if it meets them all."""
        shape, field = feature_field(architecture)
        sees, least = min(extent(field)), self.require.receptive_field
        if sees < least:
            return "receptive field", f"receptive field {sees} below {least}"
        if min(shape[1:]) < self.require.final_map:
            return "last map", f"last map {shape[1]} × {shape[2]} below {self.require.final_map}"
        return None

    def check_reachable(self, limits: Limits) -> None:
        """Raise BudgetError, which says the smallest networks found, unless some network meets the limits.

        Raises SpaceError when no draw is a network at all.
        """
        fullest = max(float(str(end)) for end in self.network.fill.ends())
        narrowest: list[Cost] = []
        causes: Counter[str] = Counter()
        for network in self._narrowest(causes):
            narrowest.append(cost(network))
            if limits.filled(fullest).allow(narrowest[-1]):
                return
        if not narrowest:
            ((cause, count),) = causes.most_common(1)
            raise SpaceError(
                f"space {self.name}: none of {DRAWS:,} random shapes is a valid network; {count:,} times: {cause}"
            )
        params, macs = min(c.params for c in narrowest), min(c.macs for c in narrowest)
        budget = f"--budget {limits.budget:,}" + ("" if limits.max_macs is None else f" --max-macs {limits.max_macs:,}")
        least = (
            f"the smallest has {params:,} params (--budget {floor(params / fullest) + 1}), "
            f"and the cheapest {macs:,} MACs (--max-macs {macs})"
        )
        if limits.max_activations is not None:
            budget += f", {limits.max_activations:,} activations"
            least += f"; the fewest activations are {min(c.peak_activations for c in narrowest):,}"
        raise BudgetError(f"{budget}: no network of the space {self.name} can meet it; {least}")

    def _narrowest(self, causes: Counter[str]) -> Iterator[Architecture]:
        """Valid networks of DRAWS random shapes, all widths 1: nothing of these shapes is smaller; why others are none
        is counted in ``causes``."""
        for seed in range(DRAWS):
            try:
                template = self.draw(RandomDraw(seed)).template
                network = template.with_widths([1] * len(template.blocks))
                missed = self.shortcoming(network)
            except ArchitectureError as error:
                causes[str(error)] += 1
                continue
            if missed is None:
                yield network
            else:
                causes[missed[1]] += 1

    def to_plain(self) -> dict[str, Any]:
        """All that can be drawn, as plain data in one normal form; what two spaces are compared by."""
        return {key: value for key, value in _plain(self).items() if key not in ("about", "start")}


class _Pieces:
    """Collects blocks, transitions and the widths that are free."""

    def __init__(self, dropout: float) -> None:
        self.body: list[Block | Transition] = []
        self.widths: list[Width] = []
        self._dropout = dropout
        self._blocks = 0
        self._last_width = 1.0

    def add_stem(self, stem: Stem, trial: Suggester) -> None:
        kernel = stem.kernel.suggest(trial, "stem.kernel")
        self._add(
            stem.width.suggest(trial, "stem.width"),
            kernel=kernel,
            padding=_padding(stem.padding.suggest(trial, "stem.padding"), kernel, 1),
            stride=stem.stride.suggest(trial, "stem.stride"),
        )

    def add_stage(self, stage: Stage, number: int, trial: Suggester) -> None:
        place = f"stage{number}"
        downsample = stage.downsample.suggest(trial, f"{place}.downsample") if number > 1 else "none"
        squeeze = stage.squeeze.suggest(trial, f"{place}.squeeze") if downsample in POOLS else 0
        if downsample in POOLS:
            self.body.append(Transition(downsample))
        if squeeze:
            self._add(squeeze * self._last_width, kernel=(1, 1))
        kind = stage.block.suggest(trial, f"{place}.block")
        kernel = stage.kernel.suggest(trial, f"{place}.kernel")
        dilation = stage.dilation.suggest(trial, f"{place}.dilation")
        padding = "same" if kind == "residual" else stage.padding.suggest(trial, f"{place}.padding")
        width = stage.width.suggest(trial, f"{place}.width")
        loops = 0 if kind == "residual" else stage.loops.suggest(trial, f"{place}.loops")
        first = self._blocks
        depth = stage.depth.suggest(trial, f"{place}.depth")
        for index in range(depth):
            stride = 2 if index == 0 and downsample == "stride" else 1
            self._add(
                width,
                kind=kind,
                kernel=kernel,
                padding=_padding(padding, kernel, dilation),
                dilation=dilation,
                stride=stride,
                loops=loops if index == depth - 1 else 0,
            )
        if kind == "residual" and depth:  # blocks of one width need no 1x1 shortcut between them
            self.widths[-(self._blocks - first) :] = [Width(tuple(range(first, self._blocks)), width)]

    def _add(self, width: float, **fields: Any) -> None:
        self.body.append(Block(max(1, round(UNIT * width)), dropout=self._dropout, **fields))
        self.widths.append(Width((self._blocks,), width))
        self._blocks += 1
        self._last_width = width


def _padding(padding: str, kernel: Pair, dilation: int) -> Pair:
    return same_padding(kernel, dilation) if padding == "same" else (0, 0)


def _is_start(value: Any) -> bool:
    return isinstance(value, Mapping) and all(isinstance(name, str) for name in value)


def _recipe_dimension(name: str, raw: Any) -> Dimension:
    """A recipe field's dimension, its every end checked by Recipe itself."""

    def check(value: Any) -> Any:
        try:
            Recipe.from_dict({"teacher": "any", name: value})
        except RecipeError as error:
            raise ValueError(str(error).removeprefix(f"recipe.{name}: ")) from None
        real_field = isinstance(getattr(Recipe, name), float)
        return float(value) if real_field else value  # or a range 0 to 15 would hold whole degrees alone

    try:
        parsed: Dimension = dimension(check).func(raw)  # type: ignore[call-arg]
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from None
    return parsed


def _plain(value: Any) -> Any:
    if isinstance(value, Dimension):
        return value.to_plain()
    if isinstance(value, BaseModel):
        return {name: _plain(getattr(value, name)) for name in type(value).model_fields}
    if isinstance(value, dict):
        return {name: _plain(item) for name, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, tuple) else value
