"""A trial's data as MLflow shows it among a run's inputs: which rows trained and which tested, their counts, the data version."""

import json
from typing import Any

import numpy as np

from a3m.data.loaders import parts
from a3m.data.pack import Pack

DIGEST = 36  # characters that MLflow keeps of a digest; the tag `data` has all of them
SOURCES = {"twins": "synthetic twin", "raw": "real data"}


def describe(pack: Pack, digest: str, on: str) -> list[dict[str, str]]:
    """An input for the rows that train under `train.on`, and one for each part that is tested: as runs.Store.inputs takes them."""
    rows = parts(pack, on)
    tested = "validation" if rows.prefix == "val" else "testing"
    described = [_input(pack, digest, on, "training", rows.train)]
    for name, found in rows.test.items():
        part = name if tested == "testing" else "val" if name == "test" else f"val {name}"
        described.append(_input(pack, digest, part, tested, found))
    return described


def _input(pack: Pack, digest: str, part: str, context: str, rows: np.ndarray) -> dict[str, str]:
    about = pack.description
    labels = pack.label[rows]
    people = about["task"] == "re-identification"
    profile: dict[str, Any] = {
        "num_rows": len(rows),
        "identities" if people else "classes": len(np.unique(labels[labels > 0] if people else labels)),
        "attributes": len(pack.attribute_names),
        "data": SOURCES.get(about["source"], about["source"]),
    }
    if people:
        profile |= {"distractors": int((labels == 0).sum()), "cameras": len(np.unique(pack.camera[rows]))}
    return {
        "name": f"{about['dataset']} {part}",
        "digest": digest[:DIGEST],
        "source_type": "local",
        "source": json.dumps({"uri": f"data/prepared/{about['dataset']}/{pack.path.name}"}),
        "schema": json.dumps({"mlflow_tensorspec": _schema(pack)}),
        "profile": json.dumps(profile),
        "context": context,
    }


def _schema(pack: Pack) -> dict[str, str]:
    """Images and their labels in MLflow's words. -1 is any number of rows, and in the labels an attribute that is not known."""

    def tensor(name: str, dtype: str, *shape: int) -> dict[str, Any]:
        return {"name": name, "type": "tensor", "tensor-spec": {"dtype": dtype, "shape": [-1, *shape]}}

    targets = [tensor("label", "int64"), *(tensor(f"attribute.{name}", "int64") for name in pack.attribute_names)]
    return {
        "features": json.dumps([tensor("image", "uint8", *pack.packed_size, 3)]),
        "targets": json.dumps(targets),
    }
