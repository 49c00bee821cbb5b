"""Stage `twin`: draw the synthetic stand-in of a data set in its original layout. With data.source=raw nothing is drawn.

Data sets that share their images share the twin: it is drawn with the settings of the one that has its name.

Usage: python pipelines/twin.py dataset=market1501
"""

import os
import shutil
from pathlib import Path

from a3m import config
from a3m.console import counted
from a3m.data import twins
from a3m.errors import SettingsError
from a3m.settings import Params


@config.main()
def main(params: Params, root: Path) -> None:
    name = params.dataset.name
    folder = root / "data" / "twins" / name
    if params.data.source != "twins":
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        (folder / "README.txt").write_text("No twin: data.source=raw.\n")
        print(f"twin: {name} comes from data/raw, nothing to draw")
        return
    if name not in twins.DRAW:
        raise SettingsError(f"dataset={name}: there is no twin of it; known are {', '.join(twins.DRAW)}")
    with counted(f"drawing {name}") as progress:
        summary = twins.DRAW[name](folder, params.twin, os.cpu_count() or 1, progress)
    print(f"twin: {name}: {summary['counts']}")


if __name__ == "__main__":
    main()
