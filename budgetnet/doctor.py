"""What this machine has of all that budgetnet needs: versions, devices, data, studies, extras – and what is broken.

Everything is imported where it is looked at, and whatever fails there is a finding: the doctor must not fall ill.
"""

from __future__ import annotations

import os
import platform
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from hashlib import sha256
from importlib import import_module, metadata
from pathlib import Path

from budgetnet.errors import reason

REQUIRED = {  # packages as they are installed → as they are imported
    "torch": "torch",
    "torchvision": "torchvision",
    "optuna": "optuna",
    "fvcore": "fvcore",
    "numpy": "numpy",
    "numba": "numba",
    "scipy": "scipy",
    "matplotlib": "matplotlib",
    "rich": "rich",
    "typer": "typer",
    "pydantic": "pydantic",
    "pyyaml": "yaml",
    "safetensors": "safetensors",
    "sqlalchemy": "sqlalchemy",
    "filelock": "filelock",
    "markdown-it-py": "markdown_it",
}


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at; ``broken`` if a command that needs no extra cannot do without it."""

    name: str
    text: str
    broken: bool = False


Check = Callable[[], list[Finding]]


def examined() -> Iterator[tuple[str, list[Finding]]]:
    """What is found, by topics, as it is found."""
    topics: dict[str, tuple[Check, ...]] = {
        "versions": (_programs, _packages),
        "devices": (_cpu, _gpus, _workers, _training),
        "data": (_mnist, _cache, _downloads),
        "studies": (_studies,),
        "models": (_models,),
        "extras": (_extras,),
    }
    for topic, checks in topics.items():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of other people's packages, on import
            yield topic, [finding for check in checks for finding in _carefully(check)]


def _carefully(check: Check) -> list[Finding]:
    """What a check finds; that it fails is a finding, too."""
    try:
        return check()
    except Exception as error:
        return [Finding(check.__name__.strip("_"), reason(error), broken=True)]


# --- versions ---------------------------------------------------------------------------------------------------------


def _programs() -> list[Finding]:
    from budgetnet import __version__

    python = Finding("python", f"{platform.python_version()}, {platform.system()} {platform.machine()}")
    try:
        installed = metadata.version("budgetnet")
    except metadata.PackageNotFoundError:
        return [python, Finding("budgetnet", f"{__version__}, not installed: pip install .", broken=True)]
    stale = f" (installed as {installed}: pip install . once more)" if installed != __version__ else ""
    return [python, Finding("budgetnet", f"{__version__}{stale}")]


def _packages() -> list[Finding]:
    wanted = _wanted()
    return [_package(name, module, wanted.get(name, "")) for name, module in REQUIRED.items()]


def _wanted() -> dict[str, str]:
    """The versions that budgetnet was installed with a need for, as ``>=2.11``, by package."""
    from packaging.requirements import Requirement

    try:
        needs = [Requirement(text) for text in metadata.requires("budgetnet") or ()]
    except metadata.PackageNotFoundError:
        return {}
    return {need.name.lower(): str(need.specifier) for need in needs if need.marker is None}


def _package(name: str, module: str, wanted: str) -> Finding:
    """A package that can be imported, in a version that will do."""
    try:
        import_module(module)
        found = metadata.version(name)
    except metadata.PackageNotFoundError:
        return Finding(name, "there, of no known version")
    except Exception as error:  # a broken package raises whatever it likes
        return Finding(name, f"cannot be imported ({reason(error)}); install with: pip install {name}", broken=True)
    from packaging.specifiers import SpecifierSet

    if not SpecifierSet(wanted).contains(found, prereleases=True):
        return Finding(name, f"{found}, but {wanted} is needed: pip install '{name}{wanted}'", broken=True)
    return Finding(name, found)


# --- devices ----------------------------------------------------------------------------------------------------------


def _cpu() -> list[Finding]:
    from budgetnet.jobs import processor
    from budgetnet.machine import cores, has_bf16

    count = cores()
    bf16 = (
        "bfloat16 in hardware, used by search and confirm --bf16"
        if has_bf16("cpu")
        else "no bfloat16 in hardware, so float32"
    )
    return [Finding("cpu", f"{processor()}, {count} core{'' if count == 1 else 's'} usable, {bf16}")]


def _gpus() -> list[Finding]:
    import torch

    found = []
    for index in range(torch.cuda.device_count() if torch.cuda.is_available() else 0):
        properties = torch.cuda.get_device_properties(index)
        found.append(Finding(f"cuda:{index}", f"{properties.name}, {properties.total_memory / 2**30:.1f} GiB"))
    mps = "there" if torch.backends.mps.is_available() else "none"
    return [*(found or [Finding("cuda", "none")]), Finding("mps", mps)]


def _workers() -> list[Finding]:
    """What ``--device auto`` and ``--workers`` by default come to."""
    import torch

    from budgetnet.executor import LocalProcesses, local
    from budgetnet.machine import choose_device

    device = choose_device("auto")
    workers = local(None, device)
    assert isinstance(workers, LocalProcesses)
    by_default = f"{workers.slots} on {device}, threads in each {workers.threads}"
    return [Finding("workers", by_default), Finding("threads", f"{torch.get_num_threads()} of torch in one process")]


def _training() -> list[Finding]:
    """Whether a network trains on the CPU, by the loops that numba compiles on first use; and where it keeps them."""
    import torch

    from budgetnet import kernels
    from budgetnet.build import build
    from budgetnet.dataset import Split
    from budgetnet.notation import parse
    from budgetnet.recipe import Recipe
    from budgetnet.train import train

    noise = torch.randint(256, (32, 1, 28, 28), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    images, started = Split(noise, torch.arange(32) % 10), time.perf_counter()
    for network in ("[@0.1] 4 M 4", "[bn-silu] 4 M 4", "32 M c64"):
        for _ in train(build(parse(network)), Recipe(epochs=1), images, images, mean=(0.5,), std=(0.3,), seed=0):
            pass
    seconds = f"three networks trained in {time.perf_counter() - started:.1f} s"
    if kept := kernels.kept_in():
        return [Finding("training", f"{seconds}; machine code in {kept}")]
    return [
        Finding(
            "training", f"{seconds}, compiling anew, as every process will; NUMBA_CACHE_DIR can name a folder for it"
        )
    ]


# --- data -------------------------------------------------------------------------------------------------------------


def _mnist() -> list[Finding]:
    """The embedded files, and what is unpacked of them, byte for byte."""
    from budgetnet.data import EMBEDDED, SHA256
    from budgetnet.files import cache_dir
    from budgetnet.readers import read_raw

    unpacked = cache_dir() / "mnist"
    embedded = {name: read_raw(EMBEDDED / f"{name}.gz").content for name in SHA256}
    for folder, contents, remedy in (
        (EMBEDDED, embedded, "install budgetnet again"),
        (unpacked, _readable(unpacked, list(SHA256)), "delete it"),
    ):
        if bad := [name for name, content in contents.items() if sha256(content).hexdigest() != SHA256[name]]:
            text = f"{folder}: other bytes than published: {', '.join(bad)}; {remedy}"
            return [Finding("mnist", text, broken=True)]
    return [Finding("mnist", f"embedded, {len(SHA256)} files as published (SHA-256)")]


def _readable(folder: Path, names: Sequence[str]) -> dict[str, bytes]:
    """The content of those files that can be read."""
    contents = {}
    for name in names:
        with suppress(OSError):
            contents[name] = (folder / name).read_bytes()
    return contents


def _cache() -> list[Finding]:
    from budgetnet.files import cache_dir

    folder = cache_dir()
    there = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
    if not (there.is_dir() and os.access(there, os.W_OK)):
        lost = "MNIST is unpacked at every start, nothing can be downloaded; BUDGETNET_CACHE names another"
        return [Finding("cache", f"{folder}: cannot be written: {lost}")]
    return [Finding("cache", f"{folder}, {_size(folder)}" if folder.exists() else f"{folder}, to be made")]


def _size(folder: Path) -> str:
    return f"{sum(path.stat().st_size for path in folder.rglob('*') if path.is_file()) / 1e6:.0f} MB"


def _downloads() -> list[Finding]:
    """Data sets that torchvision has put into the cache."""
    from budgetnet.files import cache_dir

    folder = cache_dir() / "torchvision"
    names = sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []
    return [Finding("torchvision", f"{folder}: {_listed(names) if names else 'nothing downloaded'}")]


# --- what a person has made -------------------------------------------------------------------------------------------


def _studies() -> list[Finding]:
    from budgetnet.place import STUDIES, names

    found = names()
    text = f"{len(found)}, the newest {found[-1]}" if found else "none yet"
    return [Finding("folder", str(STUDIES.absolute())), Finding("studies", text)]


def _models() -> list[Finding]:
    from budgetnet.errors import ModelError
    from budgetnet.models import model_file, names

    path = model_file()
    try:
        found = names(path)
    except ModelError as error:
        return [Finding("file", str(error))]
    return [Finding("file", str(path.absolute())), Finding("classes", _listed(found) if found else "no Model_N")]


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:8]) + (f", … ({len(names)} in all)" if len(names) > 8 else "")


# --- extras -----------------------------------------------------------------------------------------------------------


def _extras() -> list[Finding]:
    from budgetnet.extras import EXTRAS

    return [_extra(name) for name in EXTRAS]


def _extra(name: str) -> Finding:
    from budgetnet.extras import EXTRAS, SERVES, command, missing

    if absent := missing(name):
        return Finding(name, f"missing {', '.join(absent)}; for {SERVES[name]}: {command(name)}")
    parts = []
    for package in EXTRAS[name]:
        try:
            import_module(package)
        except Exception as error:
            return Finding(name, f"{package} cannot be imported ({reason(error)}); once more: {command(name)}")
        parts.append(f"{package} {_version(package)}")
    return Finding(name, ", ".join(parts))


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "of no known version"
