"""What the three report stages share: their command line, where they find results, and one line for an error."""

import argparse
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import pandas as pd

from a3m.errors import UserError
from a3m.report import results as r
from a3m.report.predictions import Predictions, read


def run(stage: Callable[[Path], None], root: Path, description: str | None) -> None:
    """Calls stage(root) and leaves with exit code 0; an error that the user can mend is one line on stderr, exit code 1 or 2."""
    argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    try:
        stage(root)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.code)
    except KeyboardInterrupt:
        sys.exit(130)
    except OSError as error:
        print(f"error: {error.filename}: {error.strerror}", file=sys.stderr)
        sys.exit(1)


def read_studies(root: Path) -> dict[str, pd.DataFrame]:
    """Study -> checked results, of the studies whose results/<study>.csv is here; the others are named on stdout."""
    studies = {}
    for study in r.STUDIES:
        path = root / "results" / f"{study}.csv"
        if path.is_file():
            studies[study] = r.read_study(path)
        else:
            print(f"not run: {study} (no results/{study}.csv; python sweeps/{study}.py makes it)")
    return studies


def read_predictions(root: Path, studies: Mapping[str, pd.DataFrame]) -> dict[str, Predictions]:
    """Study -> results/<study>.predictions.npz, of the checked studies that have one with a trial in it."""
    found = {study: read(root / "results" / f"{study}.predictions.npz", results) for study, results in studies.items()}
    return {study: predictions for study, predictions in found.items() if predictions is not None}


def read_runs(root: Path, studies: Iterable[str]) -> dict[str, pd.DataFrame]:
    """Study -> results/<study>.runs.csv as text, of the studies that have one with a line in it."""
    paths = {study: root / "results" / f"{study}.runs.csv" for study in studies}
    return {study: r.read_text(path) for study, path in paths.items() if path.is_file() and path.read_text().strip()}


def fresh(folder: Path, names: Iterable[str], endings: Iterable[str]) -> Path:
    """The folder, made if need be, without earlier files of these names: none outlives the results that it came from."""
    folder.mkdir(parents=True, exist_ok=True)
    for path in [folder / f"{name}.{ending}" for name in names for ending in endings]:
        path.unlink(missing_ok=True)
    return folder
