"""The verbs explain, compare and export of the console command."""

import sys
import time
from pathlib import Path

from a3m import config
from a3m.errors import DataError, SettingsError
from a3m.explore.arguments import parse

RUNS = "RUN is a run id (MLflow's), a trial's key, or the first letters of one; results/<study>.runs.csv lists them."
EXPLAIN = f"""usage: a3m explain IMAGE --run RUN [--out FOLDER] [--nearest 8] [setting=value ...]

Writes what the run sees in the image: class, attributes with probabilities, where each attribute looks and the merged map, and the
nearest images of the gallery (re-identification) or of the test data. Into reports/explain/<image>-<key>/, or FOLDER:
index.html (open this), explanation.json, overview.png, input.png, merged.png, maps/, nearest/.

{RUNS}
An image of the data set itself is cut as it was packed and shown with its true labels; any other is taken whole.

  a3m explain data/twins/market1501/Market-1501-v15.09.15/query/0029_c5s3_030676_00.jpg --run 6ae1c682
"""
COMPARE = f"""usage: a3m compare RUN RUN [--out FOLDER] [setting=value ...]

Shows which settings of two runs on one data set differ; each metric of both and their difference with 95 % bootstrap intervals over
the test data; McNemar's test; the queries that one gets right and the other wrong. Also writes comparison.json, comparison.txt,
settings.csv, metrics.csv, queries.csv and queries.png into reports/compare/<key>-<key>/, or FOLDER.

{RUNS}

  a3m compare 6ae1c682 cc6e3338
"""
EXPORT = f"""usage: a3m export RUN [--only embeddings,onnx,torch] [--out FOLDER] [setting=value ...]

Writes into reports/export/<key>/, or FOLDER: embeddings.npz and embeddings.parquet (a row a tested image, with its labels);
model.onnx and model.pt2 (torch.export), both loaded again and held against the run's network; description.json (names, sizes).
Networks take (N, height, width, 3) uint8. ONNX needs: pip install 'a3m[export]'.

{RUNS}

  a3m export 6ae1c682 --only embeddings
"""


def asked_for_help(text: str) -> bool:
    """Print the help when it was asked for."""
    asked = bool({"-h", "--help"} & set(sys.argv[1:]))
    if asked:
        print(text, end="")
    return asked


def explain() -> None:
    """Explain one image by one run."""
    if asked_for_help(EXPLAIN):
        return
    began = time.perf_counter()
    with config.user_errors():
        given = parse("explain", sys.argv[1:], ["IMAGE"], ["run", "out", "nearest"])
        if "run" not in given.options:
            raise SettingsError("a3m explain: which run? --run <run id or key> (results/<study>.runs.csv lists them)")
        nearest = given.options.get("nearest", "8")
        if not nearest.isdigit():
            raise SettingsError(f"a3m explain --nearest {nearest}: expected a number")
        from a3m.explore.explain import explain as explained

        folder = explained(
            Path(given.names[0]),
            given.options["run"],
            config.running_root(),
            _folder(given.options),
            int(nearest),
            given.settings,
        )
        print(f"{folder / 'index.html'}  ({time.perf_counter() - began:.1f} s)")


def compare() -> None:
    """Compare two runs."""
    if asked_for_help(COMPARE):
        return
    with config.user_errors():
        given = parse("compare", sys.argv[1:], ["RUN", "RUN"], ["out"])
        from rich.console import Console

        from a3m.explore import compare as comparing
        from a3m.explore import kept

        root = config.running_root()
        found = comparing.compare((given.names[0], given.names[1]), root, given.settings)
        first, second = found.runs
        folder = _folder(given.options) or root / "reports" / "compare" / f"{first.key}-{second.key}"
        console = Console(record=True, highlight=False)
        pack, lacking = None, ""
        try:
            pack = kept.pack_of(first, root)
        except DataError as error:
            lacking = f"no pictures and no names: {error}"
        comparing.show(found, console, pack)
        if lacking:
            console.print(lacking, markup=False)
        comparing.write(found, folder, pack, console.export_text())
        console.print(f"{folder}: comparison.json, metrics.csv, queries.csv ...", markup=False, soft_wrap=True)


def export() -> None:
    """Export a run."""
    if asked_for_help(EXPORT):
        return
    with config.user_errors():
        given = parse("export", sys.argv[1:], ["RUN"], ["out", "only"])
        from a3m.explore.export import PARTS
        from a3m.explore.export import export as exported

        parts = given.options["only"].split(",") if "only" in given.options else PARTS
        found = exported(given.names[0], config.running_root(), _folder(given.options), parts, given.settings)
        if found.rows:
            print(f"embeddings of {found.rows} images")
        for name, difference in found.differences.items():
            print(f"{name}: loaded again, largest difference to the run's network {difference:.1e}")
        print(f"{found.folder}: {', '.join(found.files)}")


def _folder(options: dict[str, str]) -> Path | None:
    return Path(options["out"]) if "out" in options else None
