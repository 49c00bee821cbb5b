"""Stage `report`: results and reports/figures -> reports/index.html, reports/report.md, reports/metrics.json.

Uploads tables and figures to the studies' runs in MLflow; where that fails it warns.

Usage: python pipelines/report.py
"""

import json
from pathlib import Path

from a3m import config, study
from a3m.errors import DataError
from a3m.report import page, stage, tables


def main(root: Path) -> None:
    studies = stage.read_studies(root)
    runs = stage.read_runs(root, studies)
    made = tables.all_tables(studies)
    figures = {name: read_figure(root, name) for study in studies for name in page.CONTENTS[study].figures}
    folder = stage.fresh(root / "reports", (), ())
    texts = {
        "index.html": page.page(studies, made, figures, runs),
        "report.md": page.text(studies, made, runs),
        "metrics.json": json.dumps(tables.metrics(studies), indent=2, sort_keys=True) + "\n",
    }
    for name, text in texts.items():
        (folder / name).write_text(text, encoding="utf-8", newline="\n")
    print(f"report: {', '.join(texts)} in reports")
    params = config.load(root=root)
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


def read_figure(root: Path, name: str) -> str:
    path = root / "reports" / "figures" / f"{name}.svg"
    if not path.is_file():
        raise DataError(f"{path}: not here; run python pipelines/figures.py first")
    return path.read_text(encoding="utf-8")


if __name__ == "__main__":
    stage.run(main, Path(__file__).resolve().parents[1], __doc__)
