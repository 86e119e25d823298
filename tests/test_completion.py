"""What a shell offers after Tab, how it is installed, and colours that nobody wants."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from rich.text import Text

from budgetnet import completion
from budgetnet.completion import models, spaces, studies
from budgetnet.options import console
from budgetnet.plan import PRUNERS
from budgetnet.samplers import SAMPLERS
from budgetnet.workplace import EXECUTORS
from tests.test_cli import run

COLOUR = re.compile(r"\x1b\[(?:\d+;)*(?:3\d|4\d|9\d)")
PROGRAMS = str(Path(sys.executable).parent)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory with two studies, and one that is not yet one."""
    monkeypatch.chdir(tmp_path)
    for name in ("mnist-8000", "mnist-4000", "empty"):
        (tmp_path / "studies" / name).mkdir(parents=True)
    for name in ("mnist-8000", "mnist-4000"):
        (tmp_path / "studies" / name / "study.db").touch()
    return tmp_path


def test_names_are_those_that_there_are(here: Path) -> None:
    assert studies("") == ["mnist-4000", "mnist-8000"]
    assert studies("mnist-8") == ["mnist-8000"]
    assert "Model_1" in models("Mod")  # the package's
    (here / "model.py").write_text("class Model_7:\n    pass\n\n\nclass Helper:\n    pass\n")
    assert models("") == ["Model_7"]
    (here / "model.py").write_text("class Model_7(\n")
    assert models("") == []
    assert {"mnist", "colour32"} <= set(spaces(""))


def test_methods_that_are_offered_are_those_that_are_taken() -> None:
    assert completion.samplers("") == list(SAMPLERS)
    assert completion.pruners("") == list(PRUNERS)
    assert completion.EXECUTORS == EXECUTORS
    assert {"mnist", "fashion-mnist", "cifar10"} <= set(completion.data_sets(""))


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        ("budgetnet sea", ["search"]),
        ("budgetnet trials --study mnist-8", ["mnist-8000"]),
        ("budgetnet search --sampler t", ["tpe"]),
        ("budgetnet search --pruner h", ["halving", "hyperband"]),
        ("budgetnet search --space col", ["colour32"]),
        ("budgetnet search --data fash", ["fashion-mnist"]),
        ("budgetnet verify Mod", ["Model_1"]),
        ("budgetnet compare 3 Mod", ["Model_1"]),
    ],
)
def test_bash_is_offered(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], words: str, offered: list[str]
) -> None:
    monkeypatch.setenv("_BUDGETNET_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", words)
    monkeypatch.setenv("COMP_CWORD", str(len(words.split()) - 1))
    code, out, err = run(monkeypatch, capsys)
    assert (code, err) == (0, "")
    assert set(offered) <= set(out.split())
    assert all(name.startswith(words.split()[-1]) for name in out.split())


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_zsh_and_fish_are_offered_the_same(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], shell: str
) -> None:
    monkeypatch.setenv("_BUDGETNET_COMPLETE", f"complete_{shell}")
    monkeypatch.setenv("_TYPER_COMPLETE_FISH_ACTION", "get-args")
    monkeypatch.setenv("_TYPER_COMPLETE_ARGS", "budgetnet show --study mnist-4")
    code, out, _ = run(monkeypatch, capsys)
    assert code == 0
    assert "mnist-4000" in out
    assert "mnist-8000" not in out


def test_a_tab_imports_neither_torch_nor_optuna(here: Path) -> None:
    script = (
        "import sys\nfrom budgetnet.cli import main\n"
        "try:\n    main()\nfinally:\n    print({'torch', 'optuna'} & set(sys.modules), file=sys.stderr)"
    )
    words = {"_BUDGETNET_COMPLETE": "complete_bash", "COMP_WORDS": "budgetnet search --study m", "COMP_CWORD": "3"}
    done = subprocess.run(
        [sys.executable, "-c", script], env={**os.environ, **words}, check=True, capture_output=True, text=True
    )
    assert done.stdout.split() == ["mnist-4000", "mnist-8000"]
    assert done.stderr == "set()\n"


@pytest.mark.skipif(os.name == "nt", reason="bash and terminals as on POSIX")
def test_bash_completes_once_it_is_installed_and_says_so_without_colour(here: Path) -> None:
    import pty

    environment = {
        **os.environ,
        "HOME": str(here),
        "NO_COLOR": "1",
        "TERM": "xterm",
        "PATH": os.pathsep.join((PROGRAMS, os.environ["PATH"])),
    }
    master, terminal = pty.openpty()
    try:
        install = ["bash", "-c", f"{sys.executable} -m budgetnet --install-completion; true"]
        subprocess.run(install, env=environment, check=True, stdin=terminal, stdout=terminal, stderr=terminal)
        said = os.read(master, 10_000).decode()
    finally:
        os.close(master)
        os.close(terminal)
    script = here / ".bash_completions" / "budgetnet.sh"
    assert f"bash completion installed in {script}" in said
    assert not COLOUR.search(said)
    tab = f"source {script}; COMP_WORDS=(budgetnet ver); COMP_CWORD=1; _budgetnet_completion budgetnet; echo $COMPREPLY"
    done = subprocess.run(["bash", "-c", tab], env=environment, check=True, capture_output=True, text=True)
    assert done.stdout == "verify\n", done.stderr


def test_no_color_is_heard(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm-256color")
    for no_color, coloured in (("", True), ("1", False)):
        monkeypatch.setenv("NO_COLOR", no_color)
        screen = console()
        with screen.capture() as captured:
            screen.print(Text("trials", style="cyan"))
        assert bool(COLOUR.search(captured.get())) is coloured


def test_help_says_what_the_exit_codes_mean_and_one_name_however_it_is_started(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, _ = run(monkeypatch, capsys, "--help")
    assert code == 0
    assert "Exit codes: 0 done; 1 a claim does not hold (verify)" in " ".join(out.split())
    done = subprocess.run(
        [sys.executable, "-m", "budgetnet", "rf", "--help"], check=True, capture_output=True, text=True
    )
    assert done.stdout.startswith("Usage: budgetnet rf [OPTIONS]")
