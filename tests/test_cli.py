"""The program as a person runs it: what it prints, its exit codes, and one line for every kind of bad input."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from optuna.trial import TrialState
from typer.testing import CliRunner

import budgetnet
from budgetnet.cli import app, main
from budgetnet.errors import RecipeError
from budgetnet.executor import InProcess
from budgetnet.plan import Request
from budgetnet.recipe import Recipe
from budgetnet.single import read_recipe
from budgetnet.workplace import Workplace
from tests.tiny import write_space

NET = "import torch\n\n\nclass Net(torch.nn.Module):\n    def forward(self, x):\n        {}\n"


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty directory to work in."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    """Exit code, standard output and standard error of ``budgetnet *arguments``, in this process."""
    monkeypatch.setattr(sys, "argv", ["budgetnet", *arguments])
    before = signal.getsignal(signal.SIGTERM)
    try:
        main()
        code = 0
    except SystemExit as end:
        code = int(end.code or 0)
    finally:
        signal.signal(signal.SIGTERM, before)
    out = capsys.readouterr()
    return code, out.out, out.err


def search_arguments(folder: Path, data: Path, trials: int = 2) -> list[str]:
    """A search that takes seconds."""
    space = write_space(folder)
    fixed = ["--budget", "600", "--epochs", "3", "--workers", "0", "--pruner", "none", "--device", "cpu"]
    return ["search", "--space", str(space), "--data", str(data), "--trials", str(trials), *fixed]


class Asked(Exception):
    """A search was asked for."""


def test_search_hands_over_every_option(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[Request] = []

    def keep(request: Request) -> None:
        asked.append(request)
        raise Asked

    monkeypatch.setattr("budgetnet.coordinator.opened", keep)
    given = (
        "search --budget 700 --trials 4 --space colour32 --data cifar10 --images 9 --study one --epochs 5 --max-macs 7 "
        "--sampler gp --pruner median --seed 3 --timeout 2h --workers 5 --device cpu --hang-limit 3m --executor ray "
        "--ray-address here:1 --job-cpus 2 --job-gpus 0.5 --storage sqlite:///a.db --quiet"
    )
    with pytest.raises(Asked):
        run(monkeypatch, capsys, *given.split())
    with pytest.raises(Asked):
        run(monkeypatch, capsys, "search", "--quiet")
    assert asked == [
        Request(
            budget=700, trials=4, space="colour32", data="cifar10", images=9, study="one", epochs=5, max_macs=7,
            sampler="gp", pruner="median", seed=3, timeout=7200.0, workers=5, device="cpu", hang_limit=180.0,
            executor="ray", ray_address="here:1", job_cpus=2.0, job_gpus=0.5, storage="sqlite:///a.db",
        ),
        Request(),
    ]  # fmt: skip


@pytest.mark.parametrize("command", ["confirm", "freeze"])
def test_confirm_and_freeze_train_where_they_are_told(
    command: str, here: Path, small_mnist: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    made: list[Workplace] = []

    def opened(workplace: Workplace) -> InProcess:
        made.append(workplace)
        return InProcess("cpu")

    monkeypatch.setattr(Workplace, "open", opened)
    added = ("add", "4 M 4", "--study", "one", "--data", str(small_mnist), "--recipe", "epochs=1")
    assert run(monkeypatch, capsys, *added)[0] == 0
    asked = "--trial 0 --seeds 1 --executor ray --ray-address h:1 --job-cpus 2 --job-gpus 0.5 --workers 5 --device cuda"
    assert run(monkeypatch, capsys, command, *asked.split())[0] == 0
    assert run(monkeypatch, capsys, command, *asked.split(), *["--force"] * (command == "freeze"))[0] == 0
    assert made == [Workplace("ray", 5, "cuda", ray_address="h:1", job_cpus=2.0, job_gpus=0.5)]  # once: it is kept
    code, out, err = run(monkeypatch, capsys, command, "--trial", "0", "--job-cpus", "2")
    assert (code, out, err) == (2, "", "error: --job-cpus needs --executor ray\n")
    code, out, err = run(monkeypatch, capsys, command, "--trial", "0", "--device", "tpu")
    assert (code, out, err) == (2, "", "error: --device must be auto, cpu, cuda or mps, but got 'tpu'\n")


def test_the_whole_path_search_trials_show_freeze_rf(
    here: Path, small_mnist: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, _ = run(monkeypatch, capsys, *search_arguments(here, small_mnist))
    assert code == 0
    assert "best trials of tiny-600" in out
    assert (here / "studies" / "tiny-600" / "study.db").is_file()
    number = out.rsplit("budgetnet freeze --trial ", 1)[1].split()[0]

    code, out, _ = run(monkeypatch, capsys, "trials", "--json")
    records = json.loads(out)
    assert code == 0
    assert [record["state"] for record in records] == ["finished"] * 2
    assert str(records[0]["number"]) == number
    code, out, _ = run(monkeypatch, capsys, "trials", "--all")
    assert f"{records[0]['cost']['params']:,}" in out

    code, out, _ = run(monkeypatch, capsys, "show", "--trial", number)
    assert code == 0
    assert f"{records[0]['cost']['params']:,} / 600 params" in out
    assert records[0]["notation"] in out

    code, out, _ = run(monkeypatch, capsys, "report")
    page = (here / "studies" / "tiny-600" / "README.md").read_text(encoding="utf-8")
    written = [Path("studies") / "tiny-600" / name for name in ("README.md", "report.html")]
    assert (code, out) == (0, f"wrote {written[0]} and {written[1]}\n")
    assert f"| {number} | {100 * records[0]['value']:.2f} | {records[0]['cost']['params']:,} |" in page

    freeze = ["freeze", "--trial", number, "--seeds", "2", "--workers", "0", "--device", "cpu"]
    code, out, _ = run(monkeypatch, capsys, *freeze)
    assert code == 0
    assert "class Model_1(nn.Module)" in out
    assert {"model.py", "Model_1.safetensors", "Model_1.json"} <= {path.name for path in here.iterdir()}
    assert sum(parameter.numel() for parameter in budgetnet.load("Model_1", pretrained=True).parameters()) < 600

    code, out, _ = run(monkeypatch, capsys, "rf", "Model_1", "--json")
    assert code == 0
    assert json.loads(out)["params"] == records[0]["cost"]["params"]

    before = (here / "model.py").read_bytes()
    code, out, err = run(monkeypatch, capsys, *freeze, "--as", "Model_1")
    assert code == 2
    assert "Model_1" in err
    assert (here / "model.py").read_bytes() == before


def test_train_one_network(
    here: Path, small_mnist: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["train", "4 M 6", "--data", str(small_mnist), "--epochs", "2", "--device", "cpu"]
    code, out, _ = run(monkeypatch, capsys, *arguments, "--recipe", "learning_rate=1e-1,ema=0.9")
    assert code == 0
    assert [line[:9] for line in out.splitlines()] == ["epoch  1/", "epoch  2/"]
    assert "validation" in out
    (here / "a.json").write_text(json.dumps(budgetnet.parse("4 M 6").to_dict()))
    (here / "r.yaml").write_text("learning_rate: 0.1\nema: 0.9\n")
    same = ["train", "a.json", *arguments[2:], "--recipe", "r.yaml", "--json", "--final", "--weights", "w.safetensors"]
    code, out, _ = run(monkeypatch, capsys, *same)
    assert code == 0
    assert json.loads(out)["epochs"][-1]["total"] == 300
    before = (here / "w.safetensors").read_bytes()
    again = ["train", "a.json", *arguments[2:], "--weights", "w.safetensors", "--seed", "1"]
    code, out, err = run(monkeypatch, capsys, *again)
    assert (code, out, (here / "w.safetensors").read_bytes()) == (2, "", before)
    assert err == "error: --weights w.safetensors: exists already; --force replaces it\n"
    assert run(monkeypatch, capsys, *again, "--force")[0] == 0
    assert (here / "w.safetensors").read_bytes() != before


def test_rf_of_one_layer(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """By hand: 28 - 2 = 26, pooled 13, - 2 = 11; field 3, pooled 4, + 2 · 2 = 8; 4 · 6 · 9 weights, for 121 cells."""
    code, out, _ = run(monkeypatch, capsys, "rf", "4 M 6", "--layer", "stage1.1")
    told = dict(line.split(maxsplit=1) for line in out.splitlines())
    assert (code, told["type"], told["output"], told["params"], told["MACs"]) == (0, "Conv", "6×11×11", "216", "26,136")
    assert (told["jump"], told["field"], told["start"]) == ("2", "8", "0")
    assert "cell 5×5 sees pixels 10–17 × 10–17 of 28×28" in out
    code, out, err = run(monkeypatch, capsys, "rf", "4 M 6", "--layer", "stage9.9")
    assert (code, out, "stage9.9" in err) == (2, "", True)


GATED = """
import torch
class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.first = torch.nn.Conv2d(1, 4, 3)
        self.gate = torch.nn.Conv2d(4, 4, 1)
        self.last = torch.nn.Conv2d(4, 2, 3)
    def forward(self, x):
        x = self.first(x)
        return self.last(x * torch.sigmoid(self.gate(torch.nn.functional.adaptive_avg_pool2d(x, 1))))
"""


def test_rf_follows_gates_only_when_it_is_to(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two convolutions see 5 × 5; the gate between them is the mean of the whole map."""
    (here / "net.py").write_text(GATED)
    command = ["rf", "net.py:Net", "--input", "1x12x12"]
    code, plain, _ = run(monkeypatch, capsys, *command)
    assert (code, "receptive field 5 after last" in plain, "(--strict follows them)" in plain) == (0, True, True)
    code, strict, _ = run(monkeypatch, capsys, *command, "--strict")
    assert (code, "receptive field 5" in strict, "which this follows" in strict) == (0, False, True)
    code, out, _ = run(monkeypatch, capsys, *command, "--strict", "--layer", "last")
    assert (code, "sees pixels 0–11 × 0–11 of 12×12" in out) == (0, True)


def test_a_recipe_is_a_file_with_changes_behind_it(tmp_path: Path) -> None:
    file = tmp_path / "r.yaml"
    file.write_text("learning_rate: 0.3\nema: 0.9\n")
    assert read_recipe(f"{file},learning_rate=0.1") == replace(read_recipe(str(file)), learning_rate=0.1)
    assert read_recipe(str(file)) == Recipe(learning_rate=0.3, ema=0.9)
    with pytest.raises(RecipeError, match=r"must read name=value,name=value or name a file first, but got '.*r\.yaml'"):
        read_recipe(f"ema=0.9,{file}")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["trials"], "no study under studies"),
        (["trials", "--study", "nowhere"], "no study 'nowhere' in studies"),
        (["trials", "--study", "../up"], "--study must be a plain name"),
        (["trials", "--storage", "sqlite:///x.db"], "--storage needs --study"),
        (["show", "--trial", "1"], "no study under studies"),
        (["freeze", "--trial", "1"], "no study under studies"),
        (["search", "--space", "minst"], "unknown space 'minst'; there are"),
        (["search", "--space", "typo.yaml"], "no such space file: typo.yaml"),
        (["search", "--space", "a" * 300], "File name too long"),
        (["search", "--data", "~nosuch/x"], "~nosuch/x: there is no such folder or file, seen from /"),
        (["trials", "--study", "s", "--storage", "postgresql://me:secret/db"], "but got 'postgresql://me:…'"),
        (["search", "--budget", "20"], "--budget 20: no network of the space mnist can meet it"),
        (["search", "--timeout", "soon"], "--timeout must be a time such as 90s, 30m or 2h, but got 'soon'"),
        (["search", "--data", "nowhere"], "nowhere: a data set must be one of"),
        (["search", "--storage", "nonsense"], "nonsense"),
        (["rf", "Model_9"], "there is no class 'Model_9'"),
        (["confirm", "--trial", "1"], "no study under studies"),
        (["compare", "1", "2"], "no study under studies"),
        (["compare", "Model_8", "Model_9"], "there is no class 'Model_8'"),
        (["verify", "../Model_1"], "a model's name must be a Python identifier like Model_3, but got '../Model_1'"),
        (["verify", "Model_9"], "model.py: there is no class Model_9"),
        (["export", "../x", "--onnx", "x.onnx"], "a model's name must be a Python identifier like Model_3"),
        (["export", "Model_9", "--onnx", "x.onnx"], "there is no class 'Model_9'"),
        (["predict", "a/b", "x.png"], "a model's name must be a Python identifier like Model_3, but got 'a/b'"),
        (["predict", "Model_9", "x.png"], "there is no class 'Model_9'"),
        (["rf", "nowhere.py:Net"], "nowhere.py: there is no such file"),
        (["rf", "broken.py:Net"], "broken.py: line 1: not Python"),
        (["rf", "fails.py:Net"], "no such luck"),
        (["rf", "12 zz"], "a piece is a width"),
        (["rf", "my folder/net.py:Net"], "my folder/net.py: there is no such file"),
        (["rf", "Model_3", "--input", "3x28x28"], "forward fails for an input of 3x28x28"),
        (["train", "12", "--recipe", "huge.json"], "recipe.epochs: must be between 1 and 10000, but is 1000000000"),
        (["rf", "12", "--input", "28"], "a shape is written like 1x28x28, but got '28'"),
        (["rf", "12", "--input", "big"], "a shape is written like 1x28x28, but got 'big'"),
        (["train", "12 M M M M M 3"], "leaves nothing of a map"),
        (["train", "nowhere.json"], "nowhere.json: cannot be read"),
        (["train", "12", "--recipe", "speed=9"], "recipe.speed"),
        (["train", "12", "--recipe", "fast"], "--recipe must read name=value"),
        (["train", "12", "--recipe", "learning_rate=-1"], "recipe.learning_rate: must be between"),
        (["train", "12", "--recipe", "ema={"], "--recipe ema: must be a number or a word, but got '{'"),
        (["train", "12", "--images", "0"], "--images must be at least 1, but got 0"),
        (["train", "12", "--seed", "-1"], "--seed must be between 0 and 2147483647, but got -1"),
        (["train", "12", "--weights", "fails.py"], "--weights fails.py: exists already; --force replaces it"),
        (["train", "12", "--weights", "nowhere/w.safetensors"], "--weights nowhere/w.safetensors: there is no folder"),
        (["search", "--budget", "8k"], "Invalid value for '--budget': "),
        (["freeze"], "Missing option '--trial'"),
        (["serach"], "No such command 'serach'"),
        (["search", "--seed", "4294967296"], "--seed must be between 0 and 2147483647"),
        (["train", "12", "--device", "tpu"], "--device must be auto, cpu, cuda or mps"),
    ],
)
def test_bad_input_is_one_line_exit_code_2_and_nothing_written(
    here: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    message: str,
) -> None:
    (here / "huge.json").write_text('{"epochs": 1' + "0" * 400 + "}")
    (here / "broken.py").write_text("class Net(\n")
    (here / "fails.py").write_text(NET.format("raise RuntimeError('no such luck')"))
    before = sorted(path.name for path in here.rglob("*"))
    code, _, err = run(monkeypatch, capsys, *arguments)
    assert code == 2
    assert message in err
    notes = ["note: runs the code of fails.py; do so only with files that you trust\n"] * ("fails.py:Net" in arguments)
    *said, line = err.splitlines(keepends=True)
    assert said == notes
    assert line.startswith("error: ")
    assert sorted(path.name for path in here.rglob("*")) == before


def test_a_trial_that_was_pruned_or_is_not_there_cannot_be_frozen(
    here: Path, small_mnist: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run(monkeypatch, capsys, *search_arguments(here, small_mnist, trials=1))
    for trial, message in (("7", "trial 7: no such trial; study tiny-600 has trials 0 to"), ("-1", "no such trial")):
        code, _, err = run(monkeypatch, capsys, "freeze", "--trial", trial)
        assert (code, message in err) == (2, True)
    from budgetnet.study import open_study

    study = open_study("tiny-600").inner
    number = study.ask().number
    study.tell(number, state=TrialState.PRUNED)
    code, _, err = run(monkeypatch, capsys, "freeze", "--trial", str(number))
    assert code == 2
    assert "trial 1: it must be a finished trial, but it is pruned" in err
    assert not (here / "model.py").exists()


def test_a_reader_that_goes_is_no_failure() -> None:
    """As in ``budgetnet trials | head``, with more lines than a pipe holds."""
    script = (
        "import sys, typer; from budgetnet.cli import app, main; sys.argv = ['budgetnet', 'talk']; "
        "app.command('talk')(lambda: [typer.echo('x' * 1000) for _ in range(1000)] and None); main()"
    )
    command = [sys.executable, "-c", script]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        said = process.stderr.read()
    assert (process.returncode, said) == (0, b"")


def test_an_interrupt_that_no_command_expects_is_said(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("budgetnet.single.for_data", interrupted)
    code, _, err = run(monkeypatch, capsys, "train", "4 M 6")
    assert (code, err) == (130, "interrupted\n")


def test_nothing_behind_the_program_is_a_wish_for_help(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, err = run(monkeypatch, capsys)
    assert (code, err) == (0, "")
    assert out.startswith("Usage: budgetnet [OPTIONS] COMMAND [ARGS]...")


def test_what_the_encoding_of_the_output_has_no_sign_for_is_written_otherwise() -> None:
    environment = {**os.environ, "PYTHONIOENCODING": "latin-1"}
    command = [sys.executable, "-m", "budgetnet", "rf", "4 M 6"]
    done = subprocess.run(command, check=True, capture_output=True, env=environment)
    assert b"\\u2500" in done.stdout  # the line under the heading
    assert b"4 M 6 \xb7 input 1\xd728\xd728" in done.stdout


def test_a_file_where_the_folder_should_be(
    here: Path, small_mnist: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (here / "studies").write_text("a file where the folder should be")
    code, _, err = run(monkeypatch, capsys, *search_arguments(here, small_mnist))
    assert code == 2
    assert "the study cannot be read or written" in err
    assert err.count("\n") == 1


@pytest.mark.skipif(os.name == "nt", reason="file size limits as on POSIX")
def test_a_full_disk_ends_the_search_in_one_line_and_keeps_the_study(
    here: Path, small_mnist: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    code, _, _ = run(monkeypatch, capsys, *search_arguments(here, small_mnist, trials=1))
    assert code == 0
    size = (here / "studies" / "tiny-600" / "study.db").stat().st_size
    more = search_arguments(here, small_mnist, trials=60)
    script = (  # no file of the process may grow: what SQLite then meets is what it meets on a full disk
        f"import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, ({size}, {size})); "
        f"sys.argv = ['budgetnet', *{more!r}]; from budgetnet.cli import main; main()"
    )
    result = subprocess.run([sys.executable, "-c", script], check=False, capture_output=True, text=True)
    assert result.returncode == 2
    assert "study.db: the study cannot be read or written: " in result.stderr
    assert "Traceback" not in result.stderr
    assert result.stderr.count("\n") == 1
    from budgetnet.study import open_study

    assert [record.state for record in open_study("tiny-600").records()].count("finished") >= 1


@pytest.mark.skipif(os.name == "nt", reason="signals as on POSIX")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_keeps_the_study_and_says_how_to_go_on(here: Path, small_mnist: Path, number: int) -> None:
    arguments = search_arguments(here, small_mnist, trials=500)
    arguments[arguments.index("--workers") + 1] = "2" if number == signal.SIGINT else "0"
    process = subprocess.Popen(
        [sys.executable, "-m", "budgetnet", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(
            signal.SIGINT, signal.default_int_handler
        ),  # a job in the background ignores it
    )
    assert process.stdout is not None
    for line in process.stdout:
        if "finished" in line:
            break
    process.send_signal(number)
    try:
        _, err = process.communicate(timeout=120)
    finally:
        process.kill()
    assert process.returncode == 130
    assert "interrupted; study tiny-600 is kept with" in err
    assert "go on with: budgetnet search --space" in err
    assert "Traceback" not in err
    from budgetnet.study import open_study

    states = [record.state for record in open_study("tiny-600").records()]
    assert "running" not in states
    assert "finished" in states


def test_search_in_a_script_without_a_guard_says_what_is_missing(here: Path, small_mnist: Path) -> None:
    space = write_space(here)
    call = (
        f"budgetnet.search(space={str(space)!r}, data={str(small_mnist)!r}, budget=600, epochs=1, trials=1, workers=1)"
    )
    (here / "bare.py").write_text(f"import budgetnet\n{call}\n")
    (here / "guarded.py").write_text(f"import budgetnet\nif __name__ == '__main__':\n    {call}\n")
    bare = subprocess.run([sys.executable, "bare.py"], check=False, capture_output=True, text=True)
    assert bare.stderr.count("a worker imported the script that searches; call search under if __name__ ==") == 2
    assert bare.stderr.endswith("WorkerError: a worker process cannot start; what it said of that is above\n")
    subprocess.run([sys.executable, "guarded.py"], check=True)


CHATTY = """
import torch
print("imported")
class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        print("made")
        self.layer = torch.nn.Conv2d(1, 4, 3)
    def forward(self, x):
        print("called")
        return self.layer(x)
"""


@pytest.mark.parametrize("options", [(), ("--effective", "--layer", "layer")])
def test_what_a_class_prints_is_kept_out_of_the_json(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], options: tuple[str, ...]
) -> None:
    (here / "net.py").write_text(CHATTY)
    code, out, err = run(monkeypatch, capsys, "rf", "net.py:Net", "--input", "1x8x8", "--json", *options)
    assert (code, json.loads(out)["params"]) == (0, 40)
    assert {"imported", "made", "called"} <= set(err.split())


def test_what_a_file_prints_is_kept_out_of_what_verify_says(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shipped = Path(budgetnet.__file__).parent
    for name in ("model.py", "Model_1.json"):
        shutil.copy(shipped / name, here)
    with (here / "model.py").open("a") as file:
        file.write('print("imported")\n')
    code, out, err = run(monkeypatch, capsys, "verify", "Model_1", "--json")  # without its weights: quick
    assert (code, [claim["holds"] for claim in json.loads(out)["Model_1"]].count(False) > 0) == (1, True)
    assert "imported" in err


def test_help_of_every_command_has_an_example() -> None:
    runner = CliRunner()
    for command in app.registered_commands:
        assert command.callback is not None
        name = command.name or command.callback.__name__
        result = runner.invoke(app, [name, "--help"])
        assert result.exit_code == 0
        assert f"Example: budgetnet {name}" in result.output


def test_import_and_help_stay_light() -> None:
    show_help = "from typer.testing import CliRunner as R; from budgetnet.cli import app; R().invoke(app, ['--help'])"
    for code in ("import budgetnet", "import budgetnet.cli", show_help):
        script = f"import sys; {code}; sys.exit('torch' in sys.modules or 'optuna' in sys.modules)"
        assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0


def test_public_names_resolve_and_hide_no_module() -> None:
    folder = Path(budgetnet.__file__).parent
    for name in budgetnet._HOME:
        assert getattr(budgetnet, name) is not None
        assert not (folder / f"{name}.py").exists()
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        _ = budgetnet.nothing
