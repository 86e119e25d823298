"""Weights on disk: safetensors, which hold numbers and no code. A file that is not the one expected is refused."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load, save
from torch import Tensor, nn

from budgetnet.architecture import Architecture
from budgetnet.errors import ArchitectureError, ModelError
from budgetnet.files import replace_together

ARCHITECTURE = "architecture"  # in the metadata of a file
ORIGIN = "budgetnet"  # one entry with all: safetensors writes several in any order, and the bytes would differ
NO_WEIGHTS = "is no file of weights with an architecture"
HEADER = 8  # bytes that tell the length of the JSON header, little-endian
MAX_HEADER = 100_000_000  # bytes; the format allows no more


def save_weights(
    state: Mapping[str, Tensor],
    path: Path,
    architecture: Architecture,
    trained_on: tuple[str, str],
) -> None:
    """Write a state dict, atomically; the file says what it is of, and what it was trained on. Raises ModelError.

    trained_on: data set and split, "search" or "final", as of a Job. Equal arguments give equal bytes.
    """
    data, split = trained_on
    write_tensors(path, state, {ARCHITECTURE: architecture.to_dict(), "data": data, "split": split})


def write_tensors(path: Path, tensors: Mapping[str, Tensor], said: Mapping[str, Any]) -> None:
    """Tensors and what is to be said of them (JSON-able), as one file, atomically. Raises ModelError."""
    # a tensor that layers share is written under each of its names, so each needs a copy of its own
    copies = {name: tensor.contiguous().cpu().clone() for name, tensor in tensors.items()}
    replace_together({path: save(copies, {ORIGIN: json.dumps(said)})})


@dataclass(frozen=True)
class Origin:
    """What a file of weights says of itself; ``trained_on``: data set and split, None where it is too old to say."""

    architecture: Architecture
    trained_on: tuple[str, str] | None


def read_origin(path: Path) -> Origin:
    """Raises ModelError where the file says no architecture."""
    said = _said(path)
    if ARCHITECTURE not in said:
        raise ModelError(f"{path}: does not say of which architecture it is, as files of train --weights do")
    try:
        architecture = Architecture.from_dict(said[ARCHITECTURE])
    except ArchitectureError as error:
        raise ModelError(f"{path}: {NO_WEIGHTS}: {error}") from None
    return Origin(architecture, (said["data"], said["split"]) if "split" in said else None)


def _said(path: Path) -> dict[str, Any]:
    """What the metadata say; files of earlier versions have an entry of its own for the architecture, and no other."""
    try:
        with safe_open(path, "pt") as file:
            entries = file.metadata() or {}
        said: dict[str, Any] = json.loads(entries.get(ORIGIN, "{}"))
        return said or {name: json.loads(entries[name]) for name in (ARCHITECTURE,) if name in entries}
    except (OSError, SafetensorError, ValueError) as error:
        raise ModelError(f"{path}: {NO_WEIGHTS}: {error}") from None


def read_weights(path: Path, digest: str | None = None) -> dict[str, Tensor]:
    """The tensors in a file. ``digest``: the SHA-256 that the file was frozen with.

    Raises ModelError, with the reason, when the file is missing, truncated, another model's, or changed.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ModelError(f"{path}: cannot be read: {error.strerror}") from None
    found = hashlib.sha256(content).hexdigest()
    if digest is not None and found != digest:
        raise ModelError(f"{path}: {_what_happened(path, content, found)}, so it is refused (SHA-256 {found})")
    try:
        return load(content)
    except SafetensorError as error:
        raise ModelError(f"{path}: is no safetensors file: {_truncated(content) or error}") from None


def read_all(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """What ``write_tensors`` was given, the metadata and the tensors of one moment. Raises ModelError."""
    try:
        content = path.read_bytes()
        tensors = load(content)
        header = json.loads(content[HEADER : HEADER + int.from_bytes(content[:HEADER], "little")])
        return json.loads(header["__metadata__"][ORIGIN]), tensors
    except (OSError, SafetensorError, ValueError, KeyError) as error:
        raise ModelError(f"{path}: cannot be read: {error}") from None


def _what_happened(path: Path, content: bytes, digest: str) -> str:
    """Why a file may not be the one that was frozen."""
    if short := _truncated(content):
        return short
    for other in sorted(path.parent.glob("*.json")):
        with suppress(OSError, UnicodeDecodeError):
            if other.stem != path.stem and digest in other.read_text(encoding="utf-8"):
                return f"holds the weights of {other.stem}"
    return "was changed after the freeze"


def _truncated(content: bytes) -> str:
    """How much is left of a file that ends early; "" for any other."""
    start = HEADER + int.from_bytes(content[:HEADER], "little")
    if len(content) < HEADER:
        return f"is truncated, {len(content):,} bytes are left"
    try:
        header = json.loads(content[HEADER:start])
        whole = start + max((tensor["data_offsets"][1] for tensor in header.values() if "dtype" in tensor), default=0)
    except (ValueError, TypeError, KeyError, AttributeError, IndexError, RecursionError):
        whole = start if len(content) < start < MAX_HEADER else 0
    return f"is truncated, {len(content):,} bytes of {whole:,} or more are left" if len(content) < whole else ""


def load_weights(module: nn.Module, weights: Mapping[str, Tensor], name: str, path: Path) -> None:
    """Give the module its weights. Raises ModelError unless names, shapes and types are exactly its own."""
    own = module.state_dict()
    differences = [
        *(f"{key} is missing" for key in own if key not in weights),
        *(f"{key} is not in the class" for key in weights if key not in own),
        *(
            f"{key} is {_form(weights[key])} where the class has {_form(own[key])}"
            for key in own
            if key in weights and _form(own[key]) != _form(weights[key])
        ),
    ]
    if differences:
        more = f" (and {len(differences) - 1} more)" if len(differences) > 1 else ""
        raise ModelError(f"{path}: these are not the weights of {name}: {differences[0]}{more}")
    module.load_state_dict(weights, strict=True)
    for key, tensor in module.state_dict().items():  # of one that layers share, the last name's was taken
        if not torch.equal(tensor.cpu(), weights[key].cpu()):
            raise ModelError(f"{path}: these are not the weights of {name}: {key} is shared, but its copies differ")


def _form(tensor: Tensor) -> str:
    return f"{tuple(tensor.shape)} of {str(tensor.dtype).removeprefix('torch.')}"
