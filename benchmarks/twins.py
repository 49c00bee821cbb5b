"""Images/s on one core of each twin, drawing, JPEG and annotations together. Goal: at least 250 images/s a core.

Machines are noisy, so beside it stands a ratio from the same run: how many times encoding and decoding a JPEG of noise of the
same size takes as long as drawing one image. Both take turns, so that what else the machine does meets both; processor time
counts, and the median of the repeats. Importing and the first image are not timed.

    python benchmarks/twins.py [--images 300] [--repeats 5]
"""

import argparse
import io
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

from a3m.data.twins import DRAW
from a3m.settings import Twin

QUALITY = 95


def settings(dataset: str, images: int) -> Twin:
    """About so many images of a twin."""
    if dataset == "market1501":
        people = max(images // 8, 2)
        return Twin(train_identities=people - people // 3, test_identities=people // 3, distractors=0, junk=0)
    few = max(images // 30, 2)
    return Twin(classes=few, models=few, makes=max(few // 5, 1))


def drawing(dataset: str, chosen: Twin) -> tuple[float, int, tuple[int, int]]:
    """(seconds, images, a usual size)."""
    with tempfile.TemporaryDirectory() as folder:
        started = time.process_time()
        DRAW[dataset](Path(folder) / dataset, chosen, 1, None)
        seconds = time.process_time() - started
        paths = sorted((Path(folder) / dataset).rglob("*.jpg"))
        sizes = []
        for path in paths:
            with Image.open(path) as image:
                sizes.append(image.size)
    usual = (int(statistics.median(w for w, _ in sizes)), int(statistics.median(h for _, h in sizes)))
    return seconds, len(paths), usual


def calibration(size: tuple[int, int], images: int) -> float:
    """Seconds for encoding and decoding so many images of noise."""
    noise = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    image = Image.fromarray(noise)
    started = time.process_time()
    for _ in range(images):
        buffer = io.BytesIO()
        image.save(buffer, "JPEG", quality=QUALITY)
        Image.open(buffer).load()
    return time.process_time() - started


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=300, help="images a repeat, about (default 300)")
    parser.add_argument("--repeats", type=int, default=5, help="interleaved repeats, the median counts (default 5)")
    arguments = parser.parse_args()
    print("data set      size      images/s  JPEGs of noise/s  JPEGs a drawing")
    for dataset in DRAW:
        chosen = settings(dataset, arguments.images)
        _, _, size = drawing(dataset, settings(dataset, 60))
        drawn, coded = [], []
        for _ in range(arguments.repeats):
            seconds, images, _ = drawing(dataset, chosen)
            drawn.append(seconds / images)
            coded.append(calibration(size, images) / images)
        ratio = statistics.median(a / b for a, b in zip(drawn, coded, strict=True))
        rates = (1.0 / statistics.median(drawn), 1.0 / statistics.median(coded))
        print(f"{dataset:12}  {size[0]:3}x{size[1]:<4} {rates[0]:9.0f} {rates[1]:17.0f} {ratio:16.1f}")


if __name__ == "__main__":
    main()
