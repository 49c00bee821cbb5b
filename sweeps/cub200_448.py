"""Classification on CUB-200-2011 at the released code's size, 448 pixels (Table 2, its second size).

Size: three methods and what the profile puts beside them x seeds. Four times the cost of sweeps/cub200.py a trial.
Expect: A3M at 86.2 in the publication, which the released weights reach at this size; a plain ResNet-50 reaches about 88 today.
Lands in: results/cub200_448.csv, then reports/tables/table2.*

    python sweeps/cub200_448.py                      # what params.yaml says
    python sweeps/cub200_448.py plan=true            # what would be trained
"""

from pathlib import Path

from a3m import config, study
from a3m.settings import Params
from a3m.space import Point, methods, rows

SPACE = methods("baseline1", "baseline2", "a3m")


def space(params: Params) -> list[Point]:
    return rows(params.cub200_448, SPACE)


@config.main(study="cub200_448", swept=["method"])
def main(params: Params, root: Path) -> None:
    study.run(params, root, "cub200_448", space(params))


if __name__ == "__main__":
    main()
