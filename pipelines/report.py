"""Stage `report`: results and reports/figures -> reports/index.html, reports/report.md, reports/metrics.json.

Uploads tables and figures to the studies' runs in MLflow; where that fails it warns.

Usage: python pipelines/report.py
"""

import json
from pathlib import Path

from a3m import config, study
from a3m.errors import DataError
from a3m.record import links
from a3m.report import page, stage, tables


def main(root: Path) -> None:
    studies = stage.read_studies(root)
    runs = stage.read_runs(root, studies)
    made = tables.all_tables(studies, stage.read_predictions(root, studies))
    figures = read_figures(root, [name for study in studies for name in page.CONTENTS[study].figures])
    folder = stage.fresh(root / "reports", (), ())
    params = config.load(root=root)
    texts = {
        "index.html": page.page(studies, made, figures, runs, links.run_links(params, root, studies, runs)),
        "report.md": page.text(studies, made, figures, runs),
        "metrics.json": json.dumps(tables.metrics(studies), indent=2, sort_keys=True) + "\n",
    }
    for name, text in texts.items():
        (folder / name).write_text(text, encoding="utf-8", newline="\n")
    print(f"report: {', '.join(texts)} in reports")
    for name in studies:
        files = [
            root / "reports" / "tables" / f"{table}.{ending}"
            for table in page.CONTENTS[name].tables
            for ending in ("csv", "md")
        ]
        files += [
            root / "reports" / "figures" / f"{figure}.{ending}"
            for figure in page.CONTENTS[name].figures
            for ending in ("svg", "png")
        ]
        study.publish(params, root, name, [path for path in files if path.is_file()])


def read_figures(root: Path, names: list[str]) -> dict[str, str]:
    """Name -> svg of the figures that were drawn; the others are named on stdout.

    Raises:
        DataError: none was drawn, though the studies at hand have some.
    """
    folder = root / "reports" / "figures"
    drawn = {name: folder / f"{name}.svg" for name in names if (folder / f"{name}.svg").is_file()}
    if names and not drawn:
        raise DataError(f"{folder}: no {', '.join(names)} here; run python pipelines/figures.py <figure> first")
    absent = [name for name in names if name not in drawn]
    if absent:
        print(f"not drawn: {', '.join(absent)} (python pipelines/figures.py <figure>)")
    return {name: path.read_text(encoding="utf-8") for name, path in drawn.items()}


if __name__ == "__main__":
    stage.run(main, Path(__file__).resolve().parents[1], __doc__)
