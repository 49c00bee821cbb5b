"""Packing against a bare loop of Pillow's decoding and resizing over the same images in as many threads: images/s as a ratio.

Packing adds finding the files, fingerprints, writing into the pack, the journal with its flushes, and the digest. Generated
images of 64 x 128 pixels, as Market-1501 has them. Goal: at least 0.7 of the bare loop
(at this size; larger images leave nothing but decoding).

    python benchmarks/pack.py [--images 4000] [--repeats 5]

Both take turns, so that what else the machine does meets both; the median of the ratios is printed, by the clock and by the
processor's time, which does not count waiting for the disk.
"""

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from a3m.data import packing
from a3m.settings import Data

SIZE = Data(height=128, width=64, margin=1.0)
ABOUT = {"dataset": "noise", "task": "re-identification", "source": "twins", "complete": True, "attributes": {}}


def make_images(folder: Path, count: int) -> pd.DataFrame:
    """Smooth colours with some noise: a JPEG of 2 to 3 KB, as a photograph of that size has."""
    rng = np.random.default_rng(0)
    names = [f"{number:05d}.jpg" for number in range(count)]
    for name in names:
        coarse = Image.fromarray(rng.integers(0, 256, (8, 4, 3), dtype=np.uint8)).resize((64, 128))
        noisy = np.asarray(coarse, np.int16) + rng.integers(-8, 9, (128, 64, 3))
        Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(folder / name)
    table = pd.DataFrame({"image": names, "split": "train", "fold": "train", "label": 1, "camera": 1})
    return table.assign(**{side: pd.array([None] * count, dtype="Float64") for side in "xywh"})


def bare(folder: Path, table: pd.DataFrame) -> None:
    """Decoding and resizing alone."""
    names = list(table["image"])

    def several(part: list[str]) -> None:
        for name in part:
            with Image.open(folder / name) as image:
                np.asarray(image.convert("RGB").resize((64, 128), Image.Resampling.BILINEAR))

    with ThreadPoolExecutor(os.cpu_count() or 1) as threads:
        list(threads.map(several, [names[at : at + 16] for at in range(0, len(names), 16)]))


def whole(folder: Path, table: pd.DataFrame) -> None:
    """a3m.data.packing.write."""
    with tempfile.TemporaryDirectory(dir=folder) as out:
        packing.write(table, ABOUT, None, folder, SIZE, Path(out))


def rates(loop: Callable[[Path, pd.DataFrame], None], folder: Path, table: pd.DataFrame) -> tuple[float, float]:
    """Images/s by the clock, and by the second of processor time."""
    started, cpu = time.perf_counter(), time.process_time()
    loop(folder, table)
    return len(table) / (time.perf_counter() - started), len(table) / (time.process_time() - cpu)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=4000)
    parser.add_argument("--repeats", type=int, default=5)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        table = make_images(folder, given.images)
        bare(folder, table)  # into the page cache
        ratios, cpu_ratios = [], []
        for repeat in range(given.repeats):
            found = {}
            for loop in (whole, bare) if repeat % 2 else (bare, whole):
                found[loop] = rates(loop, folder, table)
            (packed, packed_cpu), (alone, alone_cpu) = found[whole], found[bare]
            ratios.append(packed / alone)
            cpu_ratios.append(packed_cpu / alone_cpu)
            print(f"packing {packed:7.0f} images/s   bare loop {alone:7.0f} images/s   ratio {ratios[-1]:.3f}")
    print(
        f"packing: {statistics.median(ratios):.3f} of the bare loop's images/s (median of {given.repeats}; goal 0.7), "
        f"{statistics.median(cpu_ratios):.3f} by processor time; {os.cpu_count()} threads"
    )


if __name__ == "__main__":
    main()
