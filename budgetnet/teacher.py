"""A trained network that another learns from: weights that say of which architecture they are.

Its softened answers are a second target beside the labels (Hinton, Vinyals and Dean, "Distilling the knowledge in a
neural network", 2015). To keep validation images unseen, train it without them: ``budgetnet train … --weights FILE``.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from budgetnet.build import build
from budgetnet.catalogue import same_data
from budgetnet.errors import RecipeError
from budgetnet.files import sha256
from budgetnet.layers import Shape
from budgetnet.recipe import Recipe
from budgetnet.weights import load_weights, read_origin, read_weights

DIGITS = 12  # of the SHA-256 that stands behind a teacher's path


def pinned(recipe: Recipe) -> Recipe:
    """The recipe whose teacher is named with the start of its file's SHA-256, so that it stays what it was.

    Raises RecipeError when there is no such file, or it is another one than is named.
    """
    return recipe if not recipe.teacher else recipe.taught_by(named_in_full(recipe.teacher))


def named_in_full(spec: str) -> str:
    """``teacher.safetensors`` → ``teacher.safetensors#3fa9c2d15b70``. Raises RecipeError."""
    path, _, digest = spec.partition("#")
    try:
        found = sha256(Path(path))
    except OSError as error:
        raise RecipeError(f"recipe.teacher: {path}: cannot be read: {error.strerror}") from None
    if found is None:
        raise RecipeError(f"recipe.teacher: there is no file {path}; budgetnet train … --weights {path} writes one")
    if not found.startswith(digest):
        raise RecipeError(f"recipe.teacher: {path} must have a SHA-256 that begins with {digest}, but it is {found}")
    return f"{path}#{found[:DIGITS]}"


def check_teacher(spec: str, input_shape: Shape, classes: int, held_out: str | None) -> None:
    """Raise RecipeError unless a teacher is for such images and classes; ModelError where its file is none.

    held_out: data whose validation images the teacher must not have seen; train --final shows them to a network.
    """
    path = Path(spec.partition("#")[0])
    origin = read_origin(path)
    found, trained_on = origin.architecture, origin.trained_on
    if (found.input_shape, found.head.classes) != (input_shape, classes):
        raise RecipeError(
            f"recipe.teacher: must be for images of {input_shape} in {classes} classes, "
            f"but {spec} is for {found.input_shape} in {found.head.classes}"
        )
    if held_out is None or trained_on is None:
        return
    if trained_on[1] == "final" and same_data(trained_on[0], held_out):
        raise RecipeError(
            f"recipe.teacher: must not know the images that validate, but {path} was trained with --final "
            f"on {trained_on[0]}; budgetnet train without it leaves them out"
        )


@lru_cache(maxsize=1)
def load_teacher(spec: str) -> nn.Module:
    """The network in evaluation mode, its weights frozen, made for speed. Raises RecipeError, ModelError."""
    path = Path(named_in_full(spec).partition("#")[0])
    network = build(read_origin(path).architecture)
    load_weights(network, read_weights(path), path.stem, path)
    network = network.eval().requires_grad_(False)
    _fold_norms(network)
    return network.to(memory_format=torch.channels_last)


def _fold_norms(network: nn.Module) -> None:
    """Give the scale and shift of every norm that follows a convolution to that convolution: as good, and cheaper."""
    for layers in [module for module in network.modules() if isinstance(module, nn.Sequential)]:
        folded: list[nn.Module] = []
        for layer in layers:
            if isinstance(layer, nn.BatchNorm2d) and folded and isinstance(folded[-1], nn.Conv2d):
                folded[-1] = fuse_conv_bn_eval(folded[-1], layer)  # a copy: loops share a convolution, not its norms
            else:
                folded.append(layer)
        del layers[:]
        layers.extend(folded)


def divergence(outputs: Tensor, taught: Tensor, temperature: float) -> Tensor:
    """How far the answers lie from the teacher's, an image each: T² · KL(teacher ‖ student) of logits over T."""
    mine = F.log_softmax(outputs / temperature, dim=-1)
    theirs = F.log_softmax(taught / temperature, dim=-1)
    return temperature**2 * F.kl_div(mine, theirs, reduction="none", log_target=True).sum(-1)


def answers(teacher: nn.Module, images: Tensor, bf16: bool) -> Tensor:
    """The teacher's logits (…, classes) for images (…, C, H, W)."""
    with torch.no_grad(), torch.autocast(images.device.type, torch.bfloat16, enabled=bf16):
        outputs: Tensor = teacher(images.flatten(0, -4)).float()
    return outputs.view(*images.shape[:-3], -1)
