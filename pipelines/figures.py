"""Stage `figures`: results/<study>.csv -> reports/figures/{figure5,figure7}.{svg,png}.

Usage: python pipelines/figures.py
"""

from pathlib import Path

from a3m.report import figures, stage


def main(root: Path) -> None:
    made = figures.all_figures(stage.read_studies(root))
    folder = stage.fresh(root / "reports" / "figures", figures.NAMES, ("svg", "png"))
    for name, figure in made.items():
        figures.write(figure, folder, name)
    print(f"figures: {', '.join(made) or 'none'} in reports/figures")


if __name__ == "__main__":
    stage.run(main, Path(__file__).resolve().parents[1], __doc__)
