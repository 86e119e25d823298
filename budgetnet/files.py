"""Files: several written as one step, all or none; their hashes; YAML as people write it; where our own things lie."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import yaml
from filelock import FileLock

from budgetnet.errors import ModelError


def replace_together(contents: Mapping[Path, bytes]) -> None:
    """Give every file its content, in this order; they lie in one folder. On an error all stays as it was.

    Each content is on disk before the first file changes, so a full disk is found out in time. Raises ModelError.
    """
    first = next(iter(contents))
    try:
        with TemporaryDirectory(prefix=STAGING, dir=first.parent) as folder:
            for path, content in contents.items():
                _stage(path, content, Path(folder))
            _swap(list(contents), Path(folder))
    except OSError as error:
        raise ModelError(f"{first.parent}: cannot be written: {error.strerror or error}") from error


def _stage(path: Path, content: bytes, folder: Path) -> None:
    """Put the new content, and a second name for the old one, beside the place where it goes."""
    staged = folder / f"new-{path.name}"
    with open(staged, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    if path.exists():
        shutil.copymode(path, staged)
        try:
            os.link(path, folder / f"old-{path.name}")
        except OSError:  # a file system without hard links
            shutil.copy2(path, folder / f"old-{path.name}")


def _swap(paths: Sequence[Path], folder: Path) -> None:
    begun: list[Path] = []
    try:
        for path in paths:
            begun.append(path)
            os.replace(folder / f"new-{path.name}", path)
    except BaseException:
        for path in reversed(begun):
            with suppress(OSError):
                _restore(path, folder / f"old-{path.name}")
        raise


def _restore(path: Path, old: Path) -> None:
    if old.exists():
        os.replace(old, path)
    else:
        path.unlink(missing_ok=True)


@contextmanager
def exclusive(path: Path) -> Iterator[None]:
    """Only one process at a time, on this machine, changes ``path``; the others wait. Nothing is left beside it."""
    name = hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:16]
    lock = cache_dir() / "locks" / f"{path.name}-{name}.lock"
    try:
        lock.parent.mkdir(parents=True, exist_ok=True)
        held = FileLock(lock)
        held.acquire()
    except OSError as error:
        raise ModelError(f"{lock}: cannot be locked: {error.strerror or error}") from error
    try:
        yield
    finally:
        held.release()


STAGING = ".budgetnet-"  # how the folders begin that files are written in before they take their place
DIGEST = 8  # characters that tell the trainings apart that share a start
ABANDONED = 3600.0  # seconds after which one is what a process that was killed has left


def clear_staging(folder: Path) -> None:
    """Remove what processes left that were killed as they wrote."""
    with suppress(OSError):
        for left in folder.glob(f"{STAGING}*"):
            if time.time() - left.stat().st_mtime > ABANDONED:
                shutil.rmtree(left, ignore_errors=True)


@dataclass(frozen=True)
class Unfinished:
    """The files of a training that is under way, whose names begin alike: one for every way in which it was begun."""

    start: Path

    def files(self) -> list[Path]:
        return sorted(self.start.parent.glob(f"{self.start.name}_{'?' * DIGEST}.safetensors"))

    def forget(self) -> None:
        """Remove them; one that cannot be removed is in nobody's way."""
        with suppress(OSError):
            for path in self.files():
                path.unlink(missing_ok=True)


def beside(path: Path, name: str) -> Path:
    """A file in the folder of another; where that is a link, in the folder of what it leads to."""
    return (path.resolve() if path.is_symlink() else path).with_name(name)


def sha256(path: Path) -> str | None:
    """Hash of a file's bytes, in hexadecimal; None where there is no such file. Raises OSError if it cannot be read."""
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except FileNotFoundError:
        return None


def expanded(path: str) -> Path:
    """The path with the home that ``~`` stands for; that of a user whom nobody knows stays as it is, as in a shell."""
    return Path(os.path.expanduser(path))


def cache_dir() -> Path:
    """Where unpacked and downloaded data goes: BUDGETNET_CACHE, else the platform's cache directory."""
    if own := os.environ.get("BUDGETNET_CACHE"):
        return expanded(own)
    home = Path.home()
    if sys.platform == "darwin":
        return home / "Library" / "Caches" / "budgetnet"
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or home / "AppData" / "Local") / "budgetnet" / "cache"
    return Path(os.environ.get("XDG_CACHE_HOME") or home / ".cache") / "budgetnet"


class _Loader(yaml.SafeLoader):
    """Safe YAML in which ``1e-5`` is a number, as in YAML 1.2 and JSON; YAML 1.1 wants ``1.0e-5``.

    A key that is written twice in a mapping is an error, as in YAML 1.2; PyYAML would take the last, and say nothing.
    """

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        node = super().compose_mapping_node(anchor)
        seen: set[tuple[str, str]] = set()
        for key, _ in node.value:
            written = key.tag, str(key.value)
            if written in seen and key.tag != "tag:yaml.org,2002:merge":
                raise ValueError(f"line {key.start_mark.line + 1} says {key.value} again")
            seen.add(written)
        return node


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+$"), list("-+.0123456789")
)


def _whole(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> int:
    """An integer that a float can hold; nothing that is counted here has more."""
    value = int(loader.construct_yaml_int(node))
    if abs(value) >= 2**63:
        raise ValueError(f"{str(node.value)[:20]}… is too large a number")
    return value


_Loader.add_constructor("tag:yaml.org,2002:int", _whole)


def parse_yaml(text: str) -> Any:
    """Plain data. Raises ValueError, one line, when the text is no YAML; tags that would run code are none."""
    try:
        return yaml.load(text, _Loader)  # a SafeLoader
    except (yaml.YAMLError, ValueError, RecursionError, LookupError, AttributeError) as error:  # PyYAML lets some slip
        raise ValueError(f"is not YAML: {' '.join(str(error).split())}") from None
