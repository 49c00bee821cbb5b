"""The ablation of A3M on Market-1501 (Table 1, Figures 2, 4, 5 and 6): six variants, comparators, controls, a modern recipe.

Size: six variants and what the profile puts beside them x seeds; comparators, controls and the modern block x beside_seeds.
Demo: 8 x 3 + 8 trials, minutes on 2 cores. Paper: all x 3, 60 epochs, GPUs (plan=true says how long).
Expect: Baseline-1 < Baseline-2 < Att-1, Att-2 < A3M in the publication, there with one number each and no spread.
Lands in: results/ablation.csv, then reports/tables/table1.*, reports/figures/figure{2,4,5,6}.*

    python sweeps/ablation.py                        # what params.yaml says
    python sweeps/ablation.py plan=true              # what would be trained
    python sweeps/ablation.py seeds=[0,1,2,3,4,5] train.epochs=20 cluster.address=auto
"""

from pathlib import Path

from a3m import config, study
from a3m.settings import Params
from a3m.space import CONTROLS, Point, methods, rows

SPACE = methods("baseline1", "baseline2", "att1", "att2", "a3m_unlabelled", "a3m")
COMPARATORS = methods("attr_id", "identification_verification")
MODERN = methods("baseline1", "baseline2", "a3m", recipe="modern")


def space(params: Params) -> list[Point]:
    return rows(params.ablation, SPACE, comparators=COMPARATORS, controls=CONTROLS, modern=MODERN)


@config.main(study="ablation", swept=["method"])
def main(params: Params, root: Path) -> None:
    study.run(params, root, "ablation", space(params))


if __name__ == "__main__":
    main()
