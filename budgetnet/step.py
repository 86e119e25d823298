"""One training step: forward, backward, optimizer, moving average of the weights."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from budgetnet.optimizer import Group, Optimizer
from budgetnet.recipe import Recipe, learning_rate
from budgetnet.stacked import Stacked
from budgetnet.teacher import divergence


class Step:
    """Moves ``model`` by one batch, and ``average`` after it; ``step(images, labels)``.

    Whatever differs from step to step is in tensors that ``prepare`` fills, and nothing is read on the host, so that
    the call can be recorded as a CUDA graph. ``teach`` gives a teacher's logits for a batch. ``totals`` (models, 2)
    sums, for each model, the losses and the images classified correctly.
    """

    def __init__(
        self,
        model: nn.Module,
        average: nn.Module,
        recipe: Recipe,
        bf16: bool,
        teach: Callable[[Tensor], Tensor] | None = None,
    ) -> None:
        device = next(model.parameters()).device
        self.totals = torch.zeros(model.size if isinstance(model, Stacked) else 1, 2, device=device)
        self._model, self._average, self._recipe, self._bf16, self._teach = model, average, recipe, bf16, teach
        self._rate, self._drawn = torch.zeros(2, device=device)
        self._optimizer = make_optimizer(model, recipe, self._rate)
        self._follow = _follower(model, average, self._drawn)

    def state(self) -> dict[str, Tensor]:
        """All that the steps to come depend on, by name: the weights, their average, what the optimizer remembers."""
        remembered = {
            f"optimizer.{index}.{name}": value
            for index, parameter in enumerate(self._optimizer.parameters)
            for name, value in self._optimizer.remembered[parameter].items()
        }
        return {**self._networks(), **remembered}

    @torch.no_grad()
    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Go on where a step of the same kind, whose ``state`` this is, has stopped; before the first call."""
        for name, tensor in self._networks().items():
            tensor.copy_(state[name])
        for name, value in state.items():
            kind, _, rest = name.partition(".")
            if kind == "optimizer":
                index, _, field = rest.partition(".")
                parameter = self._optimizer.parameters[int(index)]
                # laid out in memory as its parameter is, for the fused optimizers go through both side by side
                own = torch.empty_like(parameter) if value.shape == parameter.shape else torch.empty_like(self._rate)
                self._optimizer.remembered[parameter][field] = own.copy_(value)

    def _networks(self) -> dict[str, Tensor]:
        named = {f"model.{name}": tensor for name, tensor in self._model.state_dict().items()}
        if self._average is not self._model:
            named |= {f"average.{name}": tensor for name, tensor in self._average.state_dict().items()}
        return named

    def prepare(self, number: int, steps_per_epoch: int) -> None:
        """Set the learning rate and the pull of the average of a step, counted from 0 over the whole run.

        The average keeps min(ema, (1 + t) / (10 + t)) of itself in step t, so that the random start is soon forgotten.
        """
        self._rate.fill_(learning_rate(self._recipe, number, steps_per_epoch))
        self._drawn.fill_(1 - min(self._recipe.ema, (1 + number) / (10 + number)))

    def __call__(self, images: Tensor, labels: Tensor) -> None:
        with torch.autocast(images.device.type, torch.bfloat16, enabled=self._bf16):
            outputs = self._model(images).float()
        losses = self._losses(images, outputs, labels).view(self.totals.shape[0], -1)
        self._optimizer.zero_grad()
        losses.mean(1).sum().backward()  # type: ignore[no-untyped-call]
        self._optimizer.step()
        self._follow()
        hits = (outputs.argmax(-1) == labels).view(losses.shape)
        self.totals += torch.stack([losses.detach().sum(1), hits.sum(1)], dim=1)

    def _losses(self, images: Tensor, outputs: Tensor, labels: Tensor) -> Tensor:
        """The loss of every image; of the labels, or of a mix with the teacher's answers."""
        recipe = self._recipe
        losses = F.cross_entropy(
            outputs.flatten(0, -2), labels.flatten(), label_smoothing=recipe.label_smoothing, reduction="none"
        )
        if self._teach is None:
            return losses
        apart = divergence(outputs, self._teach(images), recipe.temperature).flatten()
        return (1 - recipe.distill) * losses + recipe.distill * apart


def make_optimizer(model: nn.Module, recipe: Recipe, rate: Tensor) -> Optimizer:
    """The recipe's optimizer, which looks its learning rate up in ``rate`` (a tensor without dimensions).

    Weight decay acts on tensors of two or more dimensions, that is not on biases and norms.
    """
    least = 3 if isinstance(model, Stacked) else 2
    parameters = [p for p in model.parameters() if p.requires_grad]
    weights = Group([p for p in parameters if p.ndim >= least], recipe.weight_decay)
    return Optimizer((weights, Group([p for p in parameters if p.ndim < least], 0.0)), recipe, rate)


def _follower(model: nn.Module, average: nn.Module, drawn: Tensor) -> Callable[[], None]:
    """A function that draws ``average`` towards ``model``: parameters and BatchNorm statistics alike."""
    if average is model:
        return lambda: None
    ours = [*average.parameters(), *_float_buffers(average)]
    theirs = [*model.parameters(), *_float_buffers(model)]

    @torch.no_grad()
    def follow() -> None:
        differences = torch._foreach_sub(theirs, ours)
        torch._foreach_mul_(differences, drawn)
        torch._foreach_add_(ours, differences)

    return follow


def _float_buffers(model: nn.Module) -> list[Tensor]:
    return [buffer for buffer in model.buffers() if buffer.is_floating_point()]
