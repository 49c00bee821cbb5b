"""Stage `pack`: decode, crop and resize the images of a data set once, into one memory-mapped file.

Usage: python pipelines/pack.py dataset=market1501
"""

from pathlib import Path

from a3m import config
from a3m.console import counted
from a3m.data import packing
from a3m.data.records import read, read_regions
from a3m.relevance import dataset_digest
from a3m.settings import Params


@config.main()
def main(params: Params, root: Path) -> None:
    name = params.dataset.name
    folder = root / "data" / "prepared" / name
    records, regions = read(folder / "records"), read_regions(folder / "records")
    with counted(f"packing {name}") as progress:
        source = root / "data" / params.data.source / params.dataset.images
        made_with = dataset_digest(params)
        summary = packing.write(
            records.table, records.description, regions, source, params.data, folder, progress, made_with
        )
    parts = [f"{summary['images']} images, {summary['bytes'] / 1e6:.1f} MB"]
    if summary["taken_over"]:
        parts.append(f"{summary['taken_over']} taken over from an interrupted attempt")
    if summary["degenerate_boxes"]:
        parts.append(f"{summary['degenerate_boxes']} degenerate boxes: the whole image instead")
    print(f"pack: {name}: {', '.join(parts)}, data version {summary['digest'][:12]}")


if __name__ == "__main__":
    main()
