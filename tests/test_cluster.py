"""Training jobs on a real Ray cluster of several nodes, all on this machine: events, stopping, dying, losing nodes."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from budgetnet import cluster
from budgetnet.cluster import Needs, RayCluster, anywhere, capacity, choose_needs
from budgetnet.confirm import confirm
from budgetnet.coordinator import Search
from budgetnet.errors import WorkerError
from budgetnet.executor import InProcess
from budgetnet.given import add_network, made
from budgetnet.jobs import EpochDone, Event, Failed, Finished, Job, Lost, Stopped, run_job
from budgetnet.lock import locked
from budgetnet.notation import parse
from budgetnet.place import place
from budgetnet.progress import Progressed
from budgetnet.ray_connection import Node
from budgetnet.ray_task import absolute
from budgetnet.recipe import Recipe
from budgetnet.study import create_or_open
from tests.test_executor import job
from tests.tiny import tiny_request

ray = pytest.importorskip("ray", reason="needs the extra: pip install 'budgetnet[ray]'")

ENDS = (Finished, Stopped, Failed, Lost)
LONG = Recipe(epochs=5000, batch_size=64)
HEALTH = {  # a machine that does not answer counts as dead after about nine seconds; by default it takes a minute
    "health_check_initial_delay_ms": 0,
    "health_check_period_ms": 1000,
    "health_check_timeout_ms": 2000,
    "health_check_failure_threshold": 3,
}


# --- what a cluster can run -------------------------------------------------------------------------------------------


def nodes(*resources: tuple[float, float], alive: bool = True) -> list[Node]:
    return [Node(str(index), f"10.0.0.{index}", alive, *each) for index, each in enumerate(resources)]


@pytest.mark.parametrize(
    ("found", "needs", "jobs"),
    [
        (nodes((4, 0), (2, 0)), Needs(1), 6),
        (nodes((4, 0), (3, 0)), Needs(2), 3),  # 2 + 1: a job does not span nodes
        (nodes((1, 0)), Needs(0.3), 3),
        (nodes((8, 1), (8, 0)), Needs(1, 1), 1),
        (nodes((8, 2)), Needs(1, 0.25), 8),
        (nodes((8, 2)), Needs(1, 0.4), 4),  # 2 a GPU: a job does not span GPUs
        (nodes((3, 4)), Needs(1, 0.5), 3),  # the CPUs are the limit
        (nodes((1, 1)), Needs(0.1, 0.3333), 3),
    ],
)
def test_how_many_jobs_a_cluster_can_run(found: list[Node], needs: Needs, jobs: int) -> None:
    assert capacity(found, needs) == jobs


def test_what_fits_on_no_node_is_an_error() -> None:
    found = [*nodes((2, 0), (4, 1)), *nodes((64, 8), alive=False)]
    message = "a job must fit on a node of the Ray cluster: it needs 8 CPU and 0 GPU; nodes have 2 CPU and 0 GPU, 4 CPU"
    with pytest.raises(WorkerError, match=message):
        capacity(found, Needs(8))


@pytest.mark.parametrize(
    ("workers", "device", "job_gpus", "gpus", "chosen"),
    [
        (None, "auto", 0, 4, ("cpu", 0)),  # what is asked for decides, not what is there
        (None, "auto", 0.25, 4, ("cuda", 0.25)),
        (None, "cuda", 0, 4, ("cuda", 1)),
        (4, "cuda", 0, 4, ("cuda", 1)),
        (4, "cuda", 0, 1, ("cuda", 0.25)),
        (3, "cuda", 0, 2, ("cuda", 0.5)),
        (6, "cuda", 0, 1, ("cuda", 0.1666)),  # rounded up, six would not fit
        (2, "cuda", 0, 0, ("cuda", 0.5)),  # and then there is no node for it
    ],
)
def test_the_device_is_what_a_job_asks_for(
    workers: int | None, device: str, job_gpus: float, gpus: int, chosen: tuple[str, float]
) -> None:
    device, needs = choose_needs(workers, device, 1, job_gpus, nodes((8, gpus)))
    assert (device, needs.gpus) == chosen


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"device": "mps"}, "--device must be auto, cpu or cuda with --executor ray, but got 'mps'"),
        ({"workers": 0}, "--workers must be at least 1 with --executor ray, but got 0"),
        ({"job_cpus": 0}, "--job-cpus must be between 0.0001 and 1,000,000, but got 0"),
        ({"job_cpus": float("nan")}, "--job-cpus must be between 0.0001 and 1,000,000, but got nan"),
        ({"job_cpus": 1e305}, "--job-cpus must be between 0.0001 and 1,000,000, but got 1e\\+305"),
        ({"job_gpus": 1.5}, "--job-gpus must be 0, or between 0.0001 and 1, but got 1.5"),
        ({"device": "cpu", "job_gpus": 0.5}, "--job-gpus must be 0 with --device cpu, but got 0.5"),
        ({"address": "ray://10.0.0.1:10001"}, "--ray-address must be auto or host:port, on a machine of the cluster"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_starts(options: dict[str, Any], message: str) -> None:
    with pytest.raises(WorkerError, match=message):
        RayCluster(**options)


def test_without_ray_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(WorkerError, match=r"^--executor ray needs the extra: pip install 'budgetnet\[ray\]'$"):
        RayCluster()


def test_paths_do_not_depend_on_the_folder_of_a_worker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("images", "mnist"):
        (tmp_path / name).mkdir()
    assert absolute("images") == str(tmp_path / "images")
    assert [absolute(name) for name in ("mnist", "kmnist", "nothing")] == ["mnist", "kmnist", "nothing"]
    (tmp_path / "teacher.safetensors").touch()
    job = Job(0, parse("4"), Recipe(teacher="teacher.safetensors#3fa9c2", distill=0.5), "images", "search", 0)
    sent = anywhere(job)
    assert (sent.data, sent.recipe.teacher) == (f"{tmp_path}/images", f"{tmp_path}/teacher.safetensors#3fa9c2")
    assert replace(sent, data=job.data, recipe=job.recipe) == job
    assert anywhere(replace(job, recipe=Recipe())).recipe == Recipe()


# --- in processes of their own, since a process has one connection to Ray ---------------------------------------------


def run_python(code: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-W", "error", "-c", code, *arguments]
    return subprocess.run(
        command, capture_output=True, text=True, timeout=300, env={**os.environ, **environment}, check=False
    )


def test_an_address_where_nothing_answers_is_an_error_in_time() -> None:
    done = run_python(
        "from budgetnet import cluster, errors, ray_connection\n"
        "ray_connection.CONNECT_LIMIT = 3.0\n"
        "try: cluster.RayCluster(address='127.0.0.1:9')\n"
        "except errors.WorkerError as error: print(error)"
    )
    expected = (
        "Ray cluster 127.0.0.1:9: no answer in 3 seconds; Ray must run there, and this machine be one of its nodes"
    )
    assert (done.stdout, done.stderr) == (expected + "\n", "")


LOCAL = """
import os, signal, sys
from contextlib import closing
from budgetnet.cluster import RayCluster
from budgetnet.jobs import Failed, Finished, Job
from budgetnet.notation import parse
from budgetnet.recipe import Recipe

before = signal.getsignal(signal.SIGTERM), dict(os.environ)
os.chdir(os.path.dirname(sys.argv[1]))
with closing(RayCluster(workers=1)) as executor:
    executor.submit(Job(7, parse("4 M 6"), Recipe(epochs=1, batch_size=64), os.path.basename(sys.argv[1]), "search", 1))
    last = None
    while not isinstance(last, Failed | Finished):
        for last in executor.events(1.0):
            pass
    print(last, executor.slots)
    import ray
assert not ray.is_initialized()
changed = {name for name in os.environ if os.environ[name] != before[1].get(name)}
assert signal.getsignal(signal.SIGTERM) == before[0] and not changed & {"RAY_USAGE_STATS_ENABLED"}, changed
"""


@pytest.mark.slow
def test_a_cluster_of_this_machine_starts_trains_and_is_gone_in_silence(small_mnist: Path, ray_folder: Path) -> None:
    done = run_python(LOCAL, str(small_mnist), RAY_TMPDIR=str(ray_folder), RAY_worker_niceness="0")
    assert (done.stdout, done.stderr) == ("Finished(job=7) 1\n", "")
    assert not [line for line in processes().values() if str(ray_folder) in line[1]]


# --- one cluster for all the rest -------------------------------------------------------------------------------------


def processes() -> dict[int, tuple[int, str]]:
    """All processes: pid → (pid of the parent, command)."""
    listed = subprocess.run(["ps", "-axo", "pid=,ppid=,args="], capture_output=True, text=True, check=True).stdout
    rows = [line.split(None, 2) for line in listed.splitlines()]
    return {int(pid): (int(parent), *rest) for pid, parent, *rest in rows if rest}  # type: ignore[misc]


def below(pid: int) -> set[int]:
    """The processes that a process has started, and those that they have, and so on."""
    found, table = {pid}, processes()
    while more := {child for child, (parent, _) in table.items() if parent in found} - found:
        found |= more
    return found - {pid}


@pytest.fixture(scope="module")
def ray_folder() -> Iterator[Path]:
    """Short, since sockets lie in it, and a socket's path may have 107 characters."""
    folder = Path(tempfile.mkdtemp(prefix="ray-", dir="/tmp"))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def machines(ray_folder: Path) -> Iterator[Any]:
    """A head without CPUs, and a node with one."""
    from ray.cluster_utils import Cluster

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_TMPDIR", str(ray_folder))
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("RAY_worker_niceness", "0")  # by default workers give way to whatever else runs: to other tests
        patch.delenv("RAY_ADDRESS", raising=False)
        started = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "_system_config": HEALTH})
        try:
            started.add_node(num_cpus=1)
            yield started
        finally:
            ours = below(os.getpid())
            started.shutdown()
            left = gone(ours)
            for pid in left:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
    assert not left, f"processes of Ray outlive the cluster: {left}"


def gone(pids: set[int]) -> dict[int, tuple[int, str]]:
    """Those of the processes that still run after a minute."""
    deadline = time.monotonic() + 60
    while left := {pid: line for pid, line in processes().items() if pid in pids and "<defunct>" not in line[1]}:
        if time.monotonic() > deadline:
            return left
        time.sleep(0.2)
    return {}


@pytest.fixture(scope="module")
def connected(machines: Any) -> Iterator[RayCluster]:
    made = RayCluster(workers=2, address=machines.address)
    try:
        yield made
    finally:
        made.close()


@pytest.fixture
def executor(connected: RayCluster) -> Iterator[RayCluster]:
    """The one executor; what a test that failed has left under way is no other test's business."""
    yield connected
    for running in connected._running:
        connected._cancel(running)
    connected._running.clear()


def hear(executor: RayCluster, until: Callable[[Sequence[Event]], object], seconds: float = 300) -> list[Event]:
    """Events until those that have come are enough."""
    heard: list[Event] = []
    deadline = time.monotonic() + seconds
    while not until(heard):
        assert time.monotonic() < deadline, heard[-3:]
        heard += executor.events(0.2)
    return heard


def ends(count: int) -> Callable[[Sequence[Event]], bool]:
    return lambda heard: sum(isinstance(event, ENDS) for event in heard) == count


def trains(*jobs: int) -> Callable[[Sequence[Event]], bool]:
    return lambda heard: {event.job for event in heard if isinstance(event, EpochDone)} >= set(jobs)


def workers_of(node: Any) -> list[int]:
    """The worker processes of a node that train."""
    (raylet,) = node.all_processes["raylet"]
    return [
        pid
        for pid, (parent, command) in processes().items()
        if parent == raylet.process.pid and command.startswith("ray::train_task")
    ]


def timeless(event: Event) -> Event:
    return replace(event, result=replace(event.result, seconds=0.0)) if isinstance(event, EpochDone) else event


def test_a_job_gives_what_it_gives_in_this_process(executor: RayCluster, small_mnist: Path, tmp_path: Path) -> None:
    def asked(name: str) -> Job:
        return job(small_mnist, split="final", weights=str(tmp_path / name), beside=(2,))

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        here = list(run_job(asked("here"), "cpu", lambda: False))
    finally:
        torch.set_num_threads(threads)
    executor.submit(asked("there"))
    there = hear(executor, ends(1))
    assert [type(event).__name__ for event in there] == ["Audited", *["EpochDone"] * 4, *["SeedDone"] * 2, "Finished"]
    assert [timeless(event) for event in there] == [timeless(event) for event in here]
    assert (tmp_path / "there").read_bytes() == (tmp_path / "here").read_bytes()
    assert list(executor.events(1.0)) == []


def test_a_stopped_job_ends_early_and_the_next_one_is_not(executor: RayCluster, small_mnist: Path) -> None:
    executor.submit(job(small_mnist, 1, recipe=LONG))
    hear(executor, trains(1))
    executor.stop(1)
    assert hear(executor, ends(1))[-1] == Stopped(1)
    executor.stop(1)  # too late, and not meant for the next of this number
    executor.submit(job(small_mnist, 1))
    assert hear(executor, ends(1))[-1] == Finished(1)


def test_no_call_takes_longer_than_its_timeout(executor: RayCluster, small_mnist: Path) -> None:
    assert list(executor.events(None)) == []  # nothing is under way
    executor.submit(job(small_mnist, 1, recipe=LONG))
    executor.submit(job(small_mnist, 2, recipe=LONG))  # waits for the one CPU
    hear(executor, trains(1))
    began = time.monotonic()
    assert len(list(executor.events(0.0))) < 100
    assert time.monotonic() - began < 60  # of a wait that would never end
    executor.stop(2)
    executor.stop(1)
    assert {event for event in hear(executor, ends(2)) if isinstance(event, ENDS)} == {Stopped(1), Stopped(2)}


def test_a_job_that_raises_fails_in_one_line(executor: RayCluster, tmp_path: Path, small_mnist: Path) -> None:
    executor.submit(job(tmp_path / "nothing.npz", 1))
    (failed,) = hear(executor, ends(1))
    assert isinstance(failed, Failed)
    assert failed.reason == f"{tmp_path}/nothing.npz: there is no such folder or file"
    executor.submit(job(small_mnist, 2, weights=str(tmp_path / "nowhere" / "weights")))
    last = hear(executor, ends(1))[-1]
    assert last == Failed(2, f"{tmp_path}/nowhere: cannot be written: No such file or directory")


def test_a_job_whose_worker_dies_before_it_begins_starts_again(executor: RayCluster, small_mnist: Path) -> None:
    crash = executor._ray.exceptions.WorkerCrashedError()
    executor.submit(job(small_mnist, 1))
    (running,) = executor._running
    for start in range(1, cluster.STARTS):
        assert (running.starts, executor._broken(running, crash)) == (start, [])
    assert running.died is None
    assert isinstance(hear(executor, ends(1))[-1], Finished)
    executor.submit(job(small_mnist, 2))
    (running,) = executor._running
    running.starts = cluster.STARTS
    assert executor._broken(running, crash) == []
    assert running.died is not None, "and then it is over, after a little while"
    assert hear(executor, ends(1)) == [Failed(2, "the worker process on node unknown died")]


def test_a_node_with_another_version_is_refused(
    executor: RayCluster, small_mnist: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster, "version", lambda package: "0.0.1")
    executor.submit(job(small_mnist, 1))
    (failed,) = hear(executor, ends(1))
    assert isinstance(failed, Failed)
    assert failed.reason.startswith("every node must have budgetnet 0.0.1, but one has ")


@pytest.mark.slow
def test_a_worker_that_is_killed_fails_its_job_and_is_replaced(
    executor: RayCluster,
    machines: Any,
    small_mnist: Path,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (node,) = machines.worker_nodes
    executor.submit(job(small_mnist, 1, recipe=LONG))
    hear(executor, trains(1))
    (pid,) = workers_of(node)
    os.kill(pid, signal.SIGKILL)
    monkeypatch.setattr(cluster, "VERDICT", 2.0)
    assert hear(executor, ends(1))[-1] == Failed(1, f"the worker process on node {node.node_ip_address} died")
    executor.submit(job(small_mnist, 1))
    assert hear(executor, ends(1))[-1] == Finished(1)
    assert capfd.readouterr() == ("", "")  # Ray's own words about it


def test_what_can_never_run_is_an_error(executor: RayCluster) -> None:
    with pytest.raises(WorkerError, match=r"it needs 64 CPU and 0 GPU; nodes have 0 CPU and 0 GPU, 1 CPU and 0 GPU$"):
        RayCluster(job_cpus=64)
    with pytest.raises(WorkerError, match=r"it needs 1 CPU and 1 GPU; nodes have 0 CPU and 0 GPU, 1 CPU and 0 GPU$"):
        RayCluster(device="cuda")
    with pytest.raises(
        WorkerError, match=r"this process is connected to the Ray cluster .* already, but got 10.0.0.9:1"
    ):
        RayCluster(address="10.0.0.9:1")
    assert ray.is_initialized()  # a connection that was there before is left as it was
    assert executor.slots == 2


def test_by_default_a_worker_for_every_job_that_fits(executor: RayCluster) -> None:
    another = RayCluster(job_cpus=0.25)
    assert (another.slots, another.takes_seeds_together) == (4, False)
    another.close()
    assert ray.is_initialized()


def head_gone(executor: RayCluster) -> dict[str, object]:
    return {"_watch": SimpleNamespace(nodes=executor._watch.nodes, taken=0.0)}


def own_node_gone(executor: RayCluster) -> dict[str, object]:
    nodes = tuple(replace(node, alive=node.id != executor._here) for node in executor._watch.nodes)
    return {"_watch": SimpleNamespace(nodes=nodes, taken=0.0)}


def all_large_nodes_gone(executor: RayCluster) -> dict[str, object]:
    return {"_needs": Needs(64)}


@pytest.mark.parametrize(
    ("seen", "limit", "message"),
    [
        (head_gone, "HEAD_LIMIT", "^the head of the Ray cluster has not answered for 0.5 seconds$"),
        (own_node_gone, "NODE_LIMIT", "^the Ray node of this machine died$"),
        (
            all_large_nodes_gone,
            "NODE_LIMIT",
            r"^no node of the Ray cluster has been able to run a job \(64 CPU and 0 GPU\) for 0.5 seconds$",
        ),
    ],
)
def test_where_nothing_can_go_on_it_ends_in_an_error(
    executor: RayCluster,
    small_mnist: Path,
    monkeypatch: pytest.MonkeyPatch,
    seen: Callable[[RayCluster], dict[str, object]],
    limit: str,
    message: str,
) -> None:
    executor.submit(job(small_mnist, 1, recipe=LONG))
    with monkeypatch.context() as patch:
        for name, value in seen(executor).items():
            patch.setattr(executor, name, value)
        patch.setattr(cluster, limit, 0.5)
        with pytest.raises(WorkerError, match=message):
            hear(executor, lambda heard: False)
    executor.stop(1)
    assert hear(executor, ends(1))[-1] == Stopped(1)


def kill(machines: Any, node: Any) -> None:
    machines.remove_node(node, allow_graceful=False)


def freeze(machines: Any, node: Any) -> None:
    """As when the power or the network of a machine fails: no process ends, no connection is closed."""
    for pid in (*workers_of(node), node.all_processes["raylet"][0].process.pid):
        os.kill(pid, signal.SIGSTOP)


@pytest.mark.slow
@pytest.mark.parametrize("lose", [kill, freeze])
def test_a_node_that_is_lost_gives_its_job_back_and_the_others_go_on(
    executor: RayCluster, machines: Any, small_mnist: Path, lose: Callable[[Any, Any], None]
) -> None:
    node = machines.add_node(num_cpus=1)
    frozen = below(node.all_processes["raylet"][0].process.pid)
    try:
        for number in (1, 2):
            executor.submit(job(small_mnist, number, recipe=LONG))
        hear(executor, trains(1, 2))
        (gone_with_it,) = [each.job.id for each in executor._running if each.node == node.node_id]
        frozen |= set(workers_of(node))
        lose(machines, node)
        lost = hear(executor, ends(1))[-1]
        assert lost == Lost(gone_with_it, f"node {node.node_ip_address} died")
        other = 3 - gone_with_it
        assert {event.job for event in hear(executor, trains(other))} == {other}
        executor.stop(other)
        assert hear(executor, ends(1))[-1] == Stopped(other)
    finally:
        if node in machines.worker_nodes:
            machines.remove_node(node, allow_graceful=False)
        for pid in frozen:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


@pytest.mark.slow
def test_seeds_are_confirmed_on_the_cluster_as_in_this_process(
    machines: Any, small_mnist: Path, tmp_path: Path
) -> None:
    network, recipe = parse("4 M 4"), Recipe(epochs=2, batch_size=64)
    study = made(place("far", None, tmp_path / "studies"), network, 8000, str(small_mnist), recipe.epochs)
    add_network(study, network, recipe)
    asked = ["--seeds", "2", "--device", "cpu", "--executor", "ray", "--ray-address", machines.address]
    command = [sys.executable, "-m", "budgetnet", "confirm", "--study", "far", "--trial", "0", *asked]
    subprocess.run(command, cwd=tmp_path, timeout=300, check=True)

    weights = tmp_path / "here.safetensors"
    here = confirm(InProcess("cpu"), network, recipe, data=str(small_mnist), seeds=[0, 1], weights=weights)
    there = [(run.seed, run.accuracies, run.outcome) for run in study.runs(0)]
    assert there == [(run.seed, run.accuracies, run.outcome) for run in here.runs]
    assert study.weights(0, 0).read_bytes() == weights.read_bytes()


@pytest.mark.slow
def test_a_search_goes_on_when_a_node_dies(
    executor: RayCluster, machines: Any, small_mnist: Path, tmp_path: Path
) -> None:
    """The running trial of the lost node is queued again with its seed, and the study ends with all that was asked."""
    node = machines.add_node(num_cpus=1)
    request = tiny_request(tmp_path, small_mnist, trials=4, epochs=40)
    space, settings, plan = request.check()
    where = request.place(space)
    lost: set[int] = set()
    try:
        with locked(where):
            search = Search(create_or_open(where, settings), space, plan, executor)
            for event in search.run():
                there = {each.job.id for each in executor._running if each.node == node.node_id}
                if isinstance(event, Progressed) and event.number in there and not lost:
                    lost = there
                    machines.remove_node(node, allow_graceful=False)
    finally:
        if node in machines.worker_nodes:
            machines.remove_node(node, allow_graceful=False)
    records = search.study.records()
    assert search.tally.lost == len(lost) == 1
    assert sum(record.state == "finished" for record in records) == search.trained == 4
    (gone,) = [record for record in records if record.number in lost]
    assert (gone.state, gone.reason) == ("failed", "interrupted; queued again")
    (again,) = [record for record in records if record.seed == gone.seed and record.number != gone.number]
    assert (again.state, again.architecture, again.recipe) == ("finished", gone.architecture, gone.recipe)
