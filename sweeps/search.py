"""Search of settings by validation alone: TPE (Optuna) with ASHA, random search, or population-based training.

Size: search.trials trials on the training part (32; demo 12; smoke 6), most of them stopped early, then the winner and the untuned
settings x search.seeds, trained on all training data and tested once. Expect: a gain on validation that is greater than the one
on test data. Lands in: results/search.csv (the winner beside the untuned settings) and the search's own run in MLflow; no table.

    python sweeps/search.py                                    # A3M on the data set cub200 over the space below
    python sweeps/search.py dataset=market1501 search.trials=50 cluster.address=auto
    python sweeps/search.py 'search.space=["loss.alpha=uniform(0,2)", "head.merge=choice(max,mean)"]'
    python sweeps/search.py search.algorithm=pbt search.population=8
    python sweeps/search.py plan=true                          # what would be done
"""

from pathlib import Path

from a3m import config
from a3m.searching import search
from a3m.settings import Params

SPACE = [
    "loss.alpha=uniform(0, 2)",
    "loss.beta=uniform(0, 2)",
    "train.learning_rate=loguniform(3e-4, 3e-2)",
    "train.weight_decay=loguniform(1e-4, 1e-1)",
    "head.merge=choice(max, mean)",
]
# Of a population: what may change while a network is trained.
CHANGING = SPACE[:4]


@config.main(dataset="cub200", swept=["train.on", "train.validate_every"])
def main(params: Params, root: Path) -> None:
    search.run(params, root, CHANGING if params.search.algorithm == "pbt" else SPACE)


if __name__ == "__main__":
    main()
