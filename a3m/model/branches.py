"""The category branch and the attribute branch of A3M (Han et al., MM 2018, section 3.1), in both forms.

Shape suffixes: B batch, C backbone channels, H W map height and width, L regions (H*W), D embedding, K attributes.
"""

from torch import Tensor, nn

from a3m.model.attention import Norm

# Keras' defaults, which the released code trains with; torch's are eps 1e-5 and momentum 0.1.
KERAS_EPS, KERAS_MOMENTUM = 1e-3, 0.01


def keras_norm(channels: int) -> nn.Module:
    """A batch norm over (B, channels) or (B, channels, L) with Keras' defaults."""
    return nn.BatchNorm1d(channels, eps=KERAS_EPS, momentum=KERAS_MOMENTUM)


class LinearCategory(nn.Module):
    """V = 1x1 convolution of the shared map, v = its mean over the regions. (B, C, H, W) -> (B, D, L), (B, D)."""

    def __init__(self, channels: int, d: int) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(channels, d, 1)

    def forward(self, shared_BCHW: Tensor) -> tuple[Tensor, Tensor]:
        """Map (B, C, h, w) -> category map (B, D, L) and its mean over the regions (B, D)."""
        category_BDL = self.convolution(shared_BCHW).flatten(2)
        return category_BDL, category_BDL.mean(dim=2)


class NormalisedCategory(nn.Module):
    """1x1 convolution, BN, ReLU is the map; pool, BN, ReLU the embedding. (B, C, H, W) -> (B, D, L), (B, D)."""

    def __init__(self, channels: int, d: int) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(channels, d, 1, bias=False)  # the batch norm would cancel a bias
        self.map_norm = nn.BatchNorm2d(d, eps=KERAS_EPS, momentum=KERAS_MOMENTUM)
        self.pooled_norm = keras_norm(d)

    def forward(self, shared_BCHW: Tensor) -> tuple[Tensor, Tensor]:
        """Map (B, C, h, w) -> category map (B, D, L) and its normalised mean over the regions (B, D)."""
        category_BDL = self.map_norm(self.convolution(shared_BCHW)).relu().flatten(2)
        return category_BDL, self.pooled_norm(category_BDL.mean(dim=2)).relu()


class LinearAttributes(nn.Module):
    """a_k = mean over the regions of attribute k's own 1x1 convolution. (B, C, H, W) -> (B, K, D).

    Pooling and a 1x1 convolution commute, so the map is pooled first and all K are one matrix product: exact, and twenty
    times cheaper than K convolutions over the map.
    """

    def __init__(self, channels: int, attributes: int, d: int) -> None:
        super().__init__()
        self.attributes, self.d = attributes, d
        self.linear = nn.Linear(channels, attributes * d)

    def forward(self, shared_BCHW: Tensor) -> Tensor:
        """Map (B, C, h, w) -> an embedding an attribute (B, K, D)."""
        return self.linear(shared_BCHW.mean(dim=(2, 3))).unflatten(1, (self.attributes, self.d))


class NormalisedAttributes(nn.Module):
    """Per attribute: 1x1 convolution, BN, ReLU, pool, BN, ReLU. (B, C, H, W) -> (B, K, D).

    The K convolutions stand in one; batch norm is per channel, so none sees another's. Nothing commutes with the ReLU.
    """

    def __init__(self, channels: int, attributes: int, d: int) -> None:
        super().__init__()
        self.attributes, self.d = attributes, d
        self.convolution = nn.Conv2d(channels, attributes * d, 1, bias=False)  # the batch norm would cancel a bias
        self.map_norm = nn.BatchNorm2d(attributes * d, eps=KERAS_EPS, momentum=KERAS_MOMENTUM)
        self.pooled_norm = keras_norm(attributes * d)

    def forward(self, shared_BCHW: Tensor) -> Tensor:
        """Map (B, C, h, w) -> an embedding an attribute (B, K, D)."""
        pooled = self.map_norm(self.convolution(shared_BCHW)).relu().mean(dim=(2, 3))
        return self.pooled_norm(pooled).relu().unflatten(1, (self.attributes, self.d))


class PooledCategory(nn.Module):
    """A plain network without the d-wide layer: the pooled map itself. (B, C, H, W) -> (B, C, L), (B, C)."""

    def forward(self, shared_BCHW: Tensor) -> tuple[Tensor, Tensor]:
        """Map (B, C, h, w) -> the same by regions (B, C, L) and its mean over them (B, C)."""
        shared_BCL = shared_BCHW.flatten(2)
        return shared_BCL, shared_BCL.mean(dim=2)


class WideCategory(nn.Module):
    """Two 1x1 convolutions, a ReLU between: the control with as many parameters as A3M. (B, C, H, W) -> (B, D, L), (B, D)."""

    def __init__(self, channels: int, inner: int, d: int) -> None:
        super().__init__()
        self.inner = nn.Conv2d(channels, inner, 1)
        self.convolution = nn.Conv2d(inner, d, 1)

    def forward(self, shared_BCHW: Tensor) -> tuple[Tensor, Tensor]:
        """Map (B, C, h, w) -> category map (B, D, L) and its mean over the regions (B, D)."""
        category_BDL = self.convolution(self.inner(shared_BCHW).relu()).flatten(2)
        return category_BDL, category_BDL.mean(dim=2)


CATEGORY_BRANCH: dict[str, type[LinearCategory | NormalisedCategory]] = {
    "linear": LinearCategory,
    "bn_relu": NormalisedCategory,
}
ATTRIBUTE_BRANCH: dict[str, type[LinearAttributes | NormalisedAttributes]] = {
    "linear": LinearAttributes,
    "bn_relu": NormalisedAttributes,
}
# The batch norm of scores and features that goes with a branch.
NORM: dict[str, Norm] = {"linear": nn.BatchNorm1d, "bn_relu": keras_norm}
