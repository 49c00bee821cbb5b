"""Twins: small drawn stand-ins of the four data sets, in exactly the layouts of the originals.

The originals may not be passed on; a twin makes every stage run, and its attributes have known places. Besides the
original's files its root holds `regions.csv` (image, attribute, x, y, w, h: the visible region of every attribute in
every image, pixels; no row where an attribute cannot be seen) and `twin.json` (the settings, the counts that the reader
must find, a note), by which readers know a twin.

The same settings give the same pixels, whatever the number of processes: every person, species, model and image
has a generator of its own. `difficulty` (0.0 = no nuisance, 1.0 = the default, at most 4) scales, smoothly and all together:
* how much of what no attribute names look-alikes share (families of people, genera of birds, models of a make);
* light and colour cast, of cameras and of single images, contrast, blur, noise, coarseness;
* pose, lean, viewpoint, scale, misalignment;
* how far a car's paint is from silver, which no model is tied to;
* how often something hides part of the subject, and how much species vary within themselves.
"""

import hashlib
import json
import multiprocessing
import shutil
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from PIL import Image

from a3m.data.twins import cars196 as twin_cars196
from a3m.data.twins import compcars as twin_compcars
from a3m.data.twins import cub200 as twin_cub200
from a3m.data.twins import market1501 as twin_market1501
from a3m.data.twins.scene import Region
from a3m.errors import DataError

if TYPE_CHECKING:
    from a3m.settings import Twin

Progress = Callable[[int, int], None]
Shot = TypeVar("Shot")
CHUNK = 200  # images a task: each task builds its cameras anew, which costs as much as twenty images


def draw_market1501(root: Path, settings: "Twin", workers: int, progress: Progress | None = None) -> dict[str, Any]:
    """Draws `root/Market-1501-v15.09.15/`; returns what stands in twin.json.

    workers: processes; 1 draws in this one. progress(done, total) is called with images.
    Raises DataError when root holds something that is no twin or cannot be written, SettingsError on impossible sizes.
    """
    plan = twin_market1501.plan(settings)
    with replacing(root) as partial:
        twin_market1501.make_folders(partial)
        twin_market1501.write_attributes(partial, plan.train, plan.test)
        regions = draw_all(twin_market1501.draw_shots, partial, settings, plan.shots, workers, progress)
        return write_description(
            partial, "market1501", settings, twin_market1501.READS, plan.counts, plan.notes, regions
        )


def draw_cub200(root: Path, settings: "Twin", workers: int, progress: Progress | None = None) -> dict[str, Any]:
    """Draws `root/CUB_200_2011/` and `root/attributes.txt`; arguments, result and errors as above."""
    plan = twin_cub200.plan(settings)
    with replacing(root) as partial:
        twin_cub200.make_folders(partial, plan)
        drawn = draw_all(twin_cub200.draw_shots, partial, settings, plan.shots, workers, progress)
        twin_cub200.write_annotations(partial, plan, drawn)
        regions = [region for bird in drawn for region in bird.regions]
        return write_description(partial, "cub200", settings, twin_cub200.READS, plan.counts, {}, regions)


def draw_compcars(root: Path, settings: "Twin", workers: int, progress: Progress | None = None) -> dict[str, Any]:
    """Draws `root/data/`, `root/misc/` and `root/author_lists/`; arguments, result and errors as above."""
    plan = twin_compcars.plan(settings)
    with replacing(root) as partial:
        twin_compcars.make_folders(partial, plan)
        drawn = draw_all(twin_compcars.draw_shots, partial, settings, plan.shots, workers, progress)
        twin_compcars.write_annotations(partial, plan, drawn)
        regions = [region for car in drawn for region in car.regions]
        return write_description(partial, "compcars", settings, twin_compcars.READS, plan.counts, {}, regions)


def draw_cars196(root: Path, settings: "Twin", workers: int, progress: Progress | None = None) -> dict[str, Any]:
    """Draws `root/car_ims/` and `root/cars_annos.mat`, without regions; arguments, result and errors as above."""
    plan = twin_cars196.plan(settings)
    with replacing(root) as partial:
        (partial / twin_cars196.FOLDER).mkdir()
        drawn = draw_all(twin_cars196.draw_shots, partial, settings, plan.shots, workers, progress)
        twin_cars196.write_annotations(partial, plan, drawn)
        return write_description(partial, "cars196", settings, twin_cars196.READS, plan.counts, {}, [])


DRAW: dict[str, Callable[[Path, "Twin", int, Progress | None], dict[str, Any]]] = {
    "market1501": draw_market1501,
    "cub200": draw_cub200,
    "compcars": draw_compcars,
    "cars196": draw_cars196,
}


def pixel_digest(root: Path) -> str:
    """sha256 over the decoded pixels of all images below root, in sorted path order.

    A JPEG's bytes depend on the encoder's version, so a twin is identified by what its images decode to.
    """
    digest = hashlib.sha256()
    for path in sorted(root.rglob("*.jpg")):
        with Image.open(path) as image:
            pixels = image.convert("RGB")
        digest.update(f"{path.relative_to(root).as_posix()} {pixels.width}x{pixels.height}\n".encode())
        digest.update(pixels.tobytes())
    return digest.hexdigest()


Result = TypeVar("Result")
Draw = Callable[[Path, int, float, Sequence[Shot]], list[Result]]


def draw_all(
    draw: "Draw[Shot, Result]",
    root: Path,
    settings: "Twin",
    shots: Sequence[Shot],
    workers: int,
    progress: Progress | None,
) -> list[Result]:
    """Draws chunk by chunk, in this process or in several; results in the order of `shots`."""
    chunks = [shots[start : start + CHUNK] for start in range(0, len(shots), CHUNK)]
    results: list[list[Result]] = [[] for _ in chunks]
    done = 0
    if workers <= 1:
        for index, chunk in enumerate(chunks):
            results[index] = draw(root, settings.seed, settings.difficulty, chunk)
            done += len(chunk)
            if progress is not None:
                progress(done, len(shots))
    else:
        # spawn: a forked child of a process that has threads (torch, Ray) may hang.
        with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as pool:
            waiting: dict[Future[list[Result]], int] = {}
            try:
                for index, chunk in enumerate(chunks):
                    waiting[pool.submit(draw, root, settings.seed, settings.difficulty, chunk)] = index
                for future in as_completed(waiting):
                    results[waiting[future]] = future.result()
                    done += len(chunks[waiting[future]])
                    if progress is not None:
                        progress(done, len(shots))
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise
    return [result for chunk in results for result in chunk]


@contextmanager
def replacing(root: Path) -> Iterator[Path]:
    """A folder beside root to draw into; it becomes root when all went well, and is removed when not."""
    if root.exists() and not (root / "twin.json").is_file() and (not root.is_dir() or any(root.iterdir())):
        raise DataError(
            f"{root}: holds something that is not a drawn twin (no twin.json); move it away or choose another folder"
        )
    partial, old = (root.with_name(f".{root.name}.{state}") for state in ("partial", "old"))
    try:
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        try:
            yield partial
            shutil.rmtree(old, ignore_errors=True)
            if root.exists():
                root.rename(old)
            partial.rename(root)
            shutil.rmtree(old, ignore_errors=True)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    except OSError as error:
        raise DataError(
            f"{root}: the twin cannot be written there ({error}); check the folder's rights and the space left"
        ) from error


def write_description(
    root: Path,
    dataset: str,
    settings: "Twin",
    reads: Sequence[str],
    counts: dict[str, int],
    notes: dict[str, Any],
    regions: Sequence[Region],
) -> dict[str, Any]:
    """regions.csv and, last, twin.json. It holds only the settings that this twin reads: others leave it as it is."""
    lines = [",".join(map(str, region)) for region in sorted(regions, key=lambda region: region.image)]
    (root / "regions.csv").write_text("\n".join([",".join(Region._fields), *lines]) + "\n", encoding="utf-8")
    description = {
        "dataset": dataset,
        "settings": {name: getattr(settings, name) for name in reads},
        "counts": counts,
        "note": "Drawn, not photographed: a small stand-in; its numbers say nothing about the original.",
        **notes,
    }
    (root / "twin.json").write_text(json.dumps(description, indent=2) + "\n", encoding="utf-8")
    return description
