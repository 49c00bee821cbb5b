"""Every setting of the project, with its default, and what may not be left to the types.

The dataclasses are the schema that `a3m.config` composes params.yaml into. Sections are passed to the code that reads them;
which of them a trial, a data set or a study depends on stands in `a3m.relevance`.
"""

import copy
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, is_dataclass
from typing import Any

from a3m.errors import SettingsError


@dataclass
class Dataset:
    """Which data set: who reads it, from which folder, for which task. The task decides the protocol."""

    name: str = "market1501"
    reader: str = "market1501"  # module of a3m/data
    images: str = "market1501"  # folder below data/twins or data/raw; several data sets may share one
    task: str = (
        "re-identification"  # classification | re-identification | retrieval; own data: "" follows from the file
    )
    train_images: int = 12936  # published training images: what a plan reckons with before the data are packed


@dataclass
class Twin:
    """The size and difficulty of a drawn stand-in. Each twin reads what it has: identities, classes, or makes and models."""

    seed: int = 0
    difficulty: float = 1.0
    train_identities: int = 200
    test_identities: int = 100
    images_per_identity: int = 8
    distractors: int = 100
    junk: int = 50
    classes: int = 40
    train_images_per_class: int = 15
    test_images_per_class: int = 15
    images_per_class: int = 30
    makes: int = 8
    models: int = 40
    train_images_per_model: int = 15
    test_images_per_model: int = 15


@dataclass
class Data:
    """Where the images come from and how they are prepared."""

    source: str = "twins"  # data/twins/<data set>, drawn; or raw: data/raw/<data set>, the user's copy
    allow_subset: bool = False  # admit a part of a real data set; results then say so
    split_seed: int = 0
    validation: float = 0.2  # share of every class, or of the identities
    missing_limit: float = 0.0  # share of the listed images that may be missing on disk; they are counted and named
    fold: str = "12"  # of the attributes: Market-1501 12 | 27, CUB-200-2011 masked | released
    split: str = "paper"  # CompCars: paper (the authors' lists) | released | random
    bins: int = 6  # CompCars: quantile bins of maximum speed and displacement
    manifest: str = "manifest.csv"  # own data: the CSV below data/raw/manifest
    crop_box: bool = False
    height: int = 96  # pixels, what the network sees
    width: int = 48
    margin: float = 8 / 7  # packed size / network size: room for random crops; the test crop is the centre
    pack_limit: int = 8_000_000_000  # bytes; above it the pack keeps encoded images


@dataclass
class Backbone:
    name: str = "a3m_resnet_small"  # any timm model that yields a feature map
    # none | pretrained (timm's own mechanism) | package:<one that carries them> | a file, relative to the project's root
    weights: str = "none"
    output_stride: int = 32  # 32 leaves the model as timm builds it
    arguments: dict[str, Any] = field(default_factory=dict)  # further arguments of timm.create_model


@dataclass
class Method:
    """One row of the ablation (PAPER: variants), or one comparator."""

    name: str = "a3m"
    network: str = "a3m"  # category | a3m | apr | bilinear | hdc | bier
    loss: str = "equation11"  # equation11 | apr | npair | lifted | proxy_anchor | verification | hdc | bier
    loss_arguments: dict[str, float] = field(default_factory=dict)
    images_per_class: int = 0  # K of batches of P classes with K images each; 0: shuffled, or what train says
    attribute_labels: bool = True
    region: str = "learned"  # attribute-guided weights m: learned | equal
    attribute: str = "learned"  # category-guided weights s: learned | equal


@dataclass
class Head:
    """The A3M head. `form` decides every difference that is null."""

    form: str = "paper"  # paper | released
    d: int = 512
    attributes: int | None = None  # K where nothing is labelled (PAPER: retrieval); null: the data set's own
    neck: bool = False  # batch norm on the compared feature, before its classifier (modern re-identification)
    branch: str | None = None  # linear | bn_relu
    dropout: float | None = None
    attend: str | None = None  # before_dropout | after_dropout
    merge: str | None = None  # max | mean
    normalise_scores: bool | None = None
    normalise_features: bool | None = None
    fuse: str | None = None  # sum | concat, which brings the released code's dropout of 0.5 before the final classifier
    fusion: str | None = None  # corrected | interleaved (a slip of the released code)


@dataclass
class Baseline1:
    # category: through the d-wide layer | pooled: the backbone's own feature | wide: with as many parameters as A3M
    feature: str = "category"


@dataclass
class Loss:
    """Equation 11: L_final + alpha L_category + beta (1/K) sum_k L_k."""

    alpha: float = 0.5
    beta: float = 0.5
    label_smoothing: float = 0.0


@dataclass
class Train:
    on: str = (
        "train+val"  # train+val: tested once at the end | train: measured on the validation part, never on test data
    )
    epochs: int = 60
    batch_size: int = 32
    images_per_class: int = 0  # K > 0: batches of batch_size / K classes with K images each; 0: shuffled
    shuffle_attributes: bool = False  # control: attribute labels permuted over identities or classes
    optimiser: str = "sgd"  # sgd | adamw
    learning_rate: float = 1e-3
    backbone_factor: float = 1.0  # the backbone's learning rate as a multiple of the common one
    momentum: float = 0.9
    nesterov: bool = False
    weight_decay: float = 5e-4
    schedule: str = "step"  # step | cosine | stages
    last_epochs: int = 10  # step: epochs at the end with a tenth of the learning rate
    warmup_epochs: int = 0  # cosine
    stages: list[float] = field(
        default_factory=list
    )  # stages: learning rates of equally long stages, optimiser reset at each
    update_decay: float = 0.0  # stages: lr / (1 + update_decay * updates of this stage)
    augment: list[str] = field(default_factory=lambda: ["crop", "flip"])  # of crop, flip, affine, erase
    ema: float = 0.0  # decay of the averaged weights that are tested; 0 is off
    validate_every: int = 0  # epochs; 0: after the last one only
    checkpoint_every: int = 1  # epochs
    device: str = "auto"  # cpu | cuda | auto (resolved before the trial is named)
    threads: int = 1
    precision: str = "float32"  # float32 | bfloat16 | float16
    memory_format: str = "contiguous"  # contiguous | channels_last
    workers: int = 0  # processes that load batches; does not change the result


@dataclass
class Test:
    """What is measured beside the protocol of the task."""

    rerank: bool = False  # re-identification: k-reciprocal re-ranking as well (test/reranked/...)
    k1: int = 20
    k2: int = 6
    lambda_: float = 0.3


@dataclass
class Rows:
    """A study whose rows are methods (a3m.space): the paper's, groups of further ones, and what a profile puts beside."""

    seeds: list[int] = field(default_factory=lambda: [0, 1, 2])
    beside_seeds: list[int] | None = None  # of the groups; null: as seeds
    groups: list[str] = field(default_factory=lambda: ["comparators", "controls", "modern"])
    own: dict[str, dict[str, Any]] = field(
        default_factory=dict
    )  # method: what its rows in the paper's recipe set besides
    beside: list[dict[str, Any]] = field(default_factory=list)  # further rows: setting paths and their values


@dataclass
class AlphaBeta:
    """Figure 7: two independent lines through alpha = beta = 0.5."""

    seeds: list[int] = field(default_factory=lambda: [0, 1, 2])
    values: list[float] = field(default_factory=lambda: [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0])


@dataclass
class Store:
    uri: str = ""  # MLflow's; empty: sqlite:///<project>/mlflow.db
    state: str = ".a3m/state"  # checkpoints, leases: shared by all workers of a cluster


@dataclass
class Cluster:
    address: str = "local"  # local: a Ray on this machine, started and stopped | auto | ray://host:port
    cpus_per_trial: int = 1
    gpus_per_trial: float = -1.0  # -1: one where there are GPUs
    max_concurrent: int = 0  # 0: as many as fit
    retries: int = 2  # of a trial that was killed, ran out of memory or lost its machine
    images_per_second: float = (
        0.0  # trained by one trial: what a plan reckons with; 0: measured by the runs that are there
    )


@dataclass
class Reuse:
    code: str = "same"  # same: only runs of the very same code | any: finished runs of older code too; tables say so


@dataclass
class Params:
    """All settings. `a3m.config.load` and `a3m.config.main` compose it."""

    profile: str = "demo"
    twins: list[str] = field(default_factory=list)  # layouts that are drawn: folders below data/twins
    datasets: dict[str, dict[str, str]] = field(default_factory=dict)  # data set: its reader and folder of images
    studies: dict[str, str] = field(default_factory=dict)  # study: its data set
    figures: dict[str, dict[str, str]] = field(default_factory=dict)  # figure: its study and the file that it needs
    seeds: list[int] | None = None  # overrides the seeds of every study
    seed: int = 0  # of `a3m train`
    dataset: Dataset = field(default_factory=Dataset)
    twin: Twin = field(default_factory=Twin)
    data: Data = field(default_factory=Data)
    backbone: Backbone = field(default_factory=Backbone)
    method: Method = field(default_factory=Method)
    head: Head = field(default_factory=Head)
    baseline1: Baseline1 = field(default_factory=Baseline1)
    loss: Loss = field(default_factory=Loss)
    train: Train = field(default_factory=Train)
    test: Test = field(default_factory=Test)
    modern: dict[str, Any] = field(default_factory=dict)  # `recipe: modern` in a row: setting paths and their values
    ablation: Rows = field(default_factory=Rows)
    cub200: Rows = field(default_factory=Rows)
    cub200_448: Rows = field(default_factory=Rows)
    compcars: Rows = field(default_factory=Rows)
    cub200_retrieval: Rows = field(default_factory=Rows)
    # HDC's released code weighs its three heads 1, 2, 3 on CARS196, and 1, 1, 2, the default, on CUB-200-2011.
    cars196_retrieval: Rows = field(
        default_factory=lambda: Rows(
            own={"hdc": {"method.loss_arguments.test_weight_2": 2.0, "method.loss_arguments.test_weight_3": 3.0}}
        )
    )
    photographs: Rows = field(default_factory=Rows)
    alpha_beta: AlphaBeta = field(default_factory=AlphaBeta)
    store: Store = field(default_factory=Store)
    cluster: Cluster = field(default_factory=Cluster)
    reuse: Reuse = field(default_factory=Reuse)
    plan: bool = False  # print what would be trained, change nothing
    retry_failed: bool = False  # train again what failed for a reason that would come again
    partial: bool = False  # exit 0 although trials failed; tables print a dash for them


FORMS: dict[str, dict[str, Any]] = {
    "paper": {
        "branch": "linear", "dropout": 0.0, "attend": "before_dropout", "merge": "max", "normalise_scores": False,
        "normalise_features": False, "fuse": "sum", "fusion": "corrected",
    },
    "released": {
        "branch": "bn_relu", "dropout": 0.5, "attend": "after_dropout", "merge": "mean", "normalise_scores": True,
        "normalise_features": True, "fuse": "concat", "fusion": "corrected",
    },
}  # fmt: skip

# What a setting may be, where its type does not say it.
CHOICES: dict[str, tuple[str, ...]] = {
    "dataset.task": ("classification", "re-identification", "retrieval", ""),
    "data.source": ("twins", "raw"),
    "data.split": ("paper", "released", "random"),
    "head.form": ("paper", "released"),
    "head.branch": ("linear", "bn_relu"),
    "head.attend": ("before_dropout", "after_dropout"),
    "head.merge": ("max", "mean"),
    "head.fuse": ("sum", "concat"),
    "head.fusion": ("corrected", "interleaved"),
    "method.network": ("category", "a3m", "apr", "bilinear", "hdc", "bier"),
    "method.loss": ("equation11", "apr", "npair", "lifted", "proxy_anchor", "verification", "hdc", "bier"),
    "method.region": ("learned", "equal"),
    "method.attribute": ("learned", "equal"),
    "baseline1.feature": ("category", "pooled", "wide"),
    "train.on": ("train", "train+val"),
    "train.optimiser": ("sgd", "adamw"),
    "train.schedule": ("step", "cosine", "stages"),
    "train.precision": ("float32", "bfloat16", "float16"),
    "train.memory_format": ("contiguous", "channels_last"),
    "reuse.code": ("same", "any"),
}
POSITIVE = (
    "data.height", "data.width", "head.d", "train.epochs", "train.batch_size", "train.learning_rate", "train.threads",
    "train.checkpoint_every", "cluster.cpus_per_trial", "test.k1", "test.k2",
)  # fmt: skip
AUGMENTATIONS = ("crop", "flip", "affine", "erase")
RECIPES = ("paper", "modern")
GROUPS = ("comparators", "controls", "modern")


def check(params: Params) -> Params:
    """Refuse values that the types let through. Raises SettingsError naming the setting."""
    for path, allowed in CHOICES.items():
        value = get(params, path)
        if value is not None and value not in allowed:
            raise SettingsError(f"{path}={value}: expected one of {', '.join(allowed)}")
    for path in POSITIVE:
        if get(params, path) <= 0:
            raise SettingsError(f"{path}={get(params, path)}: must be greater than 0")
    for section in fields(params):
        for name, value in (
            vars(getattr(params, section.name)).items() if is_dataclass(getattr(params, section.name)) else ()
        ):
            if isinstance(value, float) and not math.isfinite(value):
                raise SettingsError(f"{section.name}.{name}={value}: must be a finite number")
    for name in params.train.augment:
        if name not in AUGMENTATIONS:
            raise SettingsError(f"train.augment: {name}: expected some of {', '.join(AUGMENTATIONS)}")
    if not 0 < params.data.validation < 1:
        raise SettingsError(f"data.validation={params.data.validation}: a share between 0 and 1")
    if params.data.margin < 1:
        raise SettingsError(f"data.margin={params.data.margin}: at least 1 (packed size / network size)")
    if params.train.schedule == "stages" and not params.train.stages:
        raise SettingsError("train.stages is empty: train.schedule=stages needs one learning rate a stage")
    if params.cluster.cpus_per_trial < params.train.threads:
        raise SettingsError(
            f"cluster.cpus_per_trial={params.cluster.cpus_per_trial} is less than train.threads={params.train.threads}"
        )
    for name, section in vars(params).items():
        for group in section.groups if isinstance(section, Rows) else ():
            if group not in GROUPS:
                raise SettingsError(f"{name}.groups: {group}: expected some of {', '.join(GROUPS)}")
    for name, seeds in seeds_of_studies(params).items():
        if not seeds or len(set(seeds)) < len(seeds):
            raise SettingsError(f"{name}={seeds}: at least one, each once")
    if not 0 <= params.data.missing_limit <= 1:
        raise SettingsError(f"data.missing_limit={params.data.missing_limit}: a share from 0 to 1")
    return params


def seeds_of_studies(params: Params) -> dict[str, list[int]]:
    """Setting path -> seeds, for every place where seeds are given."""
    sections = {field_.name: getattr(params, field_.name) for field_ in fields(params)}
    studies = {name: section for name, section in sections.items() if isinstance(section, Rows | AlphaBeta)}
    found = {f"{name}.seeds": section.seeds for name, section in studies.items()}
    for name, section in studies.items():
        if isinstance(section, Rows) and section.beside_seeds is not None:
            found[f"{name}.beside_seeds"] = section.beside_seeds
    return found | ({"seeds": params.seeds} if params.seeds is not None else {})


def get(params: Params, path: str) -> Any:
    """The value of a setting path such as `loss.alpha`. Raises SettingsError when there is none."""
    value: Any = params
    for name in path.split("."):
        inner = value if isinstance(value, Mapping) else vars(value) if is_dataclass(value) else {}
        if name not in inner:
            raise SettingsError(f"{path}: no such setting")
        value = inner[name]
    return value


def put(params: Params, path: str, value: Any) -> None:
    """Set a setting path in place. Raises SettingsError for an unknown path or a value of another type."""
    *sections, name = path.split(".")
    target = get(params, ".".join(sections)) if sections else params
    if isinstance(target, dict):  # such as method.loss_arguments, whose names the loss checks
        target[name] = value
        return
    present = get(params, path)
    if is_dataclass(present):
        raise SettingsError(
            f"{path}: a section, not a setting; name one of {', '.join(f.name for f in fields(present))}"
        )
    if isinstance(present, float) and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if present is None and path.startswith("head."):
        present = FORMS["paper"].get(name, 0)  # a null is decided by the form, which knows the type; K is a number
    if present is not None and value is not None and type(present) is not type(value):
        raise SettingsError(f"{path}={value!r}: expected {type(present).__name__}")
    setattr(target, name, value)


def varied(params: Params, point: Mapping[str, Any], methods: Mapping[str, Method]) -> Params:
    """A copy of `params` at one point of a study's space: setting paths and their values.

    `method` names a method; `recipe: modern` stands for what the section `modern` says, which the point's other settings override.
    """
    copied = copy.deepcopy(params)
    recipe = point.get("recipe", "paper")
    if recipe not in RECIPES:
        raise SettingsError(f"recipe={recipe}: expected one of {', '.join(RECIPES)}")
    settings = {path: value for path, value in point.items() if path != "recipe"}
    for path, value in ((params.modern | settings) if recipe == "modern" else settings).items():
        if path == "method":
            if value not in methods:
                raise SettingsError(f"method={value}: expected one of {', '.join(sorted(methods))}")
            copied.method = copy.deepcopy(methods[value])
        else:
            put(copied, path, value)
    return check(copied)


def resolved_head(head: Head) -> dict[str, Any]:
    """The head's settings with every null decided by its form (PAPER: two forms of the head)."""
    return {name: FORMS[head.form].get(name) if value is None else value for name, value in asdict(head).items()}
