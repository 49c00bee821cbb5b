"""Draw a tiny data set of one's own: small boats, a CSV that names them, two attributes.

    python docs/examples/own-data/make_example.py data/raw/manifest                      # classification
    python docs/examples/own-data/make_example.py data/raw/manifest re-identification
    python docs/examples/own-data/make_example.py data/raw/manifest retrieval

A boat is the colour of its sail, the colour of its hull and its number of stripes. Sail and hull are the attributes; of
every tenth image one is not known, and its cell is empty. Equal calls draw equal images.
"""

import csv
import random
import sys
from itertools import product
from pathlib import Path

from PIL import Image, ImageDraw

SAILS = {"white": (240, 240, 235), "red": (200, 50, 45), "yellow": (235, 200, 60)}
HULLS = {"black": (35, 35, 40), "green": (40, 120, 80), "brown": (130, 85, 50), "blue": (45, 80, 160)}
STRIPES = (0, 2)
BOATS = list(product(SAILS, HULLS, STRIPES))  # 24 of them
SIZE = 72
TASKS = ("classification", "re-identification", "retrieval")


def draw(boat: tuple[str, str, int], chance: random.Random) -> tuple[Image.Image, tuple[int, int, int, int]]:
    """One boat somewhere on the water, and its box x y w h."""
    sail, hull, stripes = boat
    image = Image.new("RGB", (SIZE, SIZE), (150 + chance.randrange(60), 190, 220))
    pen = ImageDraw.Draw(image)
    pen.rectangle((0, 46, SIZE, SIZE), fill=(60, 110 + chance.randrange(50), 150))
    x, y, wide = chance.randrange(4, 22), chance.randrange(4, 14), chance.randrange(34, 44)
    middle, deck = x + wide // 2, y + 36
    pen.polygon([(middle, y), (x + 4, deck - 4), (x + wide - 4, deck - 4)], fill=SAILS[sail])
    for number in range(stripes):
        level = deck - 10 - 8 * number
        pen.line((middle - 8 + 3 * number, level, middle + 8 - 3 * number, level), fill=(20, 20, 20), width=3)
    pen.polygon([(x, deck), (x + wide, deck), (x + wide - 7, deck + 12), (x + 7, deck + 12)], fill=HULLS[hull])
    return image, (x, y, wide + 1, 49)


def rows_of(task: str) -> list[tuple[int, str, int]]:
    """(boat, split, camera) of every image: what the splits must look like for each task."""
    if task == "classification":  # every class trains and is tested
        return [(boat, "train" if number < 8 else "test", 0) for boat in range(24) for number in range(12)]
    trains = [(boat + boat // 2) % 2 == 0 for boat in range(24)]  # half of the boats; the others are only searched
    if task == "retrieval":
        return [(boat, "train" if trains[boat] else "test", 0) for boat in range(24) for number in range(8)]
    rows = []  # each was seen by four cameras
    for boat in range(24):
        for number in range(8):
            split = "train" if trains[boat] else "query" if number < 2 else "gallery"
            rows.append((boat, split, 1 + number % 4))
    return rows


def main() -> None:
    """Write images/*.png and manifest.csv into the folder that is given."""
    if not 2 <= len(sys.argv) <= 3 or sys.argv[-1].startswith("-"):
        sys.exit((__doc__ or "").strip())
    folder, task = Path(sys.argv[1]), sys.argv[2] if len(sys.argv) == 3 else TASKS[0]
    if task not in TASKS:
        sys.exit(f"error: {task}: expected one of {', '.join(TASKS)}")
    if (folder / "manifest.csv").exists():
        sys.exit(f"error: {folder / 'manifest.csv'} is there already: choose another folder, or delete it")
    (folder / "images").mkdir(parents=True, exist_ok=True)
    reid = task == "re-identification"
    chance = random.Random(0)
    header = ["image", "identity", "split", "camera"] if reid else ["image", "label", "split"]
    with (folder / "manifest.csv").open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow([*header, "x", "y", "w", "h", "sail", "hull"])
        for number, (boat, split, camera) in enumerate(rows_of(task)):
            name = f"images/boat {number:03d}.png"
            image, box = draw(BOATS[boat], chance)
            image.save(folder / name)
            sail, hull, stripes = BOATS[boat]
            label = boat + 1 if reid else f"{sail} {hull} {stripes}"
            known = chance.randrange(10)  # one tenth each lack sail or hull
            cells = [name, label, split, *([camera] if reid else []), *box]
            table.writerow([*cells, "" if known == 0 else sail, "" if known == 1 else hull])
    print(f"{folder / 'manifest.csv'}: {number + 1} images, {task}")


if __name__ == "__main__":
    main()
