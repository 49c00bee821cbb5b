"""BN-Inception: names and shapes of the public weights, its pools, its preprocessing."""

import copy

import pytest
import timm
import torch
from torch import Tensor
from torch.nn import functional

from a3m.errors import SettingsError
from a3m.model.backbone import create
from a3m.model.feature_map import listening
from a3m.settings import Backbone

# Channels of the blocks, and the side of their maps at 224 pixels
SHAPES = {
    "3a": (256, 28), "3b": (320, 28), "3c": (576, 14), "4a": (576, 14), "4b": (576, 14), "4c": (608, 14),
    "4d": (608, 14), "4e": (1056, 7), "5a": (1024, 7), "5b": (1024, 7),
}  # fmt: skip


def outputs(model: torch.nn.Module, images: Tensor, *names: str) -> list[Tensor]:
    with torch.inference_mode(), listening(model, names) as heard:
        model(images)
    return [heard[name][0] for name in names]


@pytest.fixture(scope="module")
def network() -> torch.nn.Module:
    """With batch norms that do something, in evaluation mode."""
    torch.manual_seed(5)
    model = timm.create_model("bn_inception", num_classes=0, global_pool="").eval()
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.running_mean, -0.1, 0.1)
            torch.nn.init.uniform_(module.running_var, 0.5, 1.5)
    return model


def test_every_block_has_the_papers_channels_and_map(network):
    names = [f"inception_{name}_output" for name in SHAPES]
    found = outputs(network, torch.zeros(1, 3, 224, 224), "conv1_7x7_s2", "conv2_3x3", *names)
    assert [tuple(x.shape[1:]) for x in found] == [
        (64, 112, 112), (192, 56, 56), *((channels, side, side) for channels, side in SHAPES.values())
    ]  # fmt: skip
    built = create(Backbone("bn_inception"), input_size=(224, 224))
    assert (built.channels, built.map_size) == (1024, (7, 7))


def test_parameters_are_named_and_counted_as_in_the_public_file():
    state = timm.create_model("bn_inception").state_dict()
    parts = {key.rpartition(".")[0] for key in state}
    of_3a = ["1x1", "3x3_reduce", "3x3", "double_3x3_reduce", "double_3x3_1", "double_3x3_2", "pool_proj"]
    of_3c = ["3x3_reduce", "3x3", "double_3x3_reduce", "double_3x3_1", "double_3x3_2"]
    for block, units in (("3a", of_3a), ("3c", of_3c), ("4e", of_3c), ("5b", of_3a)):
        convolutions = [f"inception_{block}_{unit}" for unit in units]
        assert {name for name in parts if name.startswith(f"inception_{block}_")} == {
            *convolutions, *(f"{name}_bn" for name in convolutions)
        }  # fmt: skip
    assert {name for name in parts if "inception" not in name} == {
        "conv1_7x7_s2", "conv1_7x7_s2_bn", "conv2_3x3_reduce", "conv2_3x3_reduce_bn", "conv2_3x3", "conv2_3x3_bn", "last_linear",
    }  # fmt: skip
    assert state["conv1_7x7_s2.bias"].shape == (64,)
    assert state["inception_5b_double_3x3_1.weight"].shape == (224, 192, 3, 3)
    # 11,295,240 is what others who converted the Caffe network count, with 1000 classes
    counted = sum(p.numel() for key, p in state.items() if "running" not in key and "num_batches" not in key)
    assert counted == 11_295_240


def neighbourhoods(x: Tensor, border: float) -> Tensor:
    """(B, C, H, W) -> (B, C, H, W, 9): the 3 x 3 around every place."""
    padded = functional.pad(x, (1, 1, 1, 1), value=border)
    return padded.unfold(2, 3, 1).unfold(3, 3, 1).flatten(4)


def project(network: torch.nn.Module, block: str, x: Tensor) -> Tensor:
    name = f"inception_{block}_pool_proj"
    return network.get_submodule(f"{name}_bn")(network.get_submodule(name)(x)).relu()


def test_4a_pools_by_the_mean_with_its_border_of_zeros_counted_and_5b_by_the_maximum(network):
    images = torch.rand(1, 3, 64, 64)
    names = [f"inception_{block}_output" for block in ("3c", "4a", "5a", "5b")]
    into_4a, from_4a, into_5b, from_5b = outputs(network, images, *names)
    with torch.inference_mode():
        mean = project(network, "4a", neighbourhoods(into_4a, 0.0).sum(-1) / 9)
        largest = project(network, "5b", neighbourhoods(into_5b, -torch.inf).amax(-1))
    torch.testing.assert_close(from_4a[:, -128:], mean)
    torch.testing.assert_close(from_5b[:, -128:], largest)
    assert mean.std() > 0
    assert largest.std() > 0


def test_3c_halves_the_map_and_passes_its_input_on_by_the_maximum_of_2_or_3_places(network):
    into, halved = outputs(network, torch.rand(1, 3, 96, 96), "inception_3b_output", "inception_3c_output")
    assert (into.shape[2], halved.shape[2]) == (12, 6)
    for i in range(6):
        for j in range(6):  # ceil_mode: the last window reaches beyond the map and takes what there is
            window = into[0, :, 2 * i : 2 * i + 3, 2 * j : 2 * j + 3].amax((1, 2))
            assert torch.equal(halved[0, -320:, i, j], window)


def test_sides_that_the_two_branches_of_a_block_would_halve_differently_are_refused():
    with pytest.raises(SettingsError, match=r"bn_inception yields no feature map at 96 x 48.*multiples of 32"):
        create(Backbone("bn_inception"), input_size=(96, 48))
    assert create(Backbone("bn_inception"), input_size=(96, 64)).map_size == (3, 2)


# --- the public weights' preprocessing ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def public_file(network, tmp_path_factory):
    """A file laid out as the public one: a leading dimension of 1 where it has one, and a classifier of 1000."""
    state = {
        key: tensor[None] if key.endswith(("bias", "running_mean", "running_var", "_bn.weight")) else tensor
        for key, tensor in network.state_dict().items()
        if not key.endswith("num_batches_tracked")
    }
    state |= {"last_linear.weight": torch.rand(1000, 1024), "last_linear.bias": torch.rand(1000)}
    path = tmp_path_factory.mktemp("public") / "bn_inception.pth"
    torch.save(state, path)
    return path


def test_the_public_layout_loads_and_its_documented_preprocessing_by_hand_gives_the_same_map(network, public_file):
    loaded = create(Backbone("bn_inception", weights=str(public_file)), input_size=(64, 64)).eval().double()
    plain = copy.deepcopy(network).double()  # without `bgr`
    pixels = torch.randint(0, 256, (2, 3, 64, 64), generator=torch.Generator().manual_seed(1))  # RGB
    blue_green_red = pixels[:, [2, 1, 0]].double() - torch.tensor([104, 117, 128])[:, None, None]
    mean, std = (torch.tensor(x, dtype=torch.float64)[:, None, None] for x in (loaded.mean, loaded.std))
    with torch.inference_mode():
        by_hand = plain(blue_green_red)
        torch.testing.assert_close(loaded((pixels.double() / 255 - mean) / std), by_hand)
        # turning the channels is all that `bgr` does, to the bit
        assert torch.equal(loaded(blue_green_red.flip(1)), by_hand)
        assert not torch.allclose(plain(blue_green_red.flip(1)), by_hand, rtol=1e-2, atol=1e-2)


def test_the_normalisation_is_the_documented_one_for_every_value_of_a_pixel(public_file):
    loaded = create(Backbone("bn_inception", weights=str(public_file)), input_size=(64, 64))
    values = torch.arange(256)
    for colour, (name, mean) in enumerate((("red", 128), ("green", 117), ("blue", 104))):
        normalised = (values / 255 - loaded.mean[colour]) / loaded.std[colour]
        torch.testing.assert_close(normalised, (values - mean).float(), rtol=0, atol=1e-4, msg=name)


def test_from_scratch_it_takes_rgb_with_imagenets_normalisation():
    built = create(Backbone("bn_inception"), input_size=(64, 64))
    assert built.mean == (0.485, 0.456, 0.406)
    assert not built.model.bgr


def test_timms_own_loading_takes_the_public_layout_too(public_file, network):
    loaded = timm.create_model("bn_inception", pretrained=True, pretrained_cfg_overlay={"file": str(public_file)})
    assert all(torch.equal(tensor, loaded.state_dict()[key]) for key, tensor in network.state_dict().items())
    assert loaded.last_linear.weight.std() > 0
