"""What is looked at of a finished trial: the folder `shown` among its run's artifacts, small pictures and tables.

    ranked.png       some queries or test images with the nearest others: framed as right or wrong
    attention.png    where the merged weights and some attributes look, where the method attends to regions
    confused.csv     which class (person) was taken for which, and how often
    confused.png     an image of each of the commonest, beside the one that it was taken for
    attributes.csv   accuracy of each attribute, beside always guessing the commonest value

Made from the trial's outputs and its pack. What is drawn is chosen by a seed and not by how well it looks, but that right and wrong
images are drawn in equal numbers where there are both; of the confused pairs the commonest.

Shape suffixes: N tested images, Q chosen ones, K attributes.
"""

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
from PIL import Image
from safetensors.numpy import load_file

from a3m.data.pack import Pack
from a3m.explore import drawing
from a3m.explore.drawing import Tile
from a3m.explore.explain import label_name

FOLDER = "shown"
SEED = 0
QUERIES, NEAREST = 5, 6
IMAGES, MAPS = 5, 5
PAIRS, LISTED = 6, 200
LONGEST = 80  # pixels of an image's longer side
LARGEST = 150_000  # bytes of one picture
COLOURS = (256, 96, 32, 12)  # of a picture: the first number with which it is small enough


@dataclass(frozen=True)
class Tested:
    """What a trial was tested on and what it said."""

    pack: Pack
    predictions: pd.DataFrame
    rows: npt.NDArray[np.int64]  # (N,) of the pack, all tested images; the queries first
    final: npt.NDArray[np.float32]  # (N, .) what is compared, of length 1
    maps: dict[str, np.ndarray]
    metrics: Mapping[str, float]  # without test/ or val/

    @property
    def right(self) -> npt.NDArray[np.bool_]:
        """Of each row of the predictions, whether its first answer is right."""
        said = self.predictions["prediction"].fillna(-1).to_numpy(np.int64)
        return said == self.predictions["label"].to_numpy(np.int64)


def write(outputs: Path, pack: Pack, metrics: Mapping[str, float]) -> str:
    """Make `outputs`/shown of a trial's outputs and metrics -> '', or why it could not be made: a picture is worth no trial."""
    folder = outputs / FOLDER
    shutil.rmtree(folder, ignore_errors=True)
    try:
        found = files(_read(outputs, pack, metrics))
        folder.mkdir()
        for name, content in found.items():
            (folder / name).write_bytes(content)
    except Exception as error:
        shutil.rmtree(folder, ignore_errors=True)
        return f"{type(error).__name__}: {error}"
    return ""


def files(tested: Tested) -> dict[str, bytes]:
    """Name -> content of what there is to be shown."""
    found = {"ranked.png": _png(drawing.sheet(ranked(tested)))}
    if tested.maps:
        found["attention.png"] = _png(drawing.sheet(attention(tested)))
    table = confused(tested)
    found["confused.csv"] = table.head(LISTED).to_csv(index=False, lineterminator="\n").encode()
    if len(table):
        found["confused.png"] = _png(drawing.sheet(mistaken(tested, table)))
    accuracies = attributes(tested)
    if len(accuracies):
        found["attributes.csv"] = accuracies.to_csv(index=False, float_format="%.4f", lineterminator="\n").encode()
    return found


def _read(outputs: Path, pack: Pack, metrics: Mapping[str, float]) -> Tested:
    embeddings = load_file(outputs / "embeddings.safetensors")
    maps = outputs / "attention.safetensors"
    final = embeddings["final"].astype(np.float32)
    lengths_N = np.linalg.norm(final, axis=1, keepdims=True)
    return Tested(
        pack,
        pd.read_parquet(outputs / "predictions.parquet"),
        embeddings["rows"].astype(np.int64),
        (final / np.where(lengths_N == 0, 1, lengths_N)).astype(np.float32),
        load_file(maps) if maps.exists() else {},
        {name.partition("/")[2]: value for name, value in metrics.items()},
    )


# --- ranked lists -------------------------------------------------------------------------------------------------------


def ranked(tested: Tested) -> list[list[Tile]]:
    """A row a query: the query and what lies nearest to it, by the protocol's exclusions."""
    pack, rows = tested.pack, tested.rows
    people = pack.description["task"] == "re-identification"
    lists = []
    for place in _half_right(tested.right, QUERIES):
        row = int(rows[place])
        similarity_N = tested.final @ tested.final[place]
        out_N = rows == row
        if people:
            out_N |= np.arange(len(rows)) < len(tested.predictions)  # the queries
            out_N |= (pack.label[rows] == pack.label[row]) & (pack.camera[rows] == pack.camera[row])
        order = np.argsort(-np.where(out_N, -np.inf, similarity_N), kind="stable")[:NEAREST]
        label = int(pack.label[row])
        tiles = [Tile(_image(pack, row), f"{'query' if people else 'image'}: {label_name(pack, label)}")]
        for rank, near in enumerate((int(place) for place in order if not out_N[place]), start=1):
            other = int(rows[near])
            words = f"{rank}. {label_name(pack, int(pack.label[other]))}\ncosine {similarity_N[near]:.3f}"
            tiles.append(Tile(_image(pack, other), words, bool(pack.label[other] == label)))
        lists.append(tiles)
    return lists


# --- attention ----------------------------------------------------------------------------------------------------------


def attention(tested: Tested) -> list[list[Tile]]:
    """A row an image: the image, its merged weights in [0, 1], and maps of some attributes, each from its lowest to its highest."""
    pack, maps = tested.pack, tested.maps
    said = tested.predictions.set_index("id").loc[[pack.names[row] for row in maps["rows"]]]
    right = said["prediction"].fillna(-1).to_numpy(np.int64) == said["label"].to_numpy(np.int64)
    K = maps["scores"].shape[1]
    named = len(pack.attribute_names) == K and f"predicted.{pack.attribute_names[0]}" in said
    shown_K = np.unique(np.linspace(0, K - 1, MAPS).astype(int))
    lists = []
    for place in _half_right(right, IMAGES):
        image, weights = _image(pack, int(maps["rows"][place])), maps["weights"][place]
        answer = said.iloc[place]
        tiles = [
            Tile(image, label_name(pack, int(answer["label"])), bool(right[place])),
            Tile(
                drawing.overlay(image, weights, 0.0, 1.0), f"merged weights\nm {weights.min():.2f}-{weights.max():.2f}"
            ),
        ]
        for k in shown_K:
            scores = maps["scores"][place, k]
            words, correct = f"map {k + 1}", None
            if named:
                name = pack.attribute_names[k]
                value, truth = int(answer[f"predicted.{name}"]), int(answer[f"attribute.{name}"])
                words = f"{name.replace('_', ' ')}\n{pack.description['attributes'][name][value]}"
                correct = None if truth < 0 else truth == value
            low, high = float(scores.min()), float(scores.max())
            tiles.append(Tile(drawing.overlay(image, scores, low, high), words, correct))
        lists.append(tiles)
    return lists


# --- confused -----------------------------------------------------------------------------------------------------------


def confused(tested: Tested) -> pd.DataFrame:
    """Which class was taken for which, how many times of how many images of it, by name and number; the commonest first."""
    frame = tested.predictions.loc[~tested.right & tested.predictions["prediction"].notna().to_numpy()]
    pairs = frame.groupby(["label", "prediction"]).size().rename("times").reset_index()
    pairs["of"] = tested.predictions["label"].value_counts().loc[pairs["label"]].to_numpy()
    for name, column in (("class", "label"), ("taken_for", "prediction")):
        pairs[name] = [label_name(tested.pack, int(label)) for label in pairs[column]]
    pairs["share"] = (pairs["times"] / pairs["of"]).round(4)
    pairs = pairs.sort_values(["times", "share", "label", "prediction"], ascending=[False, False, True, True])
    return pairs[["class", "taken_for", "times", "of", "share", "label", "prediction"]].reset_index(drop=True)


def mistaken(tested: Tested, pairs: pd.DataFrame) -> list[list[Tile]]:
    """Of the commonest confusions an image and one of what it was taken for; two confusions a row."""
    pack, frame = tested.pack, tested.predictions
    row_of = {name: row for row, name in enumerate(pack.names)}
    tiles: list[Tile] = []
    for pair in pairs.head(PAIRS).to_dict("records"):
        chosen = (frame["label"] == pair["label"]) & (frame["prediction"] == pair["prediction"]).fillna(False)
        wrong = frame[chosen].iloc[0]
        other = np.flatnonzero(pack.label == pair["prediction"])[0]
        if "nearest" in frame:
            other = row_of[wrong["nearest"]]
        tiles.append(
            Tile(_image(pack, row_of[wrong["id"]]), f"{pair['class']}\n{pair['times']} of {pair['of']}", False)
        )
        tiles.append(Tile(_image(pack, int(other)), f"taken for\n{pair['taken_for']}"))
    return [tiles[start : start + 4] for start in range(0, len(tiles), 4)]


# --- attributes ---------------------------------------------------------------------------------------------------------


def attributes(tested: Tested) -> pd.DataFrame:
    """A row an attribute: its accuracy and what stands beside it, from the run's own metrics; empty columns are left out."""
    kinds = {
        "accuracy": "attribute",
        "commonest_value": "attribute_majority",
        "accuracy_where_present": "attribute_labelled",
        "map_in_region": "localisation",
    }
    rows = [
        {"attribute": name, "values": values}
        | {column: tested.metrics.get(f"{kind}/{name}") for column, kind in kinds.items()}
        for name, values in zip(tested.pack.attribute_names, tested.pack.attribute_sizes, strict=True)
        if f"attribute/{name}" in tested.metrics
    ]
    return pd.DataFrame(rows).dropna(axis=1, how="all")


# --- pictures -----------------------------------------------------------------------------------------------------------


def _half_right(right: npt.NDArray[np.bool_], count: int) -> Sequence[int]:
    """Places, half of them right and half wrong where there are so many, drawn by a seed."""
    order = np.random.default_rng(SEED).permutation(len(right))
    halves = np.concatenate([order[right[order]][: count - count // 2], order[~right[order]][: count // 2]])
    rest = order[~np.isin(order, halves)]
    return [int(place) for place in np.concatenate([halves, rest])[:count]]


def _image(pack: Pack, row: int) -> np.ndarray:
    """As the network sees it, (H, W, 3) uint8, its longer side LONGEST."""
    height, width = pack.input_size
    top, left = (round((packed - size) / 2) for packed, size in zip(pack.packed_size, pack.input_size, strict=True))
    image = np.ascontiguousarray(np.asarray(pack.image(row))[top : top + height, left : left + width])
    share = LONGEST / max(height, width)
    size = (max(1, round(width * share)), max(1, round(height * share)))
    return np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BICUBIC))


def _png(image: Image.Image) -> bytes:
    """With a palette, of fewer colours where it would be too large."""
    # Every fourth row and column choose the colours: a fifth of the time of all pixels, and this is done for every trial.
    sample = image.resize((max(1, image.width // 4), max(1, image.height // 4)), Image.Resampling.NEAREST)
    for colours in COLOURS:
        palette = sample.quantize(colours, Image.Quantize.MEDIANCUT)
        content = drawing.png(image.quantize(palette=palette, dither=Image.Dither.NONE))
        if len(content) <= LARGEST:
            break
    return content
