"""The network of A3M (Han et al., MM 2018, section 3): shared CNN, category branch, attribute branch, fusion, classifiers.

Every module takes plain values; a3m.model.builder puts them together for the six methods of the ablation and the two forms of the
head (the paper's text, the authors' released code).

Shape suffixes: B batch, C backbone channels, H W map height and width, L regions (H*W), D embedding, K attributes.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from a3m.errors import SettingsError
from a3m.model.backbone import Backbone


class Attention(NamedTuple):
    """Where the network looked. Detached from the graph: for statistics, maps and localisation."""

    scores: Tensor | None  # (B, K, L) raw V^T a_k, no batch norm, no sigmoid; None in training when nothing needs it
    region: Tensor  # (B, L) weights m; ones where equal
    attribute: Tensor  # (B, K) weights s; ones where equal
    map_size: tuple[int, int]  # (h, w), L = h*w, row by row


class Output(NamedTuple):
    """All that a forward gives. Logits are before the softmax."""

    category: Tensor | None  # (B, classes); None for a method that compares embeddings and trains no classifier
    attributes: list[Tensor]  # K of (B, C_k); empty for Baseline-1
    final: Tensor | None  # (B, classes); None for Baseline-1
    embedding: Tensor  # (B, E): the vector that is compared, not normalised
    category_embedding: Tensor  # (B, D) v
    attribute_embedding: Tensor | None  # (B, D) mean of the a_k; None for Baseline-1
    attention: Attention | None  # None for Baseline-1

    @property
    def logits(self) -> Tensor | None:
        """(B, classes): what classifies an image."""
        return self.category if self.final is None else self.final


# --- dropout ----------------------------------------------------------------------------------------------------------


class Dropouts(NamedTuple):
    """Where the branch's dropout stands: what attends sees `before`, the branch's classifier `before` and then `after`."""

    before: float
    after: float


def _dropout(rate: float) -> nn.Module:
    return nn.Dropout(rate) if rate > 0 else nn.Identity()


# --- fusion into the final feature --------------------------------------------------------------------------------------


class Sum(nn.Module):
    """f = f_region + f_attr. Returns what is compared and what is classified: both f."""

    def __init__(self, region_width: int, attribute_width: int) -> None:
        super().__init__()
        if region_width != attribute_width:
            raise SettingsError(
                f"head.fuse=sum cannot add {region_width} and {attribute_width} numbers (head.fusion=interleaved with equal "
                "attribute weights yields one an attribute): set head.fuse=concat or head.fusion=corrected"
            )
        self.width = region_width

    def forward(self, region: Tensor, attribute: Tensor, neck: nn.Module) -> tuple[Tensor, Tensor]:
        """f_region (B, D), f_attr (B, D) -> what is compared, what is classified: both (B, D)."""
        feature = neck(region + attribute)
        return feature, feature


class Concatenation(nn.Module):
    """f = ReLU of f_attr and f_region end to end; the classifier sees it through dropout 0.5 (the released code)."""

    def __init__(self, region_width: int, attribute_width: int) -> None:
        super().__init__()
        self.width = region_width + attribute_width
        self.dropout = nn.Dropout(0.5)

    def forward(self, region: Tensor, attribute: Tensor, neck: nn.Module) -> tuple[Tensor, Tensor]:
        """f_region (B, D), f_attr (B, A) -> what is compared, what is classified: both (B, A + D)."""
        feature = neck(torch.cat([attribute, region], dim=1).relu())
        return feature, self.dropout(feature)


FUSE: dict[str, type[Sum | Concatenation]] = {"sum": Sum, "concat": Concatenation}


# --- networks -----------------------------------------------------------------------------------------------------------


class CategoryNetwork(nn.Module):
    """Baseline-1: backbone, category branch, classifier. Images (B, 3, height, width), normalised -> Output."""

    def __init__(
        self,
        backbone: Backbone,
        category_branch: nn.Module,
        category_classifier: nn.Module | None,
        dropout: float,
        neck: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.category_branch = category_branch
        self.neck = neck or nn.Identity()
        self.dropout = _dropout(dropout)
        self.category_classifier = category_classifier

    def forward(self, images: Tensor) -> Output:
        """Images (B, 3, H, W), normalised -> Output without attributes and final classifier."""
        _, category_BD = self.category_branch(self.backbone(images))
        category_BD = self.neck(category_BD)
        classifier = self.category_classifier
        return Output(
            category=None if classifier is None else classifier(self.dropout(category_BD)),
            attributes=[],
            final=None,
            embedding=category_BD,
            category_embedding=category_BD,
            attribute_embedding=None,
            attention=None,
        )


class AttributeNetwork(nn.Module):
    """Baseline-2 to A3M: both branches attend over each other. Images (B, 3, height, width), normalised -> Output."""

    def __init__(
        self,
        *,
        backbone: Backbone,
        category_branch: nn.Module,
        attribute_branch: nn.Module,
        dropouts: Dropouts,
        region_attention: nn.Module,
        attribute_attention: nn.Module,
        fuse: nn.Module,
        neck: nn.Module,
        category_classifier: nn.Module,
        attribute_classifiers: nn.ModuleList,
        final_classifier: nn.Module,
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.category_branch = category_branch
        self.attribute_branch = attribute_branch
        self.dropout_before = _dropout(dropouts.before)
        self.dropout_after = _dropout(dropouts.after)
        self.region_attention = region_attention
        self.attribute_attention = attribute_attention
        self.fuse = fuse
        self.neck = neck
        self.category_classifier = category_classifier
        self.attribute_classifiers = attribute_classifiers
        self.final_classifier = final_classifier

    def forward(self, images: Tensor) -> Output:
        """Images (B, 3, H, W), normalised -> Output. In training, equation 5's scores are there only if they are read."""
        shared_BCHW = self.backbone(images)
        category_BDL, category_BD = self.category_branch(shared_BCHW)
        category_BD = self.dropout_before(category_BD)
        attributes_BKD = self.dropout_before(self.attribute_branch(shared_BCHW))

        scores_BKL = None
        if self.region_attention.needs_scores or not self.training:
            scores_BKL = torch.einsum("bdl,bkd->bkl", category_BDL, attributes_BKD)  # eq. 5, before the sigmoid
        region_BD, region_weights_BL = self.region_attention(category_BDL, category_BD, scores_BKL)
        attribute_BD, attribute_weights_BK = self.attribute_attention(category_BD, attributes_BKD)
        feature, classified = self.fuse(region_BD, attribute_BD, self.neck)

        attributes_classified_BKD = self.dropout_after(attributes_BKD)
        return Output(
            category=self.category_classifier(self.dropout_after(category_BD)),
            attributes=[
                classifier(attributes_classified_BKD[:, k]) for k, classifier in enumerate(self.attribute_classifiers)
            ],
            final=self.final_classifier(classified),
            embedding=feature,
            category_embedding=category_BD,
            attribute_embedding=attributes_BKD.mean(dim=1),
            attention=Attention(
                scores=None if scores_BKL is None else scores_BKL.detach(),
                region=region_weights_BL.detach(),
                attribute=attribute_weights_BK.detach(),
                map_size=(shared_BCHW.shape[2], shared_BCHW.shape[3]),
            ),
        )
