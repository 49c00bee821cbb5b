"""Stage `tables`: results/<study>.csv -> reports/tables/<table>.{csv,md,tex}: Tables 1-5 with their controls,
the numbers of Figures 5, 7 and 8, and the attributes. Beside them reports/plots/*.csv, which `dvc plots` draws.

Usage: python pipelines/tables.py
"""

from pathlib import Path

from a3m.report import names as n
from a3m.report import plots, stage, tables


def main(root: Path) -> None:
    studies = stage.read_studies(root)
    made = tables.all_tables(studies, stage.read_predictions(root, studies))
    folder = stage.fresh(root / "reports" / "tables", tables.NAMES, ("csv", "md", "tex"))
    for name, table in made.items():
        table.write(folder, name)
    folder = stage.fresh(root / "reports" / "plots", (*n.STUDIES, *plots.LINES), ("csv",))
    for name, points in plots.all_plots(studies).items():
        points.to_csv(folder / f"{name}.csv", index=False, lineterminator="\n")
    print(f"tables: {', '.join(made) or 'none'} in reports/tables")


if __name__ == "__main__":
    stage.run(main, Path(__file__).resolve().parents[1], __doc__)
