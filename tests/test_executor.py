"""Training jobs in this process and in worker processes: events, stopping, dying, failing."""

from __future__ import annotations

import ctypes
import os
import platform
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from safetensors.torch import load_file

from budgetnet.build import build
from budgetnet.cost import cost
from budgetnet.errors import WorkerError
from budgetnet.executor import MAX_DEATHS, Executor, InProcess, LocalProcesses
from budgetnet.jobs import Audited, EpochDone, Event, Failed, Finished, Job, Stopped, _splits, run_job
from budgetnet.machine import choose_device
from budgetnet.notation import parse
from budgetnet.recipe import Recipe

NETWORK = parse("4 M 6")


def job(data: Path, number: int = 0, **changes: object) -> Job:
    recipe = Recipe(epochs=2, batch_size=64)
    fields: dict[str, object] = {"id": number, "architecture": NETWORK, "recipe": recipe, "data": str(data)}
    return Job(**{**fields, "split": "search", "seed": 1, **changes})  # type: ignore[arg-type]


def all_events(executor: Executor, ends: int = 1) -> Iterator[Event]:
    """Events until ``ends`` jobs have ended; five minutes at most, for a busy machine is slow."""
    deadline = time.monotonic() + 300
    while ends and time.monotonic() < deadline:
        for event in executor.events(1.0):
            ends -= isinstance(event, Finished | Stopped | Failed)
            yield event
    assert not ends, "a job did not end"


def test_a_job_is_audited_trained_and_its_weights_are_kept(small_mnist: Path, tmp_path: Path) -> None:
    executor = InProcess()
    executor.submit(job(small_mnist, weights=str(tmp_path / "w.safetensors")))
    events = list(all_events(executor))
    assert [type(event) for event in events] == [Audited, EpochDone, EpochDone, Finished]
    assert events[0] == Audited(0, cost(NETWORK))
    build(NETWORK).load_state_dict(load_file(tmp_path / "w.safetensors"))
    assert [path.name for path in tmp_path.iterdir()] == ["w.safetensors"]


def test_search_judges_on_validation_and_final_on_test(small_mnist: Path) -> None:
    totals = {}
    for split in ("search", "final"):
        executor = InProcess()
        executor.submit(job(small_mnist, split=split))
        totals[split] = [event.result.total for event in all_events(executor) if isinstance(event, EpochDone)]
    assert totals == {"search": [120, 120], "final": [300, 300]}  # a sixth of 720; the 300 test images


def test_processes_give_the_same_epochs_as_this_process(small_mnist: Path) -> None:
    def accuracies(executor: Executor) -> list[tuple[int, float]]:
        with closing(executor):
            executor.submit(job(small_mnist))
            return [
                (event.result.epoch, event.result.loss)
                for event in all_events(executor)
                if isinstance(event, EpochDone)
            ]

    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        here = accuracies(InProcess())
    finally:
        torch.set_num_threads(threads)
    assert accuracies(LocalProcesses(1)) == here


def test_a_worker_that_is_killed_fails_its_job_alone_and_is_replaced(small_mnist: Path) -> None:
    with closing(LocalProcesses(2)) as executor:
        long = Recipe(epochs=500, batch_size=64)
        executor.submit(job(small_mnist, 0, recipe=long))
        executor.submit(job(small_mnist, 1))
        victim = next(worker for worker in executor._workers if worker.job == 0)
        events = []
        for event in all_events(executor, ends=2):
            events.append(event)
            if event == Audited(0, cost(NETWORK)):
                assert victim.process.pid is not None
                os.kill(victim.process.pid, signal.SIGKILL)
        assert Failed(0, "the worker process died (signal 9, SIGKILL)") in events
        assert Finished(1) in events
        executor.submit(job(small_mnist, 2))
        assert Finished(2) in list(all_events(executor))


def test_a_stopped_job_ends_early_and_its_worker_takes_the_next(small_mnist: Path) -> None:
    with closing(LocalProcesses(1)) as executor:
        executor.submit(job(small_mnist, 0, recipe=Recipe(epochs=500, batch_size=64)))
        ends = []
        for event in all_events(executor):
            if isinstance(event, EpochDone) and event.result.epoch == 1:
                executor.stop(0)
            ends.append(event)
        assert ends[-1] == Stopped(0)
        assert len(ends) < 100
        executor.submit(job(small_mnist, 1))
        assert Finished(1) in list(all_events(executor))


def test_a_diverging_job_fails_with_its_reason(small_mnist: Path) -> None:
    executor = InProcess()
    wild = Recipe(epochs=2, learning_rate=100.0, schedule="constant", momentum=0.99)
    executor.submit(job(small_mnist, architecture=parse("[leaky_relu bias] 4 M 6"), recipe=wild))
    last = list(all_events(executor))[-1]
    assert isinstance(last, Failed)
    assert "training loss must be finite" in last.reason


def test_unreadable_data_fails_the_job_in_one_line(tmp_path: Path) -> None:
    executor = InProcess()
    executor.submit(job(tmp_path / "nothing.npz"))
    last = list(all_events(executor))[-1]
    assert isinstance(last, Failed)
    assert "nothing.npz" in last.reason
    assert "\n" not in last.reason


def test_workers_that_die_again_and_again_end_it(small_mnist: Path) -> None:
    def die(number: int) -> list[Event]:
        executor.submit(job(small_mnist, number))
        executor._workers[0].process.kill()
        return list(all_events(executor))

    with closing(LocalProcesses(1)) as executor:
        for number in range(MAX_DEATHS - 1):
            assert isinstance(die(number)[-1], Failed)
        with pytest.raises(WorkerError, match=f"{MAX_DEATHS} worker processes in a row died"):
            die(MAX_DEATHS)


def test_devices_are_checked() -> None:
    assert choose_device("cpu") == "cpu"
    with pytest.raises(WorkerError, match="--device must be auto, cpu, cuda or mps, but got 'gpu'"):
        choose_device("gpu")


def test_a_job_trains_on_as_many_images_as_it_is_told(small_mnist: Path) -> None:
    def seen(images: int | None) -> list[int]:
        asked = job(small_mnist, images=images)
        _, training, evaluation = _splits(asked.data, asked.architecture.input_shape, asked.split, asked.images)
        return [len(training), len(evaluation)]

    assert seen(None) == [600, 120], "720 less the sixth that validates"
    assert seen(100) == [100, 120]


def test_what_a_search_trains_on_holds_nothing_that_validates(small_mnist: Path) -> None:
    _, *splits = _splits(str(small_mnist), NETWORK.input_shape, "search", None)
    training, validation = ({image.numpy().tobytes() for image in split.images} for split in splits)
    assert training
    assert training.isdisjoint(validation)


def test_a_count_that_fvcore_does_not_share_fails_the_job(small_mnist: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("budgetnet.jobs.cost", lambda network: replace(cost(network), params=cost(network).params + 1))
    last = list(run_job(job(small_mnist), "cpu", lambda: False))[-1]
    assert isinstance(last, Failed)
    assert "params" in last.reason


@pytest.mark.parametrize(("split", "follows"), [("search", True), ("final", False)])
def test_a_search_takes_bfloat16_where_the_hardware_has_it_and_final_training_does_not(
    small_mnist: Path, monkeypatch: pytest.MonkeyPatch, split: str, follows: bool
) -> None:
    def losses(has: bool) -> list[float]:
        monkeypatch.setattr("budgetnet.machine.has_bf16", lambda device: has)
        events = list(run_job(job(small_mnist, split=split), "cpu", lambda: False))
        return [event.result.train_loss for event in events if isinstance(event, EpochDone)]

    with_it, without = losses(True), losses(False)
    assert len(with_it) == len(without) == 2
    assert (with_it != without) is follows


# --- memory -----------------------------------------------------------------------------------------------------------

MADE = 4 * 31 * 2**20  # bytes: four tensors just below the largest size that glibc can be told to keep in its heap
GLIBC = pytest.mark.skipif(
    platform.libc_ver()[0] != "glibc" or not hasattr(ctypes.CDLL(None), "mallinfo2"),
    reason="only glibc can be told to keep freed memory, and tells since 2.33 what it keeps",
)


class _MallInfo(ctypes.Structure):
    """What mallinfo2(3) tells."""

    _fields_ = [(f"field_{number}", ctypes.c_size_t) for number in range(8)] + [
        ("fordblks", ctypes.c_size_t),
        ("keepcost", ctypes.c_size_t),
    ]


def kept_bytes() -> tuple[int, int]:
    """Free bytes in the heap of this process before and after tensors of :data:`MADE` bytes are made and freed.

    Made once: at their first freeing glibc moves its own thresholds, and what it keeps after that is chance.
    """
    import torch

    mallinfo = ctypes.CDLL(None).mallinfo2
    mallinfo.restype = _MallInfo
    before = int(mallinfo().fordblks)
    [torch.ones(MADE // 16) for _ in range(4)]
    return before, int(mallinfo().fordblks)


def tell_kept_bytes(job: Job, device: str, should_stop: Callable[[], bool]) -> Iterator[Event]:
    yield Failed(job.id, str(kept_bytes()[1]))


@GLIBC
def test_a_worker_keeps_what_it_has_freed(small_mnist: Path) -> None:
    code = "from tests.test_executor import kept_bytes; print(*kept_bytes())"
    usual = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    before, after = map(int, usual.split())
    with closing(LocalProcesses(1, run=tell_kept_bytes)) as executor:
        executor.submit(job(small_mnist))
        (told,) = all_events(executor)
    assert isinstance(told, Failed)
    assert after - before < MADE / 2
    assert int(told.reason) >= MADE
