"""Classification of car models on CompCars (Table 3).

Size: three methods and what the profile puts beside them x seeds; AlexNet, GoogLeNet, controls and the modern block x beside_seeds.
Expect: Baseline-1 91.8 < Baseline-2 94.1 < A3M 95.4 in the publication, on the authors' split of 36,456 / 15,627 images.
Lands in: results/compcars.csv, then reports/tables/table3.*

    python sweeps/compcars.py                        # what params.yaml says
    python sweeps/compcars.py plan=true              # what would be trained
"""

from pathlib import Path

from a3m import config, study
from a3m.settings import Params
from a3m.space import CONTROLS, Point, methods, rows

SPACE = methods("baseline1", "baseline2", "a3m")
COMPARATORS: list[Point] = [
    {"method": "baseline1", "backbone.name": "alexnet"},
    {"method": "baseline1", "backbone.name": "googlenet"},
]
MODERN = methods("baseline1", "baseline2", "a3m", recipe="modern")


def space(params: Params) -> list[Point]:
    return rows(params.compcars, SPACE, comparators=COMPARATORS, controls=CONTROLS, modern=MODERN)


@config.main(study="compcars", swept=["method"])
def main(params: Params, root: Path) -> None:
    study.run(params, root, "compcars", space(params))


if __name__ == "__main__":
    main()
