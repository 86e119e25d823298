"""The built module against everything that is said about it: shapes, names, params, MACs; and the audit that checks."""

from __future__ import annotations

import warnings
from collections import Counter

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from budgetnet.audit import audit, fvcore_counts
from budgetnet.build import build
from budgetnet.cost import Cost, cost
from budgetnet.errors import AuditError
from budgetnet.graph import shapes_of
from budgetnet.notation import parse
from tests.networks import A2, B10, PARAMS
from tests.strategies import architectures

# --- the module -------------------------------------------------------------------------------------------------------


@given(architectures())
def test_params_equal_numel_by_layer_and_in_all(architecture):
    module = build(architecture)
    assert cost(architecture).params == sum(parameter.numel() for parameter in module.parameters())
    graph = architecture.graph()
    shapes = [*shapes_of(graph, architecture.input_shape), architecture.input_shape]
    for node in graph:
        name, _, again = node.name.partition("@")
        learned = 0 if again else sum(p.numel() for p in module.get_submodule(name).parameters(recurse=False))
        assert node.layer.params(*(shapes[index] for index in node.inputs)) == learned, node.name


@given(architectures())
def test_every_output_has_the_shape_that_was_foretold(architecture):
    module = build(architecture).eval()
    seen: dict[str, tuple[int, ...]] = {}
    calls: Counter[str] = Counter()

    def note(name: str, out: torch.Tensor) -> None:
        calls[name] += 1
        seen[name if calls[name] == 1 else f"{name}@{calls[name]}"] = tuple(out.shape)

    for name, part in module.named_modules():
        part.register_forward_hook(lambda _part, _inputs, out, name=name: note(name, out))
    with torch.no_grad():
        module(torch.zeros(2, *architecture.input_shape))
    graph = architecture.graph()
    for node, shape in zip(graph, shapes_of(graph, architecture.input_shape), strict=True):
        assert seen[node.name] == (2, *shape), node.name


@given(architectures())
def test_names_in_the_state_dict_are_names_of_the_graph(architecture):
    """A layer that is applied again has its weights under the place of each application, the same tensor."""
    module = build(architecture)
    owners = {key.rpartition(".")[0] for key, _ in module.named_parameters()}
    learned = {
        node.name for node in architecture.graph() if type(node.layer).__name__ in ("Conv", "BatchNorm", "Linear")
    }
    assert owners == learned
    state = module.state_dict(keep_vars=True)
    twice = {key for key in state if key.rpartition(".")[0] not in owners}
    known = {id(parameter) for parameter in module.parameters()}
    assert all(id(state[key]) in known for key in twice)


@given(architectures())
def test_every_parameter_gets_a_gradient(architecture):
    module = build(architecture, seed=0)
    for part in module.modules():
        if isinstance(part, nn.Dropout):
            part.p = 0.0
    module(torch.randn(4, *architecture.input_shape, generator=torch.Generator().manual_seed(0))).sum().backward()
    for name, parameter in module.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name


@given(architectures(), st.integers(0, 2**32 - 1))
def test_a_seed_fixes_the_weights_and_disturbs_nothing(architecture, seed):
    before = torch.random.get_rng_state()
    first, second, other = build(architecture, seed), build(architecture, seed), build(architecture, seed + 1)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))
    assert any(not torch.equal(a, b) for a, b in zip(first.parameters(), other.parameters(), strict=True))


def test_without_a_seed_the_global_generator_decides():
    network = parse("4")
    first, second = build(network), build(network)
    assert any(not torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))


def test_the_residual_block_computes_what_it_says():
    module = build(parse("[2x5x5] r3"), seed=0).eval()
    residual = module.stem[0]
    x = torch.randn(1, 2, 5, 5)
    assert torch.equal(residual(x), residual.body(x) + residual.shortcut(x))
    identity = build(parse("[3x5x5] r3"), seed=0).stem[0].shortcut
    assert isinstance(identity, nn.Identity)


def test_the_module_reads_as_its_rooms():
    assert [name for name, _ in build(parse("8 12 M 14")).named_children()] == ["stem", "stage1", "stage2", "head"]


# --- the audit --------------------------------------------------------------------------------------------------------


@given(architectures())
def test_fvcore_counts_the_same(architecture):
    expected = cost(architecture)
    assert audit(build(architecture), expected, architecture.input_shape) == expected


@pytest.mark.parametrize("text", PARAMS)
def test_fvcore_counts_the_baselines(text):
    network = parse(text)
    assert fvcore_counts(build(network), network.input_shape) == (PARAMS[text], cost(network).macs)


def test_a_wrong_count_is_an_error():
    network = parse(A2)
    spent = cost(network)
    for wrong, message in (
        (Cost(spent.params + 1, spent.macs, 0), "fvcore counts 7,330 params where budgetnet counts 7,331"),
        (Cost(spent.params, spent.macs - 1, 0), f"fvcore counts {spent.macs:,} MACs where budgetnet counts"),
    ):
        with pytest.raises(AuditError, match=message):
            audit(build(network), wrong, network.input_shape)


class _Uncounted(nn.Module):
    def __init__(self, operator):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(4, 4))
        self.operator = operator

    def forward(self, x):
        return self.operator(x, self.weight)


def test_an_operator_that_fvcore_skips_is_an_error():
    with pytest.raises(AuditError, match="fvcore does not count the operator aten::cumsum"):
        fvcore_counts(_Uncounted(lambda x, w: (x * w).cumsum(1)), (4, 4))


def test_an_operator_whose_count_is_not_multiply_adds_is_an_error():
    with pytest.raises(AuditError, match="fvcore counts layer_norm, which is not known to be multiply-adds or not"):
        fvcore_counts(nn.LayerNorm(4), (4, 4))


def test_the_audit_leaves_modes_as_they_were():
    module = build(parse(B10)).train()
    module.stem.eval()
    modes = [part.training for part in module.modules()]
    fvcore_counts(module, (1, 28, 28))
    assert [part.training for part in module.modules()] == modes


@settings(max_examples=5)
@given(architectures())
def test_the_audit_is_silent(architecture):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        audit(build(architecture), cost(architecture), architecture.input_shape)
    assert caught == []


def test_importing_the_audit_is_silent():
    import subprocess
    import sys

    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", "import budgetnet.audit"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
