"""Ray Tune: run the jobs that are missing.

Ray Tune schedules; it keeps nothing that matters. Checkpoints and results lie in the state folder and in MLflow under the
trial's key, so what is missing is decided by looking there, never by restoring a Tune experiment.
"""

import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from a3m.cluster.session import connected
from a3m.errors import InterruptedByUser, StoreError, UserError

if TYPE_CHECKING:
    from a3m.settings import Cluster, Train


Job = dict[str, Any]
Perform = Callable[[Job, Callable[[dict[str, float]], None]], dict[str, Any]]  # in a worker: (job, report) -> outcome
Event = Callable[[str, dict[str, Any]], None]  # in the driver: (key, what a worker reported)

ROUNDS = 3  # times that a crash of the scheduler itself (Ray's memory monitor does that) is survived


def run(jobs: list[Job], perform: Perform, settings: "Cluster", train: "Train", state: Path, event: Event) -> None:
    """Perform every job (a plain dict with a "key") on the cluster; `event` hears of each report and each outcome.

    A job whose process dies is started again up to settings.retries times. Raises InterruptedByUser after Ctrl-C.
    """
    with connected(settings, train) as resources:
        waiting = {job["key"]: job for job in jobs}

        def heard(key: str, result: dict[str, Any]) -> None:
            if "outcome" in result:
                waiting.pop(key, None)
            event(key, result)

        for attempt in range(ROUNDS):
            try:
                errors = _tune(list(waiting.values()), perform, settings, resources, state, heard)
            except (RuntimeError, OSError) as error:
                if attempt + 1 == ROUNDS:
                    raise UserError(f"Ray Tune stopped {ROUNDS} times: {str(error).splitlines()[0]}") from error
                continue
            for key, reason in errors.items():
                heard(key, {"outcome": "lost", "reason": reason})
            break
        if waiting:
            raise InterruptedByUser("interrupted: nothing is lost; the same command goes on where this one stopped")


def _tune(
    jobs: list[Job], perform: Perform, settings: "Cluster", resources: dict[str, float], state: Path, heard: Event
) -> dict[str, str]:
    """One Tune experiment over the jobs -> {key: why} of those whose process died too often."""
    from ray import tune

    class Listener(tune.Callback):
        def __init__(self, heard: Event):
            self.heard = heard

        def __getstate__(self) -> dict[str, Any]:
            return {}  # Tune pickles its callbacks for a restore, which is never made; a console cannot be pickled

        def on_trial_result(
            self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
        ) -> None:
            reported = {name: result[name] for name in result["a3m_reported"]}
            self.heard(trial.config["job"]["key"], reported)

    def worker(config: dict[str, Any]) -> None:
        def report(values: dict[str, Any]) -> None:
            tune.report({**values, "a3m_reported": list(values)})

        report(perform(config["job"], report))

    folder = Path(tempfile.mkdtemp(prefix="tune-", dir=_made(state / "ray")))
    try:
        tuner = tune.Tuner(
            tune.with_resources(worker, resources),
            param_space={"job": tune.grid_search(jobs)},
            tune_config=tune.TuneConfig(
                reuse_actors=True,  # importing torch anew takes longer than a short trial
                max_concurrent_trials=settings.max_concurrent or None,
                trial_name_creator=lambda trial: trial.config["job"]["key"],
                trial_dirname_creator=lambda trial: trial.config["job"]["key"],
            ),
            run_config=tune.RunConfig(
                name="trials",
                storage_path=str(folder),
                verbose=0,
                failure_config=tune.FailureConfig(max_failures=settings.retries),
                callbacks=[Listener(heard)],
                log_to_file=False,
            ),
        )
        results = tuner.fit()
        return {
            result.config["job"]["key"]: str(result.error).strip().splitlines()[-1]
            for result in (results[number] for number in range(len(results)))
            if result.error is not None and result.config
        }
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _made(folder: Path) -> Path:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StoreError(
            f"{folder}: cannot be written ({error.strerror}): set store.state to a folder that can"
        ) from error
    return folder
