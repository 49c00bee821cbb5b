"""Every setting of the project, and how it is composed from params.yaml, a3m/conf and the command line.

params.yaml in the project's root is Hydra's primary configuration and DVC's parameter file at once. A profile chooses the
size of everything; `a3m/conf/recipe/<profile>/<data set>.yaml` holds what a profile means for one data set. Unknown settings
and wrong types are refused, because the dataclasses below are the schema.

This is the only module that names Hydra.
"""

import functools
import os
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

import a3m
from a3m.errors import SettingsError, UserError


@dataclass
class Dataset:
    """Which data set, and which protocol tests it."""

    name: str = "market1501"
    task: str = "re-identification"  # or classification


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
    weights: str = "none"  # none | pretrained (timm's own mechanism) | a file
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
    fuse: str | None = None  # sum | concat
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
    on: str = "train+val"  # train+val: tested once at the end | train: measured on the validation part, never on test data
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
    stages: list[float] = field(default_factory=list)  # stages: learning rates of equally long stages, optimiser reset at each
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
    """All settings, resolved. `load` and `main` return it."""

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
    "dataset.task": ("re-identification", "classification"),
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


# --- the project's root -------------------------------------------------------------------------------------------------


def project_root(start: Path) -> Path:
    """The nearest folder at or above `start` that holds params.yaml and dvc.yaml."""
    for folder in (start, *start.parents):
        if (folder / "params.yaml").is_file() and (folder / "dvc.yaml").is_file():
            return folder
    raise SettingsError(f"{start}: neither this folder nor one above it holds params.yaml and dvc.yaml: go to the project")


def running_root() -> Path:
    """The root of the project whose script is running: the parent of the script's folder; else looked for from here upwards.

    Raises SettingsError when the imported a3m belongs to another tree: its code would train under this tree's settings.
    """
    script = Path(sys.argv[0]).resolve()
    if script.parent.name in ("sweeps", "pipelines", "benchmarks"):
        root = script.parent.parent
    else:
        root = project_root(Path.cwd())
    imported = Path(a3m.__file__).resolve().parents[1]
    if (root / "a3m").is_dir() and (root / "a3m").resolve() != imported / "a3m":
        raise SettingsError(
            f"the a3m that Python imports lies in {imported}, not in this project ({root}): "
            f"run `make venv` here, or set PYTHONPATH={root}; experiments run in the workspace, not with `dvc exp run --temp`"
        )
    return root


# --- composing ----------------------------------------------------------------------------------------------------------


def register_schema() -> None:
    """Make the dataclasses known to Hydra under the name that params.yaml's defaults list uses."""
    from hydra.core.config_store import ConfigStore

    ConfigStore.instance().store("schema", Params)


def load(overrides: Sequence[str] = (), *, root: Path | None = None) -> Params:
    """Compose params.yaml with `overrides` (Hydra's grammar) and return it checked. Raises SettingsError."""
    from hydra import compose, initialize_config_dir
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    register_schema()
    root = root or running_root()
    try:
        with initialize_config_dir(str(root), version_base="1.3"):
            composed = compose("params", list(overrides))
        return check(_typed(composed))
    except (HydraException, OmegaConfBaseException) as error:
        raise SettingsError(f"{root / 'params.yaml'}: {_first_lines(error)}") from error
    except yaml.YAMLError as error:
        raise SettingsError(f"{root / 'params.yaml'}: not YAML: {_first_lines(error)}") from error


def _typed(composed: Any) -> Params:
    """The composed configuration as Params; merged into the schema once more, since `+new=1` slips past Hydra's own check."""
    from omegaconf import OmegaConf

    plain = OmegaConf.to_container(composed, resolve=True)
    assert isinstance(plain, dict)
    plain.pop("hydra", None)
    params = OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(Params), plain))
    assert isinstance(params, Params)
    return params


def _first_lines(error: BaseException) -> str:
    """Hydra's and OmegaConf's messages without their inner workings, on one line."""
    cause = error.__cause__ if error.__cause__ is not None else error
    text = f"{error}\n{cause}".split("Config search path:")[0]
    lines = [line.strip() for line in text.splitlines()]
    inner = r"full_key|reference_type|object_type|To append to your config|Set the environment variable"
    return "; ".join(dict.fromkeys(line for line in lines if line and not re.match(inner, line)))


def literal(root: Path) -> dict[str, Any]:
    """params.yaml as DVC sees it: without what Hydra composes."""
    try:
        return yaml.safe_load((root / "params.yaml").read_text()) or {}
    except (OSError, yaml.YAMLError) as error:
        raise SettingsError(f"{root / 'params.yaml'}: {_first_lines(error)}") from error


def dataset_of(study: str, root: Path) -> str:
    """The data set that params.yaml gives to a study."""
    studies = literal(root).get("studies") or {}
    if study not in studies:
        raise SettingsError(f"{root / 'params.yaml'}: studies names no data set for {study}; add `{study}: <data set>`")
    return str(studies[study])


def load_study(study: str, overrides: Sequence[str] = (), *, root: Path | None = None) -> Params:
    """The settings of a study, composed with its own data set."""
    root = root or running_root()
    return load([f"dataset={dataset_of(study, root)}", *overrides], root=root)


def main(*, study: str | None = None, swept: Sequence[str] = ()) -> Callable[[Callable[[Params, Path], None]], Callable[[], None]]:
    """Make a function of (settings, project root) a command with Hydra's grammar, `--help` and `--cfg job`.

    `study` composes with that study's data set; an override of a `swept` setting is refused. A UserError is printed as one
    message and ends the command with its exit code.
    """

    def decorate(function: Callable[[Params, Path], None]) -> Callable[[], None]:
        # functools.wraps: Hydra reads the help text and the job's name from the wrapped function.
        @functools.wraps(function)
        def command() -> None:
            with user_errors():
                root = running_root()
                arguments = sys.argv[1:]
                if {"-m", "--multirun"} & set(arguments):
                    raise SettingsError("--multirun is refused: a sweep schedules its own trials; run it once")
                if study is not None:
                    refuse_swept(swept, arguments, literal(root))
                    if not any(argument.startswith("dataset=") for argument in arguments):
                        sys.argv.append(f"dataset={dataset_of(study, root)}")
                _run_hydra(function, root)

        return command

    return decorate


def refuse_swept(swept: Sequence[str], arguments: Sequence[str], written: dict[str, Any]) -> None:
    """Raise SettingsError when the command line or params.yaml sets what the study itself varies."""
    for path in swept:
        value: Any = written
        for name in path.split("."):
            value = value.get(name) if isinstance(value, dict) else None
        given = [argument for argument in arguments if re.match(rf"\+{{0,2}}{re.escape(path)}=", argument)]
        if given or value is not None:
            where = given[0] if given else f"params.yaml: {path}"
            raise SettingsError(f"{where}: this study varies {path} itself; leave it out")


def _run_hydra(function: Callable[[Params, Path], None], root: Path) -> None:
    import hydra
    from omegaconf.errors import OmegaConfBaseException

    register_schema()

    @functools.wraps(function)
    def task(composed: Any) -> None:
        with user_errors():
            try:
                params = _typed(composed)
            except OmegaConfBaseException as error:
                raise SettingsError(_first_lines(error)) from error
            function(check(params), root)

    hydra.main(config_path=str(root), config_name="params", version_base="1.3")(task)()


class user_errors:  # noqa: N801 - a context manager that reads like a statement
    """Print a UserError as one message on stderr and exit with its code; A3M_TRACEBACK=1 shows where it came from."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        if isinstance(error, UserError) and not os.environ.get("A3M_TRACEBACK"):
            print(f"error: {error}", file=sys.stderr)
            sys.exit(error.code)
