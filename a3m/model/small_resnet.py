"""The demo's backbone: a ResNet that trains from scratch on a CPU, registered with timm as `a3m_resnet_small`."""

from typing import Any

from timm.data.constants import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from timm.models import build_model_with_cfg, generate_default_cfgs, register_model
from timm.models.resnet import BasicBlock
from torch import Tensor, nn


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
        """Images (B, 3, H, W) -> logits (B, classes), or the feature map where timm has taken pooling and classifier off."""
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
