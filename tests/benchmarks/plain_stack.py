"""How much sooner ``budgetnet search`` reaches 99.2 % than the script that a good practitioner would write.

    python tests/benchmarks/plain_stack.py --repetitions 3 --limit-hours 4   # the race: 2 to 8 hours, nothing beside it
    python tests/benchmarks/plain_stack.py survey                            # what the script draws, and its epochs

Compared: the wall time, from the start of a process to the first trial whose value, the mean of its last three of 15
epochs on the same 10,000 validation images, is at least 99.2 %. One side is ``budgetnet search --budget 8000`` as it
is, only not ended after 30 trials. The other is the plain stack, here in full: Optuna's TPESampler and MedianPruner in
their defaults, every width drawn by suggest_int, a network over the budget pruned at once, torchvision's MNIST with
RandomAffine in a DataLoader of two workers, SGD with OneCycleLR, label smoothing and AveragedModel, in one process
with torch's own number of threads. Both draw from the ranges of search_spaces/mnist.yaml (``check_ranges`` holds the
script to it), build their networks by the same function, and have the same seeds.

Why its author should agree:
- The widths' ranges are no handicap made up here: from the 1st to the 99th percentile, stage by stage, of what 2,000
  fitted networks of our space have: stem 3 to 20, stage 1 4 to 22, squeeze 3 to 18, stage 2 8 to 40, stage 3 8 to 51.
  Residual blocks of a stage share a width, as ours do, which spares them convolutions in the shortcuts.
- The pruner's defaults, five complete trials and no warm-up, are those of optuna-examples/pytorch/pytorch_simple.py.
  (MedianPruner's own page waits 30 of 100 steps.) They are also the best for it: over the 64 complete curves of
  studies/landscape in 300 random orders the first of the best three took 132 epochs in the mean, with three epochs of
  warm-up 169, with five 192.
- TPE's default counts a trial over the budget as the worst, so it learns to keep inside, and such a trial takes no time
  to speak of: a hundredth of a second.
- The loop is helped where that costs a word: loaders keep their workers from epoch to epoch, validation has batches of
  1,000, the averaged weights forget the random start, as ours do, norms do not decay, the study is in memory.
- Given the same batches both trainers move a network alike: the learning rates of every step agree to 1e-17, the
  gradients in float64 to 1e-7 of their size (our loss is float32), until that decides a near tie in some max pooling.

What differs, and is the point: the loop; two trials side by side instead of one; widths that are fitted, where the
script must draw: of 5,000 random draws 62.0 % are over budget, 6.0 % no network at all, and the other 32.1 % use 4,888
params in the median; and ``require``, for a script knows no receptive fields: 45.8 % of what it trains miss it.
``--require`` grants it that, too. Our space names a ``start``, a network and a recipe for the first trial; ``--start``
grants it that, too. What differs besides: bfloat16 in our search where the processor has it; shifts of whole pixels in
torchvision; our random start lasts until five trials have finished; our pruner is successive halving from epoch 2; our
study is on disk.

Repetitions after the first ``--literal`` (1) replay the script's curves: sampler, pruner and what is over budget run in
their own time, but a trial's accuracies come from budgetnet's trainer in float32, on the same network, recipe, seed and
images (it trains to the same accuracy: training.py), and for each epoch the plain loop's own time is charged, measured
there and then on that very network: 60 batches after 20, scaled, and a whole validation. A line shows for one network
what is charged for an epoch and what it took: 35.2 and 35.3 s for 38.5 s at a load of 2, so it errs in the script's
favour. A side that meets ``--limit-hours`` counts as "more than".

The machine must have nothing else to do, and the load is printed before each run: of torch's default, a thread a core,
one thread waits for the other whenever something else has its core. On two cores an epoch of 10,000 images and a
validation took 10.7 s so, and 18.0 s with ``--threads 1``, while little else ran; of other networks, with five busy
processes beside it, 130 against 38 s and 194 against 48 s. So survey first, and give the script the number of threads
that is faster for it. When a first good trial comes is luck, too, and three repetitions spread by a factor of several;
seconds an epoch, printed beside them, hang on the networks only.

Expected, before anything was measured: half of the random draws over budget; 50 s an epoch and 12 minutes a trial for
the script, 8 s and 2 minutes in each of our two workers; the script's fifth trained trial or so reaches it, after an
hour, and one of our first four, after 5 minutes: 12 ×, and in a single repetition anything from 3 to 40 ×.

Measured on two cores, seeds 0 to 2, the plain side replayed (an epoch of the plain loop took 37.7 s; 41.5 and 34.9 s
were charged before and after it; the epochs charged in the races took some 40 s):

    seed   plain                                             ours                            plain / ours
    0       1,269 s (98.77 %, then 99.29 %)                 138 s (a random draw, 99.24 %)         9.2 ×
    1       1,553 s (99.19 %, then 99.33 %)                 136 s (the start, 99.29 %)            11.4 ×
    2      >2,719 s (99.07, 98.84, 97.63 %; cut off)        151 s (the start, 99.34 %)     more than 18 ×
    all    >5,541 s                                         425 s                         more than 13.0 ×

In the third the plain side was cut off after 16 minutes of replay; ours ran right after it, in a run of its own. In two
of the three it was the space's ``start`` that reached it, in the first trial: that is knowledge of the space, which the
script lacks, and no merit of the search. With the start granted to the script (``--start``, one literal repetition):
450 s (the start, 99.34 %; 30 s an epoch) against 142 s, 3.2 ×. Then only the loop counts, and that two trials share the
two cores, which makes more of an hour and a first trial no sooner. So 5 × holds as the two are typed, and not between
two who know as much.

Before there was a start, with multivariate TPE and the median pruner: 3.0, 5.0 and more than 5.0 ×, more than 4.2 × in
all (1,166, 1,450, > 1,774 s against 392, 291, 354 s), less than the 12 × expected: the loop is 7.7 times as fast (35 s
an epoch alone; 9.1 s each of two side by side), but the script needed two trials where ours needed three or four, which
is luck, and our two workers end their first two trials together."""

from __future__ import annotations

import argparse
import math
import multiprocessing
import os
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import astuple, dataclass, replace
from itertools import islice
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import mean, median, quantiles

import optuna
import torch
from optuna import TrialPruned
from optuna.distributions import BaseDistribution
from optuna.pruners import MedianPruner
from optuna.samplers import RandomSampler, TPESampler
from optuna.trial import FixedTrial, FrozenTrial, Trial, TrialState
from torch import Tensor, nn
from torch.optim.lr_scheduler import OneCycleLR
from torch.optim.swa_utils import AveragedModel
from torch.utils.data import DataLoader, Dataset, Subset
from training import MEAN, STD, unpack

from budgetnet.architecture import Architecture
from budgetnet.budget import Limits
from budgetnet.build import build
from budgetnet.coordinator import Ended, Progressed, Started, opened
from budgetnet.data import load
from budgetnet.dataset import holdout_indices, stratified_indices
from budgetnet.dimension import RandomDraw, Suggester
from budgetnet.errors import ArchitectureError, BudgetError, TrainingDiverged
from budgetnet.executor import Executor, local
from budgetnet.jobs import EpochDone, Failed, Finished, Job
from budgetnet.pieces import Block, Transition, same_padding
from budgetnet.plan import Request
from budgetnet.recipe import Recipe
from budgetnet.results import EpochResult
from budgetnet.space_files import load_space
from budgetnet.train import train

BUDGET = 8_000  # params stay strictly below
SPACE = "mnist"
REACH = 0.992
FITTED = 2_000  # networks of our space whose widths say what the plain script may draw
DRAWS = 5_000  # of the plain script, for its share over budget
SURVEYED = 5  # networks whose epochs are timed on both sides
WARM, TIMED = 20, 60  # batches of the plain loop before the clock starts, and under it
OVER_BUDGET, IMPOSSIBLE = "over budget", "impossible"
LAST = 3  # epochs whose mean is a trial's value

Ranges = dict[str, tuple[int, int]]
"""Smallest and largest width of a convolution, by place: ``stem``, ``stage1``, ``squeeze``, …"""


@dataclass(frozen=True)
class Task:
    """What one process is to do. ``folder``: MNIST for torchvision; ``reach``: the value that ends it; ``limit``:
    seconds after which it gives up; ``images``: train on so many, a stratified part; None is all 50,000; ``require``:
    whether the plain script, too, refuses what misses the space's ``require``; ``threads``: of torch in the plain
    script, by default torch's own number; ``start``: whether its first trial, too, is what the space starts from."""

    seed: int
    folder: Path
    ranges: Ranges
    reach: float
    epochs: int
    images: int | None
    limit: float
    require: bool
    threads: int | None = None
    start: bool = False


@dataclass(frozen=True)
class Outcome:
    """How far a side came. ``reached``: whether within the limit; ``seconds``: since its process was started."""

    reached: bool
    seconds: float
    sampled: int
    over_budget: int
    impossible: int  # a map vanishes, or the space's `require` is missed where that is asked for
    trained: int
    pruned: int  # of the trained
    epochs: int  # paid for, those of unfinished trials included


class TimeUp(Exception):
    """The limit has passed."""


class Clock:
    """Seconds since a process was started: as they went by, less the ``unpaid``, plus the ``charged``."""

    def __init__(self, started: float, limit: float) -> None:
        self._started, self._limit = started, limit

    def now(self) -> float:
        return time.time() - self._started

    def charge(self, seconds: float) -> None:
        self._started -= seconds

    @contextmanager
    def unpaid(self) -> Iterator[None]:
        """What happens inside takes no time."""
        before = time.time()
        yield
        self._started += time.time() - before

    def check(self) -> None:
        """Raise TimeUp past the limit."""
        if self.now() > self._limit:
            raise TimeUp


# --- what the plain script draws --------------------------------------------------------------------------------------

STAGES = ((2, ("plain",)), (4, ("plain", "separable", "residual")), (3, ("plain", "separable")))  # depth up to, blocks


def draw(trial: Suggester, ranges: Ranges) -> tuple[Architecture, Recipe]:
    """Network and recipe over the ranges of search_spaces/mnist.yaml, and the width of every convolution by itself."""
    recipe = Recipe(
        learning_rate=trial.suggest_float("learning_rate", 0.03, 0.3, log=True),
        batch_size=trial.suggest_categorical("batch_size", (64, 128)),
        weight_decay=trial.suggest_float("weight_decay", 1e-5, 1e-3, log=True),
        rotation=trial.suggest_float("rotation", 0.0, 15.0),
        scale=trial.suggest_float("scale", 0.0, 0.15),
        shift=trial.suggest_float("shift", 0.0, 0.12),
        shear=trial.suggest_float("shear", 0.0, 0.15),
        label_smoothing=trial.suggest_categorical("label_smoothing", (0.0, 0.03, 0.06)),
        ema=trial.suggest_categorical("ema", (0.0, 0.995, 0.999)),
    )
    dropout = trial.suggest_float("dropout", 0.0, 0.1, step=0.025)
    kernel = trial.suggest_categorical("stem.kernel", (3, 5))
    padding = trial.suggest_categorical("stem.padding", ("valid", "same"))
    width = trial.suggest_int("stem.width", *ranges["stem"])
    body: list[Block | Transition] = [_block(width, "plain", kernel, padding, 1, dropout)]
    for number in range(1, trial.suggest_categorical("stage_count", (2, 3)) + 1):
        body += _stage(trial, number, ranges, dropout)
    return Architecture(tuple(body)), recipe


def _stage(trial: Suggester, number: int, ranges: Ranges, dropout: float) -> Iterator[Block | Transition]:
    """One stage. Residual blocks share a width, which keeps their shortcuts free of convolutions."""
    name, (most, kinds) = f"stage{number}", STAGES[number - 1]
    downsample = trial.suggest_categorical(f"{name}.downsample", ("max", "stride")) if number > 1 else "none"
    if downsample == "max":
        yield Transition("max")
        if number == 2 and trial.suggest_categorical("stage2.squeeze", (False, True)):
            yield _block(trial.suggest_int("stage2.squeeze.width", *ranges["squeeze"]), "plain", 1, "same", 1, dropout)
    kind = trial.suggest_categorical(f"{name}.block", kinds) if len(kinds) > 1 else "plain"
    padding = "same" if kind == "residual" else trial.suggest_categorical(f"{name}.padding", ("valid", "same"))
    for index in range(trial.suggest_int(f"{name}.depth", 1, most)):
        width = trial.suggest_int(f"{name}.{0 if kind == 'residual' else index}.width", *ranges[name])
        yield _block(width, kind, 3, padding, 2 if downsample == "stride" and index == 0 else 1, dropout)


START = {
    "stem.width": 8,
    "stem.kernel": 3,
    "stem.padding": "same",
    "stage_count": 3,
    "dropout": 0.0,
    "stage1.padding": "same",
    "stage1.depth": 1,
    "stage1.0.width": 10,
    "stage2.downsample": "max",
    "stage2.squeeze": False,
    "stage2.block": "plain",
    "stage2.padding": "same",
    "stage2.depth": 3,
    "stage2.0.width": 12,
    "stage2.1.width": 12,
    "stage2.2.width": 12,
    "stage3.downsample": "max",
    "stage3.block": "plain",
    "stage3.padding": "same",
    "stage3.depth": 2,
    "stage3.0.width": 14,
    "stage3.1.width": 13,
    "learning_rate": 0.08,
    "batch_size": 64,
    "weight_decay": 1e-4,
    "label_smoothing": 0.0,
    "ema": 0.999,
    "rotation": 10.0,
    "scale": 0.1,
    "shift": 0.1,
    "shear": 0.1,
}
"""What the space starts from, by the names of the script; ``check_start`` holds it to that."""


def check_start(ranges: Ranges) -> None:
    """START is the network and the recipe of the space's ``start``."""
    space = load_space(SPACE)
    draft, recipe = space.sample(FixedTrial(space.start))
    theirs = draw(FixedTrial(START), ranges)
    assert theirs == (draft.fit(Limits(BUDGET)), recipe), theirs


def _block(width: int, kind: str, kernel: int, padding: str, stride: int, dropout: float) -> Block:
    size = (kernel, kernel)
    return Block(width, kind, size, stride, same_padding(size) if padding == "same" else (0, 0), dropout=dropout)


def fitted_networks(count: int) -> Iterator[Architecture]:
    """Random networks of our space, fitted to the budget; those that a search would train."""
    space, limits, seed, found = load_space(SPACE), Limits(BUDGET), 0, 0
    while found < count:
        seed += 1
        try:
            network = space.draw(RandomDraw(seed)).fit(limits)
        except (ArchitectureError, BudgetError):
            continue
        if space.shortcoming(network) is None:
            found += 1
            yield network


def width_ranges() -> Ranges:
    """From the 1st to the 99th percentile of the widths that fitted networks have, place by place."""
    widths: dict[str, list[int]] = {}
    for network in fitted_networks(FITTED):
        for place, width in zip(_places(network), network.widths, strict=True):
            widths.setdefault(place, []).append(width)
    cuts = {place: quantiles(of, n=100) for place, of in sorted(widths.items())}
    return {place: (math.floor(cut[0]), math.ceil(cut[-1])) for place, cut in cuts.items()}


def _places(network: Architecture) -> list[str]:
    """Of every block: the stem, the 1x1 block that squeezes, or the stage."""
    places, stage = [], 1
    for piece in network.body:
        stage += isinstance(piece, Transition) or piece.stride > 1
        if isinstance(piece, Block):
            places.append("stem" if not places else "squeeze" if piece.kernel == (1, 1) else f"stage{stage}")
    return places


def check_ranges(ranges: Ranges) -> None:
    """The script and our space draw alike whatever both draw; a kernel and a squeeze they write differently."""
    space = load_space(SPACE)
    theirs, ours = _distributions(lambda trial: draw(trial, ranges)), _distributions(space.sample)
    rest = {name for name in theirs.keys() | ours.keys() if theirs.get(name) != ours.get(name)}
    wrong = {name for name in rest if not name.endswith((".width", ".kernel", ".squeeze")) and name != "fill"}
    assert not wrong, f"drawn differently: {sorted(wrong)}"


def _distributions(sample: Callable[[Trial], object]) -> dict[str, BaseDistribution]:
    study, found = optuna.create_study(sampler=RandomSampler(seed=0)), {}
    for _ in range(300):
        trial = study.ask()
        sample(trial)
        found.update(trial.distributions)
    return found


# --- how the plain script trains --------------------------------------------------------------------------------------


class PlainTraining:
    """The training of one trial as tutorials write it, with everything that its recipe asks for."""

    def __init__(self, network: Architecture, recipe: Recipe, task: Task, seed: int) -> None:
        torch.manual_seed(seed)
        if task.threads is not None:
            torch.set_num_threads(task.threads)
        self.model = build(network, seed)
        self.training, self.validation = _loaders(recipe, task)
        self._criterion = nn.CrossEntropyLoss(label_smoothing=recipe.label_smoothing)
        self._optimizer = _optimizer(self.model, recipe)
        self._schedule = OneCycleLR(
            self._optimizer, recipe.learning_rate, epochs=recipe.epochs, steps_per_epoch=len(self.training),
            pct_start=recipe.warmup, cycle_momentum=False,
        )  # fmt: skip
        self._average = _averaged(self.model, recipe.ema) if recipe.ema else None

    def epoch(self) -> float:
        """Train once through the images; the validation accuracy after it."""
        self.fit(self.training)
        return self.accuracy()

    def fit(self, batches: Iterable[tuple[Tensor, Tensor]]) -> None:
        self.model.train()
        for images, labels in batches:
            self._optimizer.zero_grad()
            self._criterion(self.model(images), labels).backward()
            self._optimizer.step()
            self._schedule.step()
            if self._average is not None:
                self._average.update_parameters(self.model)

    def accuracy(self) -> float:
        model = self.model if self._average is None else self._average
        model.eval()
        with torch.no_grad():
            correct = sum(int((model(images).argmax(1) == labels).sum()) for images, labels in self.validation)
        return correct / len(self.validation.dataset)  # type: ignore[arg-type]


def _loaders(recipe: Recipe, task: Task) -> tuple[DataLoader, DataLoader]:
    """To train on and to judge on: budgetnet's split of the training files, so that both sides see the same images."""
    from torchvision.datasets import MNIST
    from torchvision.transforms import Compose, InterpolationMode, Normalize, RandomAffine, ToTensor

    as_tensor = [ToTensor(), Normalize((MEAN,), (STD,))]
    affine = RandomAffine(
        recipe.rotation,
        translate=(recipe.shift, recipe.shift),
        scale=(1 - recipe.scale, 1 + recipe.scale),
        shear=math.degrees(math.atan(recipe.shear)),
        interpolation=InterpolationMode.BILINEAR,
    )
    augmented = MNIST(task.folder, transform=Compose([affine, *as_tensor]))
    plain = MNIST(task.folder, transform=Compose(as_tensor))
    training, validation = _split(plain.targets, task.images)
    return (
        _loader(Subset(augmented, training), recipe.batch_size, shuffle=True),
        _loader(Subset(plain, validation), 1_000, shuffle=False),
    )


def _loader(images: Dataset, batch_size: int, *, shuffle: bool) -> DataLoader:
    return DataLoader(images, batch_size, shuffle=shuffle, num_workers=2, persistent_workers=True)


def _split(labels: Tensor, images: int | None) -> tuple[list[int], list[int]]:
    """Indices to train on and to judge on."""
    validation = holdout_indices(labels)
    keep = torch.ones(len(labels), dtype=torch.bool)
    keep[validation] = False
    training = keep.nonzero().flatten()
    if images is not None:
        training = training[stratified_indices(labels[training], images)]
    return training.tolist(), validation.tolist()


def _optimizer(model: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    """SGD; as usual, weight decay spares biases and norms."""
    weights = [p for p in model.parameters() if p.ndim > 1]
    others = [p for p in model.parameters() if p.ndim == 1]
    groups = [{"params": weights}, {"params": others, "weight_decay": 0.0}]
    return torch.optim.SGD(
        groups, recipe.learning_rate, recipe.momentum, weight_decay=recipe.weight_decay, nesterov=True
    )


def _averaged(model: nn.Module, decay: float) -> AveragedModel:
    """An average that soon forgets the start, BatchNorm's statistics included."""

    @torch.no_grad()
    def follow(averages: list[Tensor], values: list[Tensor], step: Tensor) -> None:
        if averages[0].is_floating_point():  # BatchNorm counts its batches in whole numbers
            torch._foreach_lerp_(averages, values, 1 - min(decay, (1 + int(step)) / (10 + int(step))))

    return AveragedModel(model, multi_avg_fn=follow, use_buffers=True)


# --- the plain side ---------------------------------------------------------------------------------------------------

Train = Callable[[Architecture, Recipe, Task, int, Clock], Iterator[float]]
"""Validation accuracies, epoch by epoch, of a network, a recipe and a seed; the clock has moved on at each."""


def by_hand(network: Architecture, recipe: Recipe, task: Task, seed: int, clock: Clock) -> Iterator[float]:
    """The plain loop itself."""
    training = PlainTraining(network, recipe, task, seed)
    for _ in range(recipe.epochs):
        yield training.epoch()


def replayed(network: Architecture, recipe: Recipe, task: Task, seed: int, clock: Clock) -> Iterator[float]:
    """The accuracies of budgetnet's trainer in float32; for each epoch the plain loop's time is charged."""
    with clock.unpaid():
        seconds = epoch_seconds(network, recipe, task, seed)
        epochs = our_epochs(network, recipe, task, seed)
    while True:
        with clock.unpaid():
            result = next(epochs, None)
        if result is None:
            return
        clock.charge(seconds)
        yield result.accuracy


def our_epochs(network: Architecture, recipe: Recipe, task: Task, seed: int) -> Iterator[EpochResult]:
    data = load(SPACE) if task.images is None else load(SPACE).limited(task.images, 10_000)
    return train(
        build(network, seed), recipe, *data.search_splits(), mean=data.mean, std=data.std, seed=seed, bf16=False
    )


def epoch_seconds(network: Architecture, recipe: Recipe, task: Task, seed: int) -> float:
    """What an epoch of the plain loop takes: TIMED batches after WARM, scaled to all, and one whole evaluation."""
    training = PlainTraining(network, recipe, replace(task, images=None), seed)
    batches = iter(training.training)
    training.fit(islice(batches, WARM))
    started = time.perf_counter()
    training.fit(islice(batches, TIMED))
    fitting = time.perf_counter() - started
    images = task.images or 50_000
    return fitting / TIMED * math.ceil(images / recipe.batch_size) + _seconds(training.accuracy)


def _seconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def literal(task: Task, clock: Clock) -> Outcome:
    return plain("literal", by_hand, task, clock)


def replay(task: Task, clock: Clock) -> Outcome:
    return plain("replay", replayed, task, clock)


def plain(title: str, train: Train, task: Task, clock: Clock) -> Outcome:
    """The script: a study, an objective, and a callback that stops it."""
    reached: list[float] = []

    def told(study: optuna.Study, trial: FrozenTrial) -> None:
        curve = list(trial.intermediate_values.values())
        if curve:
            _say(clock, f"plain, {title}, seed {task.seed}", trial.number, trial.state.name.lower(), trial.value, curve)
        if trial.value is not None and trial.value >= task.reach:
            reached.append(clock.now())
            study.stop()

    study = optuna.create_study(direction="maximize", sampler=TPESampler(seed=task.seed), pruner=MedianPruner())
    if task.start:
        study.enqueue_trial(START)
    with suppress(TimeUp):
        study.optimize(lambda trial: objective(trial, train, task, clock), callbacks=[told])
    return _outcome(study.trials, reached, clock)


def objective(trial: Trial, train: Train, task: Task, clock: Clock) -> float:
    """A trial's value. Raises TrialPruned for a network that cannot be or is over budget, and when it falls behind."""
    clock.check()
    network, recipe = draw(trial, task.ranges)
    seed = task.seed + trial.number
    reason = why_not(network, seed, task.require)
    trial.set_user_attr("rejected", reason)
    if reason:
        raise TrialPruned(reason)
    accuracies = []
    try:
        for epoch, accuracy in enumerate(train(network, replace(recipe, epochs=task.epochs), task, seed, clock)):
            accuracies.append(accuracy)
            trial.report(accuracy, epoch)
            clock.check()
            if trial.should_prune():
                raise TrialPruned
    except TrainingDiverged:
        raise TrialPruned from None
    return mean(accuracies[-LAST:])


def why_not(network: Architecture, seed: int, require: bool = False) -> str:
    """Why a network is not trained, as a script finds out: it is built, and its params are counted."""
    try:
        model = build(network, seed)
    except ArchitectureError:
        return IMPOSSIBLE
    if sum(p.numel() for p in model.parameters()) >= BUDGET:
        return OVER_BUDGET
    return IMPOSSIBLE if require and load_space(SPACE).shortcoming(network) else ""


def _outcome(trials: Sequence[FrozenTrial], reached: Sequence[float], clock: Clock) -> Outcome:
    trained = [trial for trial in trials if trial.intermediate_values]
    rejected = Counter(trial.user_attrs.get("rejected") for trial in trials)
    return Outcome(
        reached=bool(reached),
        seconds=reached[0] if reached else clock.now(),
        sampled=len(trials),
        over_budget=rejected[OVER_BUDGET],
        impossible=rejected[IMPOSSIBLE],
        trained=len(trained),
        pruned=sum(trial.state == TrialState.PRUNED for trial in trained),
        epochs=sum(len(trial.intermediate_values) for trial in trained),
    )


# --- our side ---------------------------------------------------------------------------------------------------------


def ours(task: Task, clock: Clock) -> Outcome:
    """``budgetnet search --budget 8000`` with a seed, which goes on past its 30 trials if it must."""
    reached, started, epochs = False, 0, 0
    with tempfile.TemporaryDirectory() as root, opened(_request(task, Path(root))) as search:
        with closing(search.run()) as events:
            for event in events:
                started += isinstance(event, Started)
                epochs += isinstance(event, Progressed)
                reached = isinstance(event, Ended) and _ended(event, task, clock)
                seconds = clock.now()
                if reached or seconds > task.limit:
                    break
        tally = search.tally
    over_budget = tally.rejected.pop(OVER_BUDGET, 0)
    return Outcome(reached, seconds, tally.sampled, over_budget, tally.rejected.total(), started, tally.pruned, epochs)


def _request(task: Task, root: Path) -> Request:
    return Request(budget=BUDGET, seed=task.seed, trials=10_000, epochs=task.epochs, images=task.images, root=root)


def _ended(event: Ended, task: Task, clock: Clock) -> bool:
    """Whether the trial reached what is asked for."""
    record = event.record
    value = record.value if record.state == "finished" else None
    if record.curve:
        _say(clock, f"ours, seed {task.seed}", record.number, record.state, value, record.curve)
    return value is not None and value >= task.reach


def _say(clock: Clock, title: str, trial: int, state: str, value: float | None, curve: Sequence[float]) -> None:
    found = f"best epoch {100 * max(curve):.2f} %" if value is None else f"value {100 * value:.2f} %"
    print(f"{clock.now():9,.0f} s  {title}, trial {trial}: {state} after {len(curve)} epochs, {found}", flush=True)


def our_epoch_seconds(executor: Executor, network: Architecture, recipe: Recipe, task: Task) -> float:
    """What an epoch of ours takes while every worker trains this network: the second of each."""
    for seed in range(executor.slots):
        job = Job(seed, network, replace(recipe, epochs=2), SPACE, "search", seed, images=task.images)
        executor.submit(job)
    seconds, under_way = [], executor.slots
    while under_way:
        for event in executor.events():
            assert not isinstance(event, Failed), event.reason
            if isinstance(event, EpochDone) and event.result.epoch == 2:
                seconds.append(event.result.seconds)
            under_way -= isinstance(event, Finished)
    return mean(seconds)


# --- what is known without a race -------------------------------------------------------------------------------------


def survey(task: Task, clock: Clock) -> None:
    """The share of the script's random draws that it could train, and the seconds of an epoch on both sides."""
    draws = [draw(RandomDraw(seed), task.ranges) for seed in range(DRAWS)]
    reasons = [why_not(network, 0) for network, _ in draws]
    allowed = [pair for pair, reason in zip(draws, reasons, strict=True) if not reason]
    space = load_space(SPACE)
    missed = sum(space.shortcoming(network) is not None for network, _ in allowed)
    sizes = [sum(p.numel() for p in build(network, 0).parameters()) for network, _ in allowed]
    counts = Counter(reason or "in budget" for reason in reasons)
    print(f"{DRAWS:,} random draws:", ", ".join(f"{name} {n / DRAWS:.1%}" for name, n in counts.most_common()))
    print(f"in budget: {median(sizes):,.0f} params in the median; {missed / len(allowed):.1%} miss the space's require")
    executor, threads = local(None, "cpu"), torch.get_num_threads()
    for network, recipe in allowed[:SURVEYED]:
        several, one = (epoch_seconds(network, recipe, replace(task, threads=n), 0) for n in (threads, 1))
        mine = our_epoch_seconds(executor, network, recipe, task)
        print(
            f"an epoch: plain {several:5.1f} s with {threads} threads, {one:5.1f} s with 1; ours {mine:5.1f} s in each "
            f"of {executor.slots} workers, {executor.slots * min(several, one) / mine:4.1f} × the images a second   "
            f"batch {recipe.batch_size:3}   {network}",
            flush=True,
        )
    executor.close()


def check_charge(task: Task, clock: Clock) -> None:
    """What a replay charges for an epoch, before and after a whole epoch of the plain loop."""
    pairs = (draw(RandomDraw(seed), task.ranges) for seed in range(DRAWS))
    network, recipe = next(pair for pair in pairs if not why_not(pair[0], 0))
    before = epoch_seconds(network, recipe, task, 0)
    whole = _seconds(PlainTraining(network, recipe, task, 0).epoch)
    after = epoch_seconds(network, recipe, task, 0)
    print(
        f"an epoch of the plain loop: {whole:.1f} s; charged: {before:.1f} s before, {after:.1f} s after it", flush=True
    )


# --- running them, each in a process of its own -----------------------------------------------------------------------

Side = Callable[[Task, Clock], Outcome | None]


def run(side: Side, task: Task) -> Outcome | None:
    """One process, whose time starts before it does."""
    context = multiprocessing.get_context("spawn")
    receive, send = context.Pipe(duplex=False)
    process = context.Process(target=_child, args=(side, task, time.time(), send))
    print(f"{side.__name__}, seed {task.seed}: load {os.getloadavg()[0]:.1f} before it starts", flush=True)
    process.start()
    send.close()
    outcome: Outcome | None = receive.recv()
    process.join()
    return outcome


def _child(side: Side, task: Task, started: float, pipe: Connection) -> None:
    pipe.send(side(task, Clock(started, task.limit)))


HEADER = "side     seed   seconds  sampled  over budget  impossible  trained  pruned  epochs  s/epoch"


def race(tasks: Sequence[Task], literals: int) -> None:
    """Each repetition runs both sides, in turn the plain one and ours first."""
    if literals < len(tasks):
        run(check_charge, tasks[0])
    lines, pairs = [], []
    for repetition, task in enumerate(tasks):
        theirs = literal if repetition < literals else replay
        found = {side: run(side, task) for side in ((theirs, ours), (ours, theirs))[repetition % 2]}
        pairs.append((found[theirs], found[ours]))
        lines += [_line(side, task, found[side]) for side in (theirs, ours)]
        print(HEADER, *lines[-2:], f"seed {task.seed}: plain / ours {_ratio(*pairs[-1])}", sep="\n", flush=True)
    print(f"\nuntil a trial's value is {100 * tasks[0].reach:.2f} %, {tasks[0].epochs} epochs a trial:")
    print(HEADER, *lines, sep="\n")
    theirs_all, ours_all = (_together(side) for side in zip(*pairs, strict=True))
    print(f"all: plain / ours {_ratio(theirs_all, ours_all)}; each: {', '.join(_ratio(*pair) for pair in pairs)}")


def _line(side: Side, task: Task, found: Outcome) -> str:
    return (
        f"{side.__name__:8} {task.seed:4} {_more(found):>9} {found.sampled:8,} {found.over_budget:12,} "
        f"{found.impossible:11,} {found.trained:8} {found.pruned:7} {found.epochs:7} "
        f"{found.seconds / max(1, found.epochs):8.1f}"
    )


def _more(found: Outcome) -> str:
    return f"{'' if found.reached else '> '}{found.seconds:,.0f}"


def _ratio(plain: Outcome, ours: Outcome) -> str:
    """How many times sooner ours reached it; a side that did not reach it leaves only a bound, both leave nothing."""
    if not (plain.reached or ours.reached):
        return "unknown, neither reached it"
    bound = ("" if plain.reached else "more than ") + ("" if ours.reached else "less than ")
    return f"{bound}{plain.seconds / ours.seconds:.1f} ×"


def _together(found: Sequence[Outcome]) -> Outcome:
    """All repetitions of a side as one."""
    sums = [sum(values) for values in zip(*(astuple(each)[1:] for each in found), strict=True)]
    return Outcome(all(each.reached for each in found), *sums)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", nargs="?", choices=("race", "survey"), default="race")
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--literal", type=int, default=1, help="repetitions of the plain side that are not replayed")
    parser.add_argument("--limit-hours", type=float, default=math.inf, help="when a side gives up a repetition")
    parser.add_argument("--require", action="store_true", help="grant the plain script the space's `require`")
    parser.add_argument("--start", action="store_true", help="grant the plain script the space's `start`")
    parser.add_argument("--threads", type=int, help="of torch in the plain script; by default torch's own number")
    for name, kind, default in (("--reach", float, REACH), ("--epochs", int, 15), ("--images", int, None)):
        parser.add_argument(name, type=kind, default=default, help=argparse.SUPPRESS)  # for a quick try of all paths
    told = parser.parse_args()
    ranges = width_ranges()
    check_ranges(ranges)
    check_start(ranges)
    print(f"widths, 1st to 99th percentile of {FITTED:,} fitted networks:", ranges, flush=True)
    with tempfile.TemporaryDirectory() as name:
        unpack(Path(name))
        limit = 3600 * told.limit_hours
        task = Task(
            0, Path(name), ranges, told.reach, told.epochs, told.images, limit, told.require, told.threads, told.start
        )
        if told.what == "survey":
            run(survey, task)
        else:
            race([replace(task, seed=seed) for seed in range(told.repetitions)], told.literal)


if __name__ == "__main__":
    main()
