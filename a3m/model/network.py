"""The network of A3M (Han et al., MM 2018, section 3): shared CNN, category branch, attribute branch, fusion, classifiers.

`build` is the only function here that knows the settings; every module takes plain values. The six methods of the ablation
and the two forms of the head (the paper's text, the authors' released code) are put together from small classes.

Shape suffixes: B batch, C backbone channels, H W map height and width, L regions (H*W), D embedding, K attributes.
"""

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import torch
from torch import Tensor, nn

from a3m.errors import SettingsError
from a3m.model.attention import ATTRIBUTE_ATTENTION, FUSION, REGION_ATTENTION, SCORE_MERGE
from a3m.model.backbone import Backbone, create, default_taps
from a3m.model.branches import ATTRIBUTE_BRANCH, CATEGORY_BRANCH, NORM, PooledCategory, WideCategory
from a3m.randomness import stream

if TYPE_CHECKING:
    from a3m.settings import Backbone as BackboneSettings
    from a3m.settings import Baseline1, Method


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


class ResolvedHead(Protocol):
    """The section `head` after its `form` has decided every null; what a method does not read may hold anything allowed."""

    d: int
    attributes: int | None
    neck: bool
    branch: str
    dropout: float
    attend: str
    merge: str
    normalise_scores: bool
    normalise_features: bool
    fuse: str
    fusion: str


class ModelSettings(Protocol):
    """What `build` reads: four sections of a3m.settings and two plain values."""

    @property
    def backbone(self) -> "BackboneSettings": ...
    @property
    def head(self) -> ResolvedHead: ...
    @property
    def method(self) -> "Method": ...
    @property
    def baseline1(self) -> "Baseline1": ...
    @property
    def seed(self) -> int: ...
    @property
    def input_size(self) -> tuple[int, int]: ...  # height, width of the images in pixels


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
        feature = neck(region + attribute)
        return feature, feature


class Concatenation(nn.Module):
    """f = ReLU of f_attr and f_region end to end; the classifier sees it through dropout 0.5 (the released code)."""

    def __init__(self, region_width: int, attribute_width: int) -> None:
        super().__init__()
        self.width = region_width + attribute_width
        self.dropout = nn.Dropout(0.5)

    def forward(self, region: Tensor, attribute: Tensor, neck: nn.Module) -> tuple[Tensor, Tensor]:
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


# --- builder ------------------------------------------------------------------------------------------------------------

ATTEND = {"before_dropout": lambda rate: Dropouts(0.0, rate), "after_dropout": lambda rate: Dropouts(rate, 0.0)}
# Losses that compare embeddings and train no classifier; the network then has none.
WITHOUT_CLASSIFIER = ("npair", "lifted", "proxy_anchor")


def build(model_settings: ModelSettings, classes: int, attribute_sizes: list[int]) -> nn.Module:
    """The network of one method: forward(images (B, 3, height, width) float, normalised) -> Output.

    `attribute_sizes` are the C_k; Baseline-1 leaves them aside. Every component draws its initial values from a stream of its
    own name, so that two methods of one seed start from the same values in the parts they share; torch's global generators
    are left as they were. The loader finds the normalisation at `.backbone.mean` and `.backbone.std`. Raises SettingsError,
    DataError and UserError as backbone.create does, and SettingsError for a combination that has no meaning.
    """
    head, method, seed = model_settings.head, model_settings.method, model_settings.seed
    taps = default_taps(model_settings.backbone.name) if method.network == "hdc" else ()
    with stream(seed, "backbone"):
        backbone = create(model_settings.backbone, input_size=model_settings.input_size, taps=taps)
    if method.network == "a3m":
        return _attribute_network(head, method, seed, backbone, classes, attribute_sizes)
    if method.network == "category":
        feature = model_settings.baseline1.feature
        return _category_network(head, method, seed, backbone, classes, attribute_sizes, feature)
    from a3m.model.comparators import build_comparator  # here: it needs Output, which stands in this module

    return build_comparator(method, backbone, head, classes, attribute_sizes, seed)


def _category_network(
    head: ResolvedHead, method: "Method", seed: int, backbone: Backbone, classes: int, sizes: list[int], feature: str
) -> nn.Module:
    """Baseline-1; `feature` as the setting baseline1.feature."""
    width, dropout = head.d, head.dropout
    with stream(seed, "category_branch"):
        if feature == "pooled":
            branch: nn.Module = PooledCategory()
            width, dropout = backbone.channels, 0.0
        elif feature == "wide":
            branch = WideCategory(backbone.channels, _wide(head, method, backbone, classes, sizes), head.d)
        else:
            branch = CATEGORY_BRANCH[head.branch](backbone.channels, head.d)
    if method.loss in WITHOUT_CLASSIFIER:
        return CategoryNetwork(backbone, branch, None, dropout, _neck(head, width))
    with stream(seed, "category_classifier"):
        classifier = nn.Linear(width, classes)
    return CategoryNetwork(backbone, branch, classifier, dropout, _neck(head, width))


def _neck(head: ResolvedHead, width: int) -> nn.Module:
    return nn.BatchNorm1d(width) if head.neck else nn.Identity()


def _wide(head: ResolvedHead, method: "Method", backbone: Backbone, classes: int, sizes: list[int]) -> int:
    """The inner width with which Baseline-1's head has as many parameters as A3M's: the control of PAPER.md."""
    learned = SimpleNamespace(name="a3m", attribute_labels=bool(sizes), region="learned", attribute="learned")
    network: Any = _attribute_network(head, learned, 0, backbone, classes, sizes)
    wanted = sum(p.numel() for name, p in network.named_parameters() if not name.startswith("backbone."))
    outer = head.d + head.d * classes + classes  # of the second convolution's bias, and the classifier
    return max(1, round((wanted - outer) / (backbone.channels + 1 + head.d)))


def _attribute_network(
    head: ResolvedHead, method: Any, seed: int, backbone: Backbone, classes: int, sizes: list[int]
) -> nn.Module:
    """Baseline-2 to A3M; without attribute labels and without attributes in the data, K is the setting head.attributes."""
    K = len(sizes) if method.attribute_labels or head.attributes is None else head.attributes
    if K == 0:
        raise SettingsError(
            f"method={method.name} has an attribute branch, but the data set has no attributes: choose method=baseline1, or "
            "method=a3m_unlabelled with head.attributes=<K>"
        )
    d, regions = head.d, backbone.map_size[0] * backbone.map_size[1]
    with stream(seed, "category_branch"):
        category_branch = CATEGORY_BRANCH[head.branch](backbone.channels, d)
    with stream(seed, "category_classifier"):
        category_classifier = nn.Linear(d, classes)
    with stream(seed, "attribute_branch"):
        attribute_branch = ATTRIBUTE_BRANCH[head.branch](backbone.channels, K, d)
    with stream(seed, "attribute_classifiers"):
        # Of other K than the data's there is nothing to classify.
        attribute_classifiers = nn.ModuleList(nn.Linear(d, size) for size in (sizes if K == len(sizes) else ()))
    # The attentions and the fusion hold nothing drawn: batch norms start at one and zero.
    norm = NORM[head.branch]
    score_norm = norm if head.normalise_scores else None
    feature_norm = norm if head.normalise_features else None
    region_attention = REGION_ATTENTION[method.region](SCORE_MERGE[head.merge](K, regions, score_norm), d, feature_norm)
    attribute_attention = ATTRIBUTE_ATTENTION[method.attribute, head.fusion](
        K, d, FUSION[head.fusion], score_norm, feature_norm
    )
    fuse = FUSE[head.fuse](d, attribute_attention.width)
    with stream(seed, "final_classifier"):
        final_classifier = nn.Linear(fuse.width, classes)
    return AttributeNetwork(
        backbone=backbone,
        category_branch=category_branch,
        attribute_branch=attribute_branch,
        dropouts=ATTEND[head.attend](head.dropout),
        region_attention=region_attention,
        attribute_attention=attribute_attention,
        fuse=fuse,
        neck=_neck(head, fuse.width),
        category_classifier=category_classifier,
        attribute_classifiers=attribute_classifiers,
        final_classifier=final_classifier,
    )
