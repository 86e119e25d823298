"""Learning from a trained network: the loss by hand, the teacher's file, and a student that comes nearer to it."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from budgetnet.build import build
from budgetnet.data import load
from budgetnet.errors import ModelError, RecipeError, SpaceError
from budgetnet.notation import parse
from budgetnet.recipe import Recipe
from budgetnet.space_files import parse_space
from budgetnet.teacher import answers, check_teacher, divergence, load_teacher, named_in_full, pinned
from budgetnet.train import predict, train
from budgetnet.weights import Origin, read_origin, save_weights
from tests.test_cli import run
from tests.tiny import TINY, tiny_request, write_space

NETWORK = parse("4 M 6")


@pytest.fixture
def teacher(tmp_path: Path) -> Path:
    """A file of random weights."""
    path = tmp_path / "teacher.safetensors"
    save_weights(build(NETWORK, 7).state_dict(), path, NETWORK, ("mnist", "search"))
    return path


def test_the_divergence_is_that_of_the_formula() -> None:
    mine, theirs = torch.tensor([[0.0, math.log(3.0)]]), torch.tensor([[0.0, 0.0]])
    # softened by 1: student (1/4, 3/4), teacher (1/2, 1/2): ½·log(½ / ¼) + ½·log(½ / ¾)
    by_hand = 0.5 * math.log(2) + 0.5 * math.log(2 / 3)
    assert divergence(mine, theirs, 1.0).tolist() == pytest.approx([by_hand])
    # by 2: student (1, √3) / (1 + √3); four times the divergence
    share = 1 / (1 + math.sqrt(3))
    by_hand = 4 * (0.5 * math.log(0.5 / share) + 0.5 * math.log(0.5 / (1 - share)))
    assert divergence(mine, theirs, 2.0).tolist() == pytest.approx([by_hand])
    assert divergence(theirs, theirs, 3.0).tolist() == [0.0]


def test_answers_are_those_of_the_network_for_one_student_and_for_several(teacher: Path) -> None:
    images = torch.rand(2, 3, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    network = load_teacher(str(teacher))
    assert not network.training
    one = answers(network, images[1], bf16=False)
    assert one.shape == (3, 10)
    assert torch.allclose(answers(network, images, bf16=False)[1], one, atol=1e-6)
    assert not one.requires_grad


@pytest.mark.parametrize(
    ("notation", "norms"),
    [
        ("4 M 6", 0),
        ("[bn-silu bias] 4 c5^3 M s6^2", 0),
        ("[relu-bn] 4 M 6", 2),
        ("[relu] 4 M 6", 0),
        ("[bn-relu] 4 r4 M r6", 0),
    ],
)
def test_norms_become_part_of_the_convolutions_before_them(notation: str, norms: int, tmp_path: Path) -> None:
    network = parse(notation)
    trained, path = build(network, 7), tmp_path / "taught.safetensors"
    torch.manual_seed(0)
    for module in trained.modules():
        if isinstance(module, nn.BatchNorm2d):
            for values in (module.weight, module.bias, module.running_mean, module.running_var):
                nn.init.uniform_(values, 0.5, 1.5)
    save_weights(trained.state_dict(), path, network, ("mnist", "search"))
    quick, images = load_teacher(str(path)), torch.rand(3, 1, 28, 28)
    assert sum(isinstance(module, nn.BatchNorm2d) for module in quick.modules()) == norms
    with torch.no_grad():
        torch.testing.assert_close(answers(quick, images, bf16=False), trained.eval()(images), rtol=1e-4, atol=1e-5)


def test_a_file_says_what_it_is_of_and_stays_what_it_was(teacher: Path, tmp_path: Path) -> None:
    assert read_origin(teacher).architecture == NETWORK
    (beside := tmp_path / "beside").touch()
    assert teacher.stat().st_mode == beside.stat().st_mode, "as readable as any new file"
    full = named_in_full(str(teacher))
    assert full.startswith(f"{teacher}#")
    assert named_in_full(full) == full
    assert pinned(Recipe(teacher=str(teacher), distill=0.5)).teacher == full
    save_weights(build(NETWORK, 8).state_dict(), teacher, NETWORK, ("mnist", "search"))
    with pytest.raises(RecipeError, match=r"teacher\.safetensors must have a SHA-256 that begins with"):
        load_teacher(full)
    save_file({"a": torch.zeros(1)}, tmp_path / "bare.safetensors")
    with pytest.raises(ModelError, match="does not say of which architecture it is"):
        load_teacher(str(tmp_path / "bare.safetensors"))
    with pytest.raises(RecipeError, match="cannot be read: Is a directory"):
        named_in_full(str(tmp_path))
    with pytest.raises(RecipeError, match=r"must be for images of .* in 3 classes, but .* is for .* in 10"):
        check_teacher(str(teacher), (1, 28, 28), 3, None)
    with pytest.raises(RecipeError, match="there is no file nowhere; budgetnet train … --weights nowhere writes one"):
        named_in_full("nowhere")


def _trained(recipe: Recipe, small: Path, seed: int = 3) -> nn.Module:
    data = load(str(small))
    training, evaluation = data.search_splits()
    model = build(NETWORK, seed)
    for _ in train(model, recipe, training, evaluation, mean=data.mean, std=data.std, seed=seed, bf16=False):
        pass
    return model


def test_a_student_of_nothing_but_the_teacher_comes_to_answer_like_it(teacher: Path, small_mnist: Path) -> None:
    data = load(str(small_mnist))
    evaluation = data.search_splits()[1]
    plain = Recipe(learning_rate=0.1, epochs=4, batch_size=32, rotation=0.0, scale=0.0, shift=0.0, shear=0.0)
    taught = replace(plain, teacher=str(teacher), distill=1.0)

    def distance(model: nn.Module) -> float:
        target: Tensor = predict(load_teacher(str(teacher)), evaluation, data.mean, data.std)
        return float(divergence(predict(model, evaluation, data.mean, data.std), target, 2.0).mean())

    assert distance(_trained(taught, small_mnist)) < 0.2 * distance(_trained(plain, small_mnist))
    mute = replace(plain, teacher=str(teacher), distill=0.0)
    for ours, theirs in zip(
        _trained(mute, small_mnist).parameters(), _trained(plain, small_mnist).parameters(), strict=True
    ):
        assert torch.equal(ours, theirs)


def test_recipes_without_a_teacher_are_written_as_ever() -> None:
    assert not {"teacher", "distill", "temperature"} & set(Recipe().to_dict())
    taught = Recipe(teacher="t", distill=0.3)
    assert Recipe.from_dict(taught.to_dict()) == taught
    with pytest.raises(RecipeError, match=r"recipe\.teacher: must name a file of weights where distill is 0\.3"):
        Recipe(distill=0.3)
    with pytest.raises(SpaceError, match="distill: needs a teacher"):
        parse_space({**TINY, "recipe": {"distill": {"min": 0.0, "max": 1.0}}}, "mine")


def test_from_a_trained_teacher_to_a_search_that_draws_how_much_it_teaches(
    tmp_path: Path, small_mnist: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    common = ["--data", str(small_mnist), "--epochs", "1", "--device", "cpu"]
    assert run(monkeypatch, capsys, "train", "6 M 8", *common, "--weights", "big.safetensors")[0] == 0
    recipe = {"teacher": "big.safetensors", "distill": {"min": 0.2, "max": 0.8}, "batch_size": 64}
    space = write_space(tmp_path, recipe=recipe)
    search = ["search", "--space", str(space), "--budget", "600", "--trials", "1", "--workers", "0", *common]
    assert run(monkeypatch, capsys, *search, "--quiet")[0] == 0
    code, out, _ = run(monkeypatch, capsys, "show", "--trial", "0")
    assert code == 0
    assert f"teacher {named_in_full('big.safetensors')}" in out
    assert f"teacher={named_in_full('big.safetensors')}" in out.splitlines()[-1]
    Path("big.safetensors").unlink()
    code, _, err = run(monkeypatch, capsys, *search, "--quiet")
    assert (code, "there is no file big.safetensors" in err) == (2, True)


def test_a_start_names_one_of_several_teachers_as_the_space_does(
    tmp_path: Path, small_mnist: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for seed, name in enumerate(("a", "b")):
        save_weights(build(NETWORK, seed).state_dict(), Path(f"{name}.safetensors"), NETWORK, ("other", "search"))
    recipe = {"teacher": {"choices": ["a.safetensors", "b.safetensors"]}, "distill": {"min": 0.1, "max": 0.9}}
    request = tiny_request(tmp_path, small_mnist, trials=1)
    space = write_space(tmp_path, recipe={**recipe, "batch_size": 64}, start={"teacher": "b.safetensors"})
    fitting, _, _ = replace(request, space=str(space)).check()
    (start,) = fitting.start
    assert start["teacher"] == named_in_full("b.safetensors")


def test_a_teacher_that_knows_the_images_that_validate_is_for_final_training_alone(
    tmp_path: Path, small_mnist: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    common = ["--data", str(small_mnist), "--epochs", "1", "--device", "cpu"]
    assert run(monkeypatch, capsys, "train", "4 M 6", *common, "--final", "--weights", "all.safetensors")[0] == 0
    wrong = (
        "error: recipe.teacher: must not know the images that validate, but all.safetensors was trained with --final "
        f"on {small_mnist}; budgetnet train without it leaves them out"
    )
    space = write_space(tmp_path, recipe={"teacher": "all.safetensors", "distill": 0.5, "batch_size": 64})
    search = ["search", "--space", str(space), "--budget", "600", "--trials", "1", "--workers", "0", *common, "--quiet"]
    code, _, err = run(monkeypatch, capsys, *search)
    assert (code, err.strip()) == (2, wrong)
    assert not (tmp_path / "studies").exists()
    student = ["train", "4 M 4", *common, "--recipe", "teacher=all.safetensors,distill=0.5,batch_size=64"]
    code, _, err = run(monkeypatch, capsys, *student)
    assert (code, err.strip()) == (2, wrong)
    assert run(monkeypatch, capsys, *student, "--final")[0] == 0
    check_teacher("all.safetensors", (1, 28, 28), 10, "mnist")


@pytest.mark.parametrize(
    ("trained", "searched"),
    [("MNIST", "mnist"), ("fashion_mnist", "fashion-mnist"), ("mine/", "mine"), ("./mine", "mine"), ("mine", "mine")],
)
def test_the_same_data_is_known_however_it_is_written(trained: str, searched: str, tmp_path: Path) -> None:
    path = tmp_path / "all.safetensors"
    save_weights(build(NETWORK, 7).state_dict(), path, NETWORK, (trained, "final"))
    with pytest.raises(RecipeError, match="must not know the images that validate"):
        check_teacher(str(path), (1, 28, 28), 10, searched)
    check_teacher(str(path), (1, 28, 28), 10, "other")
    check_teacher(str(path), (1, 28, 28), 10, None)


def test_equal_weights_are_equal_files(tmp_path: Path) -> None:
    path, state, contents = tmp_path / "w.safetensors", build(NETWORK, 7).state_dict(), set()
    for _ in range(20):
        save_weights(state, path, NETWORK, ("mnist", "search"))
        contents.add(path.read_bytes())
    assert len(contents) == 1


def test_files_of_earlier_versions_are_read(tmp_path: Path) -> None:
    path, said = tmp_path / "old.safetensors", {"architecture": json.dumps(NETWORK.to_dict())}
    save_file(build(NETWORK, 7).state_dict(), path, said)
    assert read_origin(path) == Origin(NETWORK, None)
    check_teacher(str(path), (1, 28, 28), 10, "mnist")
