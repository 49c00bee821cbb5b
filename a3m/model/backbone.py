"""Backbones: any timm model that yields a feature map, its initial weights and, where asked for, maps of earlier layers.

Shape suffixes: B batch, C channels of the map, H W height and width.
"""

import difflib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import timm
from timm.data.constants import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from timm.models import model_entrypoint
from torch import Tensor, nn

from a3m.errors import SettingsError, UserError
from a3m.model import bn_inception, small_resnet, torchvision_nets  # noqa: F401  importing them registers them with timm
from a3m.model.feature_map import CONV_NETS, REFUSALS, find_map, listening
from a3m.model.weights import load_weights, one_line, pretrained_cfg
from a3m.weights_source import weights_file

if TYPE_CHECKING:
    from a3m.settings import Backbone as BackboneSettings

# What `create` itself tells timm.create_model.
RESERVED = ("pretrained", "num_classes", "global_pool", "features_only", "output_stride", "in_chans")

# Where HDC takes its first two maps; all of timm's ResNets have the layers of RESNET_TAPS.
TAPS = {
    "bn_inception": ("inception_4a_output", "inception_4d_output"),
    "googlenet": ("inception4a", "inception4d"),
    "a3m_resnet_small": ("layer2", "layer3"),
}
RESNET_MODULE, RESNET_TAPS = "timm.models.resnet", ("layer2", "layer3")


class Backbone(nn.Module):
    """A shared CNN without its classifier: images (B, 3, H, W) float, normalised with `mean` and `std` -> map (B, C, h, w).

    `channels` is C; `map_size` is (h, w) at the input size that `create` was given; `mean` and `std` are what the weights
    were trained with, a number a colour channel, of RGB pixels scaled to [0, 1]. `tap_channels` has one number a map of `maps`.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        channels: int,
        map_size: tuple[int, int],
        mean: tuple[float, ...],
        std: tuple[float, ...],
        method: str = "forward",
        taps: tuple[str, ...] = (),
        tap_channels: tuple[int, ...] = (),
    ) -> None:
        super().__init__()
        self.model = model
        self.channels = channels
        self.map_size = map_size
        self.mean = mean
        self.std = std
        self.method = method
        self.taps = taps
        self.tap_channels = [*tap_channels, channels]

    def forward(self, images: Tensor) -> Tensor:
        """Images (B, 3, H, W), normalised -> the feature map (B, C, h, w)."""
        return self.model(images) if self.method == "forward" else getattr(self.model, self.method)(images)

    def maps(self, images: Tensor) -> list[Tensor]:
        """The maps of the tapped modules, in the order of `taps`, then the final map: (B, tap_channels[i], h_i, w_i) each."""
        with listening(self.model, self.taps) as heard:
            final = self(images)
        return [*(heard[name][0] for name in self.taps), final]


def create(settings: "BackboneSettings", *, input_size: tuple[int, int], taps: tuple[str, ...] = ()) -> Backbone:
    """Build `backbone.name` with its weights for images of `input_size` (height, width) in pixels.

    `taps` names modules of the model whose maps `Backbone.maps` gives beside the last. New weights are drawn from torch's
    global generator. Raises SettingsError (unknown name, no feature map, unknown argument, unknown tap, no such file),
    DataError (a file that does not fit) and UserError (timm's hub cannot be reached).
    """
    file = weights_file(settings.weights, Path())  # a trial names it by an absolute path
    model = _construct(settings)
    found = find_map(model, settings.name, input_size, taps)
    if settings.weights == "pretrained":
        model = _download(settings)
    for name in found.unread:  # such as the two layers of 4096 that timm's VGG applies to its map: most of its weights
        setattr(model, name, nn.Identity())
    if file is not None:
        load_weights(model, file, unread=found.unread)
    mean, std = IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
    if settings.weights != "none":
        trained_with = pretrained_cfg(model)
        mean, std = trained_with.get("mean", mean), trained_with.get("std", std)
        if isinstance(model, bn_inception.BNInception):
            model.bgr = True
    return Backbone(
        model,
        channels=found.channels,
        map_size=found.size,
        mean=tuple(mean),
        std=tuple(std),
        method=found.method,
        taps=taps,
        tap_channels=found.tap_channels,
    )


def default_taps(name: str) -> tuple[str, str]:
    """Where HDC taps the timm model of this name, its third map being the last. Raises SettingsError when that is not known."""
    family = name.split(".")[0]
    if family in TAPS:
        return TAPS[family]
    if timm.is_model(name) and model_entrypoint(name).__module__ == RESNET_MODULE:
        return RESNET_TAPS
    raise SettingsError(
        f"backbone.name={name}: HDC needs the maps of two earlier layers, and where to tap this model is not known; "
        f"take {', '.join(TAPS)} or a ResNet of timm's"
    )


def _construct(settings: "BackboneSettings", *, pretrained: bool = False) -> nn.Module:
    """The timm model without classifier and, where it lets itself be built so, without pooling."""
    name = settings.name
    if not timm.is_model(name):
        near = difflib.get_close_matches(name.split(".")[0], timm.list_models(), n=4, cutoff=0.5)
        hint = f"did you mean {' or '.join(near)}?" if near else "timm.list_models() in Python lists the names"
        raise SettingsError(f"backbone.name={name}: timm knows no such model; {hint}")
    arguments: dict[str, Any] = dict(settings.arguments)
    for argument in arguments:
        if argument in RESERVED:
            raise SettingsError(f"backbone.arguments.{argument}: is set by the product itself; remove it")
    if settings.output_stride != 32:
        arguments["output_stride"] = settings.output_stride
    if pretrained:  # what goes wrong now is the hub: the very same model has just been built without weights
        return _build(name, arguments, pretrained=True)
    try:
        return _build(name, arguments, pretrained=False)
    except REFUSALS as error:
        raise SettingsError(
            f"backbone.name={name} cannot be built with backbone.output_stride={settings.output_stride} and "
            f"backbone.arguments={dict(settings.arguments)}: {one_line(error)}; "
            f"output_stride=32 leaves the model alone; or take {CONV_NETS}"
        ) from error


def _build(name: str, arguments: dict[str, Any], *, pretrained: bool) -> nn.Module:
    try:
        return timm.create_model(name, pretrained=pretrained, num_classes=0, global_pool="", **arguments)
    except AssertionError:  # "Cannot disable pooling"
        return timm.create_model(name, pretrained=pretrained, num_classes=0, **arguments)


def _download(settings: "BackboneSettings") -> nn.Module:
    """The model with timm's own weights, from its cache or the hub."""
    instead = "give a file instead: backbone.weights=<path of a .safetensors or .pth with timm's names>"
    if not timm.models.is_model_pretrained(settings.name):
        raise SettingsError(f"backbone.weights=pretrained: timm has no weights for {settings.name}; {instead}, or none")
    try:
        return _construct(settings, pretrained=True)
    except Exception as error:  # whatever the hub's client of the day raises: OSError, httpx, RuntimeError, ...
        raise UserError(
            f"backbone.weights=pretrained: timm could not get the weights of {settings.name} ({one_line(error)}); {instead}"
        ) from error
