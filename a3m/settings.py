"""Every setting of the project, with its default, and what may not be left to the types.

The dataclasses are the schema that `a3m.config` composes params.yaml into. Sections are passed to the code that reads them.
"""

import copy
import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any

from a3m.errors import SettingsError


@dataclass
class Dataset:
    """Which data set. Its reader knows the task, and with it the protocol."""

    name: str = "market1501"


@dataclass
class Twin:
    """The size and difficulty of a drawn stand-in. Market-1501 reads the identities, CUB-200-2011 the classes."""

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


@dataclass
class Data:
    """Where the images come from and how they are prepared."""

    source: str = "twins"  # data/twins/<data set>, drawn; or raw: data/raw/<data set>, the user's copy
    allow_subset: bool = False  # admit a part of a real data set; results then say so
    split_seed: int = 0
    validation: float = 0.2  # share of every class, or of the identities
    fold: str = "12"  # of the attributes: Market-1501 12 | 27, CUB-200-2011 masked | released
    crop_box: bool = False
    height: int = 96  # pixels, what the network sees
    width: int = 48
    margin: float = 8 / 7  # packed size / network size: room for random crops; the test crop is the centre
    pack_limit: int = 8_000_000_000  # bytes; above it the pack keeps encoded images


@dataclass
class Backbone:
    name: str = "a3m_resnet_small"  # any timm model that yields a feature map
    weights: str = "none"  # none | pretrained (timm's own mechanism) | a file, relative to the project's root
    output_stride: int = 32  # 32 leaves the model as timm builds it
    arguments: dict[str, Any] = field(default_factory=dict)  # further arguments of timm.create_model


@dataclass
class Method:
    """One row of the ablation (PAPER: variants)."""

    name: str = "a3m"
    attribute_branch: bool = True
    attribute_labels: bool = True
    region: str = "learned"  # attribute-guided weights m: learned | equal
    attribute: str = "learned"  # category-guided weights s: learned | equal


@dataclass
class Head:
    """The A3M head. `form` decides every difference that is null."""

    form: str = "paper"  # paper | released
    d: int = 512
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
    feature: str = "category"  # category: through the d-wide layer | pooled: the backbone's own feature


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
class Ablation:
    """Table 1 and Figure 5."""

    seeds: list[int] = field(default_factory=lambda: [0, 1, 2])
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


@dataclass
class Reuse:
    code: str = "same"  # same: only runs of the very same code | any: finished runs of older code too; tables say so


@dataclass
class Params:
    """All settings. `a3m.config.load` and `a3m.config.main` compose it."""

    profile: str = "demo"
    datasets: list[str] = field(default_factory=list)
    studies: dict[str, str] = field(default_factory=dict)  # study: its data set
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
    ablation: Ablation = field(default_factory=Ablation)
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
    "data.source": ("twins", "raw"),
    "head.form": ("paper", "released"),
    "head.branch": ("linear", "bn_relu"),
    "head.attend": ("before_dropout", "after_dropout"),
    "head.merge": ("max", "mean"),
    "head.fuse": ("sum", "concat"),
    "head.fusion": ("corrected", "interleaved"),
    "method.region": ("learned", "equal"),
    "method.attribute": ("learned", "equal"),
    "baseline1.feature": ("category", "pooled"),
    "train.on": ("train", "train+val"),
    "train.optimiser": ("sgd", "adamw"),
    "train.schedule": ("step", "cosine", "stages"),
    "train.precision": ("float32", "bfloat16", "float16"),
    "train.memory_format": ("contiguous", "channels_last"),
    "reuse.code": ("same", "any"),
}
POSITIVE = (
    "data.height", "data.width", "head.d", "train.epochs", "train.batch_size", "train.learning_rate", "train.threads",
    "train.checkpoint_every", "cluster.cpus_per_trial",
)  # fmt: skip
HOW = ("workers", "checkpoint_every", "validate_every")  # settings of `train` that do not change the weights
AUGMENTATIONS = ("crop", "flip", "affine", "erase")


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
    for seeds in (params.seeds, params.ablation.seeds, params.alpha_beta.seeds):
        if seeds is not None and (not seeds or len(set(seeds)) < len(seeds)):
            raise SettingsError(f"seeds={seeds}: at least one, each once")
    return params


def get(params: Params, path: str) -> Any:
    """The value of a setting path such as `loss.alpha`. Raises SettingsError when there is none."""
    value: Any = params
    for name in path.split("."):
        if not hasattr(value, name):
            raise SettingsError(f"{path}: no such setting")
        value = getattr(value, name)
    return value


def put(params: Params, path: str, value: Any) -> None:
    """Set a setting path in place. Raises SettingsError for an unknown path or a value of another type."""
    *sections, name = path.split(".")
    target = get(params, ".".join(sections)) if sections else params
    present = get(params, path)
    if is_dataclass(present):
        raise SettingsError(
            f"{path}: a section, not a setting; name one of {', '.join(f.name for f in fields(present))}"
        )
    if isinstance(present, float) and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if present is None and path.startswith("head."):
        present = FORMS["paper"][name]  # a null is decided by the form, which knows the type
    if present is not None and value is not None and type(present) is not type(value):
        raise SettingsError(f"{path}={value!r}: expected {type(present).__name__}")
    setattr(target, name, value)


def varied(params: Params, point: Mapping[str, Any], methods: Mapping[str, Method]) -> Params:
    """A copy of `params` at one point of a study's space: setting paths and their values; `method` names a method."""
    copied = copy.deepcopy(params)
    for path, value in point.items():
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


def trial_settings(params: Params, seed: int) -> dict[str, Any]:
    """What the result of one trial depends on besides data and code: the settings that its method reads, and nothing else.

    Two trials that could not differ get equal settings, so that they share one key: Baseline-1 has no alpha, A3M without
    attribute labels no beta, equal weights no normalised scores. `data` and `twin` are left out: the data digest covers them.
    """
    method = asdict(params.method)
    train = asdict(params.train)
    for name in HOW:
        del train[name]
    unread: tuple[str, ...] = {
        "step": ("warmup_epochs", "stages", "update_decay"),
        "cosine": ("last_epochs", "stages", "update_decay"),
        "stages": ("last_epochs", "warmup_epochs", "learning_rate"),
    }[params.train.schedule]
    unread += ("momentum", "nesterov") if params.train.optimiser == "adamw" else ()
    for name in unread:
        del train[name]
    if train["device"] == "auto":
        train["device"] = _device()

    head, loss = resolved_head(params.head), asdict(params.loss)
    del head["form"]  # it has decided the others
    settings: dict[str, Any] = {
        "dataset": params.dataset.name,
        "seed": seed,
        "method": method,
        "backbone": asdict(params.backbone),
        "head": head,
        "loss": loss,
        "train": train,
    }
    if not params.method.attribute_branch:
        del loss["alpha"], loss["beta"]
        settings["baseline1"] = asdict(params.baseline1)
        read = ("d", "branch", "dropout") if params.baseline1.feature == "category" else ()
        settings["head"] = {name: head[name] for name in read}
    else:
        if not params.method.attribute_labels:
            del loss["beta"]
        if (params.method.region, params.method.attribute) == ("equal", "equal"):
            del head["normalise_scores"]
        if params.method.region == "equal":
            del head["merge"]
        if head["dropout"] == 0:
            del head["attend"]
    return settings


def _device() -> str:
    """cuda where torch finds a GPU. Torch, which takes seconds to import, is asked only where a GPU's device file exists."""
    if not any(Path(device).exists() for device in ("/dev/nvidiactl", "/dev/dxg", "/dev/kfd")):
        return "cpu"
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def for_dataset(params: Params) -> dict[str, Any]:
    """What preparing a data set reads: the content of settings/<data set>.yaml."""
    sections: dict[str, Any] = {"dataset": asdict(params.dataset), "data": asdict(params.data)}
    if params.data.source == "twins":
        sections["twin"] = asdict(params.twin)
    return sections


def dataset_digest(params: Params) -> str:
    """Digest of what preparing the data set reads: a pack is used only under the settings that it was made with."""
    text = json.dumps(for_dataset(params), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def for_study(params: Params, study: str, methods: Mapping[str, Method]) -> dict[str, Any]:
    """What a study's results depend on: the content of settings/<study>.yaml. Where and how fast it runs is left out."""
    content = asdict(params)
    names = (
        "dataset",
        "backbone",
        "method",
        "baseline1",
        "loss",
        "train",
        "seeds",
        "reuse",
        "partial",
        "retry_failed",
        study,
    )
    kept = {name: content[name] for name in names}
    for name in HOW:
        del kept["train"][name]
    kept["head"] = {"form": params.head.form, **resolved_head(params.head)}
    kept["methods"] = {name: asdict(method) for name, method in methods.items()}
    return kept
