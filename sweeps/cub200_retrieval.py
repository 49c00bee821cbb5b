"""Retrieval on CUB-200-2011 (Table 4): classes 1-100 train, classes 101-200 are searched, each image against all others.

Size: Baseline-1 and A3M (without attribute labels: there are none; K = 28) x seeds; K = 12 and 5, embeddings of 128 and 512, the
metric-learning comparators, the wide control and the modern block x beside_seeds.
Expect: R@1 Baseline-1 59.1, HDC 60.0, A3M 61.2 in the publication, on BN-Inception.
Lands in: results/cub200_retrieval.csv, then reports/tables/table4.*

    python sweeps/cub200_retrieval.py            # what params.yaml says
    python sweeps/cub200_retrieval.py plan=true  # what would be trained
"""

from pathlib import Path

from a3m import config, study
from a3m.settings import Params
from a3m.space import Point, retrieval


def space(params: Params) -> list[Point]:
    return retrieval(params.cub200_retrieval)


@config.main(study="cub200_retrieval", swept=["method"])
def main(params: Params, root: Path) -> None:
    study.run(params, root, "cub200_retrieval", space(params))


if __name__ == "__main__":
    main()
