"""Stage `figures`: one figure of what a study measured -> reports/figures/<figure>.{svg,png}.

Figures 5, 7 and 8 are drawn from results/<study>.csv (5 and 7 with results/<study>.predictions.npz), Figures 2, 4 and 6 from
results/<study>.samples.npz.

Usage: python pipelines/figures.py figure5 study=ablation
"""

import argparse
import importlib
import sys
from pathlib import Path

from a3m.errors import DataError, SettingsError, UserError
from a3m.report import predictions, results, samples, stage
from a3m.report.figures import FIGURES, RESAMPLED, STUDIES, style

ROOT = Path(__file__).resolve().parents[1]


def main(root: Path, name: str, study: str) -> None:
    if name not in FIGURES:
        raise SettingsError(f"{name}: no such figure; there are {', '.join(FIGURES)}")
    if not study.isidentifier():
        raise SettingsError(f"study={study}: no name of a study")
    draw = importlib.import_module(f"a3m.report.figures.{name}").draw  # that figure's module alone
    path = root / "results" / f"{study}.{'samples.npz' if FIGURES[name] == 'samples' else 'csv'}"
    if not path.is_file():
        raise DataError(f"{path}: not here; run python sweeps/{study}.py")
    try:
        if FIGURES[name] == "samples":
            figure = draw(samples.read(path))
        else:
            measured = results.read_study(path)
            answers = path.with_name(f"{study}.predictions.npz")
            figure = draw(measured, predictions.read(answers, measured)) if name in RESAMPLED else draw(measured)
    except samples.NothingToShow as reason:  # no error: the rest of the report is made all the same
        print(f"warning: {name}: {reason}", file=sys.stderr)
        with style.use(name):
            figure = style.empty(str(reason))
    folder = stage.fresh(root / "reports" / "figures", (name,), ("svg", "png"))
    style.write(figure, folder, name)
    print(f"figures: {name} of {study} in reports/figures")


def command(arguments: list[str]) -> tuple[str, str]:
    """Figure and study of the command line; without arguments it explains itself and leaves with exit code 2."""
    lines = [f"{name} from {made_of} of study {STUDIES[name]}" for name, made_of in FIGURES.items()]
    parser = argparse.ArgumentParser(
        description=f"{__doc__}\nFigures, and the study that each is made of unless told:\n  " + "\n  ".join(lines),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        usage="python pipelines/figures.py FIGURE [study=STUDY]",
    )
    parser.add_argument("figure", help=", ".join(FIGURES))
    parser.add_argument("study", nargs="?", help="study=<name>")
    if not arguments:
        parser.print_help(sys.stderr)
        sys.exit(2)
    given = parser.parse_args(arguments)
    key, _, study = (given.study or f"study={STUDIES.get(given.figure, 'none')}").partition("=")
    if key != "study":
        parser.error(f"{given.study}: expected study=<name>")
    return given.figure, study


if __name__ == "__main__":
    try:
        main(ROOT, *command(sys.argv[1:]))
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.code)
    except OSError as error:
        print(f"error: {error.filename}: {error.strerror}", file=sys.stderr)
        sys.exit(1)
