"""From settings to a network: the six methods of the ablation, their two forms, the wide control; comparators by their own builder.

The only module here besides a3m.model.comparators that knows the settings.
"""

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Protocol

from torch import nn

from a3m.errors import SettingsError
from a3m.model.attention import ATTRIBUTE_ATTENTION, FUSION, REGION_ATTENTION, SCORE_MERGE
from a3m.model.backbone import Backbone, create, default_taps
from a3m.model.branches import ATTRIBUTE_BRANCH, CATEGORY_BRANCH, NORM, PooledCategory, WideCategory
from a3m.model.comparators import build_comparator
from a3m.model.network import FUSE, AttributeNetwork, CategoryNetwork, Dropouts
from a3m.randomness import stream

if TYPE_CHECKING:
    from a3m.settings import Backbone as BackboneSettings
    from a3m.settings import Baseline1, Method

ATTEND = {"before_dropout": lambda rate: Dropouts(0.0, rate), "after_dropout": lambda rate: Dropouts(rate, 0.0)}
# Losses that compare embeddings and train no classifier; the network then has none.
WITHOUT_CLASSIFIER = ("npair", "lifted", "proxy_anchor")


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
    """The inner width with which Baseline-1's head has as many parameters as A3M's: the control of equal size."""
    learned = SimpleNamespace(name="a3m", attribute_labels=bool(sizes), region="learned", attribute="learned")
    network: Any = _attribute_network(head, learned, 0, backbone, classes, sizes)
    wanted = sum(p.numel() for name, p in network.named_parameters() if not name.startswith("backbone."))
    outer = head.d + head.d * classes + classes  # of the second convolution's bias, and the classifier
    outer += 2 * head.d if head.neck else 0
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
        attribute_classifiers = nn.ModuleList(nn.Linear(d, size) for size in (sizes if len(sizes) == K else ()))
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
