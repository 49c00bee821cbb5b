"""BN-Inception (Ioffe and Szegedy, 2015) in its Caffe edition, registered with timm as `bn_inception`.

Every parameter has the name it has in the public ImageNet weights (`conv1_7x7_s2.weight`, `inception_3a_double_3x3_1_bn.bias`,
`last_linear.weight`), so that the file loads as it is. Those weights want BGR pixels of 0 to 255 minus 104, 117, 128: `bgr`
makes the forward turn RGB around, and the mean and std registered here bring pixels of [0, 1] to that range. From scratch the
network takes RGB of whatever normalisation.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from timm.models import build_model_with_cfg, generate_default_cfgs, register_model
from torch import Tensor, nn
from torch.nn import functional

from a3m.model.weights import squeeze_leading


class Widths(NamedTuple):
    """Channels of one block. Without a 1x1 branch the block halves the map and passes its input on through the pool."""

    one: int  # 1x1; 0: none
    three: tuple[int, int]  # 3x3_reduce, 3x3
    double: tuple[int, int]  # double_3x3_reduce, double_3x3_1 (= double_3x3_2)
    pool: str  # avg | max
    projection: int  # pool_proj; 0: none

    def total(self, channels_in: int) -> int:
        """Channels of the concatenation."""
        return self.one + self.three[1] + self.double[1] + (self.projection or channels_in)


BLOCKS: dict[str, Widths] = {
    "3a": Widths(64, (64, 64), (64, 96), "avg", 32),
    "3b": Widths(64, (64, 96), (64, 96), "avg", 64),
    "3c": Widths(0, (128, 160), (64, 96), "max", 0),
    "4a": Widths(224, (64, 96), (96, 128), "avg", 128),
    "4b": Widths(192, (96, 128), (96, 128), "avg", 128),
    "4c": Widths(160, (128, 160), (128, 160), "avg", 128),
    "4d": Widths(96, (128, 192), (160, 192), "avg", 128),
    "4e": Widths(0, (128, 192), (192, 256), "max", 0),
    "5a": Widths(352, (192, 320), (160, 224), "avg", 128),
    "5b": Widths(352, (192, 320), (192, 224), "max", 128),
}


class Concatenation(nn.Module):
    """The branches of a block end to end: a module of its own, so that a block's output can be tapped by name."""

    def forward(self, branches: Sequence[Tensor]) -> Tensor:
        """Maps (B, C_i, h, w) -> (B, sum of C_i, h, w)."""
        return torch.cat(list(branches), dim=1)


class BNInception(nn.Module):
    """Images (B, 3, H, W) -> map (B, 1024, H/32, W/32), or logits where it was built with classes and pooling.

    The blocks' outputs are the modules `inception_3a_output` to `inception_5b_output`. H and W are multiples of 32 (more
    exactly: an eighth of each, rounded up, is a multiple of 4), since a halving convolution rounds odd sides up and the pool
    beside it down. Raises ValueError otherwise.
    """

    def __init__(self, num_classes: int = 1000, in_chans: int = 3, global_pool: str = "avg") -> None:
        super().__init__()
        self.num_classes = num_classes
        self.num_features = self.head_hidden_size = 1024
        self.bgr = False  # whoever loads the public weights sets it
        self._add("conv1_7x7_s2", in_chans, 64, 7, stride=2)
        self._add("conv2_3x3_reduce", 64, 64, 1)
        self._add("conv2_3x3", 64, 192, 3)
        channels = 192
        for name, widths in BLOCKS.items():
            self._add_block(f"inception_{name}", channels, widths)
            channels = widths.total(channels)
        self.global_pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(1)) if global_pool else nn.Identity()
        self.last_linear = nn.Linear(1024, num_classes) if num_classes > 0 else nn.Identity()

    def _add(self, name: str, channels_in: int, channels: int, size: int, *, stride: int = 1) -> None:
        """A convolution and its batch norm, flat in this module: the public file's names have no levels.

        The bias is redundant before a batch norm, but the file holds one. The batch norm's momentum is torch's: the widely
        copied 0.9 would make the running statistics those of the last batch.
        """
        convolution = nn.Conv2d(channels_in, channels, size, stride=stride, padding=size // 2)
        nn.init.kaiming_normal_(convolution.weight, mode="fan_out", nonlinearity="relu")
        nn.init.zeros_(convolution.bias)  # type: ignore[arg-type]
        self.add_module(name, convolution)
        self.add_module(f"{name}_bn", nn.BatchNorm2d(channels))

    def _add_block(self, name: str, channels_in: int, widths: Widths) -> None:
        stride = 1 if widths.one else 2
        if widths.one:
            self._add(f"{name}_1x1", channels_in, widths.one, 1)
        reduced, wide = widths.three
        self._add(f"{name}_3x3_reduce", channels_in, reduced, 1)
        self._add(f"{name}_3x3", reduced, wide, 3, stride=stride)
        reduced, wide = widths.double
        self._add(f"{name}_double_3x3_reduce", channels_in, reduced, 1)
        self._add(f"{name}_double_3x3_1", reduced, wide, 3)
        self._add(f"{name}_double_3x3_2", wide, wide, 3, stride=stride)
        if widths.projection:
            self._add(f"{name}_pool_proj", channels_in, widths.projection, 1)
        self.add_module(f"{name}_output", Concatenation())

    def _unit(self, name: str, x: Tensor) -> Tensor:
        """Convolution, batch norm, ReLU."""
        return functional.relu(self.get_submodule(f"{name}_bn")(self.get_submodule(name)(x)), inplace=True)

    def _block(self, name: str, x: Tensor, widths: Widths) -> Tensor:
        stride = 1 if widths.one else 2
        branches = [self._unit(f"{name}_1x1", x)] if widths.one else []
        branches.append(self._unit(f"{name}_3x3", self._unit(f"{name}_3x3_reduce", x)))
        double = self._unit(f"{name}_double_3x3_1", self._unit(f"{name}_double_3x3_reduce", x))
        branches.append(self._unit(f"{name}_double_3x3_2", double))
        # All pools have ceil_mode; it tells only where the map is halved, without padding.
        pool = functional.avg_pool2d if widths.pool == "avg" else functional.max_pool2d
        pooled = pool(x, 3, stride=stride, padding=1 if stride == 1 else 0, ceil_mode=True)
        branches.append(self._unit(f"{name}_pool_proj", pooled) if widths.projection else pooled)
        return self.get_submodule(f"{name}_output")(branches)

    def forward_features(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, 1024, H/32, W/32)."""
        x = images.flip(1) if self.bgr else images
        x = functional.max_pool2d(self._unit("conv1_7x7_s2", x), 3, stride=2, ceil_mode=True)
        x = self._unit("conv2_3x3", self._unit("conv2_3x3_reduce", x))
        x = functional.max_pool2d(x, 3, stride=2, ceil_mode=True)
        if x.shape[2] % 4 or x.shape[3] % 4:
            raise ValueError(
                f"BN-Inception takes sides that are multiples of 32, not {images.shape[2]} x {images.shape[3]}"
            )
        for name, widths in BLOCKS.items():
            x = self._block(f"inception_{name}", x, widths)
        return x

    def forward(self, images: Tensor) -> Tensor:
        """Images (B, 3, H, W) -> logits (B, classes)."""
        return self.last_linear(self.global_pool(self.forward_features(images)))


def _public_names(state: dict[str, Tensor], model: nn.Module) -> dict[str, Tensor]:
    return squeeze_leading(state, model.state_dict())


default_cfgs = generate_default_cfgs(
    {
        "bn_inception.caffe_in1k": {
            "url": "http://data.lip6.fr/cadene/pretrainedmodels/bn_inception-52deb4733.pth",
            "num_classes": 1000, "input_size": (3, 224, 224), "pool_size": (7, 7), "interpolation": "bilinear",
            "first_conv": "conv1_7x7_s2", "classifier": "last_linear",
            # of RGB pixels in [0, 1]: times 255, less 128, 117, 104, which the forward turns into B G R = 104, 117, 128
            "mean": (128 / 255, 117 / 255, 104 / 255), "std": (1 / 255, 1 / 255, 1 / 255),
        }
    }
)  # fmt: skip


@register_model
def bn_inception(pretrained: bool = False, **kwargs: Any) -> nn.Module:
    """timm's entry point: `timm.create_model("bn_inception")`; with `pretrained` set its `bgr` as well."""
    return build_model_with_cfg(BNInception, "bn_inception", pretrained, pretrained_filter_fn=_public_names, **kwargs)
