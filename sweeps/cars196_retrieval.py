"""Retrieval on CARS196 (Table 5): classes 1-98 train, classes 99-196 are searched, each image against all others.

Size: Baseline-1 and A3M (without attribute labels: there are none; K = 28) x seeds; K = 12 and 5, embeddings of 128 and 512, the
metric-learning comparators, the wide control and the modern block x beside_seeds.
Expect: R@1 Baseline-1 78.5, HDC 79.2, A3M 80.0 in the publication, on BN-Inception.
Lands in: results/cars196_retrieval.csv, then reports/tables/table5.*

    python sweeps/cars196_retrieval.py            # what params.yaml says
    python sweeps/cars196_retrieval.py plan=true  # what would be trained
"""

from pathlib import Path

from a3m import config, study
from a3m.settings import Params
from a3m.space import Point, retrieval


def space(params: Params) -> list[Point]:
    return retrieval(params.cars196_retrieval)


@config.main(study="cars196_retrieval", swept=["method"])
def main(params: Params, root: Path) -> None:
    study.run(params, root, "cars196_retrieval", space(params))


if __name__ == "__main__":
    main()
