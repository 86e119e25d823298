"""Data sets: the fixed split, the four kinds of files, and what is said of wrong ones."""

from __future__ import annotations

import gzip
import hashlib
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from budgetnet import data, dataset, files, images
from budgetnet.data import load
from budgetnet.dataset import Split, holdout_indices, stratified_indices
from budgetnet.errors import DataError
from budgetnet.picture import read_picture
from budgetnet.plan import Request


@pytest.fixture(autouse=True, scope="module")
def _cache_of_its_own(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BUDGETNET_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="module")
def mnist():
    return load("mnist")


# MNIST and its split


def test_mnist_is_described_without_reading_a_file(monkeypatch):
    monkeypatch.setattr(data, "EMBEDDED", Path("/nowhere"))
    mnist = load("mnist")
    assert (mnist.input_shape, mnist.classes, mnist.mean, mnist.std) == ((1, 28, 28), 10, (0.1307,), (0.3081,))


def test_mnist_search_splits_are_disjoint_stratified_and_exhaust_the_training_files(mnist):
    train, validation = mnist.search_splits()
    whole = mnist.training()
    assert (len(train), len(validation)) == (50_000, 10_000)
    assert (train.images.shape, train.images.dtype, train.labels.dtype) == (
        (50_000, 1, 28, 28),
        torch.uint8,
        torch.int64,
    )
    counts = torch.bincount(whole.labels)
    assert (torch.bincount(validation.labels) - counts / 6).abs().max() < 1
    assert torch.equal(torch.bincount(train.labels) + torch.bincount(validation.labels), counts)
    held = holdout_indices(whole.labels)
    assert len(np.unique(held)) == 10_000
    assert torch.equal(validation.images, whole.images[torch.from_numpy(held)])


def test_the_split_never_changes(mnist):
    """The digest was computed once; it may change only together with every published result."""
    indices = holdout_indices(mnist.training().labels).astype("<i8")
    assert hashlib.sha256(indices.tobytes()).hexdigest() == SPLIT_DIGEST


SPLIT_DIGEST = "c542c83ec96f04ae5d30e1a372ef4e7c251f3cfd0e1c3c22b4ebdbc1b03d1590"


def test_mean_and_std_of_mnist_are_those_of_its_training_images(mnist):
    mean, std = dataset._moments(mnist.training().images)
    assert mnist.mean[0] == pytest.approx(mean[0], abs=5e-5)
    assert mnist.std[0] == pytest.approx(std[0], abs=5e-5)


def test_moments_are_those_of_each_channel():
    images = torch.from_numpy(noise(50, 3, 8, 8))
    images[:, 2] = 9
    mean, std = dataset._moments(images)
    pixels = images.double().transpose(0, 1).flatten(1) / 255
    assert mean == pytest.approx(pixels.mean(1).tolist(), abs=1e-9)
    assert std[:2] == pytest.approx(pixels.std(1, correction=0)[:2].tolist(), abs=1e-9)
    assert std[2] == pytest.approx(1.0), "a constant channel is only centred"


def test_final_splits_are_all_of_training_and_test(mnist):
    training, test = mnist.final_splits()
    assert (len(training), len(test)) == (60_000, 10_000)
    assert test.labels[:5].tolist() == [7, 2, 1, 0, 4]  # as every MNIST tutorial shows


@pytest.mark.parametrize("harm", ["delete", "corrupt"])
def test_a_search_never_opens_the_test_files(tmp_path, monkeypatch, harm):
    embedded = tmp_path / "mnist"
    shutil.copytree(data.EMBEDDED, embedded)
    monkeypatch.setattr(data, "EMBEDDED", embedded)
    monkeypatch.setenv("BUDGETNET_CACHE", str(tmp_path / "cache"))
    for path in embedded.glob("t10k-*"):
        path.unlink() if harm == "delete" else path.write_bytes(b"no gzip")
    mnist = load("mnist")
    assert [len(split) for split in mnist.search_splits()] == [50_000, 10_000]
    with pytest.raises(DataError, match=r"t10k-images-idx3-ubyte.gz: cannot be read: "):
        mnist.final_splits()


def test_the_embedded_files_are_checked_when_unpacked(tmp_path, monkeypatch):
    embedded = tmp_path / "mnist"
    shutil.copytree(data.EMBEDDED, embedded)
    monkeypatch.setattr(data, "EMBEDDED", embedded)
    monkeypatch.setenv("BUDGETNET_CACHE", str(tmp_path / "cache"))
    labels = embedded / "train-labels-idx1-ubyte.gz"
    raw = bytearray(gzip.decompress(labels.read_bytes()))
    raw[100] ^= 1
    labels.write_bytes(gzip.compress(bytes(raw), 1))
    with pytest.raises(DataError, match=rf"{labels}: SHA-256 of the unpacked file must be 65a50cbb.*, but is "):
        load("mnist").search_splits()


def test_unpacked_files_are_kept_and_a_cache_that_cannot_be_written_does_no_harm(tmp_path, monkeypatch):
    name = "t10k-labels-idx1-ubyte"
    monkeypatch.setenv("BUDGETNET_CACHE", str(tmp_path / "cache"))
    fresh = data._embedded(name)
    kept = tmp_path / "cache" / "mnist" / name
    assert kept.read_bytes() == fresh.content
    assert data._embedded(name).place == kept
    assert [p.name for p in kept.parent.iterdir()] == [name], "no temporary file may stay"
    kept.write_bytes(b"half a fi")
    assert data._embedded(name).content == fresh.content, "a file of the wrong size is unpacked again"
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("BUDGETNET_CACHE", str(tmp_path / "file"))
    assert data._embedded(name).content == fresh.content


def test_cache_dir_prefers_its_own_variable(monkeypatch):
    monkeypatch.setattr(files.sys, "platform", "linux")
    monkeypatch.setenv("XDG_CACHE_HOME", "/x")
    assert files.cache_dir() == Path(data.os.environ["BUDGETNET_CACHE"])
    monkeypatch.delenv("BUDGETNET_CACHE")
    assert files.cache_dir() == Path("/x/budgetnet")


def test_limited_is_stratified_and_within_the_same_split(mnist):
    train, validation = mnist.limited(200, 100).search_splits()
    assert (len(train), len(validation)) == (200, 100)
    share = torch.bincount(mnist.training().labels) / 60_000
    assert (torch.bincount(train.labels) - 200 * share).abs().max() < 1.01  # a share of a share: rounded twice
    whole_validation = {image.numpy().tobytes() for image in mnist.search_splits()[1].images}
    assert all(image.numpy().tobytes() in whole_validation for image in validation.images)
    assert [len(split) for split in mnist.limited(10, 10**9).final_splits()] == [10, 10_000]


@pytest.mark.parametrize(
    ("sizes", "seats", "expected"),
    [
        ([6, 6, 6], 3, [1, 1, 1]),
        ([10, 5, 1], 8, [5, 3, 0]),  # shares 5, 2.5, 0.5: the tie goes to the lower class
        ([1, 1, 1], 2, [1, 1, 0]),
        ([4, 0, 2], 6, [4, 0, 2]),
    ],
)
def test_stratified_indices_use_the_largest_remainder(sizes, seats, expected):
    labels = torch.cat([torch.full((n,), label) for label, n in enumerate(sizes)])
    chosen = stratified_indices(labels, seats)
    assert torch.bincount(labels[torch.from_numpy(chosen)], minlength=len(sizes)).tolist() == expected
    assert np.all(np.diff(chosen) > 0)


def test_split_takes_and_moves():
    split = Split(torch.arange(12, dtype=torch.uint8).view(3, 1, 2, 2), torch.tensor([0, 1, 2]))
    assert len(split) == 3
    assert split.to("cpu").take([2, 0]).labels.tolist() == [2, 0]
    assert split.take([1]).images.flatten().tolist() == [4, 5, 6, 7]


# Other files


def noise(n, *shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (n, *shape), dtype=np.uint8)


def write_idx(folder, stem, array, zipped=False):
    magic = {3: "images-idx3-ubyte", 1: "labels-idx1-ubyte"}[array.ndim]
    header = (0x800 + array.ndim).to_bytes(4, "big") + b"".join(n.to_bytes(4, "big") for n in array.shape)
    content = header + array.tobytes()
    folder.mkdir(exist_ok=True)
    path = folder / f"{stem}-{magic}{'.gz' if zipped else ''}"
    path.write_bytes(gzip.compress(content) if zipped else content)
    return path


@pytest.mark.parametrize("zipped", [False, True])
def test_a_folder_of_idx_files(tmp_path, zipped):
    images, labels = noise(30, 6, 4), np.arange(30, dtype=np.uint8) % 5
    write_idx(tmp_path, "train", images, zipped)
    write_idx(tmp_path, "train", labels, zipped)
    found = load(str(tmp_path))
    assert (found.input_shape, found.classes) == ((1, 6, 4), 5)
    assert [len(split) for split in found.final_splits()] == [25, 5], "without test files a sixth is held out"
    assert [len(split) for split in found.search_splits()] == [21, 4]
    write_idx(tmp_path, "t10k", images[:7], zipped)
    with pytest.raises(
        DataError, match=r"must hold t10k-labels-idx1-ubyte or t10k-labels-idx1-ubyte.gz, but has neith"
    ):
        load(str(tmp_path)).final_splits()
    write_idx(tmp_path, "t10k", labels[:7], zipped)
    training, test = load(str(tmp_path)).final_splits()
    assert np.array_equal(training.images[:, 0].numpy(), images)
    assert test.labels.tolist() == labels[:7].tolist()


def test_wrong_idx_files(tmp_path):
    path = write_idx(tmp_path, "train", noise(30, 6, 4))
    write_idx(tmp_path, "train", np.zeros(29, np.uint8))
    with pytest.raises(DataError, match=r"images and labels must be equally many, but are 30 and 29"):
        load(str(tmp_path))
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(DataError, match=r"30×6×4 values need 736 bytes, but the file has 735"):
        load(str(tmp_path))
    path.write_bytes(b"PNG?" * 9)
    with pytest.raises(DataError, match=r"must start with 0x00000803, but starts with 0x504e473f"):
        load(str(tmp_path))


@pytest.mark.parametrize(
    ("shape", "expected"), [((8, 6), (1, 8, 6)), ((8, 6, 3), (3, 8, 6)), ((3, 8, 6), (3, 8, 6)), ((3, 8, 3), (3, 3, 8))]
)
@pytest.mark.parametrize(
    "keys",
    [
        ("x_train", "y_train", "x_test", "y_test"),
        ("X_train", "Y_train", "X_test", "Y_test"),
        ("train_images", "train_labels", "test_images", "test_labels"),
    ],
)
def test_npz(tmp_path, shape, expected, keys):
    path, labels = tmp_path / "set.npz", np.arange(24) % 4
    arrays = [noise(24, *shape), labels, noise(8, *shape, seed=1), labels[:8, None]]
    np.savez(path, **dict(zip(keys, arrays, strict=True)))
    found = load(str(path))
    assert (found.name, found.input_shape, found.classes) == (str(path), expected, 4)
    assert len(found.mean) == len(found.std) == expected[0]
    assert [len(split) for split in found.search_splits()] == [20, 4]
    assert [len(split) for split in found.final_splits()] == [24, 8]
    if expected == (3, 8, 6):
        pixels = arrays[0] if shape[0] == 3 else arrays[0].transpose(0, 3, 1, 2)
        assert np.array_equal(found.training().images.numpy(), pixels)


@pytest.mark.parametrize("keys", [("images", "labels"), ("X", "y"), ("x_train", "y_train")])
def test_npz_without_a_test_set_gives_up_a_fixed_sixth(tmp_path, keys):
    path = tmp_path / "set.npz"
    arrays = (np.arange(36, dtype=np.uint8).reshape(36, 1, 1), np.arange(36) % 2)
    np.savez_compressed(path, **dict(zip(keys, arrays, strict=True)))
    found = load(str(path))
    training, test = found.final_splits()
    assert (len(training), len(test)) == (30, 6)
    assert sorted(training.images.flatten().tolist() + test.images.flatten().tolist()) == list(range(36))
    assert {len(split) for split in found.search_splits()} == {25, 5}


def test_npz_as_medmnist_has_them_trains_on_its_validation_images_too(tmp_path):
    path = tmp_path / "pathmnist.npz"
    sizes, arrays = {"train": 12, "val": 6, "test": 3}, {}
    for part, n in sizes.items():
        arrays |= {f"{part}_images": noise(n, 4, 4, 3, seed=n), f"{part}_labels": (np.arange(n) % 3)[:, None]}
    np.savez(path, **arrays)
    training, test = load(str(path)).final_splits()
    assert (len(training), len(test)) == (18, 3)
    assert np.array_equal(training.images[12:].permute(0, 2, 3, 1).numpy(), arrays["val_images"])
    np.savez(path, **{**arrays, "val_images": noise(6, 5, 5, 3)})
    with pytest.raises(DataError, match=r"pathmnist.npz: val_images: images must be 3×4×4, but are 3×5×5$"):
        load(str(path))


def test_test_images_of_another_size(tmp_path):
    path = tmp_path / "set.npz"
    np.savez(path, **wrong_npz(x_test=noise(2, 4, 5), y_test=np.array([0, 1])))
    with pytest.raises(DataError, match=r"set.npz: test images must be 1×4×4 as those of training, but are 1×4×5$"):
        load(str(path)).final_splits()


@pytest.mark.parametrize("key", ["x_test", "y_test"])
def test_half_a_test_set_is_an_error_and_not_a_sixth(tmp_path, key):
    path = tmp_path / "set.npz"
    both = {"x_test": noise(2, 4, 4), "y_test": np.array([0, 1])}
    np.savez(path, **wrong_npz(**{key: both[key]}))
    with pytest.raises(DataError, match=r"an array [xy]_test is needed, but there is none"):
        load(str(path)).final_splits()


@pytest.mark.parametrize("content", [b"", b"PK", None], ids=["empty", "cut", "npy"])
def test_an_npz_that_is_empty_or_cut_or_something_else(tmp_path, content):
    path = tmp_path / "set.npz"
    if content is None:
        with path.open("wb") as file:
            np.save(file, np.zeros(3))
    else:
        path.write_bytes(content)
    with pytest.raises(DataError, match=r"set\.npz: cannot be read as \.npz: "):
        load(str(path))


def wrong_npz(**changes):
    return {"x_train": noise(12, 4, 4), "y_train": np.arange(12) % 3, **changes}


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"a": np.zeros(1)}, r"must hold x_train, y_train, x_test, y_test \(or .*\), but holds a$"),
        (wrong_npz(x_train=np.zeros((12, 4, 4))), r"x_train: images must be uint8 \(0..255\), but are float64$"),
        (wrong_npz(x_train=noise(12, 9, 9, 9)), r"with C up to 4, but are 12×9×9×9$"),
        (wrong_npz(y_train=np.zeros(12)), r"y_train: labels must be whole numbers, .* but are float64 of shape 12$"),
        (wrong_npz(y_train=np.arange(11)), r"x_train: images and labels must be equally many, but are 12 and 11$"),
        (wrong_npz(y_train=np.arange(12) - 1), r"x_train: labels must be 0 or more, but one is -1$"),
        (wrong_npz(y_train=np.zeros(12, int)), r"needs at least 2 classes, but has 1$"),
        (wrong_npz(x_train=noise(0, 4, 4), y_train=np.zeros(0, int)), r"must hold at least one image, .* 0×1×4×4$"),
        (wrong_npz(y_train=np.array([None] * 12)), r"y_train: cannot be read: Object arrays cannot be loaded"),
    ],
)
def test_wrong_npz(tmp_path, arrays, message):
    path = tmp_path / "wrong.npz"
    np.savez(path, **arrays)
    with pytest.raises(DataError, match=message) as caught:
        load(str(path))
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


def test_test_labels_of_unknown_classes(tmp_path):
    path = tmp_path / "set.npz"
    np.savez(path, **wrong_npz(x_test=noise(2, 4, 4), y_test=np.array([0, 3])))
    with pytest.raises(DataError, match=r"set.npz: test labels must be below 3, but one is 3"):
        load(str(path)).final_splits()


def test_an_npz_that_is_none(tmp_path):
    path = tmp_path / "wrong.npz"
    path.write_bytes(b"not a zip")
    with pytest.raises(DataError, match=r"wrong.npz: cannot be read as .npz: "):
        load(str(path))


def save(path, size, color):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L" if isinstance(color, int) else "RGB", size, color).save(path)


def class_folders(root, per_class=6, size=(8, 6), classes=("cat", "dog")):
    for c, name in enumerate(classes):
        for i in range(per_class):
            save(root / name / f"{i:02}.png", size, 100 * c + i)


def test_class_folders_with_a_test_set(tmp_path):
    class_folders(tmp_path / "train", 12)
    class_folders(tmp_path / "test", 2, size=(4, 4))
    found = load(str(tmp_path))
    assert (found.input_shape, found.classes) == ((1, 6, 8), 2)
    training, test = found.final_splits()
    assert training.images[:, 0, 0, 0].tolist() == [*range(12), *range(100, 112)]
    assert test.images.shape == (4, 1, 6, 8), "resized to the shape of training"
    assert found.notes == ()
    shutil.rmtree(tmp_path / "test")
    again = load(str(tmp_path))
    assert again.notes == (f"{tmp_path}: there is no test/, which confirm and freeze will need",)
    assert [len(split) for split in again.search_splits()] == [20, 4]
    with pytest.raises(DataError, match=r"test: must be a folder of class folders, but is not there"):
        again.final_splits()


def test_class_folders_without_a_test_set_give_up_a_fixed_sixth_unread(tmp_path):
    class_folders(tmp_path, 12)
    training, test = load(str(tmp_path)).final_splits()
    assert (len(training), test.labels.tolist()) == (20, [0, 0, 1, 1])
    for value, label in zip(test.images[:, 0, 0, 0].tolist(), test.labels.tolist(), strict=True):
        (tmp_path / ("cat", "dog")[label] / f"{value - 100 * label:02}.png").write_bytes(b"broken")
    found = load(str(tmp_path))
    assert torch.equal(found.training().images, training.images)
    with pytest.raises(DataError, match=r"\.png: cannot be read as an image: "):
        found.final_splits()


def test_what_is_wrong_with_the_files_of_a_test_set_is_said_before_anything_is_trained(tmp_path):
    class_folders(tmp_path / "train", 4)
    class_folders(tmp_path / "test", 2)
    opened = tmp_path / "test" / "dog" / "00.png"
    opened.write_bytes(b"not opened, so not known")
    load(str(tmp_path))
    opened.write_bytes(b"")
    with pytest.raises(DataError, match=r"test/dog/00\.png: cannot be read as an image: it is empty$"):
        load(str(tmp_path))
    opened.unlink()
    opened.symlink_to(tmp_path / "nowhere")
    with pytest.raises(DataError, match=r"test/dog/00\.png: cannot be read as an image: No such file or directory$"):
        load(str(tmp_path))
    opened.unlink()
    opened.mkdir()
    _, test = load(str(tmp_path)).final_splits()
    assert test.labels.tolist() == [0, 0, 1]


def test_files_that_are_no_images_by_their_names_and_parts_that_are_not_read_are_named(tmp_path):
    class_folders(tmp_path / "train", 4)
    class_folders(tmp_path / "test", 2)
    class_folders(tmp_path / "val", 2)
    (tmp_path / "train" / "cat" / "00.png").rename(tmp_path / "train" / "cat" / "00.heic")
    (tmp_path / "train" / "cat" / "words").write_text("no image")
    (tmp_path / "train" / "cat" / ".hidden").write_text("no image")
    save(tmp_path / "train" / "dog" / "09.jpg", (8, 6), 100)
    (tmp_path / "train" / "dog" / "09.jpg").rename(tmp_path / "train" / "dog" / "09.jfif")
    found = load(str(tmp_path))
    assert [len(split) for split in found.final_splits()] == [8, 4]
    assert found.notes == (
        f"{tmp_path}: 2 files left out, by the name no image (.heic, words)",
        f"{tmp_path}: val/ is not read; a fixed sixth of train/ is for validation",
    )


def test_train_may_be_a_class_of_trains(tmp_path):
    class_folders(tmp_path, 6, classes=("bus", "train"))
    assert load(str(tmp_path)).class_names == ("bus", "train")
    shutil.rmtree(tmp_path / "bus")
    class_folders(tmp_path, 6, classes=("extra", "dev"))  # a division without classes, not three classes
    with pytest.raises(DataError, match=r"train: needs at least 2 class folders \(or IDX files\), but has 0$"):
        load(str(tmp_path))


@pytest.mark.parametrize(("ink", "mode", "seen"), [(0, "RGBA", [255, 0]), (255, "RGBA", [0, 255]), (0, "LA", [255, 0])])
def test_transparent_pictures_are_trained_on_as_they_are_predicted(tmp_path, ink, mode, seen):
    class_folders(tmp_path, 6)
    drawn = Image.new(mode, (8, 6), (0,) * len(mode))
    drawn.putpixel((3, 2), (*[ink] * (len(mode) - 1), 255))
    for path in tmp_path.glob("cat/*.png"):
        drawn.save(path)
    found = load(str(tmp_path))
    training = found.training()
    assert found.notes == (
        f"{tmp_path}: 5 of 10 training images are transparent: dark ink was laid on white, light ink on black",
    )
    assert training.images[0, 0, 2, 2:4].tolist() == seen
    shown = read_picture(path, found.input_shape, (0.5,) * found.input_shape[0])
    assert torch.equal(shown.pixels, training.images[0])


def test_a_picture_with_an_alpha_channel_is_transparent_only_where_something_is_clear(tmp_path):
    class_folders(tmp_path, 6)
    for path in tmp_path.glob("cat/*.png"):
        Image.new("RGBA", (8, 6), (200, 10, 10, 255)).save(path)
    found = load(str(tmp_path))
    assert found.notes == ()
    assert found.training().images[0, :, 0, 0].tolist() == [200, 10, 10]
    assert read_picture(path, found.input_shape, (0.5,) * 3).notes == ()


def test_labels_without_an_image_are_named_and_their_number_has_a_bound(tmp_path):
    images = np.zeros((12, 5, 5), np.uint8)
    np.savez(tmp_path / "from_one.npz", x_train=images, y_train=[1, 2, 3] * 4)
    (note,) = load(str(tmp_path / "from_one.npz")).notes
    assert note == f"{tmp_path / 'from_one.npz'}: 3 of 4 classes have training images, but not 0"
    np.savez(tmp_path / "far.npz", x_train=images, y_train=[1, 2, 300_000] * 4)
    with pytest.raises(DataError, match=r"labels must be below 100,000, but one is 300,000$"):
        load(str(tmp_path / "far.npz"))


def test_an_empty_name_is_no_folder(tmp_path, monkeypatch):
    class_folders(tmp_path, 6)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match=r"^data: must name a data set, a folder or an \.npz file, but is empty$"):
        load(" ")
    with pytest.raises(DataError, match=r"but is empty$"):
        Request(data="").check()


def test_folders_take_the_commonest_size_colour_if_any_is_and_a_size_asked_for(tmp_path):
    class_folders(tmp_path, 6)
    save(tmp_path / "cat" / "99.jpg", (5, 5), (200, 10, 10))
    class_folders(tmp_path, 6, classes=("eel",), size=(6, 8))
    save(tmp_path / "eel" / "98.png", (3, 3), 7)
    assert load(str(tmp_path)).input_shape in {(3, 6, 8), (1, 6, 8)}  # 99.jpg may be held out
    assert load(str(tmp_path), image_shape=(3, 10, 12)).input_shape == (3, 10, 12)
    with pytest.raises(DataError, match=r"must have 1 or 3 channels, but 2 were asked for"):
        load(str(tmp_path), image_shape=(2, 10, 12))


def test_one_picture_in_colour_makes_all_of_them_colour(tmp_path):
    class_folders(tmp_path / "train", 4)
    assert load(str(tmp_path)).input_shape == (1, 6, 8)
    save(tmp_path / "train" / "cat" / "00.png", (8, 6), (200, 10, 10))
    training = load(str(tmp_path)).training()
    assert training.images[:2, :, 0, 0].tolist() == [[200, 10, 10], [1, 1, 1]]


def test_wrong_folders(tmp_path):
    with pytest.raises(DataError, match=r"needs at least 2 class folders \(or IDX files\), but has 0"):
        load(str(tmp_path))
    class_folders(tmp_path, 6)
    (tmp_path / "eel").mkdir()
    (tmp_path / "eel" / "._00.png").write_bytes(b"what a Mac leaves beside a file")
    with pytest.raises(DataError, match=r"eel: a class folder must hold images \(\.avif, .*, \.webp\), but has none$"):
        load(str(tmp_path))


def test_a_folder_keeps_the_names_of_its_classes_and_says_what_was_resized(tmp_path):
    class_folders(tmp_path / "train", 6)
    class_folders(tmp_path / "test", 2, size=(99, 99))
    (tmp_path / "train" / ".cache").mkdir()
    (tmp_path / "test" / ".cache").mkdir()
    same = load(str(tmp_path))
    assert (same.class_names, same.notes) == (("cat", "dog"), ())
    assert len(same.final_splits()[1]) == 4
    save(tmp_path / "train" / "cat" / "98.png", (5, 7), 1)
    save(tmp_path / "train" / "dog" / "99.png", (40, 30), 1)
    (note,) = load(str(tmp_path)).notes
    assert note == f"{tmp_path}: 2 of 14 training images were resized from 7×5 … 30×40 to 6×8 pixels (height × width)"
    (note,) = load(str(tmp_path), image_shape=(1, 30, 40)).notes
    assert "13 of 14 training images were resized from 7×5 … 6×8 to 30×40 pixels" in note


@pytest.mark.parametrize(("size", "shape"), [((96, 96), (96, 96)), ((400, 300), (72, 96)), ((97, 970), (96, 10))])
def test_photographs_are_made_smaller_unless_a_size_is_written(tmp_path, size, shape):
    class_folders(tmp_path, 4, size=size)
    assert load(str(tmp_path)).input_shape == (1, *shape)
    assert load(str(tmp_path), image_shape=(1, 100, 100)).input_shape == (1, 100, 100)


def test_images_that_do_not_fit_into_the_memory(tmp_path, monkeypatch):
    class_folders(tmp_path, 6)
    monkeypatch.setattr(images.os, "sysconf", lambda name: {"SC_PAGE_SIZE": 4096, "SC_PHYS_PAGES": 1}[name])
    assert load(str(tmp_path)).input_shape == (1, 6, 8)
    with pytest.raises(DataError, match=r"10 images of 3×60×80 take 0.0 GB, which must be at most half of this mach"):
        load(str(tmp_path), image_shape=(3, 60, 80))


def test_extra_test_classes(tmp_path):
    class_folders(tmp_path / "train")
    class_folders(tmp_path / "test", classes=("cat", "yak"))
    with pytest.raises(DataError, match=r"test: class folders must be those of training, but yak is not"):
        load(str(tmp_path)).final_splits()


@pytest.mark.parametrize(
    ("spec", "hint"),
    [("nmist", " – did you mean mnist?"), ("FashionMNIST", " – did you mean fashion-mnist?"), ("nowhere", "")],
)
def test_unknown_spec(spec, hint):
    with pytest.raises(DataError) as caught:
        load(spec)
    message = str(caught.value)
    assert message.startswith(f"{spec}: a data set must be one of mnist, fashion-mnist, ")
    assert message.endswith(f", a folder, or an .npz file; this is none{hint}")


@pytest.mark.parametrize("spec", ["./nowhere", "nowhere.npz", "my/photos", "~nosuch/x", "~/nowhere", "/nowhere/x"])
def test_a_path_where_nothing_is_names_the_folder_it_was_looked_for_from(spec):
    with pytest.raises(DataError) as caught:
        load(spec)
    relative = spec not in ("~/nowhere", "/nowhere/x")
    assert str(caught.value) == f"{spec}: there is no such folder or file{f', seen from {Path.cwd()}' * relative}"


def test_a_file_that_is_no_npz(tmp_path):
    save(tmp_path / "cat.png", (4, 4), 1)
    with pytest.raises(DataError, match=r"cat.png: a file of images must be an .npz, but is none; pictures belong in"):
        load(str(tmp_path / "cat.png"))


def test_a_shape_that_the_set_does_not_have():
    with pytest.raises(DataError, match=r"mnist: images must be 3×32×32, but are 1×28×28"):
        load("mnist", image_shape=(3, 32, 32))
