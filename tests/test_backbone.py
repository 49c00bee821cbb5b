"""Backbones by timm's names: what is built, what is refused and with which remedy, weights from files."""

import pickle

import pytest
import timm
import torch
from safetensors.torch import save_file
from timm.data.constants import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD

from a3m.errors import DataError, SettingsError, UserError
from a3m.model import backbone
from a3m.model.backbone import create
from a3m.settings import Backbone

SMALL = (96, 48)


def weights(seed: int = 3, **arguments) -> dict[str, torch.Tensor]:
    """A state dict of the small network with recognisable values."""
    generator = torch.Generator().manual_seed(seed)
    model = timm.create_model("a3m_resnet_small", **arguments)
    return {
        key: torch.rand(tensor.shape, generator=generator) if tensor.is_floating_point() else tensor
        for key, tensor in model.state_dict().items()
    }


def test_the_small_resnet_yields_a_12_x_6_map_of_128_channels():
    built = create(Backbone("a3m_resnet_small"), input_size=SMALL)
    assert (built.channels, built.map_size) == (128, (12, 6))
    assert built(torch.zeros(2, 3, *SMALL)).shape == (2, 128, 12, 6)
    # 16 convolutions hold 329,136, their batch norms twice 816
    assert sum(parameter.numel() for parameter in built.parameters()) == 330_768


def test_resnet50_at_the_papers_size_yields_a_14_x_7_map():
    built = create(Backbone("resnet50"), input_size=(448, 224))
    assert (built.channels, built.map_size) == (2048, (14, 7))
    assert built.eval()(torch.zeros(1, 3, 64, 32)).shape == (1, 2048, 2, 1)
    assert not [name for name, _ in built.named_parameters() if "fc" in name]


def test_output_stride_refines_the_map_and_32_leaves_the_model_alone():
    assert create(Backbone("resnet18", output_stride=16), input_size=(64, 32)).map_size == (4, 2)
    assert create(Backbone("resnet18", output_stride=32), input_size=(64, 32)).map_size == (2, 1)
    with pytest.raises(SettingsError, match=r"backbone\.output_stride=16.*leaves the model alone"):
        create(Backbone("a3m_resnet_small", output_stride=16), input_size=SMALL)


def test_arguments_reach_timm_and_what_we_set_ourselves_is_refused():
    built = create(Backbone("resnet18", arguments={"drop_path_rate": 0.5}), input_size=(64, 64))
    assert built.model.layer4[1].drop_path.drop_prob == pytest.approx(0.5)
    with pytest.raises(SettingsError, match=r"backbone\.arguments\.num_classes"):
        create(Backbone("resnet18", arguments={"num_classes": 3}), input_size=(64, 64))
    with pytest.raises(SettingsError, match="no_such_thing"):
        create(Backbone("resnet18", arguments={"no_such_thing": 3}), input_size=(64, 64))


def test_an_unknown_name_is_refused_with_near_ones():
    with pytest.raises(SettingsError, match=r"backbone\.name=resnt50.*resnet50"):
        create(Backbone("resnt50"), input_size=(224, 224))


@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("vit_tiny_patch16_224", (224, 224)),
        ("vit_tiny_patch16_224", SMALL),
        ("swin_tiny_patch4_window7_224", (224, 224)),
    ],
)
def test_what_yields_no_map_is_refused_with_a_remedy(name, size):
    with pytest.raises(SettingsError, match=rf"backbone\.name={name}.*resnet50"):
        create(Backbone(name), input_size=size)


def test_a_single_region_is_refused():
    with pytest.raises(SettingsError, match=r"single region.*data\.height"):
        create(Backbone("resnet18"), input_size=(32, 32))


def test_the_shape_is_found_without_touching_the_model():
    built = create(Backbone("a3m_resnet_small"), input_size=SMALL)
    assert built.training
    assert int(built.model.bn1.num_batches_tracked) == 0
    assert {tensor.device.type for tensor in built.state_dict().values()} == {"cpu"}


# --- normalisation ------------------------------------------------------------------------------------------------------


def test_normalisation_is_that_of_the_weights_and_imagenets_from_scratch(tmp_path):
    scratch = create(Backbone("tf_efficientnet_lite0"), input_size=(64, 64))
    assert (scratch.mean, scratch.std) == (IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD)
    torch.save(timm.create_model("tf_efficientnet_lite0").state_dict(), tmp_path / "lite0.pth")
    loaded = create(Backbone("tf_efficientnet_lite0", weights=str(tmp_path / "lite0.pth")), input_size=(64, 64))
    assert (loaded.mean, loaded.std) == ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))


# --- weights ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("wrap", [lambda s: s, lambda s: {"state_dict": s, "epoch": 3}, lambda s: {"model": s}])
def test_a_torch_file_is_loaded_with_or_without_a_wrapper_and_its_classifier_is_left_aside(tmp_path, wrap):
    given = weights(num_classes=7)
    torch.save(wrap({f"module.{key}": tensor for key, tensor in given.items()}), tmp_path / "weights.pth")
    built = create(Backbone("a3m_resnet_small", weights=str(tmp_path / "weights.pth")), input_size=SMALL)
    assert all(torch.equal(tensor, given[key]) for key, tensor in built.model.state_dict().items())


def test_a_safetensors_file_without_classifier_and_batch_counters_is_loaded(tmp_path):
    given = {key: tensor for key, tensor in weights(num_classes=0).items() if not key.endswith("num_batches_tracked")}
    save_file(given, tmp_path / "weights.safetensors")
    built = create(Backbone("a3m_resnet_small", weights=str(tmp_path / "weights.safetensors")), input_size=SMALL)
    assert all(torch.equal(built.model.state_dict()[key], tensor) for key, tensor in given.items())


def test_missing_unexpected_and_misshapen_tensors_are_listed(tmp_path):
    given = weights(num_classes=0)
    del given["conv1.weight"]
    given |= {"layer9.weight": torch.zeros(3), "bn1.weight": torch.zeros(5)}
    torch.save(given, tmp_path / "weights.pth")
    with pytest.raises(DataError) as refused:
        create(Backbone("a3m_resnet_small", weights=str(tmp_path / "weights.pth")), input_size=SMALL)
    message = str(refused.value)
    assert "1 missing: conv1.weight" in message
    assert "1 unexpected: layer9.weight" in message
    assert "1 misshapen: bn1.weight (5,) for (16,)" in message
    assert "\n" not in message


def test_a_long_list_is_shortened(tmp_path):
    torch.save({"a": torch.zeros(1)}, tmp_path / "weights.pth")
    with pytest.raises(DataError, match=r"80 missing: conv1\.weight, .* and 72 more; 1 unexpected: a"):
        create(Backbone("a3m_resnet_small", weights=str(tmp_path / "weights.pth")), input_size=SMALL)


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize("content", [b"", b"not weights at all", pickle.dumps(print, protocol=2)])
def test_a_file_that_holds_no_weights_is_refused(tmp_path, suffix, content):
    path = tmp_path / f"weights{suffix}"
    path.write_bytes(content)
    with pytest.raises(DataError, match="weights=.*" + suffix):
        create(Backbone("a3m_resnet_small", weights=str(path)), input_size=SMALL)


def test_a_torch_file_of_something_else_is_refused(tmp_path):
    torch.save([1, 2], tmp_path / "weights.pth")
    with pytest.raises(DataError, match="holds no state dict"):
        create(Backbone("a3m_resnet_small", weights=str(tmp_path / "weights.pth")), input_size=SMALL)


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(SettingsError, match="no such file"):
        create(Backbone("a3m_resnet_small", weights=str(tmp_path / "none.pth")), input_size=SMALL)


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


def test_a_model_that_timm_has_no_weights_for_is_refused():
    with pytest.raises(SettingsError, match="no weights for a3m_resnet_small"):
        create(Backbone("a3m_resnet_small", weights="pretrained"), input_size=SMALL)
