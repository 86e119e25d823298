"""Data that people bring: the README's guide as it stands there, and a space, a network and a study that follow it."""

from __future__ import annotations

import re
import shlex
import shutil
import struct
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw

from budgetnet import data, executor
from budgetnet.aim import Aim
from budgetnet.budget import Limits
from budgetnet.coordinator import search
from budgetnet.dataset import DataSet, Split, described, holdout_indices
from budgetnet.dimension import Dimension
from budgetnet.errors import DataError, ModelError, StudyError
from budgetnet.evidence import read_evidence
from budgetnet.executor import InProcess
from budgetnet.notation import parse, written
from budgetnet.plan import Request, plain_name, plain_path
from budgetnet.recipe import Recipe
from budgetnet.single import for_data
from budgetnet.space_files import load_space, parse_space
from budgetnet.study import open_study
from budgetnet.survey import survey
from budgetnet.tailor import followed, largest_batch, with_smaller_batches
from budgetnet.winners import Order, Winner, confirm_winner, freeze_winner
from tests.test_cli import run
from tests.tiny import TINY, tiny_request, write_space

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
GUIDE = re.search(r"## Your own images in five minutes\n(.*?)\n## ", README, flags=re.DOTALL)[1]


def draw(path: Path, kind: str, size: tuple[int, int], shade: int) -> None:
    """A figure on a dark ground: red circles, green squares, blue triangles."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.new("RGB", size, (shade, shade, shade))
    canvas, (right, low) = ImageDraw.Draw(image), (size[0] - 4, size[1] - 4)
    if kind == "circle":
        canvas.ellipse((3, 3, right, low), fill=(220, 40, 40))
    elif kind == "square":
        canvas.rectangle((3, 3, right, low), fill=(40, 220, 40))
    else:
        canvas.polygon([(3, low), (right, low), (right // 2, 3)], fill=(40, 40, 220))
    image.save(path)


def figures(root: Path, each: int = 22, side: int = 20) -> Path:
    """Class folders, of which every third picture is larger."""
    for kind in ("circle", "square", "triangle"):
        for number in range(each):
            size = (side, side) if number % 3 else (side + number, side + 4)
            draw(root / kind / f"{number:03}.png", kind, size, shade=number)
    return root


def test_an_orientation_that_is_no_number_is_none(tmp_path: Path) -> None:
    text = b"Exif\0\0II*\0" + struct.pack("<IHHHI4sI", 8, 1, 0x0112, 2, 4, b"left", 0)  # one entry, of type ASCII
    for kind in ("a", "b"):
        (tmp_path / kind).mkdir()
        for number in range(6):
            Image.new("L", (12, 8), 10 * number).save(tmp_path / kind / f"{number}.jpg", exif=text)
    assert data.load(str(tmp_path)).input_shape == (1, 8, 12)
    for number, broken in enumerate((b"Exif\0\0II*\0\x08\0", b"Exif\0\0what is this")):
        Image.new("L", (12, 8)).save(tmp_path / "a" / f"broken_{number}.png", exif=broken)
    assert data.load(str(tmp_path)).training().images.shape[1:] == (1, 8, 12)


def test_pictures_are_made_as_large_as_a_network_takes_them(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    figures(here / "mine", each=6)
    code, out, _ = run(monkeypatch, capsys, "rf", "[3x10x10] 4 M 6", "--effective", "--data", "mine")
    assert (code, "effective" in out) == (0, True)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


# The guide ------------------------------------------------------------------------------------------------------------


def test_the_guide_as_it_stands_in_the_readme(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Every command of its shell block, in a folder with such images; here without worker processes."""
    figures(here / "my_images")
    monkeypatch.setattr(executor, "LocalProcesses", lambda workers, device, *_: executor.InProcess(device))
    commands = [
        shlex.split(line, comments=True) for line in re.search(r"```sh\n(.*?)```", GUIDE, re.DOTALL)[1].splitlines()
    ]
    assert [command[:2] for command in commands] == [
        ["budgetnet", name] for name in ("search", "freeze", "verify", "predict")
    ]
    told = {command[1]: run(monkeypatch, capsys, *command[1:]) for command in commands}
    assert {name: code for name, (code, _, _) in told.items()} == dict.fromkeys(told, 0)
    _, _, notes = told["search"]
    shut = holdout_indices(torch.arange(3).repeat_interleave(22))  # the sixth for the test, of which nothing is known
    resized = sum(index % 22 % 3 == 0 for index in range(66) if index not in shut)
    assert notes.splitlines() == [
        f"note: my_images: {resized} of 55 training images were resized from 24×20 … 24×41 to 20×20 pixels "
        "(height × width)",
        "note: my_images: batches of at most 16 images, because there are only 46 to train on",
    ]
    assert all("resized" not in err for name, (_, _, err) in told.items() if name != "search"), "it is said once"
    assert re.match(r"my_images/circle/001.png: circle \([\d.]+ %; then (square|triangle) ", told["predict"][1])
    evidence = read_evidence(here / "Model_1.json")
    assert evidence.provenance.class_names == ("circle", "square", "triangle")
    assert evidence.architecture.input_shape == (3, 20, 20)
    settings = open_study().settings
    assert (settings.space["input"], settings.space["classes"], settings.data) == ([3, 20, 20], 3, "my_images")
    assert f"`studies/{open_study().where.name}`" in GUIDE


def test_the_readme_names_every_set_of_torchvision() -> None:
    assert set(data._families()) - {"mnist"} <= set(re.findall(r"`([a-z0-9-]+)`", GUIDE))


def test_evidence_keeps_names_of_classes_and_records_from_before_there_were_any(tmp_path: Path) -> None:
    ours = Path(data.__file__).parent / "Model_1.json"
    before = read_evidence(ours)
    assert before.to_json() == ours.read_text(encoding="utf-8"), "its digest stands in the text of the class"
    names = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
    named = replace(before, provenance=replace(before.provenance, class_names=names))
    (tmp_path / "Model_1.json").write_text(named.to_json(), encoding="utf-8")
    assert read_evidence(tmp_path / "Model_1.json") == named
    with pytest.raises(ModelError, match=r"^class_names must be 10, one a class, but are 9$"):
        replace(named, provenance=replace(named.provenance, class_names=names[1:]))
    (tmp_path / "Model_1.json").write_text(named.to_json().replace('"zero"', "0"), encoding="utf-8")
    with pytest.raises(ModelError, match=r"evidence.provenance.class_names\[0\] must be a text, but is 0$"):
        read_evidence(tmp_path / "Model_1.json")


# A space that follows the data ----------------------------------------------------------------------------------------


def held(shape: tuple[int, int, int] = (3, 20, 20), classes: int = 3, images: int = 60) -> DataSet:
    """A data set of noise, in memory."""
    pixels = np.random.default_rng(0).integers(0, 256, (images, *shape), dtype=np.uint8)
    whole = Split(torch.from_numpy(pixels), torch.arange(images) % classes)
    return described("noise", lambda: whole, lambda: whole)


def test_what_a_space_leaves_open_follows_the_data_and_what_it_writes_is_checked() -> None:
    open_, written_ = parse_space(TINY, "tiny"), parse_space({**TINY, "input": [3, 8, 8], "classes": 4}, "tiny")
    space = followed(open_, held())
    assert (space.input, space.classes) == ((3, 20, 20), 3)
    assert (open_.input, open_.classes) == (None, None)
    assert followed(written_, held((3, 8, 8), 4)).to_plain() == written_.to_plain()
    with pytest.raises(DataError, match=r"^data noise: has images of shape \(3, 20, 20\), but the space tiny is for"):
        followed(written_, held())
    with pytest.raises(DataError, match=r"^data noise: has classes 3, but the space tiny is for 4$"):
        followed(written_, held((3, 8, 8), 3))


def test_no_more_is_required_than_a_small_image_has() -> None:
    mnist = load_space("mnist")
    small = followed(mnist, held((1, 8, 10)))
    assert (small.require.receptive_field, small.require.final_map) == (8, 3)
    assert followed(mnist, held()).require == mnist.require
    wanted = parse_space({**TINY, "input": [3, 4, 4], "require": {"receptive_field": 5}}, "tiny")
    assert followed(wanted, held((3, 4, 4))).require.receptive_field == 5, "who writes the input means it"


@pytest.mark.parametrize("shape", [(1, 8, 8), (1, 16, 16), (3, 32, 32), (3, 96, 96), (3, 96, 40), (3, 224, 224)])
def test_the_default_space_has_networks_for_images_of_any_usual_size(shape: tuple[int, int, int]) -> None:
    followed(load_space("mnist"), held(shape, images=12)).check_reachable(Limits(8000))


@pytest.mark.parametrize(
    ("images", "batch"), [(1, 1), (3, 2), (15, 8), (16, 16), (100, 16), (255, 16), (256, 32), (1023, 64), (1024, 128)]
)
def test_the_largest_batch(images: int, batch: int) -> None:
    """An eighth of the images, but at least 16 of them; a power of two."""
    assert largest_batch(images) == batch


def test_batches_that_are_too_large_for_the_data_are_not_drawn() -> None:
    space = load_space("mnist")
    fitting, (note,) = with_smaller_batches(space, held(images=96), None)
    assert fitting.recipe["batch_size"] == Dimension((16,))
    assert [set(start) for start in fitting.start] == [set(start) - {"batch_size"} for start in space.start] != []
    assert note == "noise: batches of at most 16 images, because there are only 80 to train on"
    assert {name: value for name, value in fitting.recipe.items() if name != "batch_size"} == {
        name: value for name, value in space.recipe.items() if name != "batch_size"
    }
    kept, _ = with_smaller_batches(space, held((1, 4, 4), images=1000), None)
    assert kept.recipe["batch_size"] == Dimension((64,)), "833 are trained on: 64 is small enough, 128 is not"
    assert with_smaller_batches(space, held((1, 4, 4), images=1300), None) == (space, ())
    limited, (note,) = with_smaller_batches(space, held((1, 4, 4), images=1300), 50)
    assert note == "noise: batches of at most 16 images, because there are only 50 to train on"
    assert limited.recipe["batch_size"] == Dimension((16,))
    default, _ = with_smaller_batches(parse_space({"name": "a", "network": {"stages": [{}]}}, "a"), held(), None)
    assert default.recipe["batch_size"] == Dimension((16,)), "64, where the space says nothing"
    ranged = {"name": "a", "network": {"stages": [{}]}, "recipe": {"batch_size": {"min": 8, "max": 200, "step": 8}}}
    capped, _ = with_smaller_batches(parse_space(ranged, "a"), held(images=310), None)
    assert capped.recipe["batch_size"].ends() == (8, 32)


# A study --------------------------------------------------------------------------------------------------------------


def test_a_study_is_called_after_what_was_chosen(tmp_path: Path) -> None:
    def name(**options: str) -> str:
        return Request(budget=500, **options).place(load_space(options.get("space", "mnist"))).name

    assert name() == name(data="mnist") == "mnist-500"
    assert name(data="Fashion_MNIST") == "fashion-mnist-500"
    assert name(data=str(tmp_path / "my images") + "/") == "my_images-500"
    assert name(space="colour32", data=str(tmp_path)) == "colour32-500"
    assert name(data="cifar10", study="mine") == "mine"
    (tmp_path / "digits.v2.npz").write_bytes(b"")
    assert plain_name(str(tmp_path / "digits.v2.npz")) == "digits.v2"
    assert plain_name("/…/") == "data"


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        *(("mine/", "mine"), ("./mine", "mine"), ("/a/./b//", "/a/b"), ("/", "/"), ("a.npz", "a.npz"), ("", "")),
        *(("cifar10/", "cifar10/"), ("./cifar10", "./cifar10")),
    ],
)
def test_what_a_shell_adds_makes_no_other_study(typed: str, meant: str) -> None:
    """… unless a folder is called like a set of torchvision, which the slash tells apart."""
    assert plain_path(typed) == meant


def test_the_settings_of_the_shipped_study_are_those_of_the_same_request_today() -> None:
    """A study that was made when the space wrote its input goes on."""
    made = open_study("landscape", root=Path(__file__).parents[1] / "studies").settings
    asked = Request(budget=made.budget, images=made.images, epochs=made.epochs, seed=made.seed).check()[1]
    assert [
        change for change in made.changes(asked) if change.startswith(("space.input", "space.classes", "data"))
    ] == []
    assert asked.space["input"] == [1, 28, 28]


def test_a_folder_of_too_few_images_is_refused_before_anything_is_written(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    figures(here / "few", each=2)
    code, _, err = run(monkeypatch, capsys, "search", "--data", "few", "--quiet")
    told = "error: few: training needs at least 6 images, but there are 5\n"
    assert (code, err) == (2, told)
    for more in ([], ["--final"]):
        assert run(monkeypatch, capsys, "train", "2", "--data", "few", *more)[::2] == (2, told)
    assert not (here / "studies").exists()


def test_a_space_in_a_file_is_taken_at_its_word(here: Path) -> None:
    """Whoever wrote it chose its batches, too."""
    figures(here / "my_images", each=8)
    mine = Request(space=str(write_space(here)), data="my_images", budget=600).checked()
    assert mine.space.recipe["batch_size"] == Dimension((64,))
    assert len(mine.notes) == 1
    assert mine.settings.space == mine.space.to_plain()
    assert mine.settings.space["classes"] == 3


# Images that change ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("part", "name", "change", "told"),
    [
        (
            "training",
            "x_train",
            lambda pixels: 255 - pixels,
            "720 training images of {}, and now there are as many",
        ),
        (
            "training",
            "y_train",
            lambda labels: labels[::-1],
            "720 training images of {}, and now there are as many",
        ),
        (
            "test",
            "x_test",
            lambda pixels: np.roll(pixels, 1),
            "300 test images of {}, and now there are as many",
        ),
        ("test", "_test", lambda array: array[:299], "300 test images of {}, and now there are 299; bring those"),
    ],
    ids=["pixels", "labels", "pixels of the test", "number"],
)
def test_a_study_goes_on_with_no_other_images_than_its_own(
    here: Path, small_mnist: Path, part: str, name: str, change: Callable[[Any], Any], told: str
) -> None:
    mine = here / "mine.npz"
    shutil.copy(small_mnist, mine)
    study = search(tiny_request(here, mine, trials=1, epochs=1))
    winner = Winner.of(study, 0)
    first = confirm_winner(winner, range(1), InProcess())
    with np.load(mine) as arrays:
        before = dict(arrays)
    np.savez(mine, **{key: change(array) if key.endswith(name) else array for key, array in before.items()})
    expected = re.escape(f"study tiny-600 has seen {told.format(mine)}")
    with pytest.raises(StudyError, match=expected):
        confirm_winner(winner, range(2), InProcess())
    for late in (lambda: freeze_winner(winner, first, Aim(), Order(here / "model.py")), lambda: survey(study)):
        with pytest.raises(StudyError, match=expected):
            late()
    assert not (here / "model.py").exists()
    if part == "training":
        with pytest.raises(StudyError, match=expected):
            search(tiny_request(here, mine, trials=2, epochs=1))
    assert (study.runs(0), len(study.records())) == (list(first.runs), 1)
    np.savez_compressed(mine, **before)  # other bytes of the file, the same images
    assert len(search(tiny_request(here, mine, trials=2, epochs=1)).records()) == 2
    assert confirm_winner(winner, range(2), InProcess()).runs[0] == first.runs[0]


def test_models_of_other_test_images_are_not_compared(
    here: Path, small_mnist: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Also where these are as many, and lie in the same place."""
    mine = here / "mine.npz"
    shutil.copy(small_mnist, mine)
    with np.load(mine) as arrays:
        before = dict(arrays)
    kind = ["--data", "mine.npz", "--epochs", "1", "--budget", "700"]
    alone = ["--seeds", "1", "--workers", "0", "--device", "cpu"]
    for number, study in enumerate(("a", "b"), 1):
        np.savez(
            mine, **{name: np.roll(array, number, 0) if "test" in name else array for name, array in before.items()}
        )
        for command in (
            ["add", "4 M 6", "--study", study, *kind],
            ["freeze", "--study", study, "--trial", "0", *alone],
        ):
            assert run(monkeypatch, capsys, *command)[0] == 0
    assert "Not comparable with Model_1, which was tested on other images" in " ".join(
        Path("model.py").read_text().split()
    )
    code, _, err = run(monkeypatch, capsys, "compare", "Model_1", "0", "--study", "b")
    told = "error: only the same test images compare, but those of mine.npz have changed between Model_1 and trial 0\n"
    assert (code, err) == (2, told)
    assert read_evidence(here / "Model_2.json").provenance.test_images == open_study("b").images("test") != ""
    code, _, err = run(monkeypatch, capsys, "report", "b", "a", "--out", ".")
    assert (code, "test images" in err) == (2, True)


def test_a_study_from_before_there_were_fingerprints_goes_on_and_has_them_then(here: Path) -> None:
    figures(here / "my_images", each=12)
    asked = {"budget": 900, "trials": 1, "epochs": 1}
    study = search(tiny_request(here, here / "my_images", **asked))
    parts = {key: study.inner.user_attrs[key] for key in study.inner.user_attrs if key.startswith("images:")}
    assert {key: kept["count"] for key, kept in parts.items()} == {"images:training": 30}
    study.storage.set_study_user_attr(study.inner._study_id, "images:training", None)
    confirm_winner(Winner.of(study, 0), range(1), InProcess())
    kept = study.inner.user_attrs
    assert (kept["images:training"], kept["images:test"]["count"]) == (parts["images:training"], 6)
    draw(here / "my_images" / "circle" / "new.png", "circle", (20, 20), shade=3)
    with pytest.raises(StudyError, match=r"my_images, and now there are "):
        confirm_winner(Winner.of(study, 0), range(2), InProcess())


# One network ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "input_", "classes"),
    [
        ("8 M 16", False, False),
        ("[bias @0.1] 8", False, False),
        ("[3x20x20 relu] 8", True, False),
        ("5x5:8 | gap 1x1:3", False, True),
        ("[1x4x4] 8 | fc:3", True, True),
    ],
)
def test_what_a_notation_writes(text: str, input_: bool, classes: bool) -> None:
    parse(text)
    assert written(text) == {"input": input_, "classes": classes}


def test_train_follows_the_data_where_the_notation_leaves_it_open(here: Path) -> None:
    figures(here / "my_images", each=8)

    def dressed(text: str, recipe: str = "") -> tuple[str, Recipe, int]:
        network, told, notes = for_data(text, recipe, "my_images", epochs=2, final=False)
        return str(network), told, len(notes)

    network, told, notes = dressed("4 M 8")
    assert (network, told.batch_size, told.epochs, notes) == ("[3x20x20] 4 M 8 | gap 1x1:3", 16, 2, 2)
    assert dressed("[1x9x9] 4 M 8")[0] == "[1x9x9] 4 M 8 | gap 1x1:3"
    assert dressed("4", "batch_size=40")[1].batch_size == 40
    with pytest.raises(DataError, match=r"^data my_images: has 3 classes, but the network is for 10$"):
        dressed("4 | gap 1x1:10")
    path = here / "net.json"
    path.write_text('{"body": [{"type": "block", "width": 4}], "input_shape": [3, 20, 20]}')
    with pytest.raises(DataError, match=r"has 3 classes, but the network is for 10$"):
        dressed(str(path))
    with pytest.raises(DataError, match=r"^mnist: images must be 3×28×28, but are 1×28×28$"):
        for_data("[3x28x28] 4", "", "mnist", epochs=1, final=False)
    assert str(for_data("4", "", "mnist", epochs=1, final=False)[0]) == "4"
