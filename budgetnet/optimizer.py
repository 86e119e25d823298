"""SGD, Adam and AdamW by torch's fused kernels, to the bit as ``torch.optim`` calls them, but without ``torch.optim``.

That imports torch's compiler with the first optimizer: 900 modules and two seconds in every process that trains.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from budgetnet.recipe import Recipe

BETA2, EPS = 0.999, 1e-8  # of Adam and AdamW, as torch has them by default


@dataclass(frozen=True, eq=False)
class Group:
    """Parameters with a common weight decay."""

    parameters: list[Tensor]
    weight_decay: float


@dataclass(eq=False)
class Optimizer:
    """The optimizer of a recipe; ``rate``, a tensor without dimensions beside the parameters, is its learning rate.

    ``remembered``: what it knows of a parameter from the steps before, by the names of ``torch.optim``.
    """

    groups: Sequence[Group]
    recipe: Recipe
    rate: Tensor
    remembered: dict[Tensor, dict[str, Tensor]] = field(init=False)

    def __post_init__(self) -> None:
        self.remembered = {parameter: {} for parameter in self.parameters}

    @property
    def parameters(self) -> list[Tensor]:
        """All of them, group by group."""
        return [parameter for group in self.groups for parameter in group.parameters]

    def zero_grad(self) -> None:
        for parameter in self.parameters:
            parameter.grad = None

    @torch.no_grad()
    def step(self) -> None:
        """Move every parameter that has a gradient."""
        move = self._sgd if self.recipe.optimizer == "sgd" else self._adam
        for group in self.groups:
            moved = [parameter for parameter in group.parameters if parameter.grad is not None]
            if moved:
                move(moved, [p.grad for p in moved if p.grad is not None], group.weight_decay)

    def _sgd(self, parameters: list[Tensor], gradients: list[Tensor], weight_decay: float) -> None:
        momentum, known = self.recipe.momentum, [self.remembered[parameter] for parameter in parameters]
        first = momentum > 0 and not any(known)
        if first:  # the kernel fills them
            for each, gradient in zip(known, gradients, strict=True):
                each["momentum_buffer"] = torch.empty_like(gradient)
        torch._fused_sgd_(
            parameters,
            gradients,
            [each["momentum_buffer"] for each in known] if momentum > 0 else [],
            weight_decay=weight_decay,
            momentum=momentum,
            lr=self.rate,
            dampening=0.0,
            nesterov=self.recipe.nesterov and momentum > 0,
            maximize=False,
            is_first_step=first,
        )

    def _adam(self, parameters: list[Tensor], gradients: list[Tensor], weight_decay: float) -> None:
        for parameter in parameters:
            if not self.remembered[parameter]:
                self.remembered[parameter] = {
                    "step": torch.zeros((), device=parameter.device),
                    "exp_avg": torch.zeros_like(parameter),
                    "exp_avg_sq": torch.zeros_like(parameter),
                }
        steps, means, squares = (
            [self.remembered[parameter][name] for parameter in parameters] for name in ("step", "exp_avg", "exp_avg_sq")
        )
        torch._foreach_add_(steps, 1)
        kernel = torch._fused_adam_ if self.recipe.optimizer == "adam" else torch._fused_adamw_
        kernel(
            parameters,
            gradients,
            means,
            squares,
            [],
            steps,
            lr=self.rate,
            beta1=self.recipe.momentum,
            beta2=BETA2,
            weight_decay=weight_decay,
            eps=EPS,
            amsgrad=False,
            maximize=False,
        )
