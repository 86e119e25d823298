"""Search spaces: what YAML may say, what is drawn from it, and that every draw fits the budget."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from optuna.trial import FixedTrial

from budgetnet.budget import Limits
from budgetnet.cost import cost
from budgetnet.dimension import Dimension, RandomDraw
from budgetnet.errors import ArchitectureError, BudgetError, SpaceError
from budgetnet.files import parse_yaml
from budgetnet.layers import AdaptivePool
from budgetnet.notation import write
from budgetnet.space import SearchSpace
from budgetnet.space_files import load_space, parse_space, space_names
from budgetnet.study import Settings
from tests.tiny import TINY

MINIMAL: dict[str, Any] = {"name": "mine", "network": {"stages": [{"depth": 2}]}}


def test_shipped_spaces_load_by_name_and_by_file() -> None:
    assert {"mnist", "colour32"} <= set(space_names())
    for name in space_names():
        space = load_space(name)
        assert space.name == name
    path = Path(__file__).parent.parent / "search_spaces" / "mnist.yaml"
    assert load_space(str(path)).to_plain() == load_space("mnist").to_plain()


@pytest.mark.parametrize(("name", "budget"), [("mnist", 1000), ("mnist", 8000), ("colour32", 20000)])
def test_every_valid_draw_is_under_the_budget_and_most_fill_it(name: str, budget: int) -> None:
    space, limits = load_space(name), Limits(budget)
    use = []
    for seed in range(60):
        draft = space.draw(RandomDraw(seed))
        try:
            architecture = draft.fit(limits)
        except ArchitectureError:
            continue
        params = cost(architecture).params
        assert params < budget
        use.append(params / (draft.fill * budget))
    assert len(use) > 30
    assert sorted(use)[len(use) // 2] >= 0.9


def test_a_fixed_trial_gives_the_network_that_its_values_say() -> None:
    stage = {
        "depth": {"min": 1, "max": 4},
        "width": {"min": 1.0, "max": 2.0},
        "padding": {"choices": ["valid", "same"]},
    }
    second = {**stage, "downsample": {"choices": ["max", "stride"]}, "block": "separable"}
    space = parse_space({"name": "mine", "network": {"stages": [stage, second]}}, "mine.yaml")
    values = {
        "stage1.depth": 2,
        "stage1.width": 1.0,
        "stage1.padding": "same",
        "stage2.depth": 1,
        "stage2.width": 2.0,
        "stage2.padding": "valid",
        "stage2.downsample": "stride",
    }
    draft = space.draw(FixedTrial(values))
    assert str(draft.template.with_widths([3, 3, 3, 6])) == "3 c3 c3 vs6/2"
    assert [width.proportion for width in draft.widths] == [1.0, 1.0, 1.0, 2.0]


def test_both_ends_of_every_range_are_drawn() -> None:
    whole = Dimension(low=1, high=4, whole=True)
    stepped = Dimension(low=0.0, high=0.1, step=0.025)
    kernels = Dimension(((3, 3), (5, 5)))
    drawn = [
        (whole.suggest(t, "a"), stepped.suggest(t, "b"), kernels.suggest(t, "c")) for t in map(RandomDraw, range(99))
    ]
    assert {a for a, _, _ in drawn} == {1, 2, 3, 4}
    assert {b for _, b, _ in drawn} == {0.0, 0.025, 0.05, 0.075, 0.1}
    assert {c for _, _, c in drawn} == {(3, 3), (5, 5)}


def test_residual_blocks_of_a_stage_share_one_width() -> None:
    network = {"stages": [{"depth": 3, "block": "residual"}]}
    space = parse_space({"name": "mine", "network": network}, "mine.yaml")
    widths = space.draw(RandomDraw(0)).fit(Limits(5000)).widths
    assert len(set(widths[1:])) == 1


def test_loops_stand_behind_the_last_block_of_a_stage_and_residual_blocks_have_none() -> None:
    stages = [{"depth": 2, "loops": 3, "padding": "same"}, {"depth": 2, "loops": 3, "block": "residual"}]
    space = parse_space({"name": "mine", "network": {"stages": stages}}, "mine.yaml")
    assert [block.loops for block in space.draw(RandomDraw(0)).template.blocks] == [0, 0, 3, 0, 0]


def test_a_stage_of_depth_zero_is_its_pooling_and_squeeze() -> None:
    stages = [
        {"depth": 0},
        {"depth": 0, "block": "residual"},
        {"depth": 2, "width": 2.0},
        {"depth": 0, "downsample": "stride"},
    ]
    space = parse_space({"name": "mine", "network": {"stages": stages}}, "mine.yaml")
    assert write(space.draw(RandomDraw(0)).template) == "1000 M M 2000 2000"
    squeezed = {"stages": [{"depth": 1}, {"depth": 0, "squeeze": 0.5}]}
    space = parse_space({"name": "mine", "network": squeezed}, "mine.yaml")
    assert write(space.draw(RandomDraw(0)).template) == "1000 1000 M 1x1:500"


def test_requirements_name_what_is_missed() -> None:
    space = parse_space({**MINIMAL, "require": {"receptive_field": 20, "final_map": 25}}, "mine.yaml")
    network = space.draw(RandomDraw(0)).fit(Limits(1000))
    assert space.shortcoming(network) == ("receptive field", "receptive field 7 below 20")
    deep = parse_space({**MINIMAL, "require": {"final_map": 25}}, "mine.yaml")
    assert deep.shortcoming(network) == ("last map", "last map 22 × 22 below 25")
    assert parse_space(MINIMAL, "mine.yaml").shortcoming(network) is None


def test_a_budget_out_of_reach_says_the_least_that_could() -> None:
    space = load_space("mnist")
    with pytest.raises(BudgetError, match=r"^--budget 30: no network of the space mnist can meet it") as caught:
        space.check_reachable(Limits(30))
    found = re.search(r"\(--budget (\d+)\)", str(caught.value))
    assert found is not None
    least = int(found[1])
    space.check_reachable(Limits(least))
    assert any(_fits(space, seed, Limits(least)) for seed in range(3000))
    with pytest.raises(BudgetError):
        space.check_reachable(Limits(least - 1))


def _fits(space: SearchSpace, seed: int, limits: Limits) -> bool:
    draft = space.draw(RandomDraw(seed))
    try:
        return limits.allow(cost(replace(draft, fill=1.0).fit(limits)))
    except (BudgetError, ArchitectureError):
        return False


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"network": {"stages": [{"width": {"min": 24, "max": 16}}]}}, "network.stages[0].width: minimum 24"),
        ({"network": {"stages": [{"depht": 2}]}}, "network.stages[0].depht: unknown field"),
        ({"network": {"stages": [{"depth": "two"}]}}, "network.stages[0].depth: must be a whole number, but is 'two'"),
        ({"network": {"stages": [{"depth": 2.5}]}}, "network.stages[0].depth: must be a whole number, but is 2.5"),
        ({"network": {"stages": []}}, "network.stages"),
        ({"network": {"stages": [{"depth": {"min": 1}}]}}, "network.stages[0].depth: a range needs min and max"),
        ({"network": {"stages": [{"depth": {"choices": []}}]}}, "choices must be a list of at least one value"),
        ({"network": {"stages": [{"depth": {"min": 1, "max": 4, "step": 2}}]}}, "maximum 4 cannot be reached"),
        ({"recipe": {"fill": {"min": 0.5, "max": 1.0, "step": 1e-320}}}, "maximum 1.0 cannot be reached"),
        ({"network": {"stages": [{"depth": {"minimum": 1}}]}}, "unknown key 'minimum'"),
        ({"network": {"stages": [{"block": "dense"}]}}, "must be one of plain, separable, residual, but is 'dense'"),
        ({"network": {"stages": [{"kernel": "3y3"}]}}, "must be a kernel such as 3 or 3x5, but is '3y3'"),
        ({"network": {"stages": [{}], "stage_count": 2}}, "network.stage_count: must be at most the 1 stages"),
        ({"recipe": {"learning_rat": 0.1}}, "learning_rat"),
        ({"recipe": {"learning_rate": {"min": 0, "max": 1, "log": True}}}, "must be between"),
        ({"recipe": {"batch_size": 0.5}}, "recipe: batch_size: must be a whole number, but is 0.5"),
        ({"name": "../mine"}, "name: "),
        ({"name": None}, "name: "),
        ({"input": [28, 28]}, "input"),
        ({"classes": 1}, "classes: "),
        ({"classes": "10"}, "classes: input should be a valid integer, but is '10'"),
        ({"input": [0, 28, 28]}, "input[0]: input should be greater than or equal to 1, but is 0"),
        ({"require": {"receptive_field": True}}, "require.receptive_field: "),
        ({"network": {"stages": [{"kernel": "3x"}]}}, "must be a kernel such as 3 or 3x5, but is '3x'"),
        ({"network": {"dropout": {"min": 0, "max": 0.5, "step": float("inf")}, "stages": [{}]}}, "step must be"),
        ({"recipe": {"epochs": 30}}, "recipe: epochs: are a resource, set by --epochs, and not searched"),
    ],
)
def test_a_wrong_space_is_refused_with_rule_value_and_place(change: dict[str, Any], message: str) -> None:
    with pytest.raises(SpaceError) as caught:
        parse_space({**MINIMAL, **change}, "mine.yaml")
    text = str(caught.value)
    assert text.startswith("mine.yaml: ")
    assert message in text
    assert "\n" not in text


def test_files_that_are_no_space(tmp_path: Path) -> None:
    broken = tmp_path / "broken.yaml"
    broken.write_text("a: [1")
    with pytest.raises(SpaceError, match=r"broken\.yaml: is not YAML"):
        load_space(str(broken))
    broken.write_text("- 1")
    with pytest.raises(SpaceError, match="a space is a mapping"):
        load_space(str(broken))
    with pytest.raises(SpaceError, match=r"no such space file: .*nowhere\.yaml"):
        load_space(str(tmp_path / "nowhere.yaml"))
    with pytest.raises(SpaceError, match=r"unknown space 'minst'; there are .*mnist"):
        load_space("minst")


@pytest.mark.parametrize(
    "text",
    ["[" * 2000, "a: !!bool x", 'a: !!int ""', "a: !!timestamp x", f"a: 1{'0' * 400}", "a: -9223372036854775808"],
    ids=["depth", "bool", "int", "timestamp", "huge", "beyond 64 bits"],
)
def test_yaml_that_its_reader_stumbles_over_is_one_line(tmp_path: Path, text: str) -> None:
    broken = tmp_path / "broken.yaml"
    broken.write_text(text)
    with pytest.raises(SpaceError, match=r"broken\.yaml: is not YAML: ") as caught:
        load_space(str(broken))
    assert "\n" not in str(caught.value)


def test_a_key_that_stands_twice_is_no_choice_of_the_last(tmp_path: Path) -> None:
    twice = tmp_path / "twice.yaml"
    twice.write_text(yaml.safe_dump(TINY) + "recipe: {batch_size: 32}\n")
    line = len(twice.read_text().splitlines())
    with pytest.raises(SpaceError, match=rf"twice\.yaml: is not YAML: line {line} says recipe again$"):
        load_space(str(twice))
    with pytest.raises(ValueError, match=r"line 2 says << again$"):
        parse_yaml("'<<': 1\n'<<': 2")
    assert parse_yaml("1: a\n'1': b") == {1: "a", "1": "b"}
    merged = "a: &a {x: 1, y: 2}\nb: {<<: *a, x: 3}\nc: [&d {<<: *a, y: 4}, {<<: *d, x: 5}]"
    assert parse_yaml(merged) == {
        "a": {"x": 1, "y": 2},
        "b": {"x": 3, "y": 2},
        "c": [{"x": 1, "y": 4}, {"x": 5, "y": 4}],
    }


def test_a_space_without_a_network_says_what_is_wrong_with_most_of_them() -> None:
    network = {**TINY["network"], "stages": [{"depth": 1, "kernel": 4, "padding": "same"}]}
    with pytest.raises(SpaceError) as caught:
        parse_space({**TINY, "network": network}, "tiny.yaml").check_reachable(Limits(600))
    told = "space tiny: none of 3,000 random shapes is a valid network; 3,000 times: "
    assert str(caught.value).startswith(told)
    assert "padding 'same' needs odd kernels" in str(caught.value)
    with pytest.raises(SpaceError, match=r"; [\d,]+ times: receptive field \d+ below 99$"):
        parse_space({**TINY, "require": {"receptive_field": 99}}, "tiny.yaml").check_reachable(Limits(600))


def test_a_start_of_a_space_that_draws_nothing() -> None:
    fixed = {"name": "fixed", "network": {"stages": [{"depth": 1}]}, "start": {"stem.width": 0.5}}
    with pytest.raises(SpaceError, match=r"stem\.width: nothing of this name is drawn; the space draws nothing$"):
        parse_space(fixed, "fixed.yaml")


def test_yaml_tags_are_not_executed(tmp_path: Path) -> None:
    evil = tmp_path / "evil.yaml"
    evil.write_text("name: !!python/object/apply:os.getcwd []\n")
    with pytest.raises(SpaceError, match="is not YAML"):
        load_space(str(evil))


@given(st.integers(0, 10**6))
def test_a_recipe_drawn_from_a_shipped_space_is_valid_and_names_are_unique(seed: int) -> None:
    for name in space_names():
        trial = RandomDraw(seed)
        draft, recipe = load_space(name).sample(trial)
        assert recipe.epochs == 15
        assert 0 < draft.fill <= 1
        assert yaml.safe_load(yaml.safe_dump(trial.params)) == trial.params  # what a storage can keep


def test_a_head_may_do_without_pooling() -> None:
    space = parse_space(TINY | {"network": TINY["network"] | {"head": {"pool": "none", "kind": "linear"}}}, "tiny")
    space = space.model_copy(update={"input": (1, 28, 28), "classes": 10})
    network = space.draw(RandomDraw(0)).fit(Limits(20_000))
    assert str(network).endswith("| fc:10")
    assert AdaptivePool not in {type(node.layer) for node in network.graph()}


def test_a_stored_space_is_no_other_one_for_fields_that_are_younger() -> None:
    plain = load_space("mnist").to_plain()
    head = {key: value for key, value in plain["network"]["head"].items() if key != "pool"}
    older = Settings({**plain, "network": {**plain["network"], "head": head}}, 8000, None, None, "mnist", None, 15, 0)
    assert older.changes(replace(older, space=plain)) == []
    linear = {**plain, "network": {**plain["network"], "head": {**plain["network"]["head"], "kind": "linear"}}}
    assert older.changes(replace(older, space=linear)) == ["space.network.head.kind: conv → linear"]
