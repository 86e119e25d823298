"""Limits, and widths fitted to them: always under the budget, never with room for one more step."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from budgetnet.architecture import Architecture
from budgetnet.budget import Limits, Width, fit
from budgetnet.cost import Cost, cost, graph_cost
from budgetnet.errors import ArchitectureError, BudgetError
from budgetnet.notation import parse
from tests.strategies import architectures

# --- limits -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("limits", "over"),
    [
        (Limits(8001), {}),
        (Limits(8000), {"params": 1}),  # strictly below
        (Limits(7900), {"params": 101}),
        (Limits(9000, max_macs=500), {}),
        (Limits(9000, max_macs=499), {"macs": 1}),
        (Limits(9000, max_activations=69), {"peak_activations": 1}),
        (Limits(8000, 400, 60), {"params": 1, "macs": 100, "peak_activations": 10}),
    ],
)
def test_overshoot_is_what_must_be_shed(limits, over):
    spent = Cost(8000, 500, 70)
    assert limits.overshoot(spent) == over
    assert limits.allow(spent) == (not over)


def test_filling_a_share_of_the_budget():
    assert Limits(8000, 5, 6).filled(0.5) == Limits(4000, 5, 6)
    assert Limits(8000).filled(1.0) == Limits(8000)
    assert Limits(7).filled(0.5) == Limits(4)  # strictly below 4 is at most 3.5 of 7
    assert Limits(1).filled(0.01) == Limits(1)


@pytest.mark.parametrize("bad", [{"budget": 0}, {"budget": 8, "max_macs": 0}, {"budget": 8, "max_activations": -1}])
def test_a_limit_below_one_is_refused(bad):
    name, value = list(bad.items())[-1]
    with pytest.raises(BudgetError, match=f"{name} must be at least 1, but got {name}={value}"):
        Limits(**bad)


# --- widths -----------------------------------------------------------------------------------------------------------


def test_a_width_takes_its_steps():
    width = Width((0,), 2.0, step=4, least=3, most=13)
    assert [width.at(scale) for scale in (0, 2, 2.4, 2.6, 4, 5, 6, 100)] == [3, 3, 3, 7, 7, 11, 11, 11]
    assert width.top == 11
    assert width.capped(15) == 11
    assert width.capped(7) == 7


def test_a_width_without_an_end_ends_where_architectures_do():
    assert Width((0,), 1.0).top == 1_000_000


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"proportion": 0.0}, "a width needs a proportion above 0, but got proportion=0.0"),
        ({"proportion": float("nan")}, "a width needs a proportion above 0, but got proportion=nan"),
        ({"step": 0}, "a width goes up from at least 1, but got least=1, step=0, most=None"),
        ({"least": 0}, "a width goes up from at least 1, but got least=0, step=1, most=None"),
        ({"least": 8, "most": 7}, "a width goes up from at least 1, but got least=8, step=1, most=7"),
    ],
)
def test_a_width_that_cannot_be_is_refused(bad, message):
    with pytest.raises(BudgetError) as caught:
        Width((0,), **{"proportion": 1.0, **bad})
    assert str(caught.value) == message


# --- fitting by hand --------------------------------------------------------------------------------------------------


def test_one_width_is_fitted_exactly():
    # 9w (conv) + 2w (norm) + 10w + 10 (head) = 21w + 10; strictly below 8000: w = 380, 7,990; w = 381 would be 8,011
    fitted = fit(parse("1"), [Width((0,), 1.0)], Limits(8000))
    assert fitted == parse("380")
    assert fit(parse("1"), [Width((0,), 1.0)], Limits(7990)) == parse("379")
    assert fit(parse("1"), [Width((0,), 1.0)], Limits(7991)) == parse("380")


def test_steps_least_and_most_are_kept():
    def fitted(**of_width: int) -> int:
        return fit(parse("1"), [Width((0,), 1.0, **of_width)], Limits(8000)).widths[0]

    assert fitted(step=8, least=8) == 376
    assert fitted(step=8, least=1) == 377
    assert fitted(most=100) == 100
    assert fitted(step=8, least=8, most=100) == 96


def test_macs_and_activations_bound_too():
    # 26·26 cells of 9w MACs, + 10w of the head: 6,094w. alive: 784 + 676w while the convolution runs
    widths = [Width((0,), 1.0)]
    assert fit(parse("1"), widths, Limits(10**6, max_macs=60_940)).widths == (10,)
    assert fit(parse("1"), widths, Limits(10**6, max_macs=60_939)).widths == (9,)
    assert fit(parse("1"), widths, Limits(10**6, max_activations=784 + 6760)).widths == (10,)
    assert fit(parse("1"), widths, Limits(10**6, max_activations=784 + 6759)).widths == (9,)


def test_blocks_share_a_width_or_keep_their_own():
    fitted = fit(parse("5 c9 M r2 r2"), [Width((0,), 1.0), Width((2, 3), 2.0)], Limits(8000))
    assert fitted.widths[1] == 9
    assert fitted.widths[2] == fitted.widths[3]


def test_proportions_are_kept():
    # equal blocks but the first and the last: 1 : 2 : 2 : 4, give or take what tops up the budget
    first, second, third, fourth = fit(
        parse("1 c1 c1 c1"), [Width((i,), p) for i, p in enumerate((1, 2, 2, 4))], Limits(100_000)
    ).widths
    scale = fourth / 4
    assert abs(first - scale) <= 1.5
    assert abs(second - 2 * scale) <= 1.5
    assert abs(third - 2 * scale) <= 1.5


def test_everything_at_its_most_is_the_end():
    widths = [Width((0,), 1.0, most=6), Width((1,), 3.0, most=9)]
    assert fit(parse("1 1"), widths, Limits(10**9)).widths == (6, 9)


def test_a_budget_beyond_every_width_ends_too():
    assert fit(parse("1"), [Width((0,), 1.0)], Limits(10**12)).widths == (1_000_000,)


@pytest.mark.parametrize(
    ("limits", "missed"),
    [
        (Limits(31), "1 params too many"),
        (Limits(8000, max_macs=6_000), "94 MACs too many"),
        (Limits(10, max_activations=1_000), "22 params too many and 460 activations too many"),
    ],
)
def test_the_impossible_says_by_how_much(limits, missed):
    with pytest.raises(BudgetError) as caught:
        fit(parse("1"), [Width((0,), 1.0)], limits)
    assert str(caught.value) == f"the smallest network of this shape has 31 params and 6,094 MACs, {missed}"


def test_what_is_no_network_cannot_be_fitted():
    with pytest.raises(ArchitectureError, match="stage1: convolution 3 × 3 leaves nothing of a map of 1 × 1 cells"):
        fit(parse("8 M26 8"), [Width((0,), 1.0), Width((1,), 1.0)], Limits(8000))


def test_grouped_blocks_are_fitted_in_steps_of_their_groups():
    widths = [Width((0,), 1.0, step=4, least=4), Width((1,), 1.5, step=4, least=4)]
    fitted = fit(parse("4 4g4"), widths, Limits(8000))
    assert all(width % 4 == 0 for width in fitted.widths)
    assert cost(fitted).params < 8000
    for index in (0, 1):
        grown = list(fitted.widths)
        grown[index] += 4
        assert cost(fitted.with_widths(grown)).params >= 8000


# --- fitting anything -------------------------------------------------------------------------------------------------

BUDGETS = st.floats(5.7, 13.8).map(lambda x: round(2.718281828**x))  # 300 … 1,000,000, evenly in the logarithm


@dataclass(frozen=True)
class Draft:
    """A template, and which blocks share which width."""

    template: Architecture
    widths: tuple[Width, ...]


@st.composite
def drafts(draw: st.DrawFn, residual: bool = True, steps: bool = True) -> Draft:
    template = draw(architectures())
    assume(all(block.groups == 1 for block in template.blocks))
    assume(residual or all(block.kind != "residual" for block in template.blocks))
    shared: dict[int, list[int]] = {}
    for block in range(len(template.blocks)):
        shared.setdefault(draw(st.integers(0, block)), []).append(block)
    widths = []
    for blocks in shared.values():
        least = draw(st.integers(1, 4)) if steps else 1
        widths.append(
            Width(
                tuple(blocks),
                draw(st.sampled_from((0.5, 1.0, 1.0, 2.0)) | st.floats(0.05, 4)),
                step=draw(st.sampled_from((1, 1, 2, 4))) if steps else 1,
                least=least,
                most=draw(st.none() | st.none() | st.integers(least, 60)) if steps else None,
            )
        )
    return Draft(template, tuple(widths))


def sized(draft: Draft, values: Sequence[int]) -> Architecture:
    by_block = dict.fromkeys(range(len(draft.template.blocks)), 0)
    for width, value in zip(draft.widths, values, strict=True):
        by_block |= dict.fromkeys(width.blocks, value)
    return draft.template.with_widths(list(by_block.values()))


def counted(architecture: Architecture) -> Cost:
    """Counted over the whole graph, not by the laws that fitting uses."""
    return graph_cost(architecture.graph(), architecture.input_shape)


@given(drafts(), BUDGETS, st.none() | st.integers(10_000, 10**7), st.none() | st.integers(500, 20_000))
def test_a_fitted_network_is_within_its_limits_and_no_width_can_grow(draft, budget, max_macs, max_activations):
    limits = Limits(budget, max_macs, max_activations)
    smallest = [width.least for width in draft.widths]
    try:
        fitted = fit(draft.template, draft.widths, limits)
    except BudgetError:
        assert limits.overshoot(counted(sized(draft, smallest)))
        return
    spent = counted(fitted)
    assert spent.params < budget
    assert not limits.overshoot(spent)
    values = [fitted.widths[width.blocks[0]] for width in draft.widths]
    assert sized(draft, values) == fitted  # blocks that share a width have the same
    for index, width in enumerate(draft.widths):
        assert values[index] >= width.least
        assert (values[index] - width.least) % width.step == 0
        grown = values[index] + width.step
        if width.most is not None and grown > width.most:
            assert values[index] <= width.most
            continue
        assert limits.overshoot(counted(sized(draft, [*values[:index], grown, *values[index + 1 :]])))


@given(drafts(residual=False), BUDGETS, st.floats(1, 2))
def test_a_larger_budget_never_buys_a_smaller_network(draft, budget, factor):
    try:
        small = fit(draft.template, draft.widths, Limits(budget))
    except BudgetError:
        return
    large = fit(draft.template, draft.widths, Limits(round(budget * factor)))
    assert cost(large).params >= cost(small).params


@given(drafts(residual=False), st.integers(300, 5000))
def test_fitting_equals_walking_up_step_by_step(draft, budget):
    def allowed(values: Sequence[int]) -> bool:
        return counted(sized(draft, values)).params < budget

    if not allowed([width.least for width in draft.widths]):
        return
    assert fit(draft.template, draft.widths, Limits(budget)) == sized(draft, _walk_up(draft.widths, allowed))


def _walk_up(widths: Sequence[Width], allowed: Callable[[Sequence[int]], bool]) -> list[int]:
    """The slow way: the common scale from crossing to crossing, then single steps, asking every width every time."""

    def most(width: Width) -> int:
        return width.most if width.most is not None else 10**9

    values = [width.least for width in widths]
    while True:
        crossings = [
            (value + width.step / 2) / width.proportion if value + width.step <= most(width) else float("inf")
            for width, value in zip(widths, values, strict=True)
        ]
        scale = min(crossings) * (1 + 1e-12)
        grown = [
            value + width.step if crossing <= scale and crossing < float("inf") else value
            for width, value, crossing in zip(widths, values, crossings, strict=True)
        ]
        if grown == values or not allowed(grown):
            break
        values = grown
    while True:
        order = sorted(range(len(widths)), key=lambda i: values[i] / widths[i].proportion)
        for index in order:
            grown = [*values]
            grown[index] += widths[index].step
            if grown[index] <= most(widths[index]) and allowed(grown):
                values = grown
                break
        else:
            return values
