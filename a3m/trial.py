"""One trial, from pack to tested weights. Knows neither Ray nor MLflow.

What a trial leaves is in `Trial.outputs`: weights, settings, predictions and embeddings, from which every later figure is made.
"""

import json
import os
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from a3m import evaluate, identity, loss
from a3m.collect import Collected, collect
from a3m.data.loaders import Parts, TrainBatches, evaluation_batches, evaluation_regions, parts
from a3m.data.pack import Pack, open_verified
from a3m.errors import DataError, SettingsError, StoreError
from a3m.fit import Report, fit
from a3m.identity import Trial
from a3m.metrics.rerank import k_reciprocal
from a3m.model import Output, build
from a3m.state import Checkpoints, Lease


def train(trial: Trial, report: Report | None = None, held: Lease | None = None) -> dict[str, float]:
    """Train and test one trial in this process; returns its test (or validation) metrics and writes `trial.outputs`.

    Continues from the trial's newest checkpoint. Raises DataError when the pack is not the one that the trial names,
    TrainingError when the loss is not a number, LeaseLost when another process has taken the trial over.
    """
    settings = _namespace(trial.settings)
    for name in ("workers", "checkpoint_every", "validate_every"):
        setattr(settings.train, name, getattr(trial, name))
    if trial.weights:
        settings.backbone.weights = trial.weights
    pack = verified_inputs(trial)
    rows = parts(pack, settings.train.on)
    _prepare_process(settings.train.device, settings.train.threads)

    model = build(
        SimpleNamespace(
            backbone=settings.backbone,
            head=_namespace(UNREAD_HEAD | trial.settings["head"]),
            method=settings.method,
            baseline1=getattr(settings, "baseline1", None),
            seed=settings.seed,
            input_size=pack.input_size,
        ),
        len(rows.classes),
        pack.attribute_sizes,
    )
    output, cost = probe(model, pack.input_size)
    if output.logits is None and pack.description["task"] == "classification":
        raise SettingsError(
            f"method={settings.method.name} trains no classifier: it is for retrieval and re-identification, not for classification"
        )
    weighed: Any = SimpleNamespace(**{"alpha": 0.0, "beta": 0.0, "label_smoothing": 0.0} | trial.settings["loss"])
    criterion = loss.build(settings.method, weighed, len(rows.classes), output.embedding.shape[1], settings.seed)
    batches = TrainBatches(
        pack, rows.train, rows.classes, settings.train, settings.seed, *_normalisation(model),
        images_per_class=settings.train.images_per_class,
        shuffle_attributes=getattr(settings.train, "shuffle_attributes", False),
    )  # fmt: skip

    def validate(tested: nn.Module) -> dict[str, float]:
        return test(tested, pack, rows, settings)[0]

    tested = fit(
        model,
        batches,
        criterion,
        settings.train,
        settings.seed,
        checkpoints=Checkpoints(trial.checkpoints, held.check if held is not None else None),
        report=report,
        validate=validate if settings.train.on == "train" else None,
    )
    metrics, predictions, embeddings, maps = test(tested, pack, rows, settings)
    if held is not None:
        held.check()  # whoever took the trial over may have written its outputs already
    _write_outputs(trial, tested, predictions, {"embeddings": embeddings, "attention": maps})
    return metrics | cost


# Settings of the head that a method does not read are not in its key; the builder is given what has no effect.
UNREAD_HEAD = {
    "d": 1, "attributes": None, "neck": False, "branch": "linear", "dropout": 0.0, "attend": "before_dropout",
    "merge": "max", "normalise_scores": False, "normalise_features": False, "fuse": "sum", "fusion": "corrected",
}  # fmt: skip


def _namespace(settings: dict[str, Any]) -> Any:
    """Nested settings with attribute access; what timm or a loss is given as arguments stays a dict."""
    nested = {name: _namespace(value) if isinstance(value, dict) else value for name, value in settings.items()}
    for name in ("arguments", "loss_arguments"):
        if name in settings:
            nested[name] = settings[name]
    return SimpleNamespace(**nested)


def verified_inputs(trial: Trial) -> Pack:
    """The trial's pack, opened; pack and weights file must be those that its key was made with. Raises DataError."""
    if trial.weights:
        try:
            found = identity.file_digest(Path(trial.weights))
        except OSError as error:
            raise DataError(f"backbone.weights={trial.weights}: {error.strerror}") from error
        if found != trial.settings["backbone"]["weights"]:
            raise DataError(f"backbone.weights={trial.weights}: the file has changed since the trial was planned")
    return open_verified(Path(trial.pack), trial.data, Path(trial.state) / "cache")


def _prepare_process(device: str, threads: int) -> None:
    """Make this process train alike whatever it did before: a worker trains many trials."""
    if device == "cuda":
        os.environ["CUBLAS_WORKSPACE_CONFIG"] = ":4096:8"  # else deterministic matrix products are refused
    torch.use_deterministic_algorithms(device == "cuda")
    torch.set_num_threads(threads)  # last: importing some libraries resets it


def _normalisation(model: nn.Module) -> tuple[Tensor, Tensor]:
    backbone: Any = model.backbone
    return torch.tensor(backbone.mean), torch.tensor(backbone.std)


def probe(model: nn.Module, input_size: tuple[int, int]) -> tuple[Output, dict[str, float]]:
    """What the network says of one black image, and what it costs: its parameters, and the multiply-adds x 2 of an image."""
    was_training = model.training
    model.eval()
    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        output: Output = model(torch.zeros(1, 3, *input_size))
    model.train(was_training)
    parameters = float(sum(parameter.numel() for parameter in model.parameters()))
    return output, {"model/parameters": parameters, "model/flops": float(counter.get_total_flops())}


# --- testing ------------------------------------------------------------------------------------------------------------

MAPS = 48  # images whose attention maps are kept, evenly over those that are tested


def test(
    model: nn.Module, pack: Pack, rows: Parts, settings: Any
) -> tuple[dict[str, float], pd.DataFrame, dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Test on the rows that `train.on` leaves for it -> (metrics named test/... or val/..., predictions, embeddings, maps).

    Predictions have a row a test image or query. Embeddings: `final` what is compared, `category` v, `attribute` the mean
    of the a_k, each (N, .) for the rows of the pack in `rows`. Maps: raw scores and merged weights m of some of them.
    """
    order = np.concatenate(list(rows.test.values()))
    shown = len(rows.test["query"]) if "query" in rows.test else len(order)
    seen = collect(
        model,
        evaluation_batches(pack, order, *_normalisation(model)),
        settings.train.device,
        regions=evaluation_regions(pack, order),
        keep_logits=pack.description["task"] == "classification",
        keep_maps=np.unique(np.linspace(0, shown - 1, MAPS).astype(np.int64)),
    )
    metrics, predictions = SCORE[pack.description["task"]](pack, rows, seen, settings)
    if seen.attribute_predictions is not None:
        found, columns = _score_attributes(pack, rows, seen, order, len(predictions))
        metrics |= found
        predictions = predictions.join(columns)
    metrics |= seen.attention
    embeddings = {"rows": order, "final": seen.embedding, "category": seen.category_embedding}
    if seen.attribute_embedding is not None:
        embeddings["attribute"] = seen.attribute_embedding
    maps: dict[str, np.ndarray] = {}
    if seen.maps_scores is not None and seen.maps_weights is not None and seen.map_size is not None:
        maps = {
            "rows": order[seen.maps_positions],
            "scores": seen.maps_scores.reshape(*seen.maps_scores.shape[:2], *seen.map_size),
            "weights": seen.maps_weights.reshape(-1, *seen.map_size),
        }
    return {f"{rows.prefix}/{name}": value for name, value in metrics.items()}, predictions, embeddings, maps


def _score_attributes(
    pack: Pack, rows: Parts, seen: Collected, order: np.ndarray, shown: int
) -> tuple[dict[str, float], pd.DataFrame]:
    """Accuracy of the attributes, where the true regions are known also of their maps; columns for the first `shown` images."""
    assert seen.attribute_predictions is not None
    named = _with_attributes(pack, rows, order)
    names = pack.attribute_names
    absent = [
        values.index("absent") if "absent" in values else None for values in pack.description["attributes"].values()
    ]
    metrics = evaluate.attributes(
        seen.attribute_predictions[named], seen.attributes[named], names, pack.attributes[rows.train], absent=absent
    )
    hits, regions = seen.localisation_hits, evaluation_regions(pack, order)
    if hits is not None and regions is not None and seen.map_size is not None:
        train_regions = evaluation_regions(pack, rows.train)
        assert train_regions is not None
        metrics |= evaluate.localise_attributes(hits, regions, train_regions, names, seen.map_size)
    columns = (seen.attribute_predictions[:shown], seen.attributes[:shown], None if hits is None else hits[:shown])
    return metrics, evaluate.attribute_columns(names, *columns)


def _score_classes(pack: Pack, rows: Parts, seen: Collected, settings: Any) -> tuple[dict[str, float], pd.DataFrame]:
    """Accuracy; labels and predictions of the frame are those of the data set."""
    assert seen.logits is not None
    labels = np.searchsorted(rows.classes, seen.labels)
    metrics, frame = evaluate.classify(seen.logits, labels, ids=[pack.names[row] for row in seen.index])
    return metrics, frame.assign(label=rows.classes[frame["label"]], prediction=rows.classes[frame["prediction"]])


def _score_people(pack: Pack, rows: Parts, seen: Collected, settings: Any) -> tuple[dict[str, float], pd.DataFrame]:
    """CMC and mAP of the queries, which come first, against the gallery; with test.rerank also after re-ranking."""
    queries = len(rows.test["query"])
    names = [pack.names[row] for row in seen.index]
    query, gallery = slice(None, queries), slice(queries, None)
    arrays = (
        seen.embedding[query], seen.embedding[gallery], seen.labels[query], seen.labels[gallery],
        seen.cameras[query], seen.cameras[gallery],
    )  # fmt: skip
    metrics, frame = evaluate.re_identify(*arrays, ids=names[query], gallery_names=names[gallery])
    if hasattr(settings, "test"):
        again = settings.test
        distances = k_reciprocal(*arrays[:2], k1=again.k1, k2=again.k2, lambda_=again.lambda_)
        found, columns = evaluate.rerank_identify(distances, *arrays[2:], gallery_names=names[gallery])
        metrics, frame = metrics | found, frame.join(columns)
    return metrics, frame


def _score_retrieval(pack: Pack, rows: Parts, seen: Collected, settings: Any) -> tuple[dict[str, float], pd.DataFrame]:
    """Recall@K, each image against all others, and NMI of k-means, whose seed is the trial's."""
    names = [pack.names[row] for row in seen.index]
    return evaluate.retrieve(seen.embedding, seen.labels, ids=names, seed=settings.seed)


SCORE = {"classification": _score_classes, "re-identification": _score_people, "retrieval": _score_retrieval}


def _with_attributes(pack: Pack, rows: Parts, order: np.ndarray) -> np.ndarray:
    """Which of the tested images count for the accuracy of attributes: all; in re-identification the gallery's people."""
    if "query" not in rows.test:
        return np.arange(len(order))
    queries = len(rows.test["query"])
    return np.flatnonzero((np.arange(len(order)) >= queries) & (pack.label[order] > 0))


def _write_outputs(
    trial: Trial, model: nn.Module, predictions: pd.DataFrame, arrays: dict[str, dict[str, np.ndarray]]
) -> None:
    """weights.safetensors, embeddings.safetensors, attention.safetensors, predictions.parquet, settings.json, digests.json."""
    folder = trial.outputs
    try:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        _write_files(folder, trial, model, predictions, arrays)
    except (OSError, SafetensorError) as error:
        raise StoreError(f"{folder}: cannot be written ({error}): make room or set store.state") from error


def _write_files(
    folder: Path, trial: Trial, model: nn.Module, predictions: pd.DataFrame, arrays: dict[str, dict[str, np.ndarray]]
) -> None:
    save_file(
        {name: tensor.contiguous() for name, tensor in model.state_dict().items()}, folder / "weights.safetensors"
    )
    for file, named in arrays.items():
        if named:
            tensors = {name: torch.from_numpy(np.ascontiguousarray(array)) for name, array in named.items()}
            save_file(tensors, folder / f"{file}.safetensors")
    predictions.to_parquet(folder / "predictions.parquet", index=False)
    identity_of = {"key": trial.key, "data": trial.data, "code": trial.code, "settings": trial.settings}
    (folder / "settings.json").write_text(json.dumps(identity_of, indent=1, sort_keys=True) + "\n")
    digests = {path.name: identity.file_digest(path) for path in sorted(folder.iterdir())}
    (folder / "digests.json").write_text(json.dumps(digests, indent=1) + "\n")
