"""Every setting of the project, with its default.

The dataclasses are the schema that `a3m.config` composes params.yaml into. Sections are passed to the code that reads them.
What the types let through is checked in `a3m.points`; what a trial, a data set or a study depends on stands in `a3m.relevance`.
"""

from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass
class Dataset:
    """Which data set: who reads it, from which folder, for which task. The task decides the protocol."""

    name: str = "market1501"  # as a3m/conf/dataset has it; names results and data/prepared/<name>
    reader: str = "market1501"  # module of a3m/data
    images: str = "market1501"  # folder below data/twins or data/raw; several data sets may share one
    task: str = (
        "re-identification"  # classification | re-identification | retrieval; own data: "" follows from the file
    )
    train_images: int = 12936  # published training images: what a plan reckons with before the data are packed


@dataclass
class Twin:
    """The size and difficulty of a drawn stand-in. Each twin reads what it has: identities, classes, or makes and models."""

    seed: int = 0  # of what is drawn: another seed is another data set
    difficulty: float = 1.0  # 0 to 4: how much nuisance (light, pose, look-alikes, occlusion); 0: none
    train_identities: int = 200  # Market-1501: people to train on
    test_identities: int = 100  # Market-1501: people to test on, none of them trained on
    images_per_identity: int = 8  # Market-1501: at least 4; of a test person, one a camera is a query
    distractors: int = 100  # Market-1501: gallery images of people that nobody asks for (identity 0)
    junk: int = 50  # Market-1501: gallery images that the protocol drops (identity -1)
    classes: int = 40  # CUB-200-2011, CARS196: species or models, at least 2
    train_images_per_class: int = 15  # CUB-200-2011: at least 1
    test_images_per_class: int = 15  # CUB-200-2011: at least 1
    images_per_class: int = 30  # CARS196: at least 2; the first half of the classes trains, the rest tests
    makes: int = 8  # CompCars: makes that the models share
    models: int = 40  # CompCars: models, which are the classes; at least as many as makes
    train_images_per_model: int = 15  # CompCars: at least 1; rare models have half
    test_images_per_model: int = 15  # CompCars: at least 1


@dataclass
class Data:
    """Where the images come from and how they are prepared."""

    source: str = "twins"  # data/twins/<data set>, drawn; or raw: data/raw/<data set>, the user's copy
    allow_subset: bool = False  # admit a part of a real data set; results then say so
    split_seed: int = 0  # of the cut of the validation part (and of CompCars' random split): one for all trials
    validation: float = 0.2  # share of every class, or of the identities, that validation takes; between 0 and 1
    missing_limit: float = 0.0  # share of the listed images that may be missing on disk; they are counted and named
    fold: str = "12"  # of the attributes: Market-1501 12 | 27, CUB-200-2011 masked | released
    split: str = "paper"  # CompCars: paper (the authors' lists) | released | random
    bins: int = 6  # CompCars: quantile bins of maximum speed and displacement
    manifest: str = "manifest.csv"  # own data: the CSV below data/raw/manifest
    crop_box: bool = False  # crop every image that has a box to it
    height: int = 96  # pixels, what the network sees
    width: int = 48  # pixels, what the network sees
    margin: float = 8 / 7  # packed size / network size: room for random crops; the test crop is the centre
    pack_limit: int = 8_000_000_000  # bytes; above it the pack keeps encoded images


@dataclass
class Backbone:
    """The network under the head, and its first weights."""

    name: str = "a3m_resnet_small"  # any timm model that yields a feature map
    # none | pretrained (timm's own mechanism) | package:<one that carries them> | a file, relative to the project's root
    weights: str = "none"
    output_stride: int = 32  # 32 leaves the model as timm builds it
    arguments: dict[str, Any] = field(default_factory=dict)  # further arguments of timm.create_model


@dataclass
class Method:
    """One row of the ablation (Table 1), or one comparator."""

    name: str = "a3m"  # as a3m/conf/method has it; names the row
    network: str = "a3m"  # category | a3m | apr | bilinear | hdc | bier
    loss: str = "equation11"  # equation11 | apr | npair | lifted | proxy_anchor | verification | hdc | bier
    # of the loss, by name (docs/extending.md lists them); what is not named has its default
    loss_arguments: dict[str, float] = field(default_factory=dict)
    images_per_class: int = 0  # K of batches of P classes with K images each; 0: shuffled, or what train says
    attribute_labels: bool = True  # train the attribute branches on their labels; false: their loss weighs 0
    region: str = "learned"  # attribute-guided weights m: learned | equal
    attribute: str = "learned"  # category-guided weights s: learned | equal


@dataclass
class Head:
    """The A3M head. `form` decides every difference that is null."""

    form: str = "paper"  # paper | released
    d: int = 512  # width of both embeddings
    attributes: int | None = None  # K where nothing is labelled (Tables 4, 5); null: the data set's own
    neck: bool = False  # batch norm on the compared feature, before its classifier (modern re-identification)
    branch: str | None = None  # linear | bn_relu
    dropout: float | None = None  # share of the embedding that is dropped in training, 0 to below 1
    attend: str | None = None  # before_dropout | after_dropout
    merge: str | None = None  # max | mean
    # batch norm on the scores before the sigmoid; without it they saturate when trained from scratch
    normalise_scores: bool | None = None
    normalise_features: bool | None = None  # batch norm on each attended feature before the two are fused
    fuse: str | None = None  # sum | concat, which brings the released code's dropout of 0.5 before the final classifier
    fusion: str | None = None  # corrected | interleaved (a slip of the released code)


@dataclass
class Baseline1:
    """What Baseline-1 compares and classifies."""

    # category: through the d-wide layer | pooled: the backbone's own feature | wide: with as many parameters as A3M
    feature: str = "category"


@dataclass
class Loss:
    """Equation 11: L_final + alpha L_category + beta (1/K) sum_k L_k."""

    alpha: float = 0.5  # weight of the category branch's loss, 0 and above
    beta: float = 0.5  # weight of the attributes' mean loss, 0 and above
    label_smoothing: float = 0.0  # of class labels, not of attributes: 0 to below 1; 0 is off


@dataclass
class Train:
    """Training: on what, how long, in which batches, by which optimiser and schedule."""

    on: str = (
        "train+val"  # train+val: tested once at the end | train: measured on the validation part, never on test data
    )
    epochs: int = 60  # passes over the training data, at least 1
    batch_size: int = 32  # images a step
    images_per_class: int = 0  # K > 0: batches of batch_size / K classes with K images each; 0: shuffled
    shuffle_attributes: bool = False  # control: attribute labels permuted over identities or classes
    optimiser: str = "sgd"  # sgd | adamw
    learning_rate: float = 1e-3  # the highest one of schedules step and cosine; stages has its own
    backbone_factor: float = 1.0  # the backbone's learning rate as a multiple of the common one
    momentum: float = 0.9  # sgd: 0 to below 1
    nesterov: bool = False  # sgd: Nesterov's momentum
    weight_decay: float = 5e-4  # 0 and above; sgd adds it to the gradient, adamw takes it off the weights
    schedule: str = "step"  # step | cosine | stages
    last_epochs: int = 10  # step: epochs at the end with a tenth of the learning rate
    warmup_epochs: int = 0  # cosine: epochs at the beginning over which the learning rate rises from near 0
    stages: list[float] = field(
        default_factory=list
    )  # stages: learning rates of equally long stages, optimiser reset at each
    update_decay: float = 0.0  # stages: lr / (1 + update_decay * updates of this stage)
    # [epochs done, {setting: value}], ...: settings that change on the way, such as those of a population's winner (a3m.changes)
    changes: list[Any] = field(default_factory=list)
    augment: list[str] = field(default_factory=lambda: ["crop", "flip"])  # of crop, flip, affine, erase
    ema: float = 0.0  # decay of the averaged weights that are tested; 0 is off
    validate_every: int = 0  # epochs; 0: after the last one only
    checkpoint_every: int = 1  # epochs
    device: str = "auto"  # cpu | cuda | auto (resolved before the trial is named)
    threads: int = 1  # CPU threads of one trial; in its key, since results depend on it
    precision: str = "float32"  # float32 | bfloat16 | float16: of the forward pass, by autocast
    # contiguous | channels_last: how image tensors lie in memory; faster or slower, by machine
    memory_format: str = "contiguous"
    workers: int = 0  # processes that load batches; does not change the result


@dataclass
class Test:
    """What is measured beside the protocol of the task."""

    rerank: bool = False  # re-identification: k-reciprocal re-ranking as well (test/reranked/...)
    k1: int = 20  # re-ranking: neighbours that must be mutual, at least 1
    k2: int = 6  # re-ranking: neighbours over which an image's own are averaged, at least 1
    lambda_: float = 0.3  # re-ranking: share of the original distance, 0 to 1


@dataclass
class Rows:
    """A study whose rows are methods (a3m.space): the paper's, groups of further ones, and what a profile puts beside."""

    seeds: list[int] = field(default_factory=lambda: [0, 1, 2])  # of the paper's rows: a trial a row and seed
    beside_seeds: list[int] | None = None  # of the groups; null: as seeds
    # rows beside the paper's: some of comparators, controls, modern
    groups: list[str] = field(default_factory=lambda: ["comparators", "controls", "modern"])
    own: dict[str, dict[str, Any]] = field(
        default_factory=dict
    )  # method: what its rows in the paper's recipe set besides
    beside: list[dict[str, Any]] = field(default_factory=list)  # further rows: setting paths and their values


@dataclass
class AlphaBeta:
    """Figure 7: two independent lines through alpha = beta = 0.5."""

    seeds: list[int] = field(default_factory=lambda: [0, 1, 2])  # a trial a point and seed
    # points of each line: loss.alpha with beta 0.5, and loss.beta with alpha 0.5
    values: list[float] = field(default_factory=lambda: [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0])


@dataclass
class Search:
    """Search of settings (sweeps/search.py), by the validation part alone; the winner is retrained over `seeds` and tested once."""

    name: str = "search"  # of the search and of results/<name>.csv
    algorithm: str = "tpe"  # tpe (Optuna) | random | pbt: population-based training
    scheduler: str = "asha"  # asha: trials that fall behind are stopped early | none; pbt has none
    # setting=distribution (a3m.searching.distributions), such as loss.alpha=uniform(0,1); empty: what sweeps/search.py says
    space: list[str] = field(default_factory=list)
    metric: str = ""  # val/...; empty: the task's own
    mode: str = "max"  # max | min
    trials: int = 32  # tpe, random: in all; a greater number goes on with the same search
    seed: int = 0  # of the trials and of what suggests them
    grace: int = 1  # asha: epochs that each trial is given
    reduction: int = 3  # asha: one of so many goes on from a rung to the next, which is so many times as long
    population: int = 8  # pbt: members
    interval: int = 5  # pbt: epochs between two exchanges
    seeds: list[int] = field(default_factory=lambda: [0, 1, 2])  # of the winner and of the untuned settings beside it


@dataclass
class Store:
    """Where runs are recorded, and where what is not finished or not delivered is kept."""

    uri: str = ""  # MLflow's; empty: sqlite:///<project>/mlflow.db
    state: str = ".a3m/state"  # checkpoints, leases, spools: shared by all workers of a cluster
    patience: float = 600.0  # seconds that an MLflow server which is away is waited for; training goes on meanwhile


@dataclass
class Cluster:
    """Which Ray trials run on, what each one takes of it, and how packs come to its machines."""

    address: str = "local"  # local: a Ray on this machine, started and stopped | auto | host:port | ray://host:port
    cpus_per_trial: int = 1  # CPU cores that Ray keeps for a trial, at least train.threads
    gpus_per_trial: float = -1.0  # GPUs a trial, fractions allowed; -1: one where there are GPUs
    max_concurrent: int = 0  # trials at once; 0: as many as fit
    data: str = "~/.cache/a3m"  # a folder of each machine's own, for packs that it pulls from the DVC remote
    remote: str = ""  # the DVC remote that packs are pulled from; empty: DVC's default remote
    retries: int = 2  # of a trial that was killed, ran out of memory or lost its machine
    images_per_second: float = (
        0.0  # trained by one trial: what a plan reckons with; 0: measured by the runs that are there
    )


@dataclass
class Reuse:
    """Which finished runs count as done."""

    code: str = "same"  # same: only runs of the very same code | any: finished runs of older code too; tables say so


@dataclass
class Params:
    """All settings. `a3m.config.load` and `a3m.config.main` compose it."""

    # smoke | demo | paper | modern: data, sizes and recipe of a3m/conf; params.yaml chooses it under `defaults`
    profile: str = "demo"
    twins: list[str] = field(default_factory=list)  # layouts that are drawn: folders below data/twins
    datasets: dict[str, dict[str, str]] = field(default_factory=dict)  # data set: its reader and folder of images
    studies: dict[str, str] = field(default_factory=dict)  # study: its data set
    figures: dict[str, dict[str, str]] = field(default_factory=dict)  # figure: its study and the file that it needs
    seeds: list[int] | None = None  # 0 and above; overrides the seeds of every study; null: each study's own
    seed: int = 0  # 0 and above: of `a3m train`
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
    search: Search = field(default_factory=Search)
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


def resolved_head(head: Head) -> dict[str, Any]:
    """The head's settings with every null decided by its form: as the paper writes it, or as its code has it."""
    return {name: FORMS[head.form].get(name) if value is None else value for name, value in asdict(head).items()}
