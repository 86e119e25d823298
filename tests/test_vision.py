"""torchvision's sets without the network: the catalogue against the installed classes, files laid by hand, messages."""

from __future__ import annotations

import bz2
import gzip
import hashlib
import inspect
import pickle
import re
import tarfile
import threading
import time
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torchvision
from PIL import Image
from scipy.io import savemat
from torchvision import datasets

from budgetnet import catalogue, vision
from budgetnet.catalogue import NO_CLASSES, SETS
from budgetnet.data import load
from budgetnet.dataset import DataSet
from budgetnet.errors import DataError

CHECKED_AGAINST = (0, 29)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where torchvision's files belong; and no network, wherever the tests run."""

    def refuse(*_: object, **__: object) -> None:
        raise urllib.error.URLError("no\nnetwork")

    monkeypatch.setattr(urllib.request, "urlopen", refuse)
    monkeypatch.setenv("BUDGETNET_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "torchvision"


def md5(path: Path) -> str:
    return hashlib.md5(path.read_bytes()).hexdigest()


def noise(n: int, *shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (n, *shape), dtype=np.uint8)


def idx(array: np.ndarray, kind: int = 8) -> bytes:
    header = bytes([0, 0, kind, array.ndim]) + b"".join(n.to_bytes(4, "big") for n in array.shape)
    return header + array.tobytes()


def laid(path: Path, content: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def picture(path: Path, size: tuple[int, int], color: tuple[int, int, int] = (9, 99, 199)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, color).save(path)


def inside(cache: Path) -> list[str]:
    return sorted(path.name for path in cache.iterdir() if path.name != vision.LOCK)


# The catalogue --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SETS)
def test_arguments_and_files_are_those_of_the_installed_torchvision(name: str, tmp_path: Path) -> None:
    """Each class takes its arguments and then only misses its files; what it would download is what we say."""
    item = SETS[name]
    factory = getattr(datasets, item.factory)
    for arguments in filter(lambda part: part is not None, (*item.training, item.test)):
        offline = {"download": False} if vision._can_download(factory) else {}
        with pytest.raises((RuntimeError, OSError)):  # neither TypeError nor ValueError: "Unknown value for split"
            factory(str(tmp_path), **arguments, **offline)
    source = inspect.getsource(inspect.getmodule(factory))
    for file in item.files:
        last = file.strip("/").rpartition("/")[2]
        shortened = {"QMNIST": last.removesuffix(".gz")}.get(item.factory, last)
        assert shortened in source, f"{file} is no file of {item.factory}"
    assert all(part in source for part in item.folder.split("/"))


def test_every_class_of_torchvision_is_in_the_catalogue_or_left_out_for_a_reason() -> None:
    if tuple(map(int, torchvision.__version__.split(".")[:2])) > CHECKED_AGAINST:
        pytest.skip("a newer torchvision may have more")
    classes = {name for name in datasets.__all__ if inspect.isclass(getattr(datasets, name))}
    assert classes == {item.factory for item in SETS.values()} | set(NO_CLASSES)


@pytest.mark.parametrize(
    ("spec", "name"), [("CIFAR10", "cifar10"), ("fashion_mnist", "fashion-mnist"), ("./dtd", None)]
)
def test_known_names(spec: str, name: str | None) -> None:
    assert catalogue.known_name(spec) == name


# What cannot be downloaded --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SETS)
def test_the_message_says_what_to_put_where_and_nothing_is_left_behind(name: str, cache: Path) -> None:
    with pytest.raises(DataError) as caught:
        load(name)
    message = str(caught.value)
    files, folder = ", ".join(SETS[name].files), "/".join(filter(None, (str(cache), SETS[name].place)))
    unpacked = ", as published or unpacked," if SETS[name].or_unpacked else ""
    put = rf"put {re.escape(files)}( from http\S+)?{unpacked}"
    assert re.fullmatch(rf"{name}: cannot be downloaded \(.+\); {put} into {folder}", message)
    assert ".download-" not in message
    assert [path.name for path in cache.parent.rglob("*")] == ["torchvision", vision.LOCK]


def test_a_download_that_breaks_off_leaves_nothing_and_spares_what_was_there(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Half(datasets.FGVCAircraft):
        def _download(self) -> None:
            laid(Path(self.root) / "fgvc-aircraft-2013b" / "data" / "variants.txt", b"half a fi")
            raise EOFError("Compressed file ended before the end-of-stream marker was reached")

    monkeypatch.setattr(datasets, "FGVCAircraft", Half)
    other = laid(cache / "other.mat", b"of another set")
    with pytest.raises(
        DataError, match=r"^fgvc-aircraft: cannot be downloaded \(Compressed file ended .* reached\); put "
    ):
        load("fgvc-aircraft")
    assert inside(cache) == [other.name]


def test_workers_that_want_the_same_set_download_it_once(monkeypatch: pytest.MonkeyPatch) -> None:
    downloads = []

    class Slow(datasets.EuroSAT):
        def download(self) -> None:
            downloads.append(self.root)
            time.sleep(0.2)
            for number in range(12):
                picture(Path(self.root) / "eurosat/2750" / ("Forest", "River")[number % 2] / f"{number}.jpg", (4, 4))

    monkeypatch.setattr(datasets, "EuroSAT", Slow)
    together = threading.Barrier(3, timeout=60)

    def load_together(name: str) -> DataSet:
        together.wait()
        return load(name)

    with ThreadPoolExecutor() as pool:
        found = list(pool.map(load_together, ["eurosat"] * 3))
    assert [len(each.training()) for each in found] == [10, 10, 10]
    assert len(downloads) == 1


# Files laid by hand ---------------------------------------------------------------------------------------------------


def test_gz_files_of_fashion_mnist_are_unpacked_and_the_test_part_only_when_it_is_asked_for(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images, labels = noise(30, 6, 6), np.arange(30, dtype=np.uint8) % 10
    content = {"train-images-idx3": images, "train-labels-idx1": labels, "t10k-images-idx3": images[:10]}
    content["t10k-labels-idx1"] = labels[:10]
    raw = cache / "FashionMNIST" / "raw"
    files = [laid(raw / f"{stem}-ubyte.gz", gzip.compress(idx(array))) for stem, array in content.items()]
    monkeypatch.setattr(datasets.FashionMNIST, "resources", [(path.name, md5(path)) for path in files])
    found = load("fashion-mnist")
    assert (found.input_shape, found.classes, found.class_names[:2]) == ((1, 6, 6), 10, ("T-shirt/top", "Trouser"))
    assert {path.name for path in raw.iterdir()} == {path.name for path in files} | {path.stem for path in files}
    assert inside(cache) == ["FashionMNIST"], "the folder of the download is gone"
    training, test = found.final_splits()
    assert np.array_equal(training.images[:, 0].numpy(), images)
    assert test.labels.tolist() == list(range(10))
    with pytest.raises(DataError, match=r"^fashion-mnist: images must be 1×28×28, but are 1×6×6$"):
        load("fashion-mnist", image_shape=(1, 28, 28))


@pytest.mark.parametrize("name", ["fashion-mnist", "kmnist"])
def test_files_that_somebody_packed_anew_are_taken_once_unpacked(name: str, cache: Path) -> None:
    images, labels = noise(12, 6, 6), np.arange(12, dtype=np.uint8) % 10
    raw = cache / SETS[name].place
    for part in ("train", "t10k"):
        for kind, array in (("images-idx3", images), ("labels-idx1", labels)):
            laid(raw / f"{part}-{kind}-ubyte.gz", gzip.compress(idx(array)))
    with pytest.raises(DataError, match=r", as published or unpacked, into "):
        load(name)
    for path in sorted(raw.iterdir()):
        path.with_suffix("").write_bytes(gzip.decompress(path.read_bytes()))
    assert np.array_equal(load(name).final_splits()[0].images[:, 0].numpy(), images)


def test_letters_of_emnist_start_at_zero_and_stand_upright(cache: Path) -> None:
    images, labels = noise(52, 5, 5), np.arange(52, dtype=np.uint8) % 26 + 1
    for part in ("train", "test"):
        laid(cache / "EMNIST/raw" / f"emnist-letters-{part}-images-idx3-ubyte", idx(images))
        laid(cache / "EMNIST/raw" / f"emnist-letters-{part}-labels-idx1-ubyte", idx(labels))
    found = load("emnist-letters")
    assert (found.classes, found.class_names[0], found.class_names[-1]) == (26, "a", "z")
    training, _ = found.final_splits()
    assert training.labels[:3].tolist() == [0, 1, 2]
    assert np.array_equal(training.images[:, 0].numpy(), images.transpose(0, 2, 1))


def test_qmnist_tells_more_than_the_class(cache: Path) -> None:
    told = np.stack([np.arange(20) % 10, np.full(20, 77)], 1).astype(">i4")
    for part in ("train", "test"):
        laid(cache / "QMNIST/raw" / f"qmnist-{part}-images-idx3-ubyte", idx(noise(20, 4, 4)))
        laid(cache / "QMNIST/raw" / f"qmnist-{part}-labels-idx2-int", idx(told, 12))
    assert load("qmnist").final_splits()[1].labels.tolist() == [*range(10), *range(10)]


def test_the_archive_of_cifar10(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, pixels = tmp_path / "cifar-10-batches-py", noise(10, 3, 32, 32)
    batch = {"data": pixels.reshape(10, -1), "labels": list(range(10))}
    names = ["data_batch_1", "test_batch"]
    for name in names:
        laid(source / name, pickle.dumps(batch))
    laid(source / "batches.meta", pickle.dumps({"label_names": ["airplane", *map(str, range(1, 10))]}))
    cache.mkdir(parents=True)
    with tarfile.open(cache / "cifar-10-python.tar.gz", "w:gz") as archive:
        archive.add(source, source.name)
    monkeypatch.setattr(datasets.CIFAR10, "tgz_md5", md5(cache / "cifar-10-python.tar.gz"))
    monkeypatch.setattr(datasets.CIFAR10, "train_list", [[names[0], md5(source / names[0])]])
    monkeypatch.setattr(datasets.CIFAR10, "test_list", [[names[1], md5(source / names[1])]])
    monkeypatch.setattr(datasets.CIFAR10, "meta", {**datasets.CIFAR10.meta, "md5": md5(source / "batches.meta")})
    found = load("cifar10")
    assert (found.input_shape, found.class_names[0]) == ((3, 32, 32), "airplane")
    for split in found.final_splits():
        assert np.array_equal(split.images.numpy(), pixels)
    assert inside(cache) == ["cifar-10-batches-py", "cifar-10-python.tar.gz"]


def test_svhn_of_mat_files(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pixels, labels = noise(20, 3, 32, 32), np.arange(20) % 10
    cache.mkdir(parents=True)
    sums = {}
    for part in ("train", "test"):
        path = cache / f"{part}_32x32.mat"  # H×W×C×N; the digit 0 is called 10
        savemat(path, {"X": pixels.transpose(2, 3, 1, 0), "y": np.where(labels == 0, 10, labels)[:, None]})
        sums[part] = ["", path.name, md5(path)]
    monkeypatch.setattr(datasets.SVHN, "split_list", sums)
    training, test = load("svhn").final_splits()
    assert np.array_equal(training.images.numpy(), pixels)
    assert test.labels.tolist() == labels.tolist()


def test_usps_of_its_own_text_files(cache: Path) -> None:
    lines = "".join(f"{i % 10 + 1} " + " ".join(f"{j + 1}:{i / 10 - 1}" for j in range(256)) + "\n" for i in range(20))
    for file in ("usps.bz2", "usps.t.bz2"):
        laid(cache / file, bz2.compress(lines.encode()))
    training, test = load("usps").final_splits()
    assert training.images.shape == (20, 1, 16, 16)
    assert test.labels.tolist() == [*range(10), *range(10)]


def test_eurosat_has_no_test_part_and_gives_up_a_sixth(cache: Path) -> None:
    for i in range(12):
        picture(cache / "eurosat" / "2750" / ("Forest", "River")[i % 2] / f"{i}.jpg", (8, 8))
    found = load("eurosat")
    assert (found.input_shape, found.class_names, found.notes) == ((3, 8, 8), ("Forest", "River"), ())
    assert [len(split) for split in found.final_splits()] == [10, 2]


def test_imagenette_is_resized_as_a_folder_is_and_says_so(cache: Path) -> None:
    for part in ("train", "val"):
        for i, wnid in enumerate(("n01440764", "n02102040")):
            for number in range(4):
                picture(cache / "imagenette2" / part / wnid / f"{number}.jpeg", (20 + number // 3, 10), (200 * i, 0, 0))
    found = load("imagenette")
    assert (found.input_shape, found.class_names) == ((3, 10, 20), ("tench", "English springer"))
    assert found.notes == (
        "imagenette: 2 of 8 training images were resized from 10×21 to 10×20 pixels (height × width)",
    )
    training, test = load("imagenette", image_shape=(3, 5, 5)).final_splits()
    assert training.images.shape == test.images.shape == (8, 3, 5, 5)
    assert [int(test.images[index, 0].float().mean().round()) > 150 for index in (0, 7)] == [False, True]


def test_sets_that_open_their_files_themselves(cache: Path) -> None:
    """GTSRB: pictures of differing sizes, no names of classes, labels of the test part in a table."""
    for label in range(2):
        for number in range(6):
            picture(cache / "gtsrb/GTSRB/Training" / f"{label:05}" / f"{number}.ppm", (9, 9 + number // 5))
    rows = ["Filename;ClassId"]
    for number in range(3):
        picture(cache / "gtsrb/GTSRB/Final_Test/Images" / f"{number}.ppm", (15, 15))
        rows.append(f"{number}.ppm;{number % 2}")
    laid(cache / "gtsrb" / "GT-final_test.csv", "\n".join(rows).encode())
    found = load("gtsrb")
    assert (found.input_shape, found.classes, found.class_names) == ((3, 9, 9), 2, ())
    assert "2 of 12 training images were resized from 10×9 to 9×9" in found.notes[0]
    assert found.final_splits()[1].labels.tolist() == [0, 1, 0]
    laid(cache / "gtsrb/GTSRB/Training/00001/3.ppm", b"P6 no picture")
    with pytest.raises(DataError, match=r"^GTSRB\[9\]: cannot be read as an image: "):
        load("gtsrb")


def test_parts_for_validation_are_for_training_and_files_come_in_the_order_of_their_names(cache: Path) -> None:
    """DTD, whose lists are in no order."""
    for number in range(9):
        picture(
            cache / "dtd/dtd/images" / ("dotted", "woven")[number % 2] / f"{number}.jpg", (4, 4), (20 * number,) * 3
        )
    for part, numbers in {"train": (5, 0, 3), "val": (4, 1, 2), "test": (6, 7, 8)}.items():
        lines = [f"{('dotted', 'woven')[number % 2]}/{number}.jpg" for number in numbers]
        laid(cache / f"dtd/dtd/labels/{part}1.txt", "\n".join(lines).encode())
    training, test = load("dtd").final_splits()
    assert training.labels.tolist() == [0, 1, 1, 0, 0, 1]
    assert [round(value / 20) for value in training.images[:, 0, 0, 0].tolist()] == [0, 3, 5, 2, 4, 1]
    assert len(test) == 3


def test_labels_that_are_not_there_are_said(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """FER2013 as Kaggle hands it out for the competition: the pictures of the test part without their class."""
    pixels = " ".join(["7"] * 48 * 48)
    train = laid(
        cache / "fer2013/train.csv",
        f"emotion,pixels\n{'0,P~1,P~' * 6}".replace("~", "\n").replace("P", pixels).encode(),
    )
    test = laid(cache / "fer2013/test.csv", f"pixels\n{pixels}\n{pixels}\n".encode())
    sums = {"train": ("train.csv", md5(train)), "test": ("test.csv", md5(test))}
    monkeypatch.setattr(datasets.FER2013, "_RESOURCES", {**datasets.FER2013._RESOURCES, **sums})
    found = load("fer2013")
    assert (found.input_shape, found.classes) == ((1, 48, 48), 2)
    with pytest.raises(
        DataError, match=r"^fer2013: every image must have a label, but 2 have none; put fer2013.csv from"
    ):
        found.final_splits()
