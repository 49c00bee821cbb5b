"""Networks of the comparators: Attr-Id (APR), Bilinear-CNN, HDC, BIER. N-pair, LiftedStructure, Proxy-Anchor and ResNet-50 (I+V)
are Baseline-1's network with another loss.

`build_comparator` is the only function here that knows the settings; every module takes plain values.
Shape suffixes: B batch, C backbone channels, H W map height and width, L regions (H*W), D embedding, K attributes.
"""

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional

from a3m.errors import SettingsError
from a3m.loss import learners
from a3m.loss.arguments import resolved
from a3m.model.backbone import Backbone
from a3m.model.branches import CATEGORY_BRANCH
from a3m.model.network import Output
from a3m.randomness import stream

if TYPE_CHECKING:
    from a3m.model.builder import ResolvedHead
    from a3m.settings import Method


class AttributePersonNetwork(nn.Module):
    """Attr-Id (Lin et al., 2017): Baseline-1's embedding, classified for the identity and for every attribute."""

    def __init__(
        self,
        backbone: Backbone,
        category_branch: nn.Module,
        category_classifier: nn.Module,
        attribute_classifiers: nn.ModuleList,
        dropout: float,
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.category_branch = category_branch
        self.dropout = nn.Dropout(dropout) if dropout > 0 else nn.Identity()
        self.category_classifier = category_classifier
        self.attribute_classifiers = attribute_classifiers

    def forward(self, images: Tensor) -> Output:
        """Images (B, 3, H, W), normalised -> Output without a final classifier."""
        _, embedding_BD = self.category_branch(self.backbone(images))
        classified_BD = self.dropout(embedding_BD)
        return Output(
            category=self.category_classifier(classified_BD),
            attributes=[classifier(classified_BD) for classifier in self.attribute_classifiers],
            final=None,
            embedding=embedding_BD,
            category_embedding=embedding_BD,
            attribute_embedding=None,
            attention=None,
        )


class BilinearNetwork(nn.Module):
    """Bilinear-CNN (Lin et al., ICCV 2015) of one network with itself: the descriptor is sum over regions of x x^T, then the signed
    square root, then length 1, then a linear classifier.

    `reduce` is a 1x1 convolution to D channels where the backbone has more, else nothing: the descriptor has D^2 numbers. It is
    too wide to be kept for a whole test set (262,144 of D = 512), so that what is compared or drawn is the reduced map's mean.
    """

    def __init__(self, backbone: Backbone, reduce: nn.Module, category_classifier: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone
        self.reduce = reduce
        self.category_classifier = category_classifier

    def forward(self, images: Tensor) -> Output:
        """Images (B, 3, H, W), normalised -> Output without attributes; what is compared is the reduced map's mean."""
        map_BDL = self.reduce(self.backbone(images)).flatten(2)
        mean_BD = map_BDL.mean(dim=2)
        return Output(
            category=self.category_classifier(bilinear_descriptor(map_BDL)),
            attributes=[],
            final=None,
            embedding=mean_BD,
            category_embedding=mean_BD,
            attribute_embedding=None,
            attention=None,
        )


def bilinear_descriptor(map_BDL: Tensor) -> Tensor:
    """(B, D, L) -> (B, D*D): sum over the regions of the outer product, signed square root, length 1."""
    # In float32 also under autocast: sums of L products of unbounded features leave the range of float16.
    with torch.autocast(map_BDL.device.type, enabled=False):
        outer_BDD = torch.einsum("bil,bjl->bij", map_BDL.float(), map_BDL.float())
        # The slope of the square root is infinite at 0, where a dead channel stands; 1e-10 keeps it finite.
        rooted_BDD = outer_BDD.sign() * (outer_BDD.abs() + 1e-10).sqrt()
        return functional.normalize(rooted_BDD.flatten(1))


class CascadedNetwork(nn.Module):
    """HDC (Yuan et al., ICCV 2017): heads at taps of the backbone, each the pooled map through a linear layer to length 1.

    Compared is their weighted concatenation (`test_weights`); `category_embedding` is the plain one, which the loss cuts again.
    """

    def __init__(self, backbone: Backbone, heads: nn.ModuleList, test_weights: tuple[float, ...]) -> None:
        super().__init__()
        self.backbone = backbone
        self.heads = heads
        self.test_weights = test_weights

    def forward(self, images: Tensor) -> Output:
        """Images (B, 3, H, W), normalised -> Output with the heads' embeddings of length 1 end to end, and no logits."""
        maps = self.backbone.maps(images)
        units = [
            functional.normalize(head(map_BCHW.mean(dim=(2, 3))))
            for head, map_BCHW in zip(self.heads, maps, strict=True)
        ]
        return _compared(units, torch.cat(units, dim=1), self.test_weights)


class BoostedNetwork(nn.Module):
    """BIER (Opitz et al., ICCV 2017): one linear embedding of the pooled map, cut into learners (`sizes`).

    Compared is the concatenation of the learners, each of length sqrt(its share in the boosted score): its dot product is that
    score. `category_embedding` is the linear layer's output as it is, which the loss cuts.
    """

    def __init__(self, backbone: Backbone, category_branch: nn.Module, sizes: list[int]) -> None:
        super().__init__()
        self.backbone = backbone
        self.category_branch = category_branch
        self.sizes = sizes
        self.weights = tuple(share**0.5 for share in learners.shares(len(sizes)))

    def forward(self, images: Tensor) -> Output:
        """Images (B, 3, H, W), normalised -> Output with the learners' embeddings end to end, and no logits."""
        _, embedding_BD = self.category_branch(self.backbone(images))
        units = [functional.normalize(part) for part in embedding_BD.split(self.sizes, dim=1)]
        return _compared(units, embedding_BD, self.weights)


def _compared(units: list[Tensor], category_embedding: Tensor, weights: tuple[float, ...]) -> Output:
    """The output of a network without a classifier that compares weighted parts."""
    return Output(
        category=None,
        attributes=[],
        final=None,
        embedding=torch.cat([weight * unit for weight, unit in zip(weights, units, strict=True)], dim=1),
        category_embedding=category_embedding,
        attribute_embedding=None,
        attention=None,
    )


# --- builder ------------------------------------------------------------------------------------------------------------


def build_comparator(
    method: "Method", backbone: Backbone, head: "ResolvedHead", classes: int, attribute_sizes: list[int], seed: int
) -> nn.Module:
    """The network of `method.network` (apr | bilinear | hdc | bier) on a backbone: forward(images) -> Output.

    Of the head only d, branch and dropout are read. Every component draws from the stream of its name, those shared with
    Baseline-1 from the same ones. Raises SettingsError for a network or a combination that has no meaning.
    """
    if method.network == "apr":
        return _attribute_person(method, backbone, head, classes, attribute_sizes, seed)
    if method.network == "bilinear":
        return _bilinear(backbone, head, classes, seed)
    arguments = resolved(method.loss, method.loss_arguments)
    if method.network == "hdc":
        return _cascaded(backbone, head, arguments, seed)
    if method.network == "bier":
        return _boosted(backbone, head, arguments, seed)
    raise SettingsError(f"method.network={method.network}: expected one of apr, bilinear, hdc, bier")


def _category_branch(backbone: Backbone, head: "ResolvedHead", seed: int) -> nn.Module:
    with stream(seed, "category_branch"):
        return CATEGORY_BRANCH[head.branch](backbone.channels, head.d)


def _attribute_person(
    method: "Method", backbone: Backbone, head: "ResolvedHead", classes: int, attribute_sizes: list[int], seed: int
) -> nn.Module:
    if not attribute_sizes:
        raise SettingsError(
            f"method={method.name} learns attributes, but the data set has no attributes: choose method=baseline1"
        )
    category_branch = _category_branch(backbone, head, seed)
    with stream(seed, "category_classifier"):
        category_classifier = nn.Linear(head.d, classes)
    with stream(seed, "attribute_classifiers"):
        attribute_classifiers = nn.ModuleList(nn.Linear(head.d, size) for size in attribute_sizes)
    return AttributePersonNetwork(backbone, category_branch, category_classifier, attribute_classifiers, head.dropout)


def _bilinear(backbone: Backbone, head: "ResolvedHead", classes: int, seed: int) -> nn.Module:
    channels = min(backbone.channels, head.d)
    with stream(seed, "bilinear_reduce"):
        reduce = nn.Conv2d(backbone.channels, channels, 1) if channels < backbone.channels else nn.Identity()
    with stream(seed, "bilinear_classifier"):
        category_classifier = nn.Linear(channels * channels, classes)
    return BilinearNetwork(backbone, reduce, category_classifier)


def _cascaded(backbone: Backbone, head: "ResolvedHead", arguments: dict[str, float], seed: int) -> nn.Module:
    weights = tuple(arguments[f"test_weight_{number}"] for number in (1, 2, 3))
    taps = list(backbone.tap_channels)
    if len(taps) != len(weights):
        raise SettingsError(f"method.network=hdc has 3 heads, but the backbone is tapped at {len(taps)} places")
    sizes = learners.even_sizes(head.d, len(weights))
    heads = []
    for number, (channels, size) in enumerate(zip(taps, sizes, strict=True), start=1):
        with stream(seed, "hdc_head", number):
            heads.append(nn.Linear(channels, size))
    return CascadedNetwork(backbone, nn.ModuleList(heads), weights)


def _boosted(backbone: Backbone, head: "ResolvedHead", arguments: dict[str, float], seed: int) -> nn.Module:
    sizes = learners.growing_sizes(head.d, int(arguments["learners"]))
    return BoostedNetwork(backbone, _category_branch(backbone, head, seed), sizes)
