"""Backbones: any timm model that yields a feature map, its initial weights, and a small one for the demo.

Shape suffixes: B batch, C channels of the map, H W height and width.
"""

import difflib
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import safetensors
import safetensors.torch
import timm
import torch
from timm.data.constants import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from timm.models import build_model_with_cfg, generate_default_cfgs, register_model
from timm.models.resnet import BasicBlock
from torch import Tensor, nn

from a3m.errors import DataError, SettingsError, UserError

if TYPE_CHECKING:
    from a3m.settings import Backbone as BackboneSettings

# What `create` itself tells timm.create_model.
RESERVED = ("pretrained", "num_classes", "global_pool", "features_only", "output_stride", "in_chans")
CONV_NETS = "a convolutional network such as resnet50, convnext_tiny or tf_efficientnet_lite0"


class Backbone(nn.Module):
    """A shared CNN without its classifier: images (B, 3, H, W) float, normalised with `mean` and `std` -> map (B, C, h, w).

    `channels` is C; `map_size` is (h, w) at the input size that `create` was given; `mean` and `std` are what the weights
    were trained with, a number a colour channel, of pixels scaled to [0, 1].
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        channels: int,
        map_size: tuple[int, int],
        mean: tuple[float, ...],
        std: tuple[float, ...],
    ) -> None:
        super().__init__()
        self.model = model
        self.channels = channels
        self.map_size = map_size
        self.mean = mean
        self.std = std

    def forward(self, images: Tensor) -> Tensor:
        return self.model(images)


def create(settings: "BackboneSettings", *, input_size: tuple[int, int]) -> Backbone:
    """Build `backbone.name` with its weights for images of `input_size` (height, width) in pixels.

    New weights are drawn from torch's global generator. Raises SettingsError (unknown name, no feature map, unknown argument,
    no such file), DataError (a file that does not fit) and UserError (timm's hub cannot be reached).
    """
    model = _construct(settings)
    channels, map_size = _map_shape(model, settings.name, input_size)
    if settings.weights == "pretrained":
        model = _download(settings)
    elif settings.weights != "none":
        load_weights(model, Path(settings.weights))
    mean, std = IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
    if settings.weights != "none":
        trained_with = _pretrained_cfg(model)
        mean, std = trained_with.get("mean", mean), trained_with.get("std", std)
    return Backbone(model, channels=channels, map_size=map_size, mean=tuple(mean), std=tuple(std))


def _construct(settings: "BackboneSettings", *, pretrained: bool = False) -> nn.Module:
    """The timm model without classifier and without pooling."""
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
        return timm.create_model(name, pretrained=True, num_classes=0, global_pool="", **arguments)
    try:
        return timm.create_model(name, num_classes=0, global_pool="", **arguments)
    except (TypeError, ValueError, AssertionError, RuntimeError, NotImplementedError) as error:
        raise SettingsError(
            f"backbone.name={name} cannot be built with backbone.output_stride={settings.output_stride} and "
            f"backbone.arguments={dict(settings.arguments)}: {_reason(error)}; "
            f"output_stride=32 leaves the model alone; or take {CONV_NETS}"
        ) from error


def _map_shape(model: nn.Module, name: str, input_size: tuple[int, int]) -> tuple[int, tuple[int, int]]:
    """(channels, (h, w)) of the model's map, by one forward on the meta device, which computes shapes and nothing else."""
    refused = f"backbone.name={name} yields no feature map at {input_size[0]} x {input_size[1]} pixels"
    tensors = {key: tensor.to("meta") for key, tensor in (*model.named_parameters(), *model.named_buffers())}
    training = model.training
    model.eval()
    try:
        output = torch.func.functional_call(model, tensors, (torch.empty(1, 3, *input_size, device="meta"),))
    except (RuntimeError, ValueError, TypeError, AssertionError, NotImplementedError) as error:
        raise SettingsError(f"{refused} ({_reason(error)}); take {CONV_NETS}") from error
    finally:
        model.train(training)
    if not isinstance(output, Tensor) or output.dim() != 4:
        got = f"its output is {tuple(output.shape)[1:]}" if isinstance(output, Tensor) else type(output).__name__
        raise SettingsError(f"{refused} (tokens or a vector: {got}); take {CONV_NETS}")
    # Models such as Swin keep channels last in the output itself: (B, h, w, C).
    widths = {getattr(model, "num_features", None), getattr(model, "head_hidden_size", None)} - {None}
    if widths and output.shape[1] not in widths and output.shape[3] in widths:
        raise SettingsError(f"{refused} (channels stand last: {tuple(output.shape)[1:]}); take {CONV_NETS}")
    channels, height, width = output.shape[1:]
    if height * width < 2:
        raise SettingsError(
            f"{refused} (a single region, nothing to attend over): raise data.height and data.width, or lower "
            "backbone.output_stride"
        )
    return channels, (height, width)


def _download(settings: "BackboneSettings") -> nn.Module:
    """The model with timm's own weights, from its cache or the hub."""
    instead = "give a file instead: backbone.weights=<path of a .safetensors or .pth with timm's names>"
    if not timm.models.is_model_pretrained(settings.name):
        raise SettingsError(f"backbone.weights=pretrained: timm has no weights for {settings.name}; {instead}, or none")
    try:
        return _construct(settings, pretrained=True)
    except Exception as error:  # whatever the hub's client of the day raises: OSError, httpx, RuntimeError, ...
        raise UserError(
            f"backbone.weights=pretrained: timm could not get the weights of {settings.name} ({_reason(error)}); {instead}"
        ) from error


# --- weights from a file ------------------------------------------------------------------------------------------------


def load_weights(model: nn.Module, path: Path) -> None:
    """Load a state dict with timm's names into `model`. The file may hold a classifier or none.

    Raises SettingsError when there is no such file, DataError when it cannot be read or when a tensor is missing,
    unexpected or of another shape; the message lists them.
    """
    given, wanted = _read(path), model.state_dict()
    given = {key: tensor for key, tensor in given.items() if not _of_classifier(model, key)}
    problems = {
        # Files older than torch 0.4.1 hold no batch counters; batch norm uses them with momentum=None only.
        "missing": [key for key in wanted if key not in given and not _may_be_missing(model, key)],
        "unexpected": [key for key in given if key not in wanted],
        "misshapen": [
            f"{key} {tuple(given[key].shape)} for {tuple(tensor.shape)}"
            for key, tensor in wanted.items()
            if key in given and given[key].shape != tensor.shape
        ],
    }
    found = [f"{len(keys)} {kind}: {_some(keys)}" for kind, keys in problems.items() if keys]
    if found:
        raise DataError(f"backbone.weights={path}: does not fit the backbone: {'; '.join(found)}")
    model.load_state_dict(given, strict=False)


def _read(path: Path) -> dict[str, Tensor]:
    """The tensors of a .safetensors or torch file, without a wrapping `state_dict` or `model` and without `module.`."""
    if not path.is_file():
        raise SettingsError(
            f"backbone.weights={path}: no such file (expected none, pretrained, or a .safetensors or .pth file)"
        )
    try:
        if path.suffix == ".safetensors":
            content: Any = safetensors.torch.load_file(path)
        else:
            content = torch.load(path, map_location="cpu", weights_only=True)
    except (
        safetensors.SafetensorError,
        pickle.UnpicklingError,
        RuntimeError,
        EOFError,
        ValueError,
        KeyError,
        OSError,
    ) as error:
        raise DataError(
            f"backbone.weights={path}: cannot be read as weights ({_reason(error)}); "
            "save a plain state dict with torch.save or safetensors"
        ) from error
    for wrapper in ("state_dict", "model"):
        if isinstance(content, Mapping) and isinstance(content.get(wrapper), Mapping):
            content = content[wrapper]
    if not isinstance(content, Mapping) or not all(isinstance(tensor, Tensor) for tensor in content.values()):
        raise DataError(f"backbone.weights={path}: holds no state dict; save model.state_dict()")
    return {str(key).removeprefix("module."): tensor for key, tensor in content.items()}


def _of_classifier(model: nn.Module, key: str) -> bool:
    names = _pretrained_cfg(model).get("classifier") or ()
    return any(key.startswith(f"{name}.") for name in ([names] if isinstance(names, str) else names))


def _may_be_missing(model: nn.Module, key: str) -> bool:
    return key.endswith(".num_batches_tracked") or _of_classifier(model, key)


def _pretrained_cfg(model: nn.Module) -> dict[str, Any]:
    found = getattr(model, "pretrained_cfg", None)
    return found if isinstance(found, dict) else {}


def _some(keys: list[str], most: int = 8) -> str:
    return ", ".join(keys[:most]) + (f" and {len(keys) - most} more" if len(keys) > most else "")


def _reason(error: BaseException) -> str:
    """An exception as one line."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0][:200]}" if lines else type(error).__name__


# --- the demo's backbone ------------------------------------------------------------------------------------------------


class SmallResNet(nn.Module):
    """A ResNet of 16-32-64-128 channels with 2, 2, 1, 1 basic blocks and output stride 8: 96 x 48 pixels -> 128 x 12 x 6.

    The last stages are as fine as the map and hold nearly all of the cost: with one block each an image takes 25 M
    multiplications, half of what two would. Dilation, which timm's own ResNet would use for this stride, reaches beyond a map
    of 6 columns.
    """

    def __init__(self, num_classes: int = 1000, in_chans: int = 3, global_pool: str = "avg") -> None:
        super().__init__()
        self.num_classes = num_classes
        self.num_features = self.head_hidden_size = 128
        self.conv1 = nn.Conv2d(in_chans, 16, 3, stride=2, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.act1 = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        self.layer1 = _stage(16, 16, blocks=2, stride=1)
        self.layer2 = _stage(16, 32, blocks=2, stride=2)
        self.layer3 = _stage(32, 64, blocks=1, stride=1)
        self.layer4 = _stage(64, 128, blocks=1, stride=1)
        self.global_pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(1)) if global_pool else nn.Identity()
        self.fc = nn.Linear(128, num_classes) if num_classes > 0 else nn.Identity()
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            elif isinstance(module, BasicBlock):
                module.zero_init_last()

    def forward(self, images: Tensor) -> Tensor:
        x = self.maxpool(self.act1(self.bn1(self.conv1(images))))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return self.fc(self.global_pool(x))


def _stage(channels_in: int, channels: int, *, blocks: int, stride: int) -> nn.Sequential:
    shortcut = None
    if stride != 1 or channels_in != channels:
        shortcut = nn.Sequential(
            nn.Conv2d(channels_in, channels, 1, stride=stride, bias=False), nn.BatchNorm2d(channels)
        )
    further = [BasicBlock(channels, channels) for _ in range(blocks - 1)]
    return nn.Sequential(BasicBlock(channels_in, channels, stride, shortcut), *further)


default_cfgs = generate_default_cfgs(
    {
        "a3m_resnet_small.untrained": {
            "url": "", "num_classes": 1000, "input_size": (3, 96, 48), "pool_size": (12, 6), "first_conv": "conv1",
            "classifier": "fc", "mean": IMAGENET_DEFAULT_MEAN, "std": IMAGENET_DEFAULT_STD,
        }
    }
)  # fmt: skip


@register_model
def a3m_resnet_small(pretrained: bool = False, **kwargs: Any) -> nn.Module:
    """timm's entry point: `timm.create_model("a3m_resnet_small")`. It has no published weights."""
    return build_model_with_cfg(SmallResNet, "a3m_resnet_small", pretrained, **kwargs)
