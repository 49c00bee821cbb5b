"""A tiny packed data set for the tests of training: coloured squares, two classes or four identities, two attributes."""

from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from a3m.data import pack, packing
from a3m.relevance import dataset_digest, trial_settings
from a3m.settings import Data, Head, Params, Train
from a3m.trial import Trial


def write_pack(folder: Path, *, task: str = "classification", images: int = 24, seed: int = 0) -> dict[str, object]:
    """Draw and pack `images` training images and half as many test images of 16 x 16 pixels into `folder`."""
    rng = np.random.default_rng(seed)
    rows = []
    (folder / "images").mkdir(parents=True, exist_ok=True)
    for number in range(images + images // 2):
        train = number < images
        label = number % 4
        pixels = rng.integers(0, 90, (18, 18, 3), dtype=np.uint8)
        pixels[4:10, 4:10, label % 3] += 150
        pixels[10:14, 10:14] += np.uint8(80 * (label // 2))
        Image.fromarray(pixels).save(folder / "images" / f"{number:03d}.png")
        reid = task == "re-identification"
        part = ("query" if number % 3 == 0 else "gallery") if reid else "test"
        fold = (
            None if not train else ("train" if number % 6 else "val") if not reid else ("train" if label < 3 else None)
        )
        if reid and train and fold is None:
            fold = "val_query" if (number // 4) % 3 == 0 else "val_gallery"
        rows.append(
            {
                "image": f"images/{number:03d}.png",
                "split": "train" if train else part,
                "fold": fold,
                "label": label + (1 if reid else 0),
                "camera": number // 4 % 3,
                "x": None, "y": None, "w": None, "h": None,
                "attribute.colour": label % 3 if number % 5 else -1,
                "attribute.mark": label // 2,
            }
        )  # fmt: skip
    table = pd.DataFrame(rows).astype({"camera": "Int64", **dict.fromkeys("xywh", "Float64")})
    description = {
        "dataset": "tiny", "task": task, "source": "twins", "complete": True,
        "attributes": {"colour": ["r", "g", "b"], "mark": ["no", "yes"]},
    }  # fmt: skip
    regions = pd.DataFrame(
        [(row["image"], name, *box, 6, 6) for row in rows for name, box in (("colour", (4, 4)), ("mark", (9, 9)))],
        columns=["image", "attribute", "x", "y", "w", "h"],
    )
    size = Data(height=16, width=16, margin=18 / 16)
    return packing.write(
        table, description, regions, folder, size, folder / "packed", made_with=dataset_digest(params())
    )


def params(**train: object) -> Params:
    """Small settings: two epochs of eight images, AdamW, A3M with normalised scores."""
    result = Params(
        head=Head(d=8, normalise_scores=True), train=Train(epochs=2, batch_size=8, optimiser="adamw", device="cpu")
    )
    result.dataset.name = "tiny"
    result.train.schedule, result.train.learning_rate = "cosine", 3e-3
    for name, value in train.items():
        setattr(result.train, name, value)
    return result


def make_trial(folder: Path, settings: Params | None = None, *, seed: int = 0, code: str = "code") -> Trial:
    """A trial on the pack that `write_pack` wrote into `folder`."""
    summary = pack.read_summary(folder / "packed")
    return Trial(
        settings=trial_settings(settings or params(), seed),
        data=summary["digest"],
        code=code,
        pack=str(folder / "packed" / pack.FILE),
        state=str(folder / ".a3m" / "state"),
        validate_every=settings.train.validate_every if settings is not None else 0,
    )
