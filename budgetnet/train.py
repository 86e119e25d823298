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
from budgetnet.captured import Captured
from budgetnet.checkpoint import Checkpoint
from budgetnet.dataset import Split
from budgetnet.errors import TrainingDiverged
from budgetnet.fused import fused
from budgetnet.machine import has_bf16
from budgetnet.recipe import Recipe, learning_rate
from budgetnet.results import EpochResult, Outcome
from budgetnet.stacked import Stacked
from budgetnet.step import Step
from budgetnet.teacher import answers, load_teacher

POLL = 20  # batches between two looks at should_stop
NEAR_TIE = 1e-4  # distance of two logits below which another order of additions may choose the other class
MOST_TIES = 0.002  # share of images; a trained network ties on one in ten thousand
CHUNK = 512  # images augmented in one call: few calls, and still inside the cache


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
    that safe; None means if the device has instructions for it, and so a teacher answers anyway. Raises
    TrainingDiverged when the loss is not finite.
    """
    for (result,) in train_together(
        [model], recipe, training, evaluation,
        mean=mean, std=std, seeds=[seed], device=device, bf16=bf16, should_stop=should_stop,
    ):  # fmt: skip
        yield result


def train_together(
    models: Sequence[nn.Module],
    recipe: Recipe,
    training: Split,
    evaluation: Split,
    *,
    mean: Sequence[float],
    std: Sequence[float],
    seeds: Sequence[int],
    device: str | torch.device = "cpu",
    bf16: bool | None = None,
    should_stop: Callable[[], bool] | None = None,
    checkpoint: Checkpoint | None = None,
) -> Iterator[Sequence[EpochResult]]:
    """As ``train``, for models of one architecture that take each step at once, each with a seed of its own.

    Meant for a GPU, which a single small network leaves idle; on a CPU, processes side by side are faster. A model sees
    its images as it would alone; the random numbers of dropout come from one generator. The seconds are those of all.
    ``checkpoint``: where to go on, and what to write after an epoch; the epochs that it has are yielded again.
    """
    device = torch.device(device)
    training, evaluation = training.to(device), evaluation.to(device)
    steps = math.ceil(_taken(len(training), recipe.batch_size) / recipe.batch_size)
    model = _as_one(models, device)
    average = copy.deepcopy(model) if recipe.ema else model
    teacher = load_teacher(recipe.teacher).to(device) if recipe.distill else None
    teach = None if teacher is None else partial(answers, teacher, bf16=has_bf16(device))
    step = Step(model, average, recipe, has_bf16(device) if bf16 is None else bf16, teach)
    take = Captured(step) if device.type == "cuda" else step
    done: list[Sequence[EpochResult]] = []
    if checkpoint is not None and (progress := checkpoint.read()) is not None:
        step.restore(progress.tensors)
        done.extend(progress.epochs)
        yield from progress.epochs
    for epoch in range(len(done), recipe.epochs):
        started = time.perf_counter()
        with (
            _forked_rng(seeds, epoch, training.labels.device) as generators,
            fused(model, device),
            fused(teacher or nn.Identity(), device),
        ):
            model.train()
            step.totals.zero_()
            seen = 0
            for index, (images, labels) in enumerate(_batches_together(training, recipe, mean, std, generators)):
                if index % POLL == 0:
                    if should_stop is not None and should_stop():
                        return
                    if device.type == "cpu":  # elsewhere, reading the losses would make the host wait
                        _check_finite(step.totals, epoch)
                step.prepare(epoch * steps + index, steps)
                take(images, labels)
                seen += labels.shape[-1]
        _check_finite(step.totals, epoch)
        scores = [evaluate(each, evaluation, mean, std, device=device) for each in _copies(average)]
        rate = learning_rate(recipe, epoch * steps + index, steps)
        seconds = time.perf_counter() - started
        done.append(_results(epoch, rate, step.totals.double() / seen, scores, len(evaluation), seconds))
        if checkpoint is not None and checkpoint.due():
            checkpoint.write(done, step.state())
        yield done[-1]
    for mine, theirs in zip(models, _copies(average), strict=True):
        _plain_layout(mine).load_state_dict(theirs.state_dict())
        mine.eval()


def _results(
    epoch: int, rate: float, means: Tensor, scores: Sequence[tuple[int, float]], images: int, seconds: float
) -> list[EpochResult]:
    return [
        EpochResult(
            epoch=epoch + 1,
            learning_rate=rate,
            train_loss=train_loss,
            train_accuracy=train_accuracy,
            accuracy=correct / images,
            loss=loss,
            correct=correct,
            total=images,
            seconds=seconds,
        )
        for (train_loss, train_accuracy), (correct, loss) in zip(means.tolist(), scores, strict=True)
    ]


def _as_one(models: Sequence[nn.Module], device: torch.device) -> nn.Module:
    if len(models) > 1:
        return Stacked(models).to(device)
    model: nn.Module = models[0].to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    return model


def _copies(model: nn.Module) -> list[nn.Module]:
    """The models that train as one, each laid out in memory as if just loaded: both then score alike to the bit."""
    copies = model.unstacked() if isinstance(model, Stacked) else [copy.deepcopy(model)]
    return [_plain_layout(each) for each in copies]


def _plain_layout(model: nn.Module) -> nn.Module:
    for parameter in model.parameters():
        parameter.data = parameter.data.clone(memory_format=torch.contiguous_format)
    return model


def _batches(
    training: Split, recipe: Recipe, mean: Sequence[float], std: Sequence[float], generator: torch.Generator
) -> Iterator[tuple[Tensor, Tensor]]:
    """Shuffled, augmented, normalised batches; the last one may be small. Augments several batches in one call."""
    size = recipe.batch_size
    order = torch.randperm(len(training), generator=generator, device=generator.device)
    order = order[: _taken(len(training), size)]
    chunk = size * max(1, CHUNK // size)
    for indices in torch.split(order, chunk):
        images = augment(training.images[indices], recipe.affine, mean, std, generator)
        labels = training.labels[indices]
        yield from zip(torch.split(images, size), torch.split(labels, size), strict=True)


def _taken(images: int, size: int) -> int:
    """How many images an epoch has: all, but for one that would be a batch by itself; another sits out next time.

    BatchNorm over a single cell has no variance.
    """
    return images - 1 if images % size == 1 and images > 1 else images


def _batches_together(
    training: Split, recipe: Recipe, mean: Sequence[float], std: Sequence[float], generators: Sequence[torch.Generator]
) -> Iterator[tuple[Tensor, Tensor]]:
    """The batches of one generator; of several, those of each stacked, (S, N, C, H, W) and (S, N)."""
    streams = [_batches(training, recipe, mean, std, generator) for generator in generators]
    if len(streams) == 1:
        yield from streams[0]
        return
    for batches in zip(*streams, strict=True):
        images, labels = zip(*batches, strict=True)
        yield torch.stack(images), torch.stack(labels)


@contextmanager
def _forked_rng(seeds: Sequence[int], epoch: int, device: torch.device) -> Iterator[list[torch.Generator]]:
    """Generators for order and augmentation, and torch's own (dropout) seeded alike; the caller's state comes back."""
    mixed = [random.Random(f"{seed}/{epoch}").getrandbits(63) for seed in seeds]
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(mixed[0])
        yield [torch.Generator(device).manual_seed(each ^ 1) for each in mixed]


def _check_finite(totals: Tensor, epoch: int) -> None:
    for loss in totals[:, 0].tolist():
        if not math.isfinite(loss):
            raise TrainingDiverged(f"epoch {epoch + 1}: training loss must be finite, but is {loss}")


def evaluate(
    model: nn.Module,
    split: Split,
    mean: Sequence[float],
    std: Sequence[float],
    *,
    device: str | torch.device = "cpu",
    batch_size: int = 250,
) -> tuple[int, float]:
    """(number classified correctly, mean cross-entropy) of a model on a split."""
    outputs = predict(model, split, mean, std, device=device, batch_size=batch_size)
    labels = split.labels.to(outputs.device)
    return int((outputs.argmax(1) == labels).sum()), float(F.cross_entropy(outputs, labels))


def ties(outputs: Tensor) -> dict[int, frozenset[int]]:
    """Images whose two largest outputs are so close that another processor, adding in another order, might choose the
    other: index → the two classes. None at all where there are so many that the network decides nothing."""
    values, classes = outputs.topk(2, dim=1)
    tied = (values[:, 0] - values[:, 1] < NEAR_TIE).nonzero().flatten().tolist()
    if len(tied) > MOST_TIES * len(outputs) + 1:
        return {}
    return {index: frozenset(classes[index].tolist()) for index in tied}


def outcome(
    model: nn.Module,
    training: Split,
    test: Split,
    mean: Sequence[float],
    std: Sequence[float],
    *,
    device: str | torch.device = "cpu",
) -> Outcome:
    """What a finished network makes of every training and test image as it is."""
    train_correct, _ = evaluate(model, training, mean, std, device=device)
    return Outcome(train_correct, len(training), wrong_of(predict(model, test, mean, std, device=device), test))


def wrong_of(outputs: Tensor, split: Split) -> tuple[tuple[int, int], ...]:
    """The images whose largest output is not their label: (index, class they are taken for), in order."""
    taken_for = outputs.argmax(1).cpu()
    wrong = (taken_for != split.labels.cpu()).nonzero().flatten()
    return tuple(zip(wrong.tolist(), taken_for[wrong].tolist(), strict=True))


@torch.inference_mode()
def predict(
    model: nn.Module,
    split: Split,
    mean: Sequence[float],
    std: Sequence[float],
    *,
    device: str | torch.device = "cpu",
    batch_size: int = 250,
) -> Tensor:
    """Outputs (N, classes) of the model in eval mode; it is left in the mode it was in."""
    was_training = model.training
    model.eval()
    batches = torch.split(split.images, batch_size)
    with fused(model, torch.device(device)):
        outputs = torch.cat(
            [model(normalise(images.to(device, memory_format=torch.channels_last), mean, std)) for images in batches]
        )
    model.train(was_training)
    return outputs
