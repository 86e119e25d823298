"""Finding model classes and weights; every way it can fail is one line that names rule, value and place."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from budgetnet.errors import ModelError
from budgetnet.models import find, load, names
from budgetnet.tabulate import receptive_field

MODEL = '''
"""Three steps."""
import torch
from torch import nn


class Helper(nn.Module):
    pass


class Model_2(nn.Module):
    input_shape = (3, 8, 8)

    def __init__(self, width=4):
        super().__init__()
        self.conv = nn.Conv2d(3, width, 3)

    def forward(self, x):
        return self.conv(x)


class Model_1(Model_2):
    pass


class Model_x(Model_2):
    pass
'''


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty current directory."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def model_file(folder: Path) -> Path:
    path = folder / "model.py"
    path.write_text(MODEL)
    return path


def message_of(name: str, **options) -> str:
    with pytest.raises(ModelError) as error:
        load(name, **options)
    text = str(error.value)
    assert "\n" not in text
    return text


# --- found ------------------------------------------------------------------------------------------------------------


def test_a_name_is_looked_for_in_the_current_directory(model_file: Path) -> None:
    module = load("Model_2")
    assert type(module).__name__ == "Model_2"
    assert find("Model_2").path == Path("model.py")


def test_models_names_another_file(folder: Path) -> None:
    (folder / "others.py").write_text(MODEL)
    assert type(load("Model_1", models=folder / "others.py")).__name__ == "Model_1"


def test_a_file_and_a_class(model_file: Path) -> None:
    assert type(load(f"{model_file}:Helper")).__name__ == "Helper"
    assert type(load("model.py:Model_x")).__name__ == "Model_x"


def test_a_function_of_an_installed_package() -> None:
    module = load("torchvision.models:resnet18")
    assert type(module).__name__ == "ResNet"


def test_names_are_the_models_of_a_file_which_is_not_executed(folder: Path) -> None:
    path = folder / "model.py"
    path.write_text("raise SystemExit(1)\n" + MODEL)
    assert names(path) == ["Model_2", "Model_1"]


def test_input_shape_is_given_or_the_classs_own(model_file: Path) -> None:
    assert receptive_field(load("Model_2")).input_shape == (3, 8, 8)
    assert receptive_field(load("Model_2"), (3, 9, 9)).input_shape == (3, 9, 9)
    assert receptive_field(nn.Conv2d(1, 1, 3)).input_shape == (1, 28, 28)


def test_loading_leaves_nothing_behind(folder: Path) -> None:
    (folder / "sibling_of_net.py").write_text("WIDTH = 4\n")
    (folder / "statistics.py").write_text("raise RuntimeError('shadows the standard library')\n")
    (folder / "net.py").write_text(
        "from __future__ import annotations\nimport statistics, sibling_of_net\nfrom dataclasses import dataclass\n"
        "from torch import nn\n\n@dataclass\nclass Size:\n    width: int = sibling_of_net.WIDTH\n\n"
        "class Net(nn.Linear):\n    def __init__(self):\n"
        "        super().__init__(Size().width, statistics.mean([2, 2]))\n"
    )
    modules, path = set(sys.modules), list(sys.path)
    module = load("net.py:Net")
    assert module.weight.shape == (2, 4)
    assert set(sys.modules) - modules <= {"statistics"}
    assert sys.path == path
    assert sorted(item.name for item in folder.iterdir()) == ["net.py", "sibling_of_net.py", "statistics.py"]


def test_the_same_file_twice_gives_two_classes(model_file: Path) -> None:
    assert type(load("Model_2")) is not type(load("Model_2"))


# --- weights ----------------------------------------------------------------------------------------------------------


def test_weights_are_beside_the_file(model_file: Path) -> None:
    module = load("Model_2")
    save_file(module.state_dict(), model_file.with_name("Model_2.safetensors"))
    loaded = load("Model_2", pretrained=True)
    assert torch.equal(loaded.conv.weight, module.conv.weight)


def test_missing_weights(model_file: Path) -> None:
    assert message_of("Model_2", pretrained=True) == "Model_2.safetensors: cannot be read: No such file or directory"


def test_truncated_weights(model_file: Path) -> None:
    path = model_file.with_name("Model_2.safetensors")
    save_file(load("Model_2").state_dict(), path)
    whole, start = path.read_bytes(), "Model_2.safetensors: is no safetensors file: is truncated, "
    path.write_bytes(whole[:-5])
    assert message_of("Model_2", pretrained=True) == f"{start}{len(whole) - 5} bytes of {len(whole)} or more are left"
    path.write_bytes(whole[:100])
    assert message_of("Model_2", pretrained=True).startswith(f"{start}100 bytes of ")
    path.write_bytes(b"")
    assert message_of("Model_2", pretrained=True) == f"{start}0 bytes are left"


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ({"conv.weight": torch.zeros(4, 3, 3, 3)}, "conv.bias is missing"),
        (
            {"conv.weight": torch.zeros(4, 3, 3, 3), "conv.bias": torch.zeros(4), "fc.bias": torch.zeros(1)},
            "fc.bias is not in the class",
        ),
        (
            {"conv.weight": torch.zeros(5, 3, 3, 3), "conv.bias": torch.zeros(5)},
            "conv.weight is (5, 3, 3, 3) of float32 where the class has (4, 3, 3, 3) of float32 (and 1 more)",
        ),
    ],
)
def test_weights_of_another_class(model_file: Path, weights: dict[str, torch.Tensor], message: str) -> None:
    save_file(weights, model_file.with_name("Model_2.safetensors"))
    assert message_of("Model_2", pretrained=True) == (
        f"Model_2.safetensors: these are not the weights of Model_2: {message}"
    )


def test_a_package_has_no_weights_of_ours() -> None:
    assert message_of("torchvision.models:resnet18", pretrained=True) == (
        "torchvision.models:resnet18 comes without weights; only a model file has them beside it"
    )


# --- not found, not right ---------------------------------------------------------------------------------------------


def test_no_such_file() -> None:
    assert message_of("nowhere/net.py:Net") == "nowhere/net.py: there is no such file"
    assert message_of("Model_1", models=Path("nowhere.py")) == "nowhere.py: there is no such file"


def test_a_folder_is_no_file(folder: Path) -> None:
    (folder / "net.py").mkdir()
    assert message_of("net.py:Net").startswith("net.py: cannot be read: ")


def test_no_such_class_lists_those_there_are(model_file: Path) -> None:
    there = "Helper, Model_2, Model_1, Model_x"
    assert message_of("model.py:Net") == f"model.py has no class 'Net'; it has {there}"
    assert message_of("Model_9", models=model_file) == f"there is no class 'Model_9': {model_file} has {there}"
    assert message_of("Model_9999").startswith(f"there is no class 'Model_9999': model.py has {there}")
    assert message_of("model.py") == f"model.py: which class? Write model.py:Name; it has {there}"
    assert message_of("model.py:") == f"model.py has no class ''; it has {there}"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("class Net:\n    def f(self:\n", r"net.py: line 2: not Python: "),
        ("x = 1\n\nclass Net: pass\n1 / 0\n", "net.py: line 4: raises ZeroDivisionError on import: division by zero"),
        ("import nothing_of_this_name\n", "net.py: line 1: raises ModuleNotFoundError on import: No module named "),
        ("raise SystemExit(3)\n", "net.py: line 1: raises SystemExit on import: 3"),
        ("class Net: pass\n", "net.py: Net must be an nn.Module, but is a class Net"),
        ("Net = 3\n", "net.py: Net must be an nn.Module, but is a int"),
        ("def Net(): return 3\n", "net.py: Net() must give an nn.Module, but gives a int"),
        ("\0", "net.py: "),
        ("from . import x\n", "net.py: line 1: raises ImportError on import: attempted relative import with no known "),
    ],
)
def test_files_that_will_not_do(folder: Path, text: str, message: str) -> None:
    (folder / "net.py").write_text(text)
    assert message_of("net.py:Net").startswith(message)


def test_bytes_that_are_no_text(folder: Path) -> None:
    (folder / "net.py").write_bytes(b"\xff\xfe\x00\x80" * 10)
    assert "not Python" in message_of("net.py:Net")


@pytest.mark.parametrize(
    ("constructor", "message"),
    [
        ("self, width", "needs arguments: "),
        ("self, width=1 / 1, kind=ValueError", ""),
        ("self, kind=SystemExit", ""),
    ],
)
def test_constructors(folder: Path, constructor: str, message: str) -> None:
    body = "        super().__init__()\n" if message else "        raise kind('width must be\\n odd')\n"
    (folder / "net.py").write_text(
        f"from torch import nn\nclass Net(nn.Module):\n    def __init__({constructor}):\n{body}"
    )
    expected = message or "fails: width must be"
    assert message_of("net.py:Net").startswith(f"net.py: the constructor of Net {expected}")


def test_no_such_package_or_name() -> None:
    assert message_of("no_such_package.x:Net") == (
        "no_such_package.x: cannot be imported: No module named 'no_such_package'"
    )
    assert message_of("torch.nn:Nothing") == "torch.nn has no class or function 'Nothing'"


def test_a_forward_that_fails(model_file: Path) -> None:
    with pytest.raises(
        ModelError, match=r"^conv: forward fails for an input of 1x8x8: Given groups=1, weight of size "
    ):
        receptive_field(load("Model_2"), (1, 8, 8))
