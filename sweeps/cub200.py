"""Classification on CUB-200-2011 at the text's size, 224 pixels (Table 2, Figure 8).

Size: three methods and what the profile puts beside them x seeds; Bilinear-CNN, controls and the modern block x beside_seeds.
Profile paper puts VGG-16 beside them, as a Baseline-1.
Expect: Baseline-1 82.3 < Baseline-2 84.3 < A3M 86.2 in the publication; 86.2 is known only at 448 pixels (sweeps/cub200_448.py).
Lands in: results/cub200.csv, then reports/tables/table2.* and figure8.*, reports/figures/figure8.*

    python sweeps/cub200.py                          # what params.yaml says
    python sweeps/cub200.py plan=true                # what would be trained
    python sweeps/cub200.py seeds=[0,1,2,3,4,5] cluster.address=auto
"""

from pathlib import Path

from a3m import config, study
from a3m.settings import Params
from a3m.space import CONTROLS, Point, methods, rows

SPACE = methods("baseline1", "baseline2", "a3m")
COMPARATORS = methods("bilinear")
MODERN = methods("baseline1", "baseline2", "a3m", recipe="modern")


def space(params: Params) -> list[Point]:
    return rows(params.cub200, SPACE, comparators=COMPARATORS, controls=CONTROLS, modern=MODERN)


@config.main(study="cub200", swept=["method"])
def main(params: Params, root: Path) -> None:
    study.run(params, root, "cub200", space(params))


if __name__ == "__main__":
    main()
