"""The training loop against torch's own parts, and what it promises: reproducible, stoppable, honest about NaN."""

from __future__ import annotations

import copy
import itertools
import json
import math
import shutil
import subprocess
import sys
import warnings
from dataclasses import asdict, replace

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from budgetnet.augment import _grid, augment, normalise, random_maps
from budgetnet.checkpoint import Checkpoint
from budgetnet.data import load
from budgetnet.dataset import Split
from budgetnet.errors import RecipeError, TrainingDiverged
from budgetnet.machine import has_bf16
from budgetnet.recipe import RANGES, Affine, Recipe, learning_rate
from budgetnet.step import make_optimizer
from budgetnet.train import evaluate, predict, train, train_together

MEAN, STD = (0.1307,), (0.3081,)


@pytest.fixture(scope="module", autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """1,000 training and 500 validation images of MNIST."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BUDGETNET_CACHE", str(tmp_path_factory.mktemp("cache")))
        return load("mnist").limited(1000, 500).search_splits()


def network(seed=0, dropout=0.0):
    torch.manual_seed(seed)
    return nn.Sequential(
        *(nn.Conv2d(1, 8, 3, stride=2, bias=False), nn.BatchNorm2d(8), nn.ReLU(), nn.Dropout(dropout)),
        *(nn.Conv2d(8, 12, 3, bias=False), nn.BatchNorm2d(12), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(12, 16, 3), nn.BatchNorm2d(16), nn.ReLU()),
        *(nn.AdaptiveAvgPool2d(1), nn.Conv2d(16, 10, 1), nn.Flatten()),
    )


def run(model, recipe, splits, seed=0, bf16=False, **more):
    return list(train(model, recipe, *splits, mean=MEAN, std=STD, seed=seed, bf16=bf16, **more))


def without_time(results):
    return [{**result.to_dict(), "seconds": 0} for result in results]


# The recipe


def test_recipe_round_trip_and_json():
    recipe = Recipe(learning_rate=0.01, optimizer="adam", ema=0.999, flip=True)
    assert Recipe.from_dict(json.loads(json.dumps(recipe.to_dict()))) == recipe
    assert Recipe.from_dict({}) == Recipe()


def test_the_ladders_of_the_baselines_are_recipes():
    a3 = Recipe(
        learning_rate=0.01, nesterov=False, batch_size=128, weight_decay=0.0, schedule="constant",
        rotation=0.0, scale=0.0, shift=0.0, shear=0.0,
    )  # fmt: skip
    assert a3.affine.is_identity()
    a5 = replace(a3, rotation=7.0, fill=1.0, schedule="step", step_size=6, gamma=0.1)
    rates = [learning_rate(a5, epoch * 469, 469) for epoch in range(15)]
    assert rates == pytest.approx([0.01] * 6 + [0.001] * 6 + [0.0001] * 3)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"learning_rat": 1}, r"^recipe.learning_rat: must be one of learning_rate, batch_size, "),
        ({"learning_rate": 0.0}, r"^recipe.learning_rate: must be between 1e-07 and 100, but is 0.0$"),
        ({"learning_rate": math.nan}, r"^recipe.learning_rate: must be between 1e-07 and 100, but is nan$"),
        ({"learning_rate": "0.1"}, r"^recipe.learning_rate: must be a number, but is '0.1'$"),
        ({"epochs": 1.5}, r"^recipe.epochs: must be a whole number, but is 1.5$"),
        ({"batch_size": True}, r"^recipe.batch_size: must be a whole number, but is True$"),
        ({"ema": 1.0}, r"^recipe.ema: must be between 0 and 0.99999, but is 1.0$"),
        ({"optimizer": "lion"}, r"^recipe.optimizer: must be one of sgd, adam, adamw, but is 'lion'$"),
        ({"schedule": None}, r"^recipe.schedule: must be one of onecycle, cosine, step, constant, but is None$"),
        ({"nesterov": 1}, r"^recipe.nesterov: must be true or false, but is 1$"),
    ],
)
def test_recipe_errors(values, message):
    with pytest.raises(RecipeError, match=message):
        Recipe.from_dict(values)


def test_every_number_of_the_recipe_has_a_range_with_its_default_inside():
    numbers = {name: value for name, value in asdict(Recipe()).items() if type(value) in (int, float)}
    assert numbers.keys() == RANGES.keys()
    assert all(low <= numbers[name] <= high for name, (low, high) in RANGES.items())


# The schedules


@settings(max_examples=25, deadline=None)
@given(epochs=st.integers(1, 20), steps=st.integers(2, 40), warmup=st.floats(0.1, 0.9), peak=st.floats(1e-3, 1.0))
def test_onecycle_is_torchs(epochs, steps, warmup, peak):
    recipe = Recipe(epochs=epochs, warmup=warmup, learning_rate=peak)
    if warmup * epochs * steps <= 1:  # torch divides by zero here
        return
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=peak)
    theirs = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, peak, total_steps=epochs * steps, pct_start=warmup, cycle_momentum=False
    )
    for step in range(epochs * steps):
        assert learning_rate(recipe, step, steps) == pytest.approx(optimizer.param_groups[0]["lr"], rel=1e-9)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # no optimizer.step() here
            if step + 1 < epochs * steps:
                theirs.step()


def test_the_other_schedules():
    cosine = Recipe(schedule="cosine", warmup=0.5, epochs=2, learning_rate=1.0)
    rates = [learning_rate(cosine, step, 5) for step in range(10)]
    assert rates[:5] == pytest.approx([0, 0.25, 0.5, 0.75, 1.0])
    assert rates[-1] == pytest.approx(0)
    assert rates[4:] == sorted(rates[4:], reverse=True)
    constant = Recipe(schedule="constant", learning_rate=0.3)
    assert {learning_rate(constant, step, 5) for step in range(75)} == {0.3}
    for schedule, warmup in itertools.product(("onecycle", "cosine"), (0.0, 0.2)):  # the shortest run there is
        assert math.isfinite(learning_rate(Recipe(schedule=schedule, warmup=warmup, epochs=1), 0, 1))


# Augmentation


def sample(n=16, shape=(1, 28, 28), seed=0):
    return torch.randint(0, 256, (n, *shape), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))


def augmented(images, affine, seed=0, mean=MEAN, std=STD):
    return augment(images, affine, mean, std, torch.Generator().manual_seed(seed))


def test_normalise_is_the_textbook_formula():
    images, mean, std = sample(shape=(3, 5, 7)), (0.1, 0.2, 0.3), (0.5, 0.6, 0.7)
    expected = (images / 255 - torch.tensor(mean).view(3, 1, 1)) / torch.tensor(std).view(3, 1, 1)
    torch.testing.assert_close(normalise(images, mean, std), expected)


@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 12, 20)])
@pytest.mark.parametrize("fill", [0.0, 1.0])
def test_affine_of_no_strength_is_the_identity(shape, fill):
    images, mean, std = sample(shape=shape), (0.2,) * shape[0], (0.4,) * shape[0]
    almost_none = Affine(rotation=1e-6, fill=fill)  # goes through the sampler, unlike exactly 0
    torch.testing.assert_close(
        augmented(images, almost_none, mean=mean, std=std), normalise(images, mean, std), atol=1e-3, rtol=0
    )
    assert torch.equal(augmented(images, Affine(fill=fill), mean=mean, std=std), normalise(images, mean, std))


def test_every_image_gets_a_map_of_its_own():
    images = sample(1).expand(8, -1, -1, -1)
    out = augmented(images, Affine(rotation=10, scale=0.1, shift=0.1, shear=0.1))
    for a, b in itertools.combinations(out, 2):
        assert (a - b).abs().max() > 0.1
    assert torch.equal(out, augmented(images, Affine(rotation=10, scale=0.1, shift=0.1, shear=0.1)))


def test_fill_is_what_comes_in_from_outside():
    images = torch.full((64, 1, 10, 10), 51, dtype=torch.uint8)  # 51 / 255 = 0.2
    out = augmented(images, Affine(shift=1.0, fill=1.0), mean=(0.0,), std=(1.0,))
    assert out.min().item() == pytest.approx(0.2, abs=1e-5)
    assert out.max().item() == pytest.approx(1.0, abs=1e-5)


def test_flip_mirrors_about_half_of_the_images_exactly():
    images = sample(200)
    out, plain = augmented(images, Affine(flip=True)), normalise(images, MEAN, STD)
    mirrored = [torch.allclose(a, b.flip(-1), atol=1e-3) for a, b in zip(out, plain, strict=True)]
    kept = [torch.allclose(a, b, atol=1e-3) for a, b in zip(out, plain, strict=True)]
    assert all(a != b for a, b in zip(mirrored, kept, strict=True))
    assert 70 < sum(mirrored) < 130  # 100 ± 4 standard deviations of 7.1


def pixel_maps(affine, size, n=2000):
    """The linear part of the maps in pixel units, (n, 2, 2), and the shift as a fraction of the sides, (n, 2)."""
    maps = random_maps(affine, n, size, torch.Generator().manual_seed(0))
    side = torch.tensor([size[1], size[0]], dtype=torch.float)
    return maps[:, :, :2] * side.view(2, 1) / side.view(1, 2), maps[:, :, 2] / 2


@pytest.mark.parametrize("size", [(28, 28), (20, 50)])
def test_the_maps_have_the_stated_ranges_in_pixels_also_on_oblong_images(size):
    linear, shift = pixel_maps(Affine(rotation=10), size)
    torch.testing.assert_close(linear @ linear.mT, torch.eye(2).expand(2000, 2, 2), atol=1e-5, rtol=0)
    angle = torch.rad2deg(torch.atan2(linear[:, 1, 0], linear[:, 0, 0]))
    assert 9.9 < angle.max() <= 10.0001
    assert -10.0001 <= angle.min() < -9.9
    assert not shift.any()

    zoom = pixel_maps(Affine(scale=0.1), size)[0]
    factor = 1 / zoom[:, 0, 0]  # from output to input: a smaller step in the input is a larger picture
    torch.testing.assert_close(zoom[:, 0, 0], zoom[:, 1, 1])
    assert 0.9 <= factor.min() < 0.901
    assert 1.099 < factor.max() <= 1.1001

    shear = pixel_maps(Affine(shear=0.1), size)[0]
    assert (shear[:, 1] == torch.tensor([0.0, 1.0])).all()
    assert 0.0999 < shear[:, 0, 1].abs().max() <= 0.1001

    moved = pixel_maps(Affine(shift=0.1), size)[1]
    assert ((moved.abs() <= 0.1001) & (moved.abs().amax(0) > 0.0999)).all()
    assert abs(torch.corrcoef(moved.T)[0, 1]) < 0.1, "the axes move independently"


@pytest.mark.parametrize("size", [(28, 28), (7, 12)])
def test_the_grid_is_that_of_torch(size):
    maps = random_maps(Affine(30, 0.2, 0.3, 0.4, flip=True), 9, size, torch.Generator().manual_seed(0))
    torch.testing.assert_close(_grid(maps, size), F.affine_grid(maps, [9, 1, *size], align_corners=False))


# The loop


def test_weight_decay_acts_on_weights_alone():
    optimizer = make_optimizer(network(), Recipe(weight_decay=0.01), torch.tensor(0.1))
    for group in optimizer.groups:
        for parameter in group.parameters:
            assert group.weight_decay == (0.01 if parameter.ndim == 4 else 0.0)
    assert len(optimizer.parameters) == len(list(network().parameters()))


@pytest.mark.parametrize(
    "changes",
    [{}, {"nesterov": False}, {"momentum": 0.0}, {"optimizer": "adam"}, {"optimizer": "adamw"}],
    ids=str,
)
def test_the_optimizers_are_torchs_to_the_bit(changes):
    recipe = Recipe(weight_decay=0.01, **changes)
    model, twin = network(), network()
    ours, momentum = make_optimizer(model, recipe, torch.tensor(0.1)), recipe.momentum
    groups = [
        {"params": [p for p in twin.parameters() if p.ndim == 4], "weight_decay": 0.01},
        {"params": [p for p in twin.parameters() if p.ndim < 4], "weight_decay": 0.0},
    ]
    theirs = {
        "sgd": lambda: torch.optim.SGD(groups, 0.1, momentum, nesterov=recipe.nesterov and momentum > 0, fused=True),
        "adam": lambda: torch.optim.Adam(groups, 0.1, (momentum, 0.999), fused=True),
        "adamw": lambda: torch.optim.AdamW(groups, 0.1, (momentum, 0.999), fused=True),
    }[recipe.optimizer]()
    dice = torch.Generator().manual_seed(0)
    for _ in range(4):
        for one, other in zip(model.parameters(), twin.parameters(), strict=True):
            one.grad = torch.randn(one.shape, generator=dice)
            other.grad = one.grad.clone()
        ours.step()
        theirs.step()
    for one, other in zip(model.parameters(), twin.parameters(), strict=True):
        assert torch.equal(one, other)
    ours.zero_grad()
    assert all(parameter.grad is None for parameter in model.parameters())


def test_a_parameter_without_a_gradient_stays_as_it_is():
    model = network()
    before = [parameter.detach().clone() for parameter in model.parameters()]
    optimizer = make_optimizer(model, Recipe(weight_decay=0.01), torch.tensor(0.1))
    next(model.parameters()).grad = torch.ones_like(before[0])
    optimizer.step()
    stayed = [torch.equal(now, old) for now, old in zip(model.parameters(), before, strict=True)]
    assert stayed == [False] + [True] * (len(before) - 1)


def test_training_imports_no_compiler(small_mnist):
    script = (
        "import sys; from budgetnet import Recipe, parse; from budgetnet.jobs import Job, run_job\n"
        f"job = Job(0, parse('4 M s6'), Recipe(epochs=1, ema=0.9), {str(small_mnist)!r}, 'final', 0)\n"
        "print([type(event).__name__ for event in run_job(job, 'cpu', lambda: False)], 'torch._dynamo' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True)
    assert done.stdout == "['Audited', 'EpochDone', 'SeedDone', 'Finished'] False\n"


def test_one_step_is_plain_sgd(small):
    """One full batch, no augmentation: weights - lr · (gradient of the mean cross-entropy)."""
    images = Split(small[0].images[:32], small[0].labels[:32])
    recipe = Recipe(
        epochs=1, batch_size=32, learning_rate=0.1, schedule="constant", weight_decay=0.0, momentum=0.0,
        rotation=0, scale=0, shift=0, shear=0, label_smoothing=0.1,
    )  # fmt: skip
    model, expected = network(), network().double()
    x = (images.images.double() / 255 - MEAN[0]) / STD[0]
    F.cross_entropy(expected(x), images.labels, label_smoothing=0.1).backward()
    run(model, recipe, (images, small[1]))
    for ours, theirs in zip(model.parameters(), expected.parameters(), strict=True):
        torch.testing.assert_close(ours, (theirs - 0.1 * theirs.grad).float(), atol=TOLERANCE, rtol=TOLERANCE)


TOLERANCE = 1e-4


def test_the_running_loss_and_accuracy_are_means_over_the_images_of_an_epoch(small):
    """Also where the last batch is smaller: 32 and 8 images, with a rate that changes nothing."""
    split = Split(small[0].images[:40], small[0].labels[:40])
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(784, 10))
    outputs = model((split.images / 255 - MEAN[0]) / STD[0]).detach()
    recipe = Recipe(
        epochs=1, batch_size=32, learning_rate=1e-7, momentum=0.0, weight_decay=0.0, schedule="constant",
        rotation=0, scale=0, shift=0, shear=0, label_smoothing=0,
    )  # fmt: skip
    (told,) = run(model, recipe, (split, small[1]))
    hits = (outputs.argmax(1) == split.labels).double().mean().item()
    assert 0 < hits < 1
    assert told.train_accuracy == pytest.approx(hits)
    assert told.train_loss == pytest.approx(F.cross_entropy(outputs, split.labels).item(), rel=1e-4)


def test_ema_by_a_literal_two_step_example(small):
    """Decay 0.15 against the warm-up (1 + t) / (10 + t): 1/10 at step 0, then min(0.15, 2/11) = 0.15 at step 1."""
    split = Split(small[0].images[:64], small[0].labels[:64])
    base = Recipe(epochs=1, batch_size=32, schedule="constant")
    start, one, two, averaged = (network() for _ in range(4))
    run(two, base, (split, small[1]))
    polls = iter([False, True])
    _stop_after_one_step(one, base, split, small[1], polls)
    run(averaged, Recipe(**{**base.to_dict(), "ema": 0.15}), (split, small[1]))
    for got, w0, w1, w2 in zip(*(floats(m) for m in (averaged, start, one, two)), strict=True):
        average = 0.1 * w0 + 0.9 * w1
        torch.testing.assert_close(got, 0.15 * average + 0.85 * w2, atol=1e-6, rtol=1e-5)


def _stop_after_one_step(model, recipe, split, evaluation, polls):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("budgetnet.train.POLL", 1)
        assert run(model, recipe, (split, evaluation), should_stop=lambda: next(polls)) == []


def floats(model):
    return [*model.parameters(), *(b for b in model.buffers() if b.is_floating_point())]


@pytest.mark.parametrize("bf16", [False, True])
@pytest.mark.parametrize("dropout", [0.0, 0.1])
def test_the_same_seed_gives_identical_bits_and_another_does_not(small, dropout, bf16):
    recipe = Recipe(epochs=2, ema=0.9)
    models = [network(dropout=dropout) for _ in range(3)]
    first = run(models[0], recipe, small, seed=5, bf16=bf16)
    torch.rand(7)  # the caller's random state does not matter
    second = run(models[1], recipe, small, seed=5, bf16=bf16)
    third = run(models[2], recipe, small, seed=6, bf16=bf16)
    assert without_time(first) == without_time(second) != without_time(third)
    for a, b in zip(models[0].state_dict().values(), models[1].state_dict().values(), strict=True):
        assert torch.equal(a, b)


def test_the_callers_random_state_is_left_alone(small):
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    epochs = train(network(dropout=0.1), Recipe(epochs=2), *small, mean=MEAN, std=STD, seed=0)
    torch.manual_seed(3)
    next(epochs)
    assert torch.equal(torch.rand(2), expected)


@pytest.mark.parametrize("ema", [0.0, 0.9])
def test_the_model_ends_with_the_weights_of_the_last_result(small, ema):
    model = network()
    results = run(model, Recipe(epochs=2, ema=ema), small)
    assert [result.epoch for result in results] == [1, 2]
    loaded = network(seed=1)
    loaded.load_state_dict(model.state_dict())
    for same in (model, loaded):
        assert (results[-1].correct, results[-1].loss) == evaluate(same, small[1], MEAN, STD), "to the last bit"
    assert [p.stride() for p in model.parameters()] == [p.stride() for p in loaded.parameters()]
    assert results[-1].accuracy == results[-1].correct / results[-1].total == results[-1].correct / 500
    assert not model.training
    assert model.state_dict().keys() == network().state_dict().keys()
    json.dumps(results[-1].to_dict())


def test_evaluate_and_predict_by_hand(small):
    model = network().eval()
    outputs = model((small[1].images / 255 - MEAN[0]) / STD[0])
    model.train()
    torch.testing.assert_close(predict(model, small[1], MEAN, STD, batch_size=77), outputs, atol=1e-4, rtol=1e-4)
    assert model.training, "left in the mode it was in"
    correct, loss = evaluate(model, small[1], MEAN, STD)
    assert correct == (outputs.argmax(1) == small[1].labels).sum()
    assert loss == pytest.approx(F.cross_entropy(outputs, small[1].labels).item(), rel=1e-4)


def test_every_image_is_seen_once_an_epoch_also_in_a_last_small_batch():
    seen = []

    class Spy(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.zeros(10))

        def forward(self, x):
            if self.training:
                seen.append(x[:, 0, 0, 0].clone())
            return self.weight.expand(len(x), 10)

    images = torch.arange(100, dtype=torch.uint8).view(100, 1, 1, 1)
    split = Split(images, torch.arange(100) % 10)
    recipe = Recipe(epochs=2, batch_size=48, rotation=0, scale=0, shift=0, shear=0)
    list(train(Spy(), recipe, split, split, mean=(0.0,), std=(1 / 255,), seed=0))
    assert [len(batch) for batch in seen] == [48, 48, 4] * 2
    for epoch in (seen[:3], seen[3:]):
        assert sorted(torch.cat(epoch).round().int().tolist()) == list(range(100))
    assert not torch.equal(seen[0], seen[3]), "a new order every epoch"


def test_the_schedule_ends_where_it_should_also_where_one_image_sits_out(small):
    recipe = Recipe(epochs=2, batch_size=16)
    seventeen = Split(small[0].images[:17], small[0].labels[:17])
    rates = [
        result.learning_rate for result in train(network(), recipe, seventeen, small[1], mean=MEAN, std=STD, seed=0)
    ]
    assert rates == [learning_rate(recipe, step, 1) for step in (0, 1)], "one step an epoch, and the last is the last"


def test_should_stop_ends_within_a_fraction_of_an_epoch(small):
    asked = []
    large = Split(small[0].images.repeat(4, 1, 1, 1), small[0].labels.repeat(4))  # 125 batches of 32
    stop_at_third = lambda: asked.append(None) or len(asked) == 3  # noqa: E731
    assert run(network(), Recipe(batch_size=32), (large, small[1]), should_stop=stop_at_third) == []
    assert len(asked) == 3


@pytest.mark.usefixtures("every_epoch")
@pytest.mark.parametrize(
    ("changes", "seeds"),
    [
        ({"ema": 0.9, "schedule": "onecycle"}, [0]),
        ({"momentum": 0.0, "schedule": "step", "step_size": 1}, [1]),
        ({"optimizer": "adam", "learning_rate": 0.01, "ema": 0.9}, [2]),
        ({"optimizer": "adamw", "learning_rate": 0.01}, [3]),
        ({"ema": 0.9}, [4, 5]),
    ],
)
def test_a_training_that_goes_on_ends_with_the_very_same_weights(small, tmp_path, changes, seeds):
    recipe = replace(Recipe(epochs=4, learning_rate=0.1, batch_size=48, rotation=5.0), **changes)
    checkpoint = Checkpoint(tmp_path / "unfinished", recipe.to_dict())

    def results(epochs, checkpoint=None):
        models = [network(seed, dropout=0.1) for seed in seeds]
        together = train_together(
            models, recipe, *small, mean=MEAN, std=STD, seeds=seeds, bf16=False, checkpoint=checkpoint
        )
        return [without_time(each) for each in itertools.islice(together, epochs)], [m.state_dict() for m in models]

    at_once, weights = results(None)
    assert results(2, checkpoint)[0] == at_once[:2]
    assert results(1, checkpoint)[0] == at_once[:1], "these are told again"
    assert results(4, checkpoint)[0] == at_once
    assert checkpoint.read().epochs[3][0].to_dict()["correct"] == at_once[3][0]["correct"]
    for told, state in (results(None, checkpoint), results(None)):  # all epochs there; and none
        assert told == at_once
        for one, other in zip(state, weights, strict=True):
            assert all(torch.equal(one[name], other[name]) for name in other)


@pytest.mark.usefixtures("every_epoch")
def test_a_checkpoint_of_another_training_or_a_broken_one_is_not_gone_on_with(small, tmp_path, monkeypatch):
    recipe, path = Recipe(epochs=2, learning_rate=0.1), tmp_path / "unfinished"

    def epochs(checkpoint, seed=0):
        together = train_together(
            [network(seed)], recipe, *small, mean=MEAN, std=STD, seeds=[seed], bf16=False, checkpoint=checkpoint
        )
        return [without_time(each) for each in together]

    mine, other = Checkpoint(path, {"seed": 0, "kind": ("a", 1)}), Checkpoint(path, {"seed": 1, "kind": ("a", 1)})
    assert mine.read() is None
    zero, one = epochs(mine), epochs(None, seed=1)
    assert mine.read() is not None
    assert other.read() is None
    shutil.copy(mine.path, other.path)
    assert other.read() is None
    assert epochs(other, seed=1) == one != zero
    assert epochs(mine) == zero
    whole = other.path.read_bytes()
    for content in (whole[: len(whole) // 2], whole[:4], b"", b"{}" * 50):
        other.path.write_bytes(content)
        assert other.read() is None
    assert epochs(other, seed=1) == one
    monkeypatch.setattr("budgetnet.checkpoint.EVERY", 1e6)
    soon = Checkpoint(path, {"seed": 2})
    assert len(epochs(soon, seed=2)) == 2
    assert soon.read() is None, "it is not worth a file yet"


def test_a_loss_that_is_not_finite_raises(small):
    recipe = Recipe(learning_rate=100.0, optimizer="sgd", schedule="constant", momentum=0.99, epochs=3)
    model = nn.Sequential(nn.Flatten(), nn.Linear(784, 64), nn.Linear(64, 10))
    with pytest.raises(TrainingDiverged, match=r"^epoch 1: training loss must be finite, but is (nan|inf)$"):
        run(model, recipe, small)


def test_a_nan_in_the_last_batch_is_found_too(small):
    class LateNaN(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.zeros(10))

        def forward(self, x):
            return self.weight.expand(len(x), 10) * (math.nan if len(x) == 8 else 1)

    with pytest.raises(TrainingDiverged, match=r"^epoch 1: "):  # 1000 = 31 · 32 + 8
        run(LateNaN(), Recipe(batch_size=32), small)


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "adamw"])
def test_it_learns(small, optimizer):
    rate = 0.1 if optimizer == "sgd" else 0.01
    recipe = Recipe(learning_rate=rate, optimizer=optimizer, epochs=6, batch_size=32, ema=0.9, rotation=5, shift=0.05)
    results = run(network(), recipe, small)
    assert results[-1].accuracy > 0.9
    assert results[-1].train_loss < results[0].train_loss
    assert results[0].learning_rate == learning_rate(recipe, 31, 32)


def test_bf16_is_near_float32_and_leaves_float32_weights(small):
    recipe = Recipe(epochs=3, learning_rate=0.1, batch_size=32)
    model = network()
    half, full = run(model, recipe, small, bf16=True), run(network(), recipe, small, bf16=False)
    assert half[-1].train_loss != full[-1].train_loss, "bfloat16 must have been used"
    assert half[-1].accuracy == pytest.approx(full[-1].accuracy, abs=0.05)
    assert {p.dtype for p in model.parameters()} == {torch.float32}


@pytest.mark.parametrize("has", [True, False])
def test_hardware_bf16_of_a_cpu_is_what_torch_says_and_others_have_none(monkeypatch, has):
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: has)
    assert has_bf16("cpu") is has
    assert has_bf16("mps") is False


def test_training_does_not_keep_a_second_copy_of_the_callers_model(small):
    """The averaged copy is ours: the caller's modules and parameters stay the same objects."""
    model = network()
    before = [id(p) for p in model.parameters()]
    other = copy.deepcopy(model)
    run(model, Recipe(epochs=1, ema=0.9), small)
    assert [id(p) for p in model.parameters()] == before
    assert not torch.equal(next(model.parameters()), next(other.parameters()))
