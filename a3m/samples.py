"""What figures need beside numbers: results/<study>.samples.npz, a few images, maps and embeddings of one finished A3M trial.

The file holds arrays only, so that figures are made from it and from nothing else; a3m.report.samples reads it. Every choice
(which people, which queries, which classes) is seeded and does not look at how well the method did, except that right and
wrong queries are drawn in equal numbers where there are both.

Shape suffixes: N rows of the pack, K attributes.
"""

import io
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from a3m.data.pack import SPLITS, Pack
from a3m.plan import Planned
from a3m.predictions import gather as gather_predictions
from a3m.record import runs
from a3m.state import write_atomically

SEED = 0
PEOPLE, QUERIES, CLASSES, PER_CLASS = 8, 6, 10, 20
SHOWN = ("a3m", "a3m_unlabelled")


def gather(store: runs.Store, planned: Sequence[Planned], source: str, path: Path) -> None:
    """Write the samples of the first A3M trial that has finished; without one the file says so and holds nothing else.

    Beside it, as <study>.predictions.npz, what the bootstrap over test data needs of all finished trials.
    """
    finished = [one for one in planned if one.state in ("finished", "older") and one.found is not None]
    plain = [
        one for one in finished if not {"recipe", "train.shuffle_attributes"} & set(one.point)
    ]  # no control, no modern row
    one = next((one for name in SHOWN for one in plain if one.trial.settings["method"]["name"] == name), None)
    arrays: dict[str, Any] = {"meta": np.array(json.dumps({"missing": "no A3M trial of this study has finished"}))}
    if one is not None and one.found is not None:
        with tempfile.TemporaryDirectory() as folder:
            outputs = _fetch(store, one.found.run_id, Path(folder))
            if outputs is not None:
                arrays = _arrays(Pack(Path(one.trial.pack)), one, source, *outputs)
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    write_atomically(path, buffer.getvalue())
    gather_predictions(store, finished, path.with_name(f"{path.name.partition('.')[0]}.predictions.npz"))


def _fetch(
    store: runs.Store, run_id: str, folder: Path
) -> tuple[pd.DataFrame, dict[str, np.ndarray], dict[str, np.ndarray]] | None:
    """Predictions, embeddings and attention of a run; None where it has them no longer."""
    from safetensors.numpy import load_file

    names = ("predictions.parquet", "embeddings.safetensors", "attention.safetensors")
    files = [store.fetch(run_id, name, folder) for name in names]
    if files[0] is None or files[1] is None:
        return None
    return pd.read_parquet(files[0]), load_file(files[1]), load_file(files[2]) if files[2] is not None else {}


def _arrays(
    pack: Pack, one: Planned, source: str, predictions: pd.DataFrame, embeddings: dict[str, np.ndarray], maps: dict[str, np.ndarray]
) -> dict[str, Any]:  # fmt: skip
    rng = np.random.default_rng(SEED)
    meta = {
        "dataset": one.trial.settings["dataset"],
        "source": source,
        "task": pack.description["task"],
        "method": one.trial.settings["method"]["name"],
        "seed": one.seed,
        "point": one.point,
        "key": one.trial.key,
        "attributes": pack.description["attributes"],
        "classes": pack.description.get("classes", []),
        "map_size": list(maps["scores"].shape[2:]) if maps else [],
    }
    arrays: dict[str, Any] = {"meta": np.array(json.dumps(meta))}
    train = np.flatnonzero(pack.split == SPLITS.index("train"))
    people = rng.permutation(np.unique(pack.label[train]))[:PEOPLE]
    chosen = np.array([rng.choice(train[pack.label[train] == label]) for label in people])
    arrays |= {"train_images": _images(pack, chosen), "train_labels": pack.label[chosen]}
    if pack.attribute_names:
        arrays["train_attributes"] = pack.attributes[chosen]
    if maps:
        arrays |= _queries(pack, predictions, maps, rng)
    return arrays | _embeddings(pack, embeddings, rng)


def _queries(
    pack: Pack, predictions: pd.DataFrame, maps: dict[str, np.ndarray], rng: np.random.Generator
) -> dict[str, np.ndarray]:
    """Maps of some queries or test images, half of them right and half wrong where there are so many."""
    row_of = {name: row for row, name in enumerate(pack.names)}
    said = predictions.set_index("id").loc[[pack.names[row] for row in maps["rows"]]]
    right_N = said["prediction"].fillna(-1).to_numpy(np.int64) == said["label"].to_numpy(np.int64)
    order = rng.permutation(len(right_N))
    halves = [order[right_N[order]][: QUERIES // 2], order[~right_N[order]][: QUERIES // 2]]
    rest = [position for position in order if position not in np.concatenate(halves)]
    chosen = np.concatenate([*halves, rest])[:QUERIES].astype(np.int64)
    rows, said = maps["rows"][chosen], said.iloc[chosen]
    found = {
        "query_images": _images(pack, rows),
        "query_labels": pack.label[rows],
        "query_scores": maps["scores"][chosen].astype(np.float32),
        "query_weights": maps["weights"][chosen].astype(np.float32),
        "query_right": right_N[chosen],
    }
    if pack.attribute_names and f"predicted.{pack.attribute_names[0]}" in said:
        found["query_attributes"] = pack.attributes[rows]
        found["query_predicted"] = said[[f"predicted.{name}" for name in pack.attribute_names]].to_numpy(np.int64)
    if "nearest" in said:
        nearest = np.array([row_of[name] for name in said["nearest"]])
        found |= {"nearest_images": _images(pack, nearest), "nearest_labels": pack.label[nearest]}
    return found


def _embeddings(pack: Pack, embeddings: dict[str, np.ndarray], rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Category, attribute and final features of some test classes; a class needs three images to be seen as one.

    Nothing where no class has so many: the figures then say that there is nothing to show.
    """
    label_N = pack.label[embeddings["rows"]]
    labels, counts = np.unique(
        label_N[label_N >= (pack.description["task"] == "re-identification")], return_counts=True
    )
    classes = np.sort(rng.permutation(labels[counts >= 3])[:CLASSES])
    if not len(classes):
        return {}
    chosen = np.concatenate([np.flatnonzero(label_N == label)[:PER_CLASS] for label in classes])
    kinds = [kind for kind in ("final", "category", "attribute") if kind in embeddings]
    return {f"embedding_{kind}": embeddings[kind][chosen] for kind in kinds} | {"embedding_labels": label_N[chosen]}


def _images(pack: Pack, rows: np.ndarray) -> np.ndarray:
    """(n, H, W, 3) uint8 as the network sees them in testing: the centre of the packed image."""
    height, width = pack.input_size
    top, left = (round((packed - size) / 2) for packed, size in zip(pack.packed_size, pack.input_size, strict=True))
    return np.stack([pack.image(row)[top : top + height, left : left + width] for row in rows])
