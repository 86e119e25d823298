"""fvcore against our own closed form: any difference, or any operator that fvcore does not count, is an error."""

from __future__ import annotations

import logging
import warnings

import torch
from torch import nn

from budgetnet.cost import Cost
from budgetnet.errors import AuditError
from budgetnet.layers import Shape

with warnings.catch_warnings():  # fvcore decorates its losses with torch.jit.script, which newer torch deprecates
    warnings.filterwarnings("ignore", "`torch.jit", FutureWarning)
    warnings.filterwarnings("ignore", "`torch.jit", DeprecationWarning)
    from fvcore.nn import FlopCountAnalysis, parameter_count

# fvcore counts one multiply-add as one "flop"; these of its operators are multiply-adds of learned weights.
MULTIPLY_ADDS = frozenset({"conv", "linear", "addmm", "matmul", "bmm"})

# Counted by fvcore as arithmetic per element; no multiply-add of ours (BatchNorm folds into the convolution).
ARITHMETIC = frozenset({"batch_norm", "adaptive_avg_pool2d"})

# Not counted by fvcore, and rightly so: these have neither parameters nor multiply-adds.
FREE = frozenset(
    {
        *("aten::add", "aten::add_", "aten::cat", "aten::flatten", "aten::reshape", "aten::view"),
        *("aten::avg_pool2d", "aten::max_pool2d", "aten::dropout", "aten::dropout_", "aten::feature_dropout"),
        *("aten::relu", "aten::relu_", "aten::leaky_relu", "aten::leaky_relu_", "aten::elu", "aten::gelu"),
        *("aten::silu", "aten::silu_", "aten::mish", "aten::hardswish", "aten::hardswish_"),
        *("aten::tanh", "aten::sigmoid"),
    }
)


def audit(module: nn.Module, expected: Cost, input_shape: Shape) -> Cost:
    """Count ``module`` with fvcore on one image of ``input_shape`` (C, H, W) and compare with ``expected``.

    Returns the cost with fvcore's params and MACs (peak activations stay ours; fvcore has no such count).
    Raises AuditError when the counts differ or fvcore met an operator that it cannot count and that is not free.
    """
    params, macs = fvcore_counts(module, input_shape)
    for name, theirs, ours in (("params", params, expected.params), ("MACs", macs, expected.macs)):
        if theirs != ours:
            raise AuditError(f"fvcore counts {theirs:,} {name} where budgetnet counts {ours:,}")
    return Cost(params, macs, expected.peak_activations)


def fvcore_counts(module: nn.Module, input_shape: Shape) -> tuple[int, int]:
    """fvcore's params and MACs of ``module`` on one image. Raises AuditError for an operator it does not count."""
    modes = [(part, part.training) for part in module.modules()]
    parameter = next(module.parameters(), None)
    device = parameter.device if parameter is not None else torch.device("cpu")
    analysis = FlopCountAnalysis(module.eval(), torch.zeros(1, *input_shape, device=device))
    analysis.unsupported_ops_warnings(False).uncalled_modules_warnings(False)
    logging.getLogger("fvcore").setLevel(logging.ERROR)
    try:
        by_operator = analysis.by_operator()
        uncounted = set(analysis.unsupported_ops()) - FREE
    finally:
        for part, training in modes:
            part.training = training
    if uncounted:
        raise AuditError(f"fvcore does not count the operator {', '.join(sorted(uncounted))}")
    if unknown := set(by_operator) - MULTIPLY_ADDS - ARITHMETIC:
        raise AuditError(f"fvcore counts {', '.join(sorted(unknown))}, which is not known to be multiply-adds or not")
    return parameter_count(module)[""], int(sum(by_operator[name] for name in by_operator if name in MULTIPLY_ADDS))
