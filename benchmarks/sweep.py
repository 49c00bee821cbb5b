"""A sweep's wall time against the sum of its trials' times over the number of workers: a ratio from one run.

Trains the ablation of params.yaml's profile once more, with one seed, into a store of its own (the project's runs and results
are not touched), and clocks all of it: looking up, starting Ray, training, recording, writing results, stopping Ray. A
trial's time is that of its MLflow run. Goal: at most 1.15.

    python benchmarks/sweep.py [setting=value ...]        the data set must be packed (dvc repro pack)
"""

import os
import tempfile
import time
from pathlib import Path

import pandas as pd

from a3m import config, study
from a3m.settings import Params

SPACE = [{"method": name} for name in ("baseline1", "baseline2", "att1", "att2", "a3m_unlabelled", "a3m")]


@config.main(study="ablation", swept=["method"])
def main(params: Params, root: Path) -> None:
    params.ablation.seeds = [0]
    params.seeds = None
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "data").symlink_to(root / "data")
        started = time.perf_counter()
        study.run(params, Path(folder), "ablation", SPACE)
        wall = time.perf_counter() - started
        trials = pd.read_csv(Path(folder) / "results" / "ablation.runs.csv")["seconds"]
    workers = (os.cpu_count() or 1) // params.cluster.cpus_per_trial
    ideal = trials.sum() / workers
    print(
        f"{len(trials)} trials: wall {wall:.1f} s; their seconds {trials.sum():.1f} over {workers} workers {ideal:.1f} s"
    )
    print(f"sweep: wall time is {wall / ideal:.3f} of the trials' time over the workers (goal at most 1.15)")


if __name__ == "__main__":
    main()
