"""Several models that train as one, against each alone; a step that is recorded, against one that is not."""

from __future__ import annotations

import copy
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from budgetnet import captured
from budgetnet.build import build
from budgetnet.captured import WARM_UP, Captured
from budgetnet.data import load
from budgetnet.errors import TrainingDiverged
from budgetnet.executor import InProcess
from budgetnet.jobs import EpochDone, Failed, Finished, Job
from budgetnet.notation import parse
from budgetnet.recipe import Recipe
from budgetnet.stacked import Stacked
from budgetnet.step import make_optimizer
from budgetnet.train import train, train_together

NETWORK = parse("8 M r8 s10/2 c6^2")  # plain, residual, separable, strided, looped
SEEDS = (5, 6, 7)


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BUDGETNET_CACHE", str(tmp_path_factory.mktemp("cache")))
        data = load("mnist").limited(300, 200)
        yield data, data.search_splits()


def models(seeds=SEEDS, dropout=False):
    network = parse("[@0.2] 8 M 10") if dropout else NETWORK
    return [build(network, seed) for seed in seeds]


def together(these, recipe, small, seeds=SEEDS):
    data, splits = small
    return list(train_together(these, recipe, *splits, mean=data.mean, std=data.std, seeds=seeds, bf16=False))


def alone(model, recipe, small, seed):
    data, splits = small
    return list(train(model, recipe, *splits, mean=data.mean, std=data.std, seed=seed, bf16=False))


def numbers(result):
    return [result.train_loss, result.loss, result.train_accuracy, result.accuracy, result.learning_rate]


def test_the_outputs_are_those_of_each_model_alone():
    these = models()
    images = torch.randn(3, 4, 1, 28, 28)
    stacked = Stacked(these).eval()
    expected = torch.stack([model.eval()(batch) for model, batch in zip(these, images, strict=True)])
    torch.testing.assert_close(stacked(images), expected, atol=1e-5, rtol=1e-5)


def test_unstacked_are_copies_with_the_present_state():
    these = models()
    stacked = Stacked(these)
    with torch.no_grad():
        for parameter in stacked.parameters():
            parameter += 1
    for copied, model in zip(stacked.unstacked(), these, strict=True):
        for (name, tensor), old in zip(copied.named_parameters(), model.parameters(), strict=True):
            torch.testing.assert_close(tensor, old + 1, msg=name)
        assert copied.state_dict().keys() == model.state_dict().keys()


@pytest.mark.parametrize(
    "recipe",
    [
        Recipe(epochs=2, batch_size=64, ema=0.9, label_smoothing=0.1),
        Recipe(epochs=2, batch_size=64, optimizer="adamw", learning_rate=0.003, weight_decay=0.1),
    ],
    ids=["sgd, ema, smoothing", "adamw"],
)
def test_training_together_is_training_each_alone(small, recipe):
    these = models()
    solo = [copy.deepcopy(model) for model in these]
    found = together(these, recipe, small)
    for index, (seed, model) in enumerate(zip(SEEDS, solo, strict=True)):
        expected = alone(model, recipe, small, seed)
        for ours, theirs in zip(found, expected, strict=True):
            assert ours[index].epoch == theirs.epoch
            assert numbers(ours[index]) == pytest.approx(numbers(theirs), abs=0.012)  # two of 200 images
        for (name, tensor), expected_tensor in zip(
            these[index].state_dict().items(), model.state_dict().values(), strict=True
        ):
            torch.testing.assert_close(tensor, expected_tensor, atol=5e-3, rtol=5e-3, msg=name)
    assert not any(model.training for model in these)


def test_the_seeds_differ_and_one_seed_twice_does_not(small):
    same = build(NETWORK, 0)
    found = together([copy.deepcopy(same) for _ in range(3)], Recipe(epochs=1), small, seeds=(1, 1, 2))[0]
    assert numbers(found[0]) == numbers(found[1])
    assert numbers(found[0]) != numbers(found[2])


def test_dropout_draws_for_each_model_on_its_own():
    network = nn.Sequential(nn.Conv2d(1, 4, 1), nn.Dropout(0.5))
    stacked = Stacked([network, copy.deepcopy(network)]).train()
    one, two = stacked(torch.ones(2, 8, 1, 9, 9))
    assert not torch.equal(one == 0, two == 0)
    assert not torch.equal(one[0] == 0, one[1] == 0), "and for each image"
    assert 0.4 < (one == 0).float().mean() < 0.6


def test_dropout_trains_reproducibly(small):
    recipe = Recipe(epochs=1)
    first, second = (together(models(dropout=True), recipe, small)[0] for _ in range(2))
    assert [numbers(result) for result in first] == [numbers(result) for result in second]


def test_weight_decay_acts_on_weights_alone():
    optimizer = make_optimizer(Stacked(models()), Recipe(weight_decay=0.01), torch.tensor(0.1))
    decayed = {p.ndim for group in optimizer.groups if group.weight_decay for p in group.parameters}
    spared = {p.ndim for group in optimizer.groups if not group.weight_decay for p in group.parameters}
    assert (decayed, spared) == ({5}, {2})


def test_one_model_that_diverges_is_told(small):
    these = models()
    with torch.no_grad():
        next(these[1].parameters()).fill_(torch.nan)
    with pytest.raises(TrainingDiverged, match=r"^epoch 1: training loss must be finite, but is nan$"):
        together(these, Recipe(epochs=1), small)


def test_a_job_with_seeds_beside_its_own(tmp_path: Path, small_mnist: Path):
    executor = InProcess()
    recipe, weights = Recipe(epochs=2, learning_rate=0.001), tmp_path / "first.safetensors"
    executor.submit(Job(3, NETWORK, recipe, str(small_mnist), "final", 5, str(weights), beside=(6,)))
    events = []
    while not events or not isinstance(events[-1], Finished | Failed):
        events += executor.events()
    told = [(event.job, event.seed, event.result.epoch) for event in events if isinstance(event, EpochDone)]
    assert told == [(3, 5, 1), (3, 6, 1), (3, 5, 2), (3, 6, 2)]
    alone = tmp_path / "alone.safetensors"
    executor.submit(Job(4, NETWORK, recipe, str(small_mnist), "final", 5, str(alone)))
    while not any(isinstance(event, Finished | Failed) for event in events[-1:]) or events[-1].job == 3:
        events += executor.events()
    for (name, one), other in zip(load_file(weights).items(), load_file(alone).values(), strict=True):
        torch.testing.assert_close(one, other, atol=5e-3, rtol=5e-3, msg=name)
    assert not executor.takes_seeds_together


# The recorded step; the graph is a stand-in, which repeats the step on the tensors that it was recorded with


class Recording:
    last: Recording

    def __init__(self):
        self.replays = 0
        Recording.last = self

    def replay(self):
        self.replays += 1
        self.step()


@pytest.fixture
def recorded(monkeypatch):
    """(a Captured whose step appends what it sees, what it saw)."""
    seen = []
    take = Captured(lambda images, labels: seen.append((images.clone(), labels.clone())))

    @contextmanager
    def graph(recording):
        before = len(seen)
        yield
        del seen[before:]  # recording runs nothing
        recording.step = lambda: take._step(*take._recording[1:])

    monkeypatch.setattr(captured.torch.cuda, "CUDAGraph", Recording)
    monkeypatch.setattr(captured.torch.cuda, "graph", graph)
    monkeypatch.setattr(Captured, "_run", lambda self, images, labels: self._step(images, labels))
    return take, seen


def test_a_recorded_step_sees_every_batch_once_in_order(recorded):
    take, seen = recorded
    batches = [(torch.full((4, 1), float(i)), torch.full((4,), i)) for i in range(8)]
    batches.insert(6, (torch.full((2, 1), 99.0), torch.full((2,), 99)))  # a last, smaller batch, then the next epoch
    for images, labels in batches:
        take(images, labels)
    assert len(seen) == len(batches)
    for (images, labels), (expected, expected_labels) in zip(seen, batches, strict=True):
        assert torch.equal(images, expected)
        assert torch.equal(labels, expected_labels)
    assert Recording.last.replays == len(batches) - WARM_UP - 1, "all but the first few and the smaller batch"
