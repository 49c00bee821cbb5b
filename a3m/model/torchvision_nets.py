"""AlexNet and GoogLeNet of torchvision, registered with timm as `alexnet` and `googlenet`: rows of the paper's tables.

They keep torchvision's parameter names, so that its weight files load. Built with num_classes=0 they end in the feature map, as
timm's own models do with global_pool="".
"""

from typing import Any

from timm.data.constants import (
    IMAGENET_DEFAULT_MEAN,
    IMAGENET_DEFAULT_STD,
    IMAGENET_INCEPTION_MEAN,
    IMAGENET_INCEPTION_STD,
)
from timm.models import build_model_with_cfg, generate_default_cfgs, register_model
from torch import Tensor, nn
from torchvision import models
from torchvision.models import AlexNet_Weights, GoogLeNet_Weights


class AlexNet(models.AlexNet):
    """Images (B, 3, H, W) -> map (B, 256, h, w), 6 x 6 at 224 pixels; with classes: logits."""

    left_out = ("classifier",)  # modules of the published file that a model without classes does not have

    def __init__(self, num_classes: int = 1000, in_chans: int = 3, global_pool: str = "avg") -> None:
        _check_colour(in_chans)
        super().__init__(num_classes=num_classes or 1)
        self.num_classes = num_classes
        self.num_features, self.head_hidden_size = 256, 4096
        if num_classes == 0:
            self.avgpool, self.classifier = nn.Identity(), nn.Identity()

    def forward(self, images: Tensor) -> Tensor:
        """Images (B, 3, H, W) -> logits (B, classes); with num_classes=0 the feature map."""
        return super().forward(images) if self.num_classes else self.features(images)


class GoogLeNet(models.GoogLeNet):
    """Images (B, 3, H, W) -> map (B, 1024, h, w), 7 x 7 at 224 pixels; with classes: logits. No auxiliary classifiers."""

    left_out = ("aux1", "aux2", "fc")

    def __init__(self, num_classes: int = 1000, in_chans: int = 3, global_pool: str = "avg") -> None:
        _check_colour(in_chans)
        super().__init__(num_classes=num_classes or 1, aux_logits=False, init_weights=True)
        self.num_classes = num_classes
        self.num_features = self.head_hidden_size = 1024
        if num_classes == 0:
            self.avgpool, self.dropout, self.fc = nn.Identity(), nn.Identity(), nn.Identity()

    def forward(self, images: Tensor) -> Tensor:
        """Images (B, 3, H, W) -> logits (B, classes); with num_classes=0 the feature map."""
        if self.num_classes:
            return super().forward(images)
        x = images
        for name, module in self.named_children():  # they stand in the order of the forward
            if name == "avgpool":
                break
            x = module(x)
        return x


def _check_colour(in_chans: int) -> None:
    if in_chans != 3:
        raise ValueError(f"torchvision builds these networks for three colour channels, not {in_chans}")


def _without_what_is_left_out(state: dict[str, Tensor], model: nn.Module) -> dict[str, Tensor]:
    wanted = model.state_dict()
    left_out: Any = model.left_out
    return {key: value for key, value in state.items() if key in wanted or key.partition(".")[0] not in left_out}


default_cfgs = generate_default_cfgs(
    {
        "alexnet.tv_in1k": {
            "url": AlexNet_Weights.IMAGENET1K_V1.url, "num_classes": 1000, "input_size": (3, 224, 224), "pool_size": (6, 6),
            "first_conv": "features.0", "classifier": "classifier.6", "mean": IMAGENET_DEFAULT_MEAN, "std": IMAGENET_DEFAULT_STD,
        },
        # These weights come from TensorFlow: torchvision shifts its usual normalisation to 0.5, 0.5 inside the model
        # (transform_input), here the loader normalises so at once.
        "googlenet.tv_in1k": {
            "url": GoogLeNet_Weights.IMAGENET1K_V1.url, "num_classes": 1000, "input_size": (3, 224, 224), "pool_size": (7, 7),
            "first_conv": "conv1.conv", "classifier": "fc", "mean": IMAGENET_INCEPTION_MEAN, "std": IMAGENET_INCEPTION_STD,
        },
    }
)  # fmt: skip


@register_model
def alexnet(pretrained: bool = False, **kwargs: Any) -> nn.Module:
    """timm's entry point: `timm.create_model("alexnet")`."""
    return build_model_with_cfg(
        AlexNet, "alexnet", pretrained, pretrained_filter_fn=_without_what_is_left_out, **kwargs
    )


@register_model
def googlenet(pretrained: bool = False, **kwargs: Any) -> nn.Module:
    """timm's entry point: `timm.create_model("googlenet")`."""
    return build_model_with_cfg(
        GoogLeNet, "googlenet", pretrained, pretrained_filter_fn=_without_what_is_left_out, **kwargs
    )
