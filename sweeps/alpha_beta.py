"""Loss weights alpha and beta on CUB-200-2011 (Figure 7): two independent lines through alpha = beta = 0.5.

Size: (10 + 10 - 1) settings x seeds; in the demo (5 + 5 - 1) x 1. Expect: accuracy rising from 0.1 to 0.5, alpha falling beyond;
the publication's differences are small, and of beta beyond 0.5 it says nothing.
Lands in: results/alpha_beta.csv, then reports/tables/figure7.* and reports/figures/figure7.*

    python sweeps/alpha_beta.py                      # what params.yaml says
    python sweeps/alpha_beta.py plan=true            # what would be trained
    python sweeps/alpha_beta.py seeds=[0,1,2] train.epochs=5 cluster.address=auto
"""

from pathlib import Path

from a3m import config, study
from a3m.settings import Params

CENTRE = {"loss.alpha": 0.5, "loss.beta": 0.5}


def space(params: Params) -> list[dict[str, float]]:
    """The centre, then each of alpha and beta at the other values with the other fixed at the centre."""
    values = params.alpha_beta.values
    lines = [{**CENTRE, path: value} for path in CENTRE for value in values if value != CENTRE[path]]
    return [dict(CENTRE), *lines]


@config.main(study="alpha_beta", swept=list(CENTRE))
def main(params: Params, root: Path) -> None:
    study.run(params, root, "alpha_beta", space(params))


if __name__ == "__main__":
    main()
