"""Several models of one architecture that train as one: every parameter, buffer and batch has a dimension in front."""

from __future__ import annotations

import copy
from collections.abc import Sequence

from torch import Tensor, nn
from torch.func import functional_call, stack_module_state, vmap


class Stacked(nn.Module):
    """``models`` as one module: (S, N, …) images, the batch of each model, → (S, N, classes).

    What a model computes for its batch is what it would compute alone, up to rounding; dropout draws for each model on
    its own. The models themselves are only read; ``unstacked`` gives copies with the present state.
    """

    def __init__(self, models: Sequence[nn.Module]) -> None:
        super().__init__()
        parameters, buffers = stack_module_state(list(models))
        self._names = (tuple(parameters), tuple(buffers))
        self._template = (copy.deepcopy(models[0]),)  # in a tuple, or its parameters would count as ours
        self.size = len(models)
        self.stacked = nn.ParameterList(nn.Parameter(p.detach(), p.requires_grad) for p in parameters.values())
        for index, buffer in enumerate(buffers.values()):
            self.register_buffer(f"buffer{index}", buffer)

    def forward(self, images: Tensor) -> Tensor:
        out: Tensor = vmap(self._one, randomness="different")(*self._state(), images)
        return out

    def _one(self, parameters: dict[str, Tensor], buffers: dict[str, Tensor], images: Tensor) -> Tensor:
        # What is shared is shared as a layer, which has its tensor once; tied by name, it would be put back wrongly.
        out: Tensor = functional_call(self._template[0], (parameters, buffers), (images,), tie_weights=False)
        return out

    def _state(self) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        parameters, buffers = self._names
        return dict(zip(parameters, self.stacked, strict=True)), dict(zip(buffers, self.buffers(), strict=True))

    def train(self, mode: bool = True) -> Stacked:
        self._template[0].train(mode)
        return super().train(mode)

    def unstacked(self) -> list[nn.Module]:
        """A copy of every model."""
        parameters, buffers = self._state()
        copies = []
        for index in range(self.size):
            model = copy.deepcopy(self._template[0])
            own = dict(model.named_parameters()) | dict(model.named_buffers())  # what layers share, once
            for name, tensor in (parameters | buffers).items():
                own[name].data.copy_(tensor[index])
            copies.append(model)
        return copies
