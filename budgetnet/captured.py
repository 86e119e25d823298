"""A training step as a CUDA graph: recorded once, then replayed without the host's work in between."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

WARM_UP = 3  # real steps, run as they are, before the next one is recorded: they create what the optimizer keeps

Step = Callable[[Tensor, Tensor], None]


class Captured:
    """``step(images, labels)``, with the same effect, in one launch once it has been recorded.

    The step may not read a tensor on the host, and what changes from step to step has to be in tensors that it finds
    at the same address. A batch of another shape than the recorded one (the last of an epoch) runs as it is. Random
    numbers come from the device's default generator, whose seed and offset every replay looks up anew.
    """

    def __init__(self, step: Step) -> None:
        self._step = step
        self._calls = 0
        self._recording: tuple[torch.cuda.CUDAGraph, Tensor, Tensor] | None = None

    def __call__(self, images: Tensor, labels: Tensor) -> None:
        self._calls += 1
        if self._calls == WARM_UP + 1:
            self._recording = self._record(images.clone(), labels.clone())
        if self._recording is None or self._recording[1].shape != images.shape:
            self._run(images, labels)
            return
        graph, its_images, its_labels = self._recording
        its_images.copy_(images)
        its_labels.copy_(labels)
        graph.replay()

    def _run(self, images: Tensor, labels: Tensor) -> None:
        """On a stream of its own, as steps before a recording must be."""
        stream = torch.cuda.Stream(images.device)  # type: ignore[no-untyped-call]
        stream.wait_stream(torch.cuda.current_stream(images.device))
        with torch.cuda.stream(stream):
            self._step(images, labels)
        torch.cuda.current_stream(images.device).wait_stream(stream)

    def _record(self, images: Tensor, labels: Tensor) -> tuple[torch.cuda.CUDAGraph, Tensor, Tensor]:
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            self._step(images, labels)
        return graph, images, labels
