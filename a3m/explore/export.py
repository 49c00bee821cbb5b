"""`a3m export RUN`: embeddings and labels as npz and parquet, the network as ONNX and as a torch.export program, both checked.

Both networks take images as they are, (N, height, width, 3) uint8 of the size that description.json says, and normalise themselves.
They give `embedding` (of length 1), `class` probabilities and the probabilities of each attribute, as far as the method has them.

Shape suffixes: B images, H W of the input.
"""

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from a3m.errors import DataError, SettingsError, UserError
from a3m.explore import kept as keeping

if TYPE_CHECKING:
    from torch import Tensor, nn

    from a3m.data.pack import Pack
    from a3m.explore.kept import Kept
    from a3m.serve.predictor import Predictor

WANTED = ("model", "embeddings.safetensors", "predictions.parquet")
CHECKED = 8  # images that both sides answer for
TOLERANCE = 1e-3  # of any number: probabilities and coordinates of a unit vector
PARTS = ("embeddings", "onnx", "torch")


@dataclass(frozen=True)
class Exported:
    """What was written, and by how much the networks' numbers differ from the run's own at most."""

    folder: Path
    files: list[str]
    differences: dict[str, float]  # onnx, torch -> largest difference
    rows: int


def export(
    reference: str, root: Path, out: Path | None = None, parts: Sequence[str] = PARTS, overrides: Sequence[str] = ()
) -> Exported:
    """Export a run into a folder. Raises UserError when the run cannot be had or an exported network answers otherwise."""
    unknown = [part for part in parts if part not in PARTS]
    if unknown or not parts:
        raise SettingsError(f"only={','.join(unknown)}: expected some of {', '.join(PARTS)}")
    kept = keeping.keep(reference, root, WANTED, overrides)
    pack = keeping.pack_of(kept, root)
    folder = out if out is not None else root / "reports" / "export" / kept.key
    try:
        folder.mkdir(parents=True, exist_ok=True)
        files, differences, rows = [], {}, 0
        if "embeddings" in parts:
            rows = write_embeddings(kept, pack, folder)
            files += ["embeddings.npz", "embeddings.parquet"]
        if {"onnx", "torch"} & set(parts):
            predictor = keeping.predictor_of(kept, pack)
            network = ready(predictor)
            images = checked_images(kept, pack, predictor)
            for part, write in (("onnx", write_onnx), ("torch", write_program)):
                if part in parts:
                    name, differences[part] = write(network, images, folder)
                    files.append(name)
            shutil.copy(kept.files / "model" / "artifacts" / "description.json", folder / "description.json")
            files.append("description.json")
    except OSError as error:
        raise DataError(
            f"{folder}: cannot be written ({error.strerror or error}): name another folder with --out"
        ) from error
    return Exported(folder, files, differences, rows)


# --- embeddings ---------------------------------------------------------------------------------------------------------


def write_embeddings(kept: "Kept", pack: "Pack", folder: Path) -> int:
    """embeddings.npz (arrays) and embeddings.parquet (a row an image) -> number of images.

    Per tested image: image, split, label, class where classes have names, camera, attribute.<name> (the value's name, null where
    unlabelled) and the vectors final (what is compared), category, and attribute where the method has it.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq
    from safetensors.numpy import load_file

    from a3m.data.pack import FOLDS, SPLITS

    stored = load_file(kept.files / "embeddings.safetensors")
    rows_N = stored["rows"].astype(np.int64)
    on = kept.described["settings"]["train"]["on"]
    codes, names = (pack.split, SPLITS) if on == "train+val" else (pack.fold, FOLDS)
    split = np.array([names[code] for code in codes[rows_N]])
    label_N = pack.label[rows_N].astype(np.int64)
    vectors: dict[str, np.ndarray] = {
        name: stored[name] for name in ("final", "category", "attribute") if name in stored
    }
    arrays: dict[str, np.ndarray] = {
        "image": np.array([pack.names[row] for row in rows_N]), "split": split, "label": label_N,
        "camera": pack.camera[rows_N].astype(np.int64), **vectors,
    }  # fmt: skip
    table: dict[str, Any] = {name: pa.array(arrays[name]) for name in ("image", "split", "label")}
    classes = pack.description.get("classes") or []
    if classes:
        arrays["classes"] = np.array([str(name) for name in classes])
        table["class"] = pa.array([str(classes[label]) if 0 <= label < len(classes) else None for label in label_N])
    table["camera"] = pa.array([None if camera < 0 else int(camera) for camera in arrays["camera"]], pa.int64())
    if pack.attribute_names:
        arrays["attributes"] = pack.attributes[rows_N].astype(np.int64)
        arrays["attribute_names"] = np.array(pack.attribute_names)
        for number, (name, values) in enumerate(pack.description["attributes"].items()):
            column = arrays["attributes"][:, number]
            table[f"attribute.{name}"] = pa.array(
                [values[value] if value >= 0 else None for value in column], pa.string()
            )
    for name, vectors_ND in vectors.items():
        flat = pa.array(np.ascontiguousarray(vectors_ND, np.float32).ravel())
        table[name] = pa.FixedSizeListArray.from_arrays(flat, vectors_ND.shape[1])
    about = {
        name: str(value) for name, value in (("run", kept.run_id), ("key", kept.key), ("data", kept.described["data"]))
    }
    np.savez_compressed(folder / "embeddings.npz", **arrays, meta=np.array(json.dumps(about)))  # type: ignore[arg-type]
    pq.write_table(pa.table(table).replace_schema_metadata(about), folder / "embeddings.parquet")
    return len(rows_N)


# --- the network --------------------------------------------------------------------------------------------------------


def ready(predictor: "Predictor") -> "nn.Module":
    """The network with its normalisation before it and its probabilities after it: (B, H, W, 3) uint8 -> tensors by name."""
    import torch
    from torch import nn

    class Ready(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = predictor.network
            self.scale, self.shift = nn.Buffer(predictor.scale), nn.Buffer(predictor.shift)

        def forward(self, images: "Tensor") -> dict[str, "Tensor"]:
            output = self.network(images.permute(0, 3, 1, 2).to(torch.float32) * self.scale - self.shift)
            found = {"embedding": nn.functional.normalize(output.embedding, dim=1)}
            if output.logits is not None:
                found["class"] = output.logits.softmax(dim=1)
            if predictor.labelled:
                for name, logits in zip(predictor.attributes, output.attributes, strict=True):
                    found[f"attribute.{name}"] = logits.softmax(dim=1)
            return found

    return Ready().eval()


def checked_images(kept: "Kept", pack: "Pack", predictor: "Predictor") -> np.ndarray:
    """(B, H, W, 3) uint8: some of the images that the run was tested on."""
    from safetensors.numpy import load_file

    rows = load_file(kept.files / "embeddings.safetensors")["rows"][:CHECKED]
    return np.stack([predictor.crop(np.asarray(pack.image(row))) for row in rows])


def write_onnx(network: "nn.Module", images: np.ndarray, folder: Path) -> tuple[str, float]:
    """model.onnx, any number of images; answered by onnxruntime and held against torch -> (name, largest difference)."""
    try:
        import onnx
        import onnxruntime
        import onnxscript  # noqa: F401  torch writes through it
    except ImportError as error:
        raise UserError(
            f"a3m export: {error.name} is not installed: pip install 'a3m[export]', or only=embeddings,torch"
        ) from error
    import torch

    path = folder / "model.onnx"
    example = torch.from_numpy(images[:2])
    with torch.inference_mode():
        names = list(network(example))
    program = torch.onnx.export(
        network, (example,), dynamo=True, input_names=["images"], output_names=names,
        dynamic_shapes=({0: torch.export.Dim("images", min=1)},), verbose=False,
    )  # fmt: skip
    assert program is not None
    program.save(str(path), external_data=False)
    onnx.checker.check_model(str(path))
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])

    def answer(given: np.ndarray) -> dict[str, np.ndarray]:
        return dict(zip(names, session.run(names, {"images": given}), strict=True))

    return path.name, held_against(network, answer, images, path)


def write_program(network: "nn.Module", images: np.ndarray, folder: Path) -> tuple[str, float]:
    """model.pt2, a torch.export program, any number of images; loaded again and held against the network."""
    import torch

    path = folder / "model.pt2"
    program = torch.export.export(
        network, (torch.from_numpy(images[:2]),), dynamic_shapes=({0: torch.export.Dim("images", min=1)},)
    )
    torch.export.save(program, path)
    loaded: Any = torch.export.load(path).module()

    def answer(given: np.ndarray) -> dict[str, np.ndarray]:
        with torch.inference_mode():
            return {name: value.numpy() for name, value in loaded(torch.from_numpy(given)).items()}

    return path.name, held_against(network, answer, images, path)


def held_against(
    network: "nn.Module", answer: Callable[[np.ndarray], dict[str, np.ndarray]], images: np.ndarray, path: Path
) -> float:
    """The largest difference of any number, over one image alone and all of them. Raises UserError above TOLERANCE."""
    import torch

    largest = 0.0
    for given in (images[:1], images):
        with torch.inference_mode():
            expected = {name: value.numpy() for name, value in network(torch.from_numpy(given)).items()}
        found = answer(given)
        for name, value in expected.items():
            largest = max(largest, float(np.nan_to_num(np.abs(found[name] - value), nan=np.inf).max()))
    if not largest <= TOLERANCE:
        path.unlink()
        raise UserError(
            f"{path}: answers otherwise than the run: numbers differ by {largest:.2g}; the file was removed"
        )
    return largest
