"""The training loop of a3m.fit against a bare loop over the same tensors: images/s as a ratio, measured in one run.

The bare loop has the batches ready in memory and does nothing but forward, loss, backward and step. What a3m.fit adds is
reading the pack, augmentation, normalisation, the learning rate, the meter, and one report an epoch. Goal: at least 0.95.

    python benchmarks/training_loop.py [--epochs 2] [--repeats 5]

Both take turns, and time is that of the processor, so that what else the machine does meets both alike; the median of the ratios is
printed, and beside it what loading a batch takes by itself.
"""

import argparse
import statistics
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import torch
from PIL import Image

from a3m import loss
from a3m.data import loaders, pack, packing
from a3m.fit import fit, make_optimiser
from a3m.model import build
from a3m.settings import FORMS, Backbone, Baseline1, Data, Loss, Method, Train

IMAGES, CLASSES, ATTRIBUTES = 640, 100, 12


def make_pack(folder: Path) -> pack.Pack:
    """Noise of 128 x 64 pixels with random labels: what it shows does not matter to the clock."""
    rng = np.random.default_rng(0)
    names = [f"{number:04d}.jpg" for number in range(IMAGES + 1)]
    for name in names:
        Image.fromarray(rng.integers(0, 256, (128, 64, 3), dtype=np.uint8)).save(folder / name)
    table = pd.DataFrame(
        {
            "image": names,
            "split": ["train"] * IMAGES + ["test"],
            "fold": ["train"] * IMAGES + [None],
            "label": [*(number % CLASSES for number in range(IMAGES)), 0],
            "camera": pd.array([None] * (IMAGES + 1), dtype="Int64"),
            **{side: pd.array([None] * (IMAGES + 1), dtype="Float64") for side in "xywh"},
            **{f"attribute.{k}": rng.integers(0, 2, IMAGES + 1) for k in range(ATTRIBUTES)},
        }
    )
    attributes = {str(k): ["no", "yes"] for k in range(ATTRIBUTES)}
    about = {
        "dataset": "noise",
        "task": "classification",
        "source": "twins",
        "complete": True,
        "attributes": attributes,
    }
    packing.write(table, about, None, folder, Data(height=96, width=48), folder)
    return pack.Pack(folder / pack.FILE)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=5)
    given = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        opened = make_pack(Path(folder))
        ratios = []
        for repeat in range(given.repeats):
            speeds = {}
            for loop in (whole_loop, bare_loop) if repeat % 2 else (bare_loop, whole_loop):
                speeds[loop] = loop(opened, given.epochs)
            ratios.append(speeds[whole_loop] / speeds[bare_loop])
            print(
                f"a3m.fit {speeds[whole_loop]:6.1f} images/s   bare loop {speeds[bare_loop]:6.1f} images/s   ratio {ratios[-1]:.3f}"
            )
        print(f"loading a batch of 32: {1000 * loading(opened):.2f} ms")
    print(
        f"training loop: {statistics.median(ratios):.3f} of the bare loop's images/s (median of {given.repeats}; goal 0.95)"
    )


def network(opened: pack.Pack) -> torch.nn.Module:
    """A3M on the demo's backbone."""
    head = SimpleNamespace(d=128, attributes=None, neck=False, **(FORMS["paper"] | {"normalise_scores": True}))
    settings = SimpleNamespace(
        backbone=Backbone(), head=head, method=Method(), baseline1=Baseline1(), seed=0, input_size=opened.input_size
    )
    return build(settings, CLASSES, opened.attribute_sizes)


def criterion() -> torch.nn.Module:
    return loss.build(Method(), Loss(), CLASSES, 128, 0)


def train_settings(epochs: int) -> Train:
    return Train(epochs=epochs, optimiser="adamw", schedule="cosine", device="cpu", memory_format="channels_last")


def batches_of(opened: pack.Pack, settings: Train) -> loaders.TrainBatches:
    rows = loaders.parts(opened, "train+val")
    return loaders.TrainBatches(
        opened, rows.train, rows.classes, settings, 0, torch.full((3,), 0.5), torch.full((3,), 0.2)
    )


def loading(opened: pack.Pack) -> float:
    """Seconds that a batch takes from the pack to normalised tensors."""
    batches = batches_of(opened, train_settings(1))
    started = time.process_time()
    for step in range(5 * batches.steps_per_epoch):
        batches[step]
    return (time.process_time() - started) / (5 * batches.steps_per_epoch)


def whole_loop(opened: pack.Pack, epochs: int) -> float:
    """Images/s of a3m.fit."""
    settings = train_settings(epochs)
    model, batches = network(opened), batches_of(opened, settings)
    started = time.process_time()
    fit(model, batches, criterion(), settings, 0, report=lambda epoch, metrics: None)
    return epochs * batches.steps_per_epoch * batches.batch_size / (time.process_time() - started)


def bare_loop(opened: pack.Pack, epochs: int) -> float:
    """Images/s of nothing but forward, loss, backward and step, over the same tensors."""
    settings = train_settings(epochs)
    model, batches = network(opened).to(memory_format=torch.channels_last), batches_of(opened, settings)
    ready = [batches[step] for step in range(batches.steps_per_epoch)]
    ready = [batch._replace(images=batch.images.contiguous(memory_format=torch.channels_last)) for batch in ready]
    optimiser, measured = make_optimiser(model, settings), criterion()
    model.train()
    started = time.process_time()
    for _ in range(epochs):
        for batch in ready:
            losses = measured(model(batch.images), batch.labels, batch.attributes)
            optimiser.zero_grad(set_to_none=True)
            losses.total.backward()
            optimiser.step()
    return epochs * len(ready) * batches.batch_size / (time.process_time() - started)


if __name__ == "__main__":
    main()
