"""Pictures that people bring: read like the training images and classified; what is none is refused in one line."""

from __future__ import annotations

import json
import re
import shutil
import struct
import zlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageOps
from torch import Tensor

import budgetnet
from budgetnet.classify import classify
from budgetnet.data import load as load_data
from budgetnet.dataset import Split
from budgetnet.errors import DataError, ModelError
from budgetnet.evidence import Provenance, read_evidence
from budgetnet.freeze import evidence_path, freeze
from budgetnet.images import upright
from budgetnet.jobs import EpochDone, Job, SeedDone, run_job
from budgetnet.models import load
from budgetnet.notation import parse
from budgetnet.options import announce
from budgetnet.picture import Picture, read_picture
from budgetnet.recipe import Recipe
from budgetnet.results import Confirmation, SeedRun
from tests.test_cli import run

MEAN, STD = (0.1307,), (0.3081,)
INVERTED = "inverted: the training images are light on dark"
CROPPED = "cropped to its ink and centred, as MNIST was, from {} pixels"
NOTE = "note: runs the code of {}; do so only with files that you trust\n"
WHITE = 255
TRANSPOSED = 6  # EXIF orientation: the camera was held upright, so the picture is to be turned by 90° clockwise

Grey = np.ndarray[Any, np.dtype[np.uint8]]


@pytest.fixture(scope="module")
def test_images() -> Split:
    """A hundred test images of MNIST."""
    return load_data("mnist").limited(10, 100).final_splits()[1]


@pytest.fixture(scope="module")
def digit(test_images: Split) -> Grey:
    """One of them, (28, 28)."""
    return test_images.images[7, 0].numpy()


def as_mnist(path: Path) -> Picture:
    return read_picture(path, (1, 28, 28), MEAN, digit=True)


def as_colour(path: Path, height: int = 28, width: int = 28) -> Picture:
    return read_picture(path, (3, height, width), (0.5, 0.5, 0.5))


def saved(folder: Path, picture: Image.Image | Grey, name: str = "picture.png", **options: Any) -> Path:
    path = folder / name
    (picture if isinstance(picture, Image.Image) else Image.fromarray(picture)).save(path, **options)
    return path


@dataclass(frozen=True)
class Off:
    """How far pixels are from what was expected, in levels of 255."""

    mean: float
    most: int


def off(picture: Picture, expected: Grey) -> Off:
    """Against (H, W) or (C, H, W)."""
    levels = np.abs(picture.pixels.numpy().astype(int) - expected)
    return Off(float(levels.mean()), int(levels.max()))


def on_a_page(digit: Grey, left: int, top: int, scale: int = 10) -> Grey:
    """Black on a white page of 500 × 600 pixels, enlarged."""
    page = Image.new("L", (600, 500), WHITE)
    size = (28 * scale, 28 * scale)
    page.paste(Image.fromarray(WHITE - digit).resize(size, resample=Image.Resampling.BICUBIC), (left, top))
    return np.asarray(page)


def on_pages(images: Split, folder: Path) -> list[Picture]:
    """Each image on a page of its own, somewhere on it."""
    random = np.random.default_rng(0)
    pages = [on_a_page(image, *random.integers(0, (320, 220))) for image in images.images[:, 0].numpy()]
    return [as_mnist(saved(folder, page)) for page in pages]


# --- size and ground --------------------------------------------------------------------------------------------------


def test_a_test_image_comes_back_pixel_for_pixel(tmp_path: Path, test_images: Split) -> None:
    for image in test_images.images[:20]:
        path = saved(tmp_path, image[0].numpy())
        for prepared in (True, False):
            picture = read_picture(path, (1, 28, 28), MEAN, digit=prepared)
            assert torch.equal(picture.pixels, image)
            assert (picture.pixels.dtype, picture.notes) == (torch.uint8, ())


def test_black_on_white_is_inverted_back_and_said(tmp_path: Path, digit: Grey) -> None:
    picture = as_mnist(saved(tmp_path, WHITE - digit))
    assert np.array_equal(picture.pixels[0], digit)
    assert picture.notes == (INVERTED,)


def test_light_on_dark_is_inverted_where_training_was_dark_on_light(tmp_path: Path, digit: Grey) -> None:
    picture = read_picture(saved(tmp_path, digit), (1, 28, 28), (0.87,))
    assert np.array_equal(picture.pixels[0], WHITE - digit)
    assert picture.notes == ("inverted: the training images are dark on light",)
    assert read_picture(saved(tmp_path, WHITE - digit), (1, 28, 28), (0.87,)).notes == ()


@pytest.mark.parametrize("mean", [0.35, 0.65])
def test_photographs_in_grey_are_left_as_they_are(tmp_path: Path, digit: Grey, mean: float) -> None:
    """Their training images have no one ground, so that dark and light edges are both in place."""
    for pixels in (digit, WHITE - digit):
        picture = read_picture(saved(tmp_path, pixels), (1, 28, 28), (mean,))
        assert picture.notes == ()
        assert np.array_equal(picture.pixels[0].numpy(), pixels)


def test_a_digit_on_a_page_is_cropped_and_centred_and_said(tmp_path: Path, digit: Grey) -> None:
    here, there = (as_mnist(saved(tmp_path, on_a_page(digit, *corner))) for corner in ((20, 10), (317, 203)))
    assert here.pixels.shape == (1, 28, 28)
    assert here.notes == (INVERTED, CROPPED.format("500 × 600"))
    assert torch.equal(here.pixels, there.pixels)
    negative = as_mnist(saved(tmp_path, WHITE - on_a_page(digit, 20, 10)))
    assert negative.notes == (CROPPED.format("500 × 600"),)
    assert off(negative, here.pixels.numpy()).most <= 1
    rows, columns = (np.flatnonzero((here.pixels[0].numpy() > 64).any(axis=axis)) for axis in (1, 0))
    assert 19 <= max(np.ptp(rows), np.ptp(columns)) + 1 <= 20  # MNIST's box


def test_a_digit_on_a_page_lies_where_mnist_would_have_put_it(tmp_path: Path, test_images: Split) -> None:
    """The centre of mass of MNIST's images is pixel 14.0 (mean over the test images, rows and columns), not 13.5."""
    pages = torch.stack([picture.pixels for picture in on_pages(test_images, tmp_path)])
    wanted, found = (centres(images).mean(0) for images in (test_images.images, pages))
    assert wanted.tolist() == pytest.approx([14, 14], abs=0.1)
    assert found.tolist() == pytest.approx(wanted.tolist(), abs=0.1)


def centres(images: Tensor) -> Tensor:
    """Centre of mass in pixels (N, 2), of uint8 (N, 1, 28, 28)."""
    weights = images[:, 0].double() / images.double().sum((1, 2, 3)).view(-1, 1, 1)
    return torch.stack([(weights.sum(axis) * torch.arange(28)).sum(1) for axis in (2, 1)], dim=1)


def test_other_data_is_resized_and_not_cropped(tmp_path: Path, digit: Grey) -> None:
    page = on_a_page(digit, 20, 10)
    picture = read_picture(saved(tmp_path, page), (1, 28, 28), MEAN)
    assert picture.notes == (INVERTED, "resized from 500 × 600 pixels")
    whole = WHITE - np.asarray(Image.fromarray(page).resize((28, 28), resample=Image.Resampling.BILINEAR)).astype(int)
    assert off(picture, whole).most <= 1


@pytest.mark.parametrize("ground", [1.0, 0.8, 0.6, 0.4])
def test_dark_ink_is_found_on_a_page_in_the_shade(tmp_path: Path, digit: Grey, ground: float) -> None:
    """A photographed page is no brighter than the room."""
    page = np.rint(on_a_page(digit, 20, 10) * ground).astype(np.uint8)
    picture, bright = as_mnist(saved(tmp_path, page)), as_mnist(saved(tmp_path, on_a_page(digit, 20, 10)))
    assert picture.notes == bright.notes
    assert off(picture, bright.pixels.numpy()).mean < 3


# --- kinds of files ---------------------------------------------------------------------------------------------------


def test_what_is_clear_shows_a_white_page(tmp_path: Path, digit: Grey) -> None:
    ink = np.zeros((28, 28, 4), np.uint8)  # black where it is drawn
    ink[..., 3] = digit
    picture = as_mnist(saved(tmp_path, ink))
    assert picture.notes == ("laid on white", INVERTED)
    assert off(picture, digit).most <= 1
    palette = Image.fromarray(np.where(digit > 127, 1, 0).astype(np.uint8), "P")
    palette.putpalette([200, 0, 0, 0, 0, 0])
    picture = as_mnist(saved(tmp_path, palette, transparency=0))
    assert picture.notes == ("laid on white", INVERTED)
    assert np.array_equal(picture.pixels[0], np.where(digit > 127, 255, 0))


def test_a_palette_is_looked_up(tmp_path: Path, digit: Grey) -> None:
    palette = Image.fromarray(WHITE - digit, "P")
    palette.putpalette([level for index in range(256) for level in [255 - index] * 3])  # index 0 is white
    picture = as_mnist(saved(tmp_path, palette))
    assert np.array_equal(picture.pixels[0], digit)
    assert picture.notes == ()


def test_sixteen_bits_are_scaled_to_eight(tmp_path: Path, digit: Grey) -> None:
    image = Image.fromarray(digit.astype(np.uint16) * 257)  # 255 → 65,535
    assert image.mode == "I;16"
    picture = as_mnist(saved(tmp_path, image))
    assert off(picture, digit).most <= 1
    assert as_mnist(saved(tmp_path, Image.fromarray(on_a_page(digit, 9, 9).astype(np.uint16) * 257))).pixels.any()


@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
def test_a_jpeg_is_nearly_the_image(tmp_path: Path, digit: Grey, mode: str) -> None:
    image = Image.fromarray(WHITE - digit).convert("RGB").convert(mode)
    picture = as_mnist(saved(tmp_path, image, "picture.jpg", quality=95))
    assert picture.notes == (INVERTED,)
    assert off(picture, digit).mean < 3


def test_black_and_white_is_zero_and_255(tmp_path: Path, digit: Grey) -> None:
    picture = as_mnist(saved(tmp_path, Image.fromarray(digit > 127)))
    assert np.array_equal(picture.pixels[0], np.where(digit > 127, 255, 0))


def test_a_picture_taken_upright_is_turned_as_a_viewer_turns_it(tmp_path: Path, digit: Grey) -> None:
    """Phones store what the sensor saw, and in EXIF how the phone was held."""
    exif = Image.Exif()
    exif[0x0112] = TRANSPOSED
    sensor = Image.fromarray(np.rot90(digit).copy())  # by 90° anticlockwise; a viewer turns it back
    for name in ("picture.png", "picture.jpg"):
        assert off(as_mnist(saved(tmp_path, sensor, name, exif=exif)), digit).mean < 4


@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_orientation_is_undone_as_pillow_does(orientation: int) -> None:
    image = Image.fromarray(np.arange(12, dtype=np.uint8).reshape(3, 4))
    image.getexif()[0x0112] = orientation
    assert np.array_equal(upright(image), ImageOps.exif_transpose(image))


def test_an_odd_tag_beside_the_orientation_does_no_harm(tmp_path: Path, digit: Grey) -> None:
    odd = struct.pack(">HHII", 0x0117, 2, 6, 38)  # StripByteCounts, a number by the standard, as a text of six bytes
    turn = struct.pack(">HHIHH", 0x0112, 3, 1, TRANSPOSED, 0)
    exif = b"Exif\0\0MM\0*" + struct.pack(">IH", 8, 2) + odd + turn + b"\0\0\0\0" + b"hello\0"
    sensor = Image.fromarray(np.rot90(digit).copy())
    picture = saved(tmp_path, sensor, "picture.jpg", exif=exif)
    with Image.open(picture) as stored, pytest.raises((struct.error, AttributeError)):
        ImageOps.exif_transpose(stored)
    assert off(as_mnist(picture), digit).mean < 4


def test_colours_that_cannot_be_converted_are_one_line(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"picture\.tif: cannot be read as an image: conversion from LAB"):
        as_mnist(saved(tmp_path, Image.new("LAB", (28, 28)), "picture.tif"))


def test_colour_for_a_network_that_wants_it(tmp_path: Path) -> None:
    colours = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    picture = as_colour(saved(tmp_path, colours), 20, 30)
    assert np.array_equal(picture.pixels, colours.transpose(2, 0, 1))
    assert (picture.pixels.dtype, picture.notes) == (torch.uint8, ())
    smaller = as_colour(saved(tmp_path, colours), 10, 12)
    expected = np.asarray(Image.fromarray(colours).resize((12, 10), resample=Image.Resampling.BILINEAR))
    assert np.array_equal(smaller.pixels, expected.transpose(2, 0, 1))
    assert smaller.notes == ("resized from 20 × 30 pixels",)


def test_grey_for_a_network_that_wants_colour_is_three_times_the_same(tmp_path: Path, digit: Grey) -> None:
    picture = as_colour(saved(tmp_path, digit))
    assert np.array_equal(picture.pixels, np.stack([digit] * 3))


def test_a_palette_is_resized_as_the_colours_that_it_stands_for(tmp_path: Path) -> None:
    """As training images of a folder are: colours first, then bilinear; of a palette Pillow takes the nearest."""
    colours = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)).quantize(64)
    expected = np.asarray(colours.convert("RGB").resize((32, 32), resample=Image.Resampling.BILINEAR))
    picture = as_colour(saved(tmp_path, colours), 32, 32)
    assert off(picture, expected.transpose(2, 0, 1)).most <= 1


# --- odd pictures -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(28, 28), (500, 300), (1, 1)])
@pytest.mark.parametrize("level", [0, 255])
def test_an_empty_page_is_black(tmp_path: Path, size: tuple[int, int], level: int) -> None:
    picture = as_mnist(saved(tmp_path, np.full(size, level, np.uint8)))
    assert picture.pixels.shape == (1, 28, 28)
    assert not picture.pixels.any()
    assert (INVERTED in picture.notes) == (level == 255)


@pytest.mark.parametrize("size", [(1, 3000), (3000, 1), (5, 2000), (2, 1)])
def test_an_elongated_picture_with_a_dot_is_a_picture(tmp_path: Path, size: tuple[int, int]) -> None:
    pixels = np.full(size, 255, np.uint8)
    pixels[size[0] // 2, size[1] // 2] = 0
    for channels in (1, 3):
        picture = read_picture(saved(tmp_path, pixels), (channels, 28, 28), (0.1,) * channels, digit=channels == 1)
        assert picture.pixels.shape == (channels, 28, 28)
    line = as_mnist(saved(tmp_path, np.pad(np.zeros((2, 1000), np.uint8), 50, constant_values=255)))
    rows, columns = (np.flatnonzero((line.pixels[0].numpy() > 64).any(axis=axis)) for axis in (1, 0))
    assert (len(rows), len(columns)) == (1, 20)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("pictures")


@given(
    mode=st.sampled_from(["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I", "I;16", "F"]),
    height=st.integers(1, 60),
    width=st.integers(1, 60),
    seed=st.integers(0, 99),
    prepared=st.booleans(),
    shape=st.sampled_from([(1, 28, 28), (3, 32, 32), (1, 5, 9), (3, 9, 5)]),
)
def test_any_picture_has_the_shape_that_is_asked_for(
    place: Path, mode: str, height: int, width: int, seed: int, prepared: bool, shape: tuple[int, int, int]
) -> None:
    random = np.random.default_rng(seed)
    noise = Image.fromarray(random.integers(0, 256, (height, width, 4), dtype=np.uint8)).convert("RGBA")
    grey = noise.convert("L")
    image = Image.fromarray(np.asarray(grey).astype(np.uint16) * 257) if mode == "I;16" else grey.convert(mode)
    image = noise.convert(mode) if mode in ("RGB", "RGBA") else image
    path = saved(place, image, "any.tiff")
    picture = read_picture(path, shape, (0.2,) * shape[0], digit=prepared)
    assert (tuple(picture.pixels.shape), picture.pixels.dtype) == (shape, torch.uint8)


# --- what is no picture -----------------------------------------------------------------------------------------------


def _png(width: int, height: int) -> bytes:
    """A file of a few bytes that claims to be a grey image of that size."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(bytes(9))) + chunk(b"IEND", b"")


def broken(folder: Path, kind: str) -> Path:
    path = folder / f"{kind.split()[0]}.png"
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (60, 60), dtype=np.uint8))
    if kind in ("cut.png", "cut.jpg", "head"):
        whole = saved(folder, image, "whole.jpg" if kind == "cut.jpg" else "whole.png").read_bytes()
        path.write_bytes(whole[:20] if kind == "head" else whole[: len(whole) // 2])
    elif kind == "text":
        path.write_text("I am\nno picture\n")
    elif kind == "empty":
        path.write_bytes(b"")
    elif kind == "folder":
        path.mkdir()
    elif kind in ("large", "huge"):  # Pillow warns of the one, and refuses the other with an error of its own
        path.write_bytes(_png(10_000, 10_000) if kind == "large" else _png(20_000, 20_000))
    return path


KINDS = ["cut.png", "cut.jpg", "head", "text", "empty", "folder", "missing", "large", "huge"]
BROKEN = pytest.mark.parametrize("kind", KINDS)


@BROKEN
@pytest.mark.parametrize("channels", [1, 3])
def test_what_is_no_picture_is_refused_in_one_line(tmp_path: Path, kind: str, channels: int) -> None:
    path = broken(tmp_path, kind)
    with pytest.raises(DataError) as caught:
        read_picture(path, (channels, 28, 28), (0.1,) * channels)
    assert str(caught.value).startswith(f"{path}: cannot be read as an image: ")
    assert "\n" not in str(caught.value)


def test_a_network_of_two_channels_sees_no_pictures(tmp_path: Path, digit: Grey) -> None:
    with pytest.raises(DataError, match=r"a picture has 1 or 3 channels, but the network wants 2$"):
        read_picture(saved(tmp_path, digit), (2, 28, 28), (0.1, 0.1))


# --- a network that looks at them -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Shop:
    """A folder with a frozen model."""

    folder: Path

    @property
    def models(self) -> Path:
        return self.folder / "model.py"

    def shares(self, images: Tensor) -> Tensor:
        """What the softmax makes of uint8 images, in torch's own words."""
        with torch.inference_mode():
            model = load("Model_1", pretrained=True, models=self.models).eval()
            return model((images / 255 - MEAN[0]) / STD[0]).softmax(1)


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Shop:
    """7,374 params, trained on 6,000 images for two epochs: 97 % of MNIST's test images correct."""
    folder, network = tmp_path_factory.mktemp("shop"), parse("8 12 M c12 c12 14 16")
    recipe, weights = Recipe(epochs=2, learning_rate=0.1), folder / "weights.safetensors"
    events = list(run_job(Job(0, network, recipe, "mnist", "final", 0, str(weights), 6000), "cpu", lambda: False))
    epochs = tuple(event.result for event in events if isinstance(event, EpochDone))
    (done,) = (event for event in events if isinstance(event, SeedDone))
    runs = Confirmation((SeedRun(0, epochs, done.outcome, done.machine),))
    assert runs.mean > 0.95
    freeze(network, recipe, runs, Provenance("mnist-8000", 0, 8000, 0, "mnist", 0.9, MEAN, STD), weights,
           out=folder / "model.py")  # fmt: skip
    weights.unlink()
    return Shop(folder)


@pytest.fixture
def own(shop: Shop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Shop:
    """A copy of the folder to work in."""
    folder = tmp_path / "own"
    shutil.copytree(shop.folder, folder)
    monkeypatch.chdir(folder)
    return Shop(folder)


def test_digits_on_pages_are_taken_for_what_they_were(shop: Shop, tmp_path: Path, test_images: Split) -> None:
    pages = torch.stack([picture.pixels for picture in on_pages(test_images, tmp_path)])
    untouched, brought = (shop.shares(images).argmax(1) for images in (test_images.images, pages))
    assert int((untouched == brought).sum()) >= 95  # of 100


def test_a_guess_ranks_every_class_by_its_share(shop: Shop, tmp_path: Path, digit: Grey) -> None:
    plain, page = saved(tmp_path, digit, "a.png"), saved(tmp_path, on_a_page(digit, 20, 10), "b.png")
    first, second = classify(shop.models, "Model_1", [plain, page])
    for guess, pixels in ((first, torch.from_numpy(digit)[None]), (second, as_mnist(page).pixels)):
        labels, shares = zip(*guess.ranked, strict=True)
        assert sorted(labels) == list(range(10))
        assert list(shares) == sorted(shares, reverse=True)
        assert sum(shares) == pytest.approx(1)
        assert torch.tensor(shares).allclose(shop.shares(pixels[None])[0][list(labels)], atol=1e-5)
    assert (first.image, first.notes) == (str(plain), ())
    assert (second.image, second.notes) == (str(page), (INVERTED, CROPPED.format("500 × 600")))


def test_somebodys_own_pictures_are_read_as_those_of_the_class_folders_were(
    shop: Shop, tmp_path: Path, digit: Grey, monkeypatch: pytest.MonkeyPatch
) -> None:
    evidence = read_evidence(evidence_path(shop.models, "Model_1"))
    for data, notes in (("my_images", ()), ("fashion-mnist", (INVERTED,))):
        origin = replace(evidence.provenance, data=data, class_names=tuple("abcdefghij"))
        monkeypatch.setattr("budgetnet.classify.read_evidence", lambda path, o=origin: replace(evidence, provenance=o))
        (guess,) = classify(shop.models, "Model_1", [saved(tmp_path, WHITE - digit)])
        assert guess.notes == notes


def test_what_has_another_shape_is_stretched_in_training_and_for_a_guess_alike(tmp_path: Path) -> None:
    dice = np.random.default_rng(0)

    def noise(height: int, width: int) -> Image.Image:
        return Image.fromarray(dice.integers(256, size=(height, width, 3), dtype=np.uint8))

    for part, kind, number in ((p, k, n) for p in ("train", "test") for k in ("cat", "dog") for n in range(4)):
        (tmp_path / part / kind).mkdir(parents=True, exist_ok=True)
        noise(6, 8).save(tmp_path / part / kind / f"{number}.png")
    odd, path = noise(10, 30), tmp_path / "train" / "cat" / "0.png"
    odd.save(path)
    seen = load_data(str(tmp_path)).training().images[0]
    stretched = np.asarray(odd.resize((8, 6), Image.Resampling.BILINEAR)).transpose(2, 0, 1)
    assert np.array_equal(seen, stretched)
    assert torch.equal(read_picture(path, (3, 6, 8), (0.5, 0.5, 0.5)).pixels, seen)


def test_mnist_by_any_name_that_load_takes_is_mnist(own: Shop, digit: Grey) -> None:
    record = own.folder / "Model_1.json"
    record.write_text(record.read_text("utf-8").replace('"data": "mnist"', '"data": "MNIST"'), "utf-8")
    (guess,) = classify(own.models, "Model_1", [saved(own.folder, on_a_page(digit, 20, 10))])
    assert guess.notes == (INVERTED, CROPPED.format("500 × 600"))


def test_changed_weights_and_foreign_evidence_are_refused(own: Shop, digit: Grey) -> None:
    path, weights = saved(own.folder, digit), own.folder / "Model_1.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[:-1] + b"\x7f")
    with pytest.raises(ModelError, match=r"Model_1\.safetensors: was changed after the freeze, so it is refused"):
        classify(own.models, "Model_1", [path])
    weights.write_bytes(whole)
    (own.folder / "Model_1.json").write_text("{}")
    with pytest.raises(ModelError, match=r"Model_1\.json: evidence\.format must be"):
        classify(own.models, "Model_1", [path])


# --- the command ------------------------------------------------------------------------------------------------------


def test_predict_prints_a_line_a_picture(
    own: Shop, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], digit: Grey
) -> None:
    saved(own.folder, digit, "a.png")
    saved(own.folder, on_a_page(digit, 20, 10), "b.png")
    code, out, err = run(monkeypatch, capfd, "predict", "Model_1", "a.png", "b.png")
    notes = ("", f" [{INVERTED}; {CROPPED.format('500 × 600')}]")
    lines = []
    for name, pixels, note in zip(
        "ab", (torch.from_numpy(digit)[None], as_mnist(Path("b.png")).pixels), notes, strict=True
    ):
        (one, two, three), labels = (part.tolist() for part in own.shares(pixels[None])[0].topk(3))
        shares = f"{100 * one:.1f} %; then {labels[1]} {100 * two:.1f} %, {labels[2]} {100 * three:.1f} %"
        lines.append(f"{name}.png: {labels[0]} ({shares}){note}\n")
    assert (code, out, err) == (0, "".join(lines), NOTE.format("model.py"))


def test_predict_as_json(
    own: Shop, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], digit: Grey
) -> None:
    saved(own.folder, WHITE - digit, "a.png")
    code, out, err = run(monkeypatch, capfd, "predict", "Model_1", "a.png", "a.png", "--json", "--models", "./model.py")
    first, second = json.loads(out)
    assert (code, out.count("\n"), err) == (0, 1, NOTE.format("model.py"))
    assert first == second
    (guess,) = classify(own.models, "Model_1", [Path("a.png")])
    assert first == {"image": "a.png", "ranked": [list(pair) for pair in guess.ranked], "notes": [INVERTED]}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["Model_9", "a.png"], "there is no class 'Model_9': model.py has Model_1; "),
        (["../x", "a.png"], "a model's name must be a Python identifier like Model_3, but got '../x'"),
        (["../own/Model_1", "a.png"], "a model's name must be a Python identifier"),
        (["model.py:Model_1", "a.png"], "a model's name must be a Python identifier"),
        (["Model_1\x00", "a.png"], "a model's name must be a Python identifier"),
        (["nn", "a.png"], "a model cannot be called nn"),
        (["Model_1"], "Missing argument"),
        (["Model_1", "a.png", "--models", "none.py"], "none.py: there is no such file"),
        (["Model_1", "a.png", "--models", "."], ".: cannot be read: Is a directory"),
    ],
)
def test_bad_input_is_one_line(
    own: Shop,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    digit: Grey,
    arguments: list[str],
    message: str,
) -> None:
    saved(own.folder, digit, "a.png")
    code, out, err = run(monkeypatch, capfd, "predict", *arguments)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert err.startswith("error: ")
    assert message in err


@BROKEN
def test_one_bad_picture_among_good_ones_stops_in_one_line(
    own: Shop, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], digit: Grey, kind: str
) -> None:
    saved(own.folder, digit, "a.png")
    bad = broken(own.folder, kind).name
    code, out, err = run(monkeypatch, capfd, "predict", "Model_1", "a.png", bad)
    assert (code, out) == (2, "")
    assert re.fullmatch(rf"{re.escape(NOTE.format('model.py'))}error: {re.escape(bad)}: cannot be read .*\n", err)


def test_our_own_models_run_without_a_note(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    code, _, err = run(monkeypatch, capfd, "predict", "Model_1", "nowhere.png")
    assert (code, err.count("\n"), "note" in err) == (2, 1, False)
    announce(Path(budgetnet.__file__).with_name("model.py"))
    announce(None)
    assert capfd.readouterr().err == ""


def test_a_speck_on_the_page_is_no_part_of_the_digit(tmp_path: Path, digit: Grey) -> None:
    page = on_a_page(digit, 20, 10)
    clean = as_mnist(saved(tmp_path, page))
    for row, column in ((480, 590), (3, 3), (490, 5)):
        specked = page.copy()
        specked[row, column] = 0
        assert torch.equal(as_mnist(saved(tmp_path, specked)).pixels, clean.pixels)
