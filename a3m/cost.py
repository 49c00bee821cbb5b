"""What training a plan costs: images to be seen, and hours at a rate that was measured by earlier runs or is stated."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import numpy as np

from a3m.data.pack import FILE, FOLDS, SPLITS, Pack, read_summary
from a3m.errors import DataError
from a3m.plan import TRAINED, Planned
from a3m.record import runs
from a3m.relevance import dataset_digest
from a3m.settings import Params

STATED_AT = 224 * 224  # pixels of the images that cluster.images_per_second is stated for


@dataclass(frozen=True)
class Cost:
    """Of the trials of a plan that are still to be trained; `hours` are of one trial's device, None where no rate is known."""

    trials: int
    images: int
    hours: float | None
    rate: str  # where the rate comes from, in words


def cost(params: Params, root: Path, planned: Sequence[Planned], known: Iterable[runs.Found] = ()) -> Cost:
    """Images seen in the epochs that are left, and hours at a rate.

    A rate is measured where runs of the same backbone on the same data are `known` (their tag images_per_second), else stated
    by `cluster.images_per_second`, which holds at 224 x 224 pixels and falls with their number.
    """
    missing = [one for one in planned if one.state in TRAINED]
    per_epoch = training_images(params, root)
    if per_epoch is None:
        return Cost(len(missing), 0, None, "a twin's images are counted when it is packed")
    data = {one.trial.data for one in planned}
    measured = _measured(found for found in known if found.tags.get("data") in data)
    stated = params.cluster.images_per_second * STATED_AT / (params.data.height * params.data.width)
    images, hours, lacking = 0, 0.0, False
    rates = set()
    for one in missing:
        backbone = one.trial.settings["backbone"]["name"]
        seen = (one.trial.settings["train"]["epochs"] - one.epochs_done) * per_epoch
        rate = measured.get(backbone, stated)
        images += seen
        if rate > 0:
            hours += seen / rate / 3600
            how = (
                f"measured by earlier runs of {backbone}"
                if backbone in measured
                else "stated (cluster.images_per_second)"
            )
            rates.add(f"{rate:.0f} images/s, {how}, at {params.data.height} x {params.data.width} pixels")
        else:
            lacking = True
    if lacking:
        return Cost(len(missing), images, None, "no run has measured a rate and cluster.images_per_second states none")
    return Cost(len(missing), images, hours, "; ".join(sorted(rates)))


def training_images(params: Params, root: Path) -> int | None:
    """Images of one epoch: of the pack; where nothing is packed with these settings as published, and None for a twin."""
    whole = params.train.on == "train+val"
    folder = root / "data" / "prepared" / params.dataset.name
    try:
        if read_summary(folder).get("made_with") != dataset_digest(params):
            raise DataError(f"{folder}: packed with other settings")
        pack = Pack(folder / FILE)
    except DataError:
        if params.data.source == "twins":
            return None
        return (
            params.dataset.train_images if whole else round(params.dataset.train_images * (1 - params.data.validation))
        )
    codes, names = (pack.split, SPLITS) if whole else (pack.fold, FOLDS)
    return int(np.count_nonzero(codes == names.index("train")))


def _measured(known: Iterable[runs.Found]) -> dict[str, float]:
    """Backbone -> median images/s of finished runs on this experiment's images."""
    rates: dict[str, list[float]] = {}
    for found in known:
        speed, backbone = found.tags.get("images_per_second"), found.tags.get("backbone")
        if speed and backbone and found.status == runs.FINISHED:
            rates.setdefault(backbone, []).append(float(speed))
    return {backbone: median(values) for backbone, values in rates.items()}


def text(total: Cost) -> str:
    """One line for the terminal."""
    if not total.trials:
        return "nothing to train"
    hours = f", {total.hours:.1f} device-hours" if total.hours is not None else ""
    images = f", {total.images:,} images to be seen" if total.images else ""
    return f"{total.trials} trials to train{images}{hours} ({total.rate})"
