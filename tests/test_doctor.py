"""``budgetnet doctor``: what is there is told, what is missing is named with its remedy, and nothing makes it fail."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

from budgetnet import doctor, extras, kernels
from budgetnet.data import SHA256
from budgetnet.errors import ExtraError
from tests.test_cli import run

PYPROJECT = Path(__file__).parents[1] / "pyproject.toml"


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty directory to work in, a cache of its own, and extras that are quick to import."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("BUDGETNET_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(extras, "EXTRAS", {"tensorboard": ("tensorboard",)})
    return tmp_path


def findings(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> tuple[int, dict[str, dict[str, Any]]]:
    """Exit code, and by topic and name what was found."""
    code, out, err = run(monkeypatch, capsys, "doctor", "--json")
    assert err == ""
    told = json.loads(out)
    return code, {topic: {item["name"]: item for item in items} for topic, items in told.items()}


def test_all_is_well(here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("old", "new"):
        (here / "studies" / name).mkdir(parents=True)
        (here / "studies" / name / "study.db").touch()
    os.utime(here / "studies" / "old" / "study.db", (0, 0))
    (here / "model.py").write_text("class Model_7:\n    pass\n")
    (here / "cache" / "torchvision" / "KMNIST").mkdir(parents=True)
    code, out, _ = run(monkeypatch, capsys, "doctor")
    assert code == 0
    assert out.endswith("\nall is well\n")
    for name in ("torch", "optuna", "fvcore"):
        assert re.search(rf"^  {name} +{re.escape(metadata.version(name))}$", out, flags=re.MULTILINE)
    assert re.search(r"^  cpu .*, \d+ cores? usable, ", out, flags=re.MULTILINE)
    assert re.search(r"^  training +three networks trained in [\d.]+ s; machine code in /", out, flags=re.MULTILINE)
    assert "embedded, 4 files as published (SHA-256)" in out
    assert f"{here / 'cache' / 'torchvision'}: KMNIST" in out
    assert re.search(r"^  studies +2, the newest new$", out, flags=re.MULTILINE)
    assert str(here / "model.py") in out
    assert "Model_7" in out


def test_what_a_person_lacks_is_told_and_is_no_failure(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (here / "file").touch()
    (here / "falls.py").write_text("raise OSError('libfalls.so: no such file')\n")
    (here / "model.py").write_text("class Model_1(\n")
    monkeypatch.syspath_prepend(str(here))
    monkeypatch.setenv("BUDGETNET_CACHE", str(here / "file" / "cache"))
    monkeypatch.setattr(extras, "EXTRAS", {"ray": ("there_is_none",), "onnx": ("falls",)})
    monkeypatch.setattr(kernels, "kept_in", lambda: None)
    code, found = findings(monkeypatch, capsys)
    assert code == 0
    assert found["extras"]["ray"]["text"] == (
        "missing there_is_none; for --executor ray: pip install 'budgetnet[ray]' (in a clone: '.[ray]')"
    )
    assert "compiling anew, as every process will" in found["devices"]["training"]["text"]
    assert "falls cannot be imported (OSError: libfalls.so: no such file)" in found["extras"]["onnx"]["text"]
    assert "cannot be written" in found["data"]["cache"]["text"]
    assert found["studies"]["studies"]["text"] == "none yet"
    assert "model.py: line 1: not Python" in found["models"]["file"]["text"]


def test_a_package_that_is_missing_or_too_old_is_broken(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "fvcore", None)
    monkeypatch.setattr(doctor, "_wanted", lambda: {"numpy": ">=1.26", "scipy": ">=99"})
    code, out, _ = run(monkeypatch, capsys, "doctor")
    assert code == 1
    assert "all is well" not in out
    first, second = [line for line in out.splitlines() if line.startswith("broken: ")]
    assert first.startswith("broken: fvcore: cannot be imported (ModuleNotFoundError: ")
    assert first.endswith("install with: pip install fvcore")
    assert second == f"broken: scipy: {metadata.version('scipy')}, but >=99 is needed: pip install 'scipy>=99'"


def test_unpacked_images_of_other_bytes_are_broken(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    name = next(iter(SHA256))
    (here / "cache" / "mnist").mkdir(parents=True)
    (here / "cache" / "mnist" / name).write_bytes(b"other")
    code, found = findings(monkeypatch, capsys)
    assert code == 1
    assert found["data"]["mnist"] == {
        "name": "mnist",
        "text": f"{here / 'cache' / 'mnist'}: other bytes than published: {name}; delete it",
        "broken": True,
    }


def test_it_speaks_without_torch_and_without_sqlalchemy(here: Path) -> None:
    script = (
        "import sys; sys.modules['torch'] = sys.modules['sqlalchemy'] = None; sys.argv = ['budgetnet', 'doctor']; "
        "from budgetnet import extras; extras.EXTRAS = {}; from budgetnet.cli import main; main()"
    )
    done = subprocess.run([sys.executable, "-c", script], check=False, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (1, "")
    broken = {line.split(": ")[1] for line in done.stdout.splitlines() if line.startswith("broken: ")}
    assert {"torch", "sqlalchemy", "workers", "mnist", "studies"} <= broken
    assert "Model_1" in done.stdout


def test_what_is_looked_at_is_what_the_package_asks_for() -> None:
    tomllib = pytest.importorskip("tomllib")  # Python 3.11
    project = tomllib.loads(PYPROJECT.read_text(encoding="utf-8"))["project"]
    assert set(doctor.REQUIRED) == {re.split(r"[>\[]", need)[0] for need in project["dependencies"]}
    named = {
        extra: {re.split(r"[>\[]", need)[0].replace("-", "_") for need in needs}
        for extra, needs in project["optional-dependencies"].items()
        if extra != "test"
    }
    assert set(named) == set(extras.EXTRAS) == set(extras.SERVES)
    for extra, packages in extras.EXTRAS.items():
        assert set(packages) <= named[extra]
        assert f"budgetnet[{extra}]" in project["optional-dependencies"]["test"]


def test_an_extra_that_is_missing_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    extras.require("tensorboard")
    monkeypatch.setattr(extras, "EXTRAS", {"onnx": ("json", "one_that_is_none", "another")})
    with pytest.raises(ExtraError, match=r"^budgetnet export needs one_that_is_none and another; install with: pip in"):
        extras.require("onnx")
