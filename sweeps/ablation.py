"""The ablation of A3M on Market-1501 (Table 1, Figure 5): six variants, and the rows that stand beside them.

Size: (6 variants + the profile's `ablation.beside`) x seeds. Demo: 8 x 3 trials, minutes on 2 cores. Paper: 9 x 3, 60 epochs, GPUs.
Expect: Baseline-1 < Baseline-2 < Att-1, Att-2 < A3M in the publication, there with one number each and no spread.
Lands in: results/ablation.csv, then reports/tables/table1.* and reports/figures/figure5.*

    python sweeps/ablation.py                        # what params.yaml says
    python sweeps/ablation.py plan=true              # what would be trained
    python sweeps/ablation.py seeds=[0,1,2,3,4,5] train.epochs=20 cluster.address=auto
"""

from pathlib import Path

from a3m import config, study
from a3m.settings import Params

SPACE = [{"method": name} for name in ("baseline1", "baseline2", "att1", "att2", "a3m_unlabelled", "a3m")]


@config.main(study="ablation", swept=["method"])
def main(params: Params, root: Path) -> None:
    study.run(params, root, "ablation", [*SPACE, *params.ablation.beside])


if __name__ == "__main__":
    main()
