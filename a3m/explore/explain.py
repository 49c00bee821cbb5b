"""`a3m explain IMAGE --run ID`: what a run sees in an image: class, attributes, where each attribute looks, the nearest images.

Writes into a folder: index.html (one page that needs nothing else), explanation.json, overview.png, input.png, merged.png, maps/
and nearest/. The maps of single attributes have no common scale (Figure 6), so each is drawn from its lowest to its highest score
and says the range of its weights; the merged weights lie in [0, 1] and are drawn so: saturated attention is one flat colour.

Shape suffixes: K attributes, N images of the gallery, D embedding, h w map.
"""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from a3m.errors import DataError
from a3m.explore import kept as keeping
from a3m.explore import quick
from a3m.explore.kept import Kept
from a3m.explore.page import Shown, page

if TYPE_CHECKING:
    from a3m.data.pack import Pack
    from a3m.serve.predictor import Answers, Predictor

WANTED = ("model", "embeddings.safetensors")
CLASSES = 5
FLAT = 0.01  # a map whose weights differ by less says nothing: attention has saturated


@dataclass(frozen=True)
class Known:
    """What the data set says of the image, where it is one of its own."""

    row: int
    label: int
    camera: int
    attributes: np.ndarray  # (K,)


def explain(
    image: Path, reference: str, root: Path, out: Path | None = None, nearest: int = 8, overrides: Sequence[str] = ()
) -> Path:
    """Explain one image by one run -> the folder written. Raises UserError naming what is wrong with the image or the run."""
    if not image.is_file():
        raise DataError(f"{image}: no such image")
    fetching = keeping.begin(reference, root, WANTED, overrides)
    quick.import_predictor()  # while the run is fetched

    kept = fetching()
    pack = keeping.pack_of(kept, root)
    predictor = keeping.predictor_of(kept, pack)
    known = find_known(image, root, kept, pack)
    packed = np.asarray(pack.image(known.row)) if known is not None else predictor.packed(image, str(image))
    seen = predictor.crop(packed)
    answers = predictor(seen[None])
    found = nearest_images(answers.embedding[0], kept, pack, known, nearest)
    explanation = describe(image, kept, predictor, answers, pack, known, found)
    folder = out if out is not None else root / "reports" / "explain" / f"{_plain(image.stem)}-{kept.key}"
    return write(folder, explanation, shown(image, predictor, answers, seen, known), found, pack, predictor)


def find_known(image: Path, root: Path, kept: Kept, pack: "Pack") -> Known | None:
    """The row of the pack that `image` is, when it lies in the folder that the data set was read from."""
    path = image.resolve()
    for base in ((root / "data" / "twins").resolve(), (root / "data" / "raw").resolve()):
        folders = [folder.resolve() for folder in base.iterdir()] if base.is_dir() else []
        for folder in folders:
            if path.is_relative_to(folder) and (base.name == "twins") == (pack.description["source"] == "twins"):
                name = path.relative_to(folder).as_posix()
                rows = [row for row, own in enumerate(pack.names) if own == name]
                if rows:
                    row = rows[0]
                    return Known(row, int(pack.label[row]), int(pack.camera[row]), np.asarray(pack.attributes[row]))
    return None


# --- the nearest images -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Near:
    """An image of the gallery and how near it is."""

    row: int
    name: str
    label: int
    camera: int
    similarity: float  # cosine
    right: bool | None  # None where the image's own label is not known


def nearest_images(embedding_D: np.ndarray, kept: Kept, pack: "Pack", known: Known | None, count: int) -> list[Near]:
    """The nearest gallery images (re-identification) or test images by cosine, among those that the run was tested on.

    Of a known query the protocol's exclusions hold: never itself, and in re-identification none of its own person and camera.
    """
    from safetensors.numpy import load_file

    from a3m.data.pack import FOLDS, SPLITS

    stored = load_file(kept.files / "embeddings.safetensors")
    rows_N, final_ND = stored["rows"].astype(np.int64), stored["final"]
    if pack.description["task"] == "re-identification":
        in_gallery = (pack.split[rows_N] == SPLITS.index("gallery")) | (pack.fold[rows_N] == FOLDS.index("val_gallery"))
        rows_N, final_ND = rows_N[in_gallery], final_ND[in_gallery]
    lengths_N = np.linalg.norm(final_ND, axis=1)
    similarity_N = final_ND @ embedding_D / np.where(lengths_N == 0, 1, lengths_N)
    if known is not None:
        out_N = rows_N == known.row
        if pack.description["task"] == "re-identification":
            out_N |= (pack.label[rows_N] == known.label) & (pack.camera[rows_N] == known.camera)
        similarity_N = np.where(out_N, -np.inf, similarity_N)
    order = np.argsort(-similarity_N, kind="stable")[:count]
    return [
        Near(
            int(rows_N[i]), pack.names[rows_N[i]], int(pack.label[rows_N[i]]), int(pack.camera[rows_N[i]]),
            float(similarity_N[i]), None if known is None else bool(pack.label[rows_N[i]] == known.label),
        )
        for i in order if np.isfinite(similarity_N[i])
    ]  # fmt: skip


# --- in words -----------------------------------------------------------------------------------------------------------


def label_name(pack: "Pack", label: int) -> str:
    """What a label is called: the class, or the identity's number."""
    names = pack.description.get("classes") or []
    if pack.description["task"] == "re-identification":
        return "distractor" if label == 0 else f"identity {label}"
    return str(names[label]) if 0 <= label < len(names) else str(label)


def describe(
    image: Path, kept: Kept, predictor: "Predictor", answers: "Answers", pack: "Pack", known: Known | None, found: Sequence[Near]
) -> dict[str, Any]:  # fmt: skip
    """The content of explanation.json: plain values, names beside numbers."""
    described: dict[str, Any] = {
        "image": str(image), "run": kept.run_id, "key": kept.key, "name": kept.name, "dataset": kept.dataset,
        "source": kept.source, "method": predictor.description["method"], "data": predictor.description["data"],
        "task": predictor.description["task"],
        "known": None if known is None else {"image": pack.names[known.row], "label": label_name(pack, known.label)},
        "input_size": list(predictor.input_size), "classes": [], "attributes": {}, "maps": {}, "merged": None,
    }  # fmt: skip
    if answers.classes is not None:
        best = np.argsort(-answers.classes[0], kind="stable")[:CLASSES]
        described["classes"] = [
            {"class": label_name(pack, predictor.description["labels"][i]), "probability": float(answers.classes[0, i])}
            for i in best
        ]
    for number, (name, values) in enumerate(predictor.attributes.items()):
        if answers.attributes:
            likely = answers.attributes[number][0]
            best_value = int(likely.argmax())
            truth = None if known is None or known.attributes[number] < 0 else values[known.attributes[number]]
            described["attributes"][name] = {
                "value": values[best_value], "probability": float(likely[best_value]), "true": truth,
                "weight": None if answers.attribute_weights is None else float(answers.attribute_weights[0, number]),
                "probabilities": {value: float(p) for value, p in zip(values, likely, strict=True)},
            }  # fmt: skip
    if answers.maps is not None and answers.merged is not None:
        described["maps"] = {
            name: _range(answers.maps[0, number]) for number, name in enumerate(map_names(predictor, answers))
        }
        described["merged"] = _range(answers.merged[0])
    described["nearest"] = [
        {"rank": rank + 1, "image": near.name, "label": label_name(pack, near.label), "camera": near.camera,
         "similarity": near.similarity, "right": near.right}
        for rank, near in enumerate(found)
    ]  # fmt: skip
    return described


def _range(map_hw: np.ndarray) -> dict[str, Any]:
    low, high = float(map_hw.min()), float(map_hw.max())
    return {"lowest": low, "highest": high, "mean": float(map_hw.mean()), "flat": high - low < FLAT}


def map_names(predictor: "Predictor", answers: "Answers") -> list[str]:
    """What the K maps are of: the attributes, or numbers where the method was not told their labels."""
    assert answers.maps is not None
    K = answers.maps.shape[1]
    names = list(predictor.attributes)
    return names if answers.attributes and len(names) == K else [f"map {number + 1}" for number in range(K)]


# --- in pictures --------------------------------------------------------------------------------------------------------


def shown(
    image: Path, predictor: "Predictor", answers: "Answers", seen: np.ndarray, known: Known | None
) -> tuple[np.ndarray, np.ndarray | None, dict[str, np.ndarray]]:
    """The input as it is shown, the merged map over it, and a map an attribute, all of one size."""
    from a3m.explore import drawing

    factor = drawing.scale_of(predictor.input_size)
    background = drawing.enlarge(seen, factor)
    if known is None:  # straight from the file, so that it is as sharp as that is
        from a3m.data.pack import decode
        from a3m.serve.predictor import WHOLE

        (height, width), (top, left) = predictor.packed_size, predictor.corner
        large = decode(image, str(image), WHOLE, (height * factor, width * factor))[0]
        background = large[top * factor :][: len(background), left * factor :][:, : background.shape[1]]
    if answers.merged is None or answers.scores is None:
        return background, None, {}
    maps = {
        name: drawing.overlay(background, scores_hw, float(scores_hw.min()), float(scores_hw.max()))
        for name, scores_hw in zip(map_names(predictor, answers), answers.scores[0], strict=True)
    }
    return background, drawing.overlay(background, answers.merged[0], 0.0, 1.0), maps


def write(
    folder: Path, explanation: dict[str, Any], pictures: tuple[np.ndarray, np.ndarray | None, dict[str, np.ndarray]],
    found: Sequence[Near], pack: "Pack", predictor: "Predictor",
) -> Path:  # fmt: skip
    """All files of an explanation; the page holds its pictures itself."""
    from a3m.explore import drawing
    from a3m.explore.drawing import Tile

    background, merged, maps = pictures
    factor = drawing.scale_of(predictor.input_size)
    near = [drawing.enlarge(predictor.crop(np.asarray(pack.image(one.row))), factor) for one in found]
    files = {"input.png": drawing.png(background)}
    tiles = [Tile(background, "as the network sees it")]
    if merged is not None:
        files["merged.png"] = drawing.png(merged)
        tiles.append(Tile(merged, "merged weights m\n" + _words(explanation["merged"])))
    parts = {"maps": [], "nearest": []}  # type: dict[str, list[Shown]]
    for name, picture in maps.items():
        said = explanation["attributes"].get(name)
        words = name.replace("_", " ") + (f": {said['value']} {100 * said['probability']:.0f} %" if said else "")
        path = f"maps/{len(parts['maps']) + 1:02d}-{_plain(name)}.png"
        files[path] = drawing.png(picture)
        right = None if not said or said["true"] is None else said["true"] == said["value"]
        tiles.append(Tile(picture, f"{words}\n{_words(explanation['maps'][name])}"))
        parts["maps"].append(Shown(files[path], words, _words(explanation["maps"][name]), right))
    rows = [tiles[start : start + 7] for start in range(0, len(tiles), 7)]
    nearest_tiles = []
    for rank, (one, picture) in enumerate(zip(explanation["nearest"], near, strict=True), 1):
        path = f"nearest/{rank:02d}.png"
        files[path] = drawing.png(picture)
        words = f"{rank}. {one['label']}"
        nearest_tiles.append(Tile(picture, f"{words}\ncosine {one['similarity']:.3f}", one["right"]))
        parts["nearest"].append(
            Shown(files[path], words, f"cosine {one['similarity']:.3f}, {one['image']}", one["right"])
        )
    rows += [nearest_tiles[start : start + 7] for start in range(0, len(nearest_tiles), 7)]
    files["overview.png"] = drawing.png(drawing.sheet(rows))
    files["explanation.json"] = (json.dumps(explanation, indent=1, ensure_ascii=False) + "\n").encode()
    files["index.html"] = page(
        explanation, files["input.png"], files.get("merged.png"), parts["maps"], parts["nearest"]
    ).encode()
    try:
        for path, content in files.items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_bytes(content)
    except OSError as error:
        raise DataError(f"{folder}: cannot be written ({error.strerror}): name another folder with --out") from error
    return folder


def _words(weights: dict[str, Any]) -> str:
    flat = ", flat" if weights["flat"] else ""
    return f"m {weights['lowest']:.2f}-{weights['highest']:.2f}{flat}"


def _plain(name: str) -> str:
    """A name that is a plain file name whatever the data call it."""
    return re.sub(r"[^A-Za-z0-9_-]+", "-", name).strip("-")[:80] or "image"
