"""Stage `pack`: decode, crop and resize the images of a data set once, into one memory-mapped file.

Usage: python pipelines/pack.py dataset=market1501
"""

from pathlib import Path

from a3m import config
from a3m.console import counted
from a3m.data import pack, prepare
from a3m.settings import Params


@config.main()
def main(params: Params, root: Path) -> None:
    name = params.dataset.name
    folder = root / "data" / "prepared" / name
    with counted(f"packing {name}") as progress:
        records, regions = prepare.read(folder / "records")
        summary = pack.write(
            records.table,
            records.description,
            regions,
            root / "data" / params.data.source / name,
            params.data,
            folder,
            progress,
        )
    print(
        f"pack: {name}: {summary['images']} images, {summary['bytes'] / 1e6:.1f} MB, data version {summary['digest'][:12]}"
    )


if __name__ == "__main__":
    main()
