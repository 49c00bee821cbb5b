"""What bookkeeping costs as an experiment grows to 10,000 trials: look-up, plan, results, scheduling, recording.

    store   a sweep that finds all of its trials finished
    bare    Ray Tune alone, with a trainable that does nothing
    jobs    our scheduler, with jobs that do nothing
    study   a whole study whose trials sleep some milliseconds: plan, scheduler, results, the study's run
    layer   leases, look-up and recording around trials, their training taken off, over bare Ray Tune

Wall times of a busy machine mean little, so that growth and the ratio to bare Ray Tune, measured in the same call, are what
counts. Goals: plan and look-up of 10,000 in seconds; seconds a trial do not grow with their number; the
driver stays under 1 GB; our layer costs under 0.3 s a trial over bare Ray Tune.

    python benchmarks/scale.py [--sizes 100 1000 10000] [--parts store bare jobs study layer]
"""

import argparse
import contextlib
import io
import os
import resource
import sqlite3
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rich.console import Console

from a3m import cost, plan, results, study, work
from a3m.cluster import jobs
from a3m.cluster.session import connected
from a3m.record import recording, runs
from a3m.settings import Cluster, Head, Params, Train

MEASURED = 12  # metrics of a finished run


# In a process of its own: it brings torch, which a driver does not hold.
PACKED = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
import tiny
folder = Path(sys.argv[2])
tiny.write_pack(folder)
for path in (folder / "packed").iterdir():
    path.rename(folder / path.name)
"""


def project(root: Path) -> Params:
    """A tiny packed data set where a project has it -> settings for it."""
    folder = root / "data" / "prepared" / "tiny"
    tests = str(Path(__file__).parents[1] / "tests")
    subprocess.run([sys.executable, "-c", PACKED, tests, str(folder)], check=True)
    train = Train(epochs=2, batch_size=8, optimiser="adamw", schedule="cosine", learning_rate=3e-3, device="cpu")
    params = Params(head=Head(d=8, normalise_scores=True), train=train)
    params.dataset.name = "tiny"
    params.ablation.seeds = [0]
    return params


def space(count: int) -> list[dict[str, Any]]:
    return [{"method": "a3m", "loss.alpha": round(number / count, 6)} for number in range(count)]


# --- looking up ---------------------------------------------------------------------------------------------------------


def fill(root: Path, planned: list[plan.Planned], experiment: str) -> None:
    """Finished runs of the trials, as a trial records them, written straight into MLflow's tables."""
    tables: dict[str, list[tuple[Any, ...]]] = {
        "runs": [],
        "tags": [],
        "params": [],
        "latest_metrics": [],
        "metrics": [],
    }
    for number, one in enumerate(planned):
        run, started = uuid.uuid4().hex, 1_700_000_000_000 + number
        place = f"{(root / 'mlartifacts').as_uri()}/{run}/artifacts"
        row = (run, one.name, "UNKNOWN", "", "", "a3m", "FINISHED", started, started + 9000, "", "active", place)
        tables["runs"].append((*row, int(experiment), None))
        tags = {
            "key": one.trial.key, "key.any_code": one.trial.key_of_any_code, "data": one.trial.data, "code": one.trial.code,
            "dataset": "tiny", "source": "twins", "method": "a3m", "seed": "0", "backbone": "a3m_resnet_small",
            "host": "here", "study.ablation": "yes", "mlflow.runName": one.name, "mlflow.source.git.commit": "0" * 40,
            "images_per_second": "1000", "mlflow.parentRunId": "0" * 32,
            **{f"version.{name}": "1.0" for name in runs.VERSIONS},
        }  # fmt: skip
        tables["tags"] += [(name, value, run) for name, value in tags.items()]
        tables["params"] += [(name, str(value), run) for name, value in recording.flat(one.trial.settings).items()]
        for metric in range(MEASURED):
            tables["latest_metrics"].append((f"test/m{metric}", 0.5, started + 2, 2, 0, run))
            tables["metrics"] += [(f"test/m{metric}", 0.5, started + step, run, step, 0) for step in (1, 2)]
    with sqlite3.connect(root / "mlflow.db") as database:
        for name, rows in tables.items():
            database.executemany(f"insert into {name} values ({', '.join('?' * len(rows[0]))})", rows)


def store(size: int) -> None:
    """Seconds of processor time of each step of a sweep that finds everything finished."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        params, points = project(root), space(size)
        opened = runs.open_store("", root)
        experiment = opened.experiment("tiny", root)
        quiet = Console(file=io.StringIO())
        seconds: dict[str, float] = {}

        def timed(name: str, call: Callable[[], Any]) -> Any:
            started = time.process_time()
            result = call()
            seconds[name] = time.process_time() - started
            return result

        trials = timed("expand", lambda: plan.expand(params, root, "ablation", points))
        fill(root, [plan.Planned(*trial, "new", None) for trial in trials], experiment)
        planned = timed("look up", lambda: plan.look_up(params, trials, opened, experiment))
        assert {one.state for one in planned} == {"finished"}
        params.plan = True
        timed("print", lambda: plan.print_plan(quiet, params, "ablation", planned))
        timed("cost", lambda: cost.cost(params, root, planned, [one.found for one in planned if one.found]))
        timed("results", lambda: results.write(params, root, "ablation", planned, opened.uri, "parent"))
    shown = "  ".join(f"{name} {value:.2f}" for name, value in seconds.items())
    print(f"store {size:6d} recorded trials: {shown} s of processor time (goal: seconds); {peak():.0f} MB", flush=True)


def peak() -> float:
    """MB that this process has held at most."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


# --- scheduling ---------------------------------------------------------------------------------------------------------


class Clock:
    """When each trial ended, by the clock and by the driver's processor time."""

    def __init__(self) -> None:
        self.wall: list[float] = []
        self.processor: list[float] = []

    def tick(self) -> None:
        self.wall.append(time.perf_counter())
        self.processor.append(time.process_time())

    def line(self, name: str) -> str:
        """Seconds a trial: of all by the clock, and the driver's own in the first and the last tenth."""
        count = len(self.wall)
        tenth = max(count // 10, 50)
        first = (self.processor[tenth - 1] - self.processor[0]) / (tenth - 1)
        last = (self.processor[-1] - self.processor[-tenth]) / (tenth - 1)
        return (
            f"{name:5} {count:6d} trials: {self.each():.4f} s each; the driver's processor: first tenth {first:.4f}, last "
            f"{last:.4f} s each, growth {last / first:.2f}; {peak():.0f} MB (goal 1000); load {os.getloadavg()[0]:.1f}"
        )

    def each(self) -> float:
        return (self.wall[-1] - self.wall[0]) / (len(self.wall) - 1)


def bare(size: int) -> float:
    """Ray Tune alone, with a trainable that does nothing, in the same Ray and with the same options -> seconds a trial."""
    from ray import tune

    clock = Clock()

    class Listener(tune.Callback):
        def __getstate__(self) -> dict[str, Any]:
            return {}

        def on_trial_result(
            self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
        ) -> None:
            clock.tick()

    def nothing(config: dict[str, Any]) -> None:
        tune.report({"nothing": 0})

    with connected(Cluster(), Train()) as resources, tempfile.TemporaryDirectory() as folder:
        tune.Tuner(
            tune.with_resources(nothing, resources),
            param_space={"job": tune.grid_search([{"key": f"{number:016x}"} for number in range(size)])},
            tune_config=tune.TuneConfig(reuse_actors=True),
            run_config=tune.RunConfig(
                name="bare", storage_path=folder, verbose=0, callbacks=[Listener()], log_to_file=False
            ),
        ).fit()
    print(clock.line("bare"), flush=True)
    return clock.each()


def scheduled(size: int) -> None:
    """a3m.cluster.jobs with jobs of the usual size that do nothing."""

    def nothing(job: dict[str, Any], report: Callable[[dict[str, Any]], None]) -> dict[str, Any]:
        return {"outcome": "finished"}

    clock = Clock()
    with tempfile.TemporaryDirectory() as folder:
        given = [
            {"key": f"{number:016x}", "trial": {"state": folder, "settings": "x" * 3000}} for number in range(size)
        ]
        jobs.run(given, nothing, Cluster(), Train(), lambda key, said: clock.tick() if "outcome" in said else None)
    print(clock.line("jobs"), flush=True)


def whole(size: int) -> None:
    """`a3m.study.run` from the plan to the study's run, its trials being a nap; their runs are written when all have ended."""

    def nap(job: dict[str, Any], report: Callable[[dict[str, Any]], None]) -> dict[str, Any]:
        import time

        time.sleep(0.005)
        return {"outcome": "finished"}

    clock = Clock()
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        root = Path(folder)
        params, points = project(root), space(size)
        experiment = runs.open_store("", root).experiment("tiny", root)
        planned = [plan.Planned(*trial, "new", None) for trial in plan.expand(params, root, "ablation", points)]
        scheduler = jobs.run

        def scheduled_then_filled(given: Any, perform: Any, cluster: Any, train: Any, event: Any) -> None:
            def ticking(key: str, said: dict[str, Any]) -> None:
                event(key, said)
                if "outcome" in said:
                    clock.tick()

            scheduler(given, nap, cluster, train, ticking)
            fill(root, planned, experiment)

        study.cluster_jobs.run = scheduled_then_filled  # type: ignore[attr-defined]
        started = time.perf_counter()
        study.run(params, root, "ablation", points)
        took = time.perf_counter() - started
        assert len((root / "results" / "ablation.csv").read_text().splitlines()) == size + 1
    print(f"{clock.line('study')}; {took:.0f} s from the command to its results", flush=True)


def layer(size: int) -> None:
    """Leases, look-up and recording in a real store around trials whose training is taken off, over bare Ray Tune."""
    import ray

    def timed(job: dict[str, Any], report: Callable[[dict[str, Any]], None]) -> dict[str, Any]:
        import time

        import a3m.trial
        from a3m import work

        train = getattr(a3m.trial, "train_untimed", a3m.trial.train)
        a3m.trial.train_untimed = train  # type: ignore[attr-defined]
        spent = []

        def clocked(*given: Any) -> Any:
            started = time.perf_counter()
            result = train(*given)
            spent.append(time.perf_counter() - started)
            return result

        a3m.trial.train = clocked
        return work.perform(job, report) | {"trained": sum(spent)}

    clock, trained = Clock(), []

    def event(key: str, said: dict[str, Any]) -> None:
        if "outcome" in said:
            assert said["outcome"] == "finished", said
            clock.tick()
            trained.append(said["trained"])

    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        params = project(root)
        opened = runs.open_store("", root)
        experiment = opened.experiment("tiny", root)
        planned = plan.look_up(params, plan.expand(params, root, "ablation", space(size)), opened, experiment)
        given = [work.job_of(params, root, one, opened.uri, experiment, None, None) for one in planned]
        jobs.run(given, timed, params.cluster, params.train, event)
    ray.shutdown()
    print(clock.line("layer"), flush=True)
    workers = os.cpu_count() or 1
    over = clock.each() - sum(trained) / len(trained) / workers - bare(size)
    print(f"our layer over bare Ray Tune: {over:.3f} s a trial without its training (goal 0.3)")


PARTS: dict[str, Callable[[int], Any]] = {
    "store": store,
    "bare": bare,
    "jobs": scheduled,
    "study": whole,
    "layer": layer,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[100, 1000, 10000])
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    given = parser.parse_args()
    if len(given.sizes) == len(given.parts) == 1:
        PARTS[given.parts[0]](given.sizes[0])
        return
    for part in given.parts:
        # Bare Tune needs a quarter of an hour for 10,000; the layer is a difference a trial. Each in a process of its own.
        for size in [
            size
            for size in given.sizes
            if part in ("store", "jobs", "study") or size <= {"bare": 1000, "layer": 100}[part]
        ]:
            subprocess.run([sys.executable, __file__, "--parts", part, "--sizes", str(size)], check=True)


if __name__ == "__main__":
    main()
