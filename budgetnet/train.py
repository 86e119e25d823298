"""The training loop: a generator that yields one EpochResult at a time. Knows nothing of search."""

from __future__ import annotations

import copy
import math
import random
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from budgetnet.augment import augment, normalise
from budgetnet.dataset import Split
from budgetnet.errors import TrainingDiverged
from budgetnet.recipe import EpochResult, Recipe, learning_rate

POLL = 20  # batches between two looks at should_stop
CHUNK = 1024  # images augmented in one call: fewer calls, and still inside the cache


def train(
    model: nn.Module,
    recipe: Recipe,
    training: Split,
    evaluation: Split,
    *,
    mean: Sequence[float],
    std: Sequence[float],
    seed: int,
    device: str | torch.device = "cpu",
    bf16: bool | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> Iterator[EpochResult]:
    """Train ``model`` in place and yield one result an epoch, with EMA that of the averaged weights.

    Once exhausted, the model holds exactly the weights of the last result (with EMA: the averaged weights and averaged
    BatchNorm statistics), in eval mode on ``device``. ``seed`` fixes order, augmentation and dropout, and leaves the
    caller's random state alone; initialising the model is the caller's. On CPU the same seed, machine and thread count
    give identical results. ``should_stop`` is asked every few batches; after a yes the generator just ends, and the
    weights are of no use. ``bf16`` computes the steps, never the evaluation, in bfloat16 where torch's autocast holds
    that safe; None means if the device has instructions for it. Raises TrainingDiverged when the loss is not finite.
    """
    device = torch.device(device)
    training, evaluation = training.to(device), evaluation.to(device)
    steps = math.ceil(len(training) / recipe.batch_size)
    model.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    average = copy.deepcopy(model) if recipe.ema else model
    optimizer = make_optimizer(model, recipe)
    bf16 = has_bf16(device) if bf16 is None else bf16
    for epoch in range(recipe.epochs):
        started = time.perf_counter()
        with _forked_rng(seed, epoch, training.labels.device) as generator, _cheap_dropout(model, device):
            batches = _batches(training, recipe, mean, std, generator)
            outputs, labels = _run_epoch(
                model, average, optimizer, recipe, batches, epoch, steps, bf16, should_stop or _never
            )
        if len(outputs) < len(training) - 1:  # told to stop; a last image alone sits an epoch out
            return
        train_loss = _finite(F.cross_entropy(outputs, labels, label_smoothing=recipe.label_smoothing), epoch)
        kept = _plain_layout(copy.deepcopy(average))
        correct, loss = evaluate(kept, evaluation, mean, std, device=device)
        if epoch + 1 == recipe.epochs:
            _plain_layout(model).load_state_dict(kept.state_dict())
            model.eval()
        yield EpochResult(
            epoch=epoch + 1,
            learning_rate=optimizer.param_groups[0]["lr"],
            train_loss=train_loss,
            train_accuracy=_correct(outputs, labels) / len(labels),
            accuracy=correct / len(evaluation),
            loss=loss,
            correct=correct,
            total=len(evaluation),
            seconds=time.perf_counter() - started,
        )


def _run_epoch(
    model: nn.Module,
    average: nn.Module,
    optimizer: torch.optim.Optimizer,
    recipe: Recipe,
    batches: Iterator[tuple[Tensor, Tensor]],
    epoch: int,
    steps: int,
    bf16: bool,
    should_stop: Callable[[], bool],
) -> tuple[Tensor, Tensor]:
    """One pass over the training images; (outputs, labels) in the order seen, cut short if asked to stop."""
    model.train()
    track = _tracker(model, average, recipe.ema)
    outputs: list[Tensor] = []
    seen: list[Tensor] = []
    for step, (images, labels) in enumerate(batches):
        if step % POLL == 0 and should_stop():
            break
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(recipe, epoch * steps + step, steps)
        with torch.autocast(images.device.type, torch.bfloat16, enabled=bf16):
            output = model(images).float()
        loss = F.cross_entropy(output, labels, label_smoothing=recipe.label_smoothing)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        track(epoch * steps + step)
        outputs.append(output.detach())
        seen.append(labels)
        if step % POLL == 0 and loss.device.type == "cpu":  # elsewhere, reading the loss would make the host wait
            _finite(loss, epoch)
    return (torch.cat(outputs), torch.cat(seen)) if outputs else (torch.empty(0), torch.empty(0))


def has_bf16(device: str | torch.device) -> bool:
    """Whether the device multiplies bfloat16 in hardware (elsewhere it is emulated, and slower than float32)."""
    if torch.device(device).type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return torch.device(device).type == "cpu" and bool(torch.cpu._is_avx512_bf16_supported())


@contextmanager
def _cheap_dropout(model: nn.Module, device: torch.device) -> Iterator[None]:
    """Let every nn.Dropout draw 16 bits an element for its mask: a fifth of the cost of Bernoulli numbers on a CPU."""
    dropouts = [m for m in model.modules() if type(m) is nn.Dropout and m.p < 1 and device.type == "cpu"]
    for module in dropouts:
        module.forward = partial(_dropout, module)  # type: ignore[method-assign]
    try:
        yield
    finally:
        for module in dropouts:
            del module.forward


def _dropout(module: nn.Dropout, x: Tensor) -> Tensor:
    """Inverted dropout, as ``F.dropout``; the probability is that of ``module.p`` rounded to 1/65,536."""
    dropped = round(module.p * 65536)
    if not module.training or dropped == 0:
        return x
    bits = torch.empty((x.numel() + 3) // 4, dtype=torch.int64).random_(-(2**63), None).view(torch.int16)
    noise = torch.empty_like(x)  # in the layout of x, so that the product below runs through memory in order
    flat = noise.as_strided((x.numel(),), (1,))
    torch.ge(bits[: x.numel()], dropped - 32768, out=flat)
    return x * noise.mul_(65536 / (65536 - dropped))


def _batches(
    training: Split, recipe: Recipe, mean: Sequence[float], std: Sequence[float], generator: torch.Generator
) -> Iterator[tuple[Tensor, Tensor]]:
    """Shuffled, augmented, normalised batches; the last one may be small. Augments several batches in one call."""
    order = torch.randperm(len(training), generator=generator, device=generator.device)
    size = recipe.batch_size
    if len(order) % size == 1 and len(order) > 1:
        order = order[:-1]  # BatchNorm over a single cell has no variance; another image sits out next time
    chunk = size * max(1, CHUNK // size)
    for indices in torch.split(order, chunk):
        images = augment(training.images[indices], recipe.affine, mean, std, generator)
        labels = training.labels[indices]
        yield from zip(torch.split(images, size), torch.split(labels, size), strict=True)


def make_optimizer(model: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    """The recipe's optimizer; weight decay on tensors of two or more dimensions, that is not on biases and norms."""
    parameters = [p for p in model.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in parameters if p.ndim >= 2], "weight_decay": recipe.weight_decay},
        {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
    ]
    groups = [group for group in groups if group["params"]]
    if recipe.optimizer == "sgd":
        nesterov = recipe.nesterov and recipe.momentum > 0
        return torch.optim.SGD(groups, recipe.learning_rate, recipe.momentum, nesterov=nesterov, fused=True)
    kind = torch.optim.Adam if recipe.optimizer == "adam" else torch.optim.AdamW
    return kind(groups, recipe.learning_rate, betas=(recipe.momentum, 0.999), fused=True)


def _tracker(model: nn.Module, average: nn.Module, decay: float) -> Callable[[int], None]:
    """A function that draws ``average`` towards ``model`` after a step: parameters and BatchNorm statistics alike.

    The decay of step t (from 0) is min(decay, (1 + t) / (10 + t)), so that the random start is soon forgotten.
    """
    if average is model:
        return lambda step: None
    ours = [*average.parameters(), *_float_buffers(average)]
    theirs = [*model.parameters(), *_float_buffers(model)]

    @torch.no_grad()
    def track(step: int) -> None:
        torch._foreach_lerp_(ours, theirs, 1 - min(decay, (1 + step) / (10 + step)))

    return track


def _float_buffers(model: nn.Module) -> list[Tensor]:
    return [buffer for buffer in model.buffers() if buffer.is_floating_point()]


def _plain_layout(model: nn.Module) -> nn.Module:
    """Lay the parameters out as in a model that was just loaded, so that both give the same outputs to the last bit."""
    for parameter in model.parameters():
        parameter.data = parameter.data.clone(memory_format=torch.contiguous_format)
    return model


@contextmanager
def _forked_rng(seed: int, epoch: int, device: torch.device) -> Iterator[torch.Generator]:
    """A generator for order and augmentation, and torch's own (dropout) seeded alike; the caller's state comes back."""
    mixed = random.Random(f"{seed}/{epoch}").getrandbits(63)
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(mixed)
        yield torch.Generator(device).manual_seed(mixed ^ 1)


def _finite(loss: Tensor, epoch: int) -> float:
    value = loss.item()
    if not math.isfinite(value):
        raise TrainingDiverged(f"epoch {epoch + 1}: training loss must be finite, but is {value}")
    return value


def _never() -> bool:
    return False


def evaluate(
    model: nn.Module,
    split: Split,
    mean: Sequence[float],
    std: Sequence[float],
    *,
    device: str | torch.device = "cpu",
    batch_size: int = 1000,
) -> tuple[int, float]:
    """(number classified correctly, mean cross-entropy) of a model on a split."""
    outputs = predict(model, split, mean, std, device=device, batch_size=batch_size)
    labels = split.labels.to(outputs.device)
    return _correct(outputs, labels), float(F.cross_entropy(outputs, labels))


@torch.inference_mode()
def predict(
    model: nn.Module,
    split: Split,
    mean: Sequence[float],
    std: Sequence[float],
    *,
    device: str | torch.device = "cpu",
    batch_size: int = 1000,
) -> Tensor:
    """Outputs (N, classes) of the model in eval mode; it is left in the mode it was in."""
    was_training = model.training
    model.eval()
    batches = torch.split(split.images, batch_size)
    outputs = torch.cat([model(normalise(images.to(device), mean, std)) for images in batches])
    model.train(was_training)
    return outputs


def _correct(outputs: Tensor, labels: Tensor) -> int:
    return int((outputs.argmax(1) == labels).sum())
