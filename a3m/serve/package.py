"""What a finished trial left -> the folder `model`, which MLflow loads as it stands.

    model/
      MLmodel, python_env.yaml, requirements.txt         what MLflow wants: entry point, signature, the versions it was made with
      input_example.json, serving_input_example.json     a test image, encoded
      model.py                                           "model from code" (a3m.serve.model): nothing is unpickled
      artifacts/weights.safetensors                      moved here, not copied: a run keeps its weights once
      artifacts/description.json                         settings of the network, sizes, normalisation, names
      artifacts/code.zip                                 the modules of a3m that answering needs, as they were in training

Written without MLflow, which a worker would import for seconds: the format is MLflow's documented one, and the tests load it.
"""

import base64
import importlib.metadata
import io
import json
import platform
import shutil
import zipfile
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from PIL import Image
from torch import nn

from a3m import identity
from a3m.data.loaders import Parts, parts
from a3m.data.pack import Pack
from a3m.errors import StoreError
from a3m.model.builder import WITHOUT_CLASSIFIER
from a3m.serve.predictor import DESCRIPTION, VERSION, WEIGHTS, Predictor

FOLDER, ENTRY, CODE = "model", "model.py", "code.zip"
ANSWERS = "a3m.serve.answers"  # imports the predictor
REQUIRED = (
    "mlflow",
    "torch",
    "torchvision",
    "timm",
    "numpy",
    "pandas",
    "pillow",
    "safetensors",
    "pytorch-metric-learning",
)


def write(outputs: Path, pack: Pack) -> Path:
    """Make `outputs`/model of a trial's outputs (settings.json and the weights) and the pack that it was tested on.

    The list of digests is brought up to date. Done again it does nothing. Raises StoreError when it cannot be written.
    """
    folder = outputs / FOLDER
    artifacts = folder / "artifacts"
    try:
        if (outputs / WEIGHTS).exists():
            shutil.rmtree(folder, ignore_errors=True)
            artifacts.mkdir(parents=True)
            described = json.loads((outputs / "settings.json").read_text())
            rows = parts(pack, described["settings"]["train"]["on"])
            description = describe(described, pack, rows)
            # In the order that they have: that of the attributes is the network's.
            (artifacts / DESCRIPTION).write_text(json.dumps(description, indent=1) + "\n")
            (artifacts / CODE).write_bytes(code())
            for name, text in mlflow_files(description, _example(pack, rows)).items():
                (folder / name).write_text(text)
            described_map = _map(Predictor(outputs / WEIGHTS, artifacts / DESCRIPTION))  # and that it can be loaded
            (artifacts / DESCRIPTION).write_text(json.dumps(description | {"map": described_map}, indent=1) + "\n")
            (outputs / WEIGHTS).replace(artifacts / WEIGHTS)
        # Also when it was interrupted just here.
        files = sorted(path for path in outputs.rglob("*") if path.is_file() and path.name != "digests.json")
        digests = {path.relative_to(outputs).as_posix(): identity.file_digest(path) for path in files}
        (outputs / "digests.json").write_text(json.dumps(digests, indent=1) + "\n")
    except OSError as error:
        raise StoreError(
            f"{folder}: cannot be written ({error.strerror or error}): make room or set store.state"
        ) from error
    return folder


def describe(described: dict[str, Any], pack: Pack, rows: Parts) -> dict[str, Any]:
    """All that `a3m.serve.predictor` needs besides the weights. `described`: a trial's settings.json."""
    from a3m.trial import UNREAD_HEAD

    settings = described["settings"]
    names = pack.description.get("classes") or []
    return {
        "version": VERSION,
        "key": described["key"],
        "data": described["data"],
        "code": described["code"],
        "dataset": settings["dataset"],
        "source": pack.description["source"],
        "task": pack.description["task"],
        "method": settings["method"]["name"],
        "input_size": list(pack.input_size),
        "packed_size": list(pack.packed_size),
        "labels": [int(label) for label in rows.classes],
        "classes": [str(names[label]) if label < len(names) else str(label) for label in rows.classes],
        "attributes": pack.description["attributes"],
        "network": {
            "backbone": settings["backbone"],
            "head": UNREAD_HEAD | settings["head"],
            "method": settings["method"],
            "baseline1": settings.get("baseline1"),
            "seed": settings["seed"],
        },
    }


def _map(predictor: Predictor) -> dict[str, Any]:
    """What a3m.model.feature_map found of the backbone, so that a loader need not run it to know (a3m.explore.quick)."""
    backbone: Any = predictor.network.backbone
    return {
        "channels": backbone.channels,
        "size": list(backbone.map_size),
        "method": backbone.method,
        "unread": [name for name, child in backbone.model.named_children() if isinstance(child, nn.Identity)],
        "tap_channels": backbone.tap_channels[:-1],
    }


@cache
def code() -> bytes:
    """The modules that answering needs, zipped: equal bytes for equal code."""
    root = Path(__file__).parents[2]
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(identity.code_modules(ANSWERS).values()):
            entry = zipfile.ZipInfo(str(path.relative_to(root)), (1980, 1, 1, 0, 0, 0))
            entry.external_attr = 0o644 << 16
            archive.writestr(entry, path.read_bytes(), zipfile.ZIP_DEFLATED)
    return buffer.getvalue()


# --- MLflow's files -----------------------------------------------------------------------------------------------------


def mlflow_files(description: dict[str, Any], example: bytes) -> dict[str, str]:
    """Name -> text of what MLflow reads; `example` is an encoded image."""
    split = {"columns": ["image"], "data": [[base64.b64encode(example).decode()]]}
    flavour = {
        "artifacts": {
            name: {"path": f"artifacts/{file}", "uri": f"artifacts/{file}"}
            for name, file in (("weights", WEIGHTS), ("description", DESCRIPTION), ("code", CODE))
        },
        "env": {"virtualenv": "python_env.yaml"},
        "loader_module": "mlflow.pyfunc.loaders.code_model",
        "model_code_path": ENTRY,
        "python_version": platform.python_version(),
        "streamable": False,
    }
    model = {
        "flavors": {"python_function": flavour},
        "mlflow_version": importlib.metadata.version("mlflow"),
        "model_uuid": description["key"],
        "metadata": {name: description[name] for name in ("key", "data", "code", "dataset", "source", "method")},
        "saved_input_example_info": {
            "artifact_path": "input_example.json", "pandas_orient": "split",
            "serving_input_path": "serving_input_example.json", "type": "dataframe",
        },
        "signature": {name: json.dumps(columns) for name, columns in signature(description).items()} | {"params": None},
    }  # fmt: skip
    environment = {
        "python": platform.python_version(),
        "build_dependencies": ["pip", "setuptools", "wheel"],
        "dependencies": ["-r requirements.txt"],
    }
    return {
        "MLmodel": yaml.safe_dump(model, sort_keys=True),
        "python_env.yaml": yaml.safe_dump(environment, sort_keys=False),
        "requirements.txt": "".join(
            f"{name}=={importlib.metadata.version(name).partition('+')[0]}\n" for name in REQUIRED
        ),
        "input_example.json": json.dumps(split),
        "serving_input_example.json": json.dumps({"dataframe_split": split}),
        ENTRY: (Path(__file__).parent / ENTRY).read_text(),
    }


def signature(description: dict[str, Any]) -> dict[str, list[dict[str, Any]]]:
    """Columns of input and output in MLflow's words; the output's are those of `a3m.serve.answers`."""
    method = description["network"]["method"]
    outputs: list[dict[str, Any]] = []
    if method["loss"] not in WITHOUT_CLASSIFIER and method["network"] not in ("hdc", "bier"):
        outputs += [{"type": "string", "name": "class"}, {"type": "double", "name": "class_probability"}]
    if method["attribute_labels"] and description["attributes"]:
        for name, kind in (("attributes", "string"), ("attribute_probabilities", "double")):
            properties = {attribute: {"type": kind, "required": True} for attribute in description["attributes"]}
            outputs.append({"type": "object", "properties": properties, "name": name})
    outputs.append({"type": "array", "items": {"type": "double"}, "name": "embedding"})
    inputs = [{"type": "binary", "name": "image"}]
    return {"inputs": _required(inputs), "outputs": _required(outputs)}


def _required(columns: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{**column, "required": True} for column in columns]


def _example(pack: Pack, rows: Parts) -> bytes:
    """The first tested image as it is packed, with its margin: it is cut as any other image."""
    buffer = io.BytesIO()
    row = int(next(iter(rows.test.values()))[0])
    Image.fromarray(np.asarray(pack.image(row))).save(buffer, "PNG")
    return buffer.getvalue()
