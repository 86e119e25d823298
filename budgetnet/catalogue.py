"""The image classification sets of torchvision by name: which class and arguments, which files, in which folder.

Plain data, checked against the installed torchvision by ``tests/test_vision.py``; one more set is one more entry.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from budgetnet.files import expanded

Arguments = Mapping[str, Any]

TRAIN: Arguments = {"train": True}
TEST: Arguments = {"train": False}


def _split(name: str, **more: Any) -> Arguments:
    return {"split": name, **more}


@dataclass(frozen=True)
class VisionSet:
    """A set of torchvision.

    training: arguments of the class, once a part; all that is not test is for training, for a search holds out its own
    validation. test: None where the set has no test part with labels. files: what its download brings, or where there
    is none what a person has to put there; they belong into ``folder`` below ``root``, which is below the cache.
    first_label: the label that becomes 0. sideways: rows and columns are exchanged in the files.
    """

    factory: str
    training: tuple[Arguments, ...]
    test: Arguments | None
    files: tuple[str, ...]
    folder: str = ""
    root: str = ""
    first_label: int = 0
    sideways: bool = False
    class_names: tuple[str, ...] = ()  # where the class has none
    or_unpacked: bool = False  # torchvision takes the files unpacked, too, and then whatever their checksum was

    @property
    def place(self) -> str:
        """The folder of the files, below that of all sets."""
        return "/".join(filter(None, (self.root, self.folder)))


def _mnist_like(factory: str) -> VisionSet:
    files = [f"{part}-{kind}-ubyte.gz" for part in ("train", "t10k") for kind in ("images-idx3", "labels-idx1")]
    return VisionSet(factory, (TRAIN,), TEST, tuple(files), f"{factory}/raw", or_unpacked=True)


def _emnist(split: str) -> VisionSet:
    letters = split == "letters"  # whose labels are 1 to 26
    training, test = _split(split, **TRAIN), _split(split, **TEST)
    return VisionSet("EMNIST", (training,), test, ("gzip.zip",), "EMNIST/raw", first_label=int(letters), sideways=True)


def _qmnist() -> VisionSet:
    files = [
        f"qmnist-{part}-{kind}.gz" for part in ("train", "test") for kind in ("images-idx3-ubyte", "labels-idx2-int")
    ]
    return replace(_mnist_like("QMNIST"), files=tuple(files))


def _cifar(factory: str, file: str) -> VisionSet:
    return VisionSet(factory, (TRAIN,), TEST, (file,))


def _aircraft(level: str) -> VisionSet:
    training, test = (_split(part, annotation_level=level) for part in ("trainval", "test"))
    return VisionSet("FGVCAircraft", (training,), test, ("fgvc-aircraft-2013b.tar.gz",))


def _imagenette(size: str, file: str) -> VisionSet:
    return VisionSet("Imagenette", (_split("train", size=size),), _split("val", size=size), (file,))


def _halves(factory: str, *files: str, folder: str = "") -> VisionSet:
    """A set with the splits train and test."""
    return VisionSet(factory, (_split("train"),), _split("test"), files, folder)


def _thirds(factory: str, validation: str, *files: str, folder: str = "") -> VisionSet:
    """A set with a split for validation, too."""
    return VisionSet(factory, (_split("train"), _split(validation)), _split("test"), files, folder)


def _whole(factory: str, *files: str, folder: str = "") -> VisionSet:
    """A set without a test part."""
    return VisionSet(factory, ({},), None, files, folder)


SETS: dict[str, VisionSet] = {
    "fashion-mnist": _mnist_like("FashionMNIST"),
    "kmnist": _mnist_like("KMNIST"),
    "qmnist": _qmnist(),
    "emnist": _emnist("balanced"),
    **{f"emnist-{name}": _emnist(name) for name in ("balanced", "letters", "digits", "byclass", "bymerge", "mnist")},
    "cifar10": _cifar("CIFAR10", "cifar-10-python.tar.gz"),
    "cifar100": _cifar("CIFAR100", "cifar-100-python.tar.gz"),
    "svhn": _halves("SVHN", "train_32x32.mat", "test_32x32.mat"),
    "usps": VisionSet("USPS", (TRAIN,), TEST, ("usps.bz2", "usps.t.bz2")),
    "semeion": _whole("SEMEION", "semeion.data"),
    "stl10": _halves("STL10", "stl10_binary.tar.gz"),
    "gtsrb": _halves(
        "GTSRB", "GTSRB-Training_fixed.zip", "GTSRB_Final_Test_Images.zip", "GTSRB_Final_Test_GT.zip", folder="gtsrb"
    ),
    "eurosat": _whole("EuroSAT", "EuroSAT.zip", folder="eurosat"),
    "imagenette": _imagenette("full", "imagenette2.tgz"),
    "imagenette-320px": _imagenette("320px", "imagenette2-320.tgz"),
    "imagenette-160px": _imagenette("160px", "imagenette2-160.tgz"),
    "food101": _halves("Food101", "food-101.tar.gz"),
    "flowers102": _thirds("Flowers102", "val", "102flowers.tgz", "imagelabels.mat", "setid.mat", folder="flowers-102"),
    "oxford-iiit-pet": VisionSet(
        "OxfordIIITPet",
        (_split("trainval"),),
        _split("test"),
        ("images.tar.gz", "annotations.tar.gz"),
        "oxford-iiit-pet",
    ),
    "stanford-cars": _halves(
        "StanfordCars",
        *("devkit/cars_train_annos.mat", "devkit/cars_meta.mat", "cars_test_annos_withlabels.mat"),
        *("cars_train/", "cars_test/"),
        folder="stanford_cars",
    ),
    "fgvc-aircraft": _aircraft("variant"),
    "fgvc-aircraft-family": _aircraft("family"),
    "fgvc-aircraft-manufacturer": _aircraft("manufacturer"),
    "dtd": _thirds("DTD", "val", "dtd-r1.0.1.tar.gz", folder="dtd"),
    "country211": _thirds("Country211", "valid", "country211.tgz"),
    "rendered-sst2": _thirds("RenderedSST2", "val", "rendered-sst2.tgz"),
    "pcam": _thirds(
        "PCAM",
        "val",
        *(f"camelyonpatch_level_2_split_{part}_{axis}.h5" for part in ("train", "valid", "test") for axis in "xy"),
        folder="pcam",
    ),
    "caltech101": _whole("Caltech101", "caltech-101.zip", folder="caltech101"),
    "caltech256": _whole("Caltech256", "256_ObjectCategories.tar", folder="caltech256"),
    "sun397": _whole("SUN397", "SUN397.tar.gz"),
    "fer2013": _halves("FER2013", "fer2013.csv", folder="fer2013"),
    "clevr": VisionSet(  # the label is how many things are in the picture
        "CLEVRClassification",
        (_split("train"),),
        _split("val"),
        ("CLEVR_v1.0.zip",),
        "clevr",
        first_label=3,
        class_names=tuple(map(str, range(3, 11))),
    ),
    "places365": VisionSet(
        "Places365",
        (_split("train-standard", small=True),),
        _split("val", small=True),
        ("filelist_places365-standard.tar", "train_256_places365standard.tar", "val_256.tar"),
        root="places365",
    ),
    "imagenet": VisionSet(
        "ImageNet",
        (_split("train"),),
        _split("val"),
        ("ILSVRC2012_devkit_t12.tar.gz", "ILSVRC2012_img_train.tar", "ILSVRC2012_img_val.tar"),
        root="imagenet",
    ),
    "inaturalist": VisionSet(
        "INaturalist",
        ({"version": "2021_train_mini"},),
        {"version": "2021_valid"},
        ("train_mini.tar.gz", "val.tar.gz"),
        root="inaturalist",
    ),
}

NO_CLASSES = {  # classes of torchvision.datasets that are no such set, and why
    **dict.fromkeys(("MNIST",), "embedded"),
    **dict.fromkeys(("DatasetFolder", "ImageFolder", "VisionDataset", "FakeData"), "no data of its own"),
    **dict.fromkeys(("LFWPeople", "Omniglot"), "test has other classes than training"),
    **dict.fromkeys(("LFWPairs", "PhotoTour"), "pairs of pictures"),
    **dict.fromkeys(("CelebA",), "attributes"),
    **dict.fromkeys(("LSUN", "LSUNClass"), "no download, and a database that needs lmdb"),
    **dict.fromkeys(("CocoCaptions", "Flickr30k", "Flickr8k", "SBU"), "captions"),
    **dict.fromkeys(("CocoDetection", "Kitti", "VOCDetection", "WIDERFace"), "boxes"),
    **dict.fromkeys(("Cityscapes", "SBDataset", "VOCSegmentation"), "pixels"),
    **dict.fromkeys(("HMDB51", "Kinetics", "MovingMNIST", "UCF101"), "films"),
    **dict.fromkeys(("FlyingChairs", "FlyingThings3D", "HD1K", "KittiFlow", "Sintel"), "motion"),
    **dict.fromkeys(
        (
            *("CREStereo", "CarlaStereo", "ETH3DStereo", "FallingThingsStereo", "InStereo2k", "Kitti2012Stereo"),
            *("Kitti2015Stereo", "Middlebury2014Stereo", "SceneFlowStereo", "SintelStereo"),
        ),
        "depth",
    ),
}


def known_name(spec: str) -> str | None:
    """``mnist`` or a name of SETS, in capitals or with underscores, too; None for all else, such as ``./cifar10``."""
    name = spec.lower().replace("_", "-")
    return name if name == "mnist" or name in SETS else None


def same_data(one: str, other: str) -> bool:
    """Whether two specs name the same set or the same path, however they are written."""
    return _plain(one) == _plain(other)


def same_images(first: str, second: str) -> bool:
    """Whether two fingerprints of somebody's own images are not known to differ; empty where none was kept."""
    return not first or not second or first == second


def _plain(spec: str) -> str | Path:
    return known_name(spec) or expanded(spec).resolve()
