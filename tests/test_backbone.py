"""Backbones by timm's names: what is built, what is refused and with which remedy; maps of earlier layers."""

import copy
import importlib.resources

import pytest
import timm
import torch
import torchvision
import yaml
from timm.data.constants import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD

from a3m.errors import SettingsError
from a3m.model.backbone import create, default_taps
from a3m.model.feature_map import find_map
from a3m.settings import Backbone

SMALL = (96, 48)


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


def test_googlenets_weights_want_one_half_which_is_torchvisions_shift_inside_the_model(tmp_path):
    torch.manual_seed(0)
    theirs = torchvision.models.googlenet(init_weights=False, aux_logits=True).eval()
    theirs.transform_input = True  # as torchvision sets it for its weights
    theirs.fc = theirs.dropout = torch.nn.Identity()
    torch.save(theirs.state_dict() | {"fc.weight": torch.zeros(1000, 1024)}, tmp_path / "googlenet.pth")
    ours = create(Backbone("googlenet", weights=str(tmp_path / "googlenet.pth")), input_size=(64, 64)).eval()
    pixels = torch.rand(2, 3, 64, 64)

    def normalised(mean, std):
        return (pixels - torch.tensor(mean)[:, None, None]) / torch.tensor(std)[:, None, None]

    with torch.inference_mode():
        pooled = ours(normalised(ours.mean, ours.std)).mean((2, 3))
        torch.testing.assert_close(pooled, theirs(normalised(IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD)))


# --- where the map is ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "channels", "size", "parameters"),
    [
        ("alexnet", 256, (6, 6), 2_469_696),  # its five convolutions; the layers of 4096 would be 58.6 M more
        ("googlenet", 1024, (7, 7), 5_599_904),
        ("vgg16", 512, (7, 7), 14_714_688),  # its thirteen convolutions; timm's pre_logits would be 119.5 M more
        ("efficientvit_b0", 128, (7, 7), None),  # cannot be built without pooling
        (
            "mobilenetv3_small_050",
            1024,
            (7, 7),
            None,
        ),  # its forward_features has 288: the last layer works place by place
    ],
)
def test_the_map_is_found_whichever_method_of_the_model_gives_it(name, channels, size, parameters):
    fewer = {"mlp_ratio": 0.002} if name == "vgg16" else {}  # of what is left out; 4096 take seconds to draw
    built = create(Backbone(name, arguments=fewer), input_size=(224, 224)).eval()
    assert (built.channels, built.map_size) == (channels, size)
    if parameters is not None:
        assert sum(parameter.numel() for parameter in built.parameters()) == parameters
    with torch.inference_mode():
        assert built(torch.zeros(1, 3, 224, 224)).shape == (1, channels, *size)


def test_alexnets_map_is_that_of_torchvisions_features():
    built = create(Backbone("alexnet"), input_size=(128, 64)).eval()
    theirs = torchvision.models.alexnet().features
    theirs.load_state_dict(built.model.features.state_dict())
    images = torch.rand(1, 3, 128, 64)
    assert torch.equal(built(images), theirs(images))
    assert built.map_size == (3, 1)


def test_the_registered_googlenet_classifies_as_torchvisions_does():
    ours = timm.create_model("googlenet", num_classes=10).eval()
    theirs = torchvision.models.googlenet(num_classes=10, aux_logits=False, init_weights=False).eval()
    theirs.load_state_dict(ours.state_dict())
    images = torch.rand(1, 3, 64, 64)
    with torch.inference_mode():
        assert torch.equal(ours(images), theirs(images))


# --- taps ---------------------------------------------------------------------------------------------------------------


def small(taps=("layer2", "layer3"), seed=0):
    torch.manual_seed(seed)
    return create(Backbone("a3m_resnet_small"), input_size=SMALL, taps=taps).eval()


def test_tapped_maps_are_those_of_the_layers_by_hand_and_the_last_is_the_final_one():
    built, images = small(), torch.rand(2, 3, *SMALL)
    model = built.model
    x = model.layer1(model.maxpool(model.act1(model.bn1(model.conv1(images)))))
    second = model.layer2(x)
    third = model.layer3(second)
    maps = built.maps(images)
    assert built.tap_channels == [32, 64, 128] == [each.shape[1] for each in maps]
    assert all(torch.equal(a, b) for a, b in zip(maps, [second, third, model.layer4(third)], strict=True))
    assert torch.equal(maps[-1], built(images))


def test_taps_keep_the_order_asked_for_and_none_are_the_final_map_alone():
    images = torch.rand(1, 3, *SMALL)
    assert [each.shape[1] for each in small(("layer3", "layer1")).maps(images)] == [64, 16, 128]
    assert [each.shape[1] for each in small(()).maps(images)] == [128]


def test_taps_work_in_inference_mode_under_autocast_and_on_a_copy_and_leave_nothing_behind():
    built, images = small(), torch.rand(2, 3, *SMALL)
    copied = copy.deepcopy(built)  # what the averaged weights are
    with torch.no_grad():
        for parameter in copied.parameters():
            parameter.zero_()
    with torch.inference_mode():
        once, again = built.maps(images), built.maps(images)
        assert all(torch.equal(a, b) for a, b in zip(once, again, strict=True))
        assert not any(each.any() for each in copied.maps(images))
        with torch.autocast("cpu", dtype=torch.bfloat16):
            assert built.maps(images)[0].shape == once[0].shape
    assert not any(module._forward_hooks for module in built.modules())
    assert built.state_dict().keys() == small(()).state_dict().keys()


def test_a_loss_on_a_tapped_map_trains_the_layers_below_it_alone():
    built = small()
    built.maps(torch.rand(2, 3, *SMALL))[0].square().mean().backward()
    assert built.model.conv1.weight.grad.abs().sum() > 0
    assert built.model.layer3[0].conv1.weight.grad is None


def test_hdcs_taps_of_bn_inception_are_after_4a_and_4d():
    built = create(Backbone("bn_inception"), input_size=(64, 64), taps=default_taps("bn_inception")).eval()
    with torch.inference_mode():
        assert [tuple(each.shape[1:]) for each in built.maps(torch.rand(1, 3, 64, 64))] == [
            (576, 4, 4), (608, 4, 4), (1024, 2, 2)
        ]  # fmt: skip
    assert built.tap_channels == [576, 608, 1024]


def test_default_taps_exist_for_resnets_and_googlenet_and_are_asked_for_elsewhere():
    assert default_taps("resnet50.a1_in1k") == default_taps("seresnet50") == default_taps("a3m_resnet_small")
    for name in ("resnet18", "googlenet"):
        assert len(create(Backbone(name), input_size=(64, 64), taps=default_taps(name)).tap_channels) == 3
    for name in ("vgg16", "no_such_model"):
        with pytest.raises(SettingsError, match=rf"{name}.*HDC"):
            default_taps(name)


class Odd(torch.nn.Module):
    """A map at the end, and on the way a module called twice, one that yields a vector and one that is not called."""

    def __init__(self):
        super().__init__()
        self.conv, self.twice, self.pool, self.never = (
            torch.nn.Conv2d(3, 8, 3), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Conv2d(8, 8, 1)
        )  # fmt: skip

    def forward(self, x):
        x = self.twice(self.twice(self.conv(x)))
        self.pool(x)
        return x


@pytest.mark.parametrize(
    ("tap", "told"),
    [
        ("conf", "no module 'conf'; it has conv"),
        ("", "no module '';"),
        ("twice", "is called 2 times; name a module that yields one map"),
        ("never", "is called 0 times"),
        ("pool", "yields no map"),
    ],
)
def test_a_tap_that_does_not_yield_one_map_is_refused(tap, told):
    assert find_map(Odd(), "odd", (8, 8), ("conv",)).tap_channels == (8,)
    with pytest.raises(SettingsError, match=rf"taps: .*{told}"):
        find_map(Odd(), "odd", (8, 8), (tap,))


# --- the settings' own names --------------------------------------------------------------------------------------------


def test_every_backbone_of_the_settings_is_one_that_can_be_built_without_weights():
    files = [f for f in importlib.resources.files("a3m.conf.backbone").iterdir() if f.name.endswith(".yaml")]
    assert len(files) >= 7
    for file in files:
        settings = yaml.safe_load(file.read_text())
        if settings["name"] not in ("vgg16", "alexnet"):  # built above, and slow to draw
            built = create(Backbone(settings["name"]), input_size=(224, 224))
            assert built.map_size == ((28, 28) if settings["name"] == "a3m_resnet_small" else (7, 7))
