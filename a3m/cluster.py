"""Ray: run the jobs that are missing, on this machine or on a cluster. The only module that names Ray.

Ray Tune schedules; it keeps nothing that matters. Checkpoints and results lie in the state folder and in MLflow under the
trial's key, so what is missing is decided by looking there, never by restoring a Tune experiment.
"""

import logging
import os
import shutil
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from a3m.errors import InterruptedByUser, StoreError, UserError

if TYPE_CHECKING:
    from a3m.settings import Cluster, Train

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")  # read when ray.tune is imported
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
os.environ.setdefault("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", "1")
os.environ.setdefault("TUNE_DISABLE_SIGINT_HANDLER", "0")

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


@contextmanager
def connected(settings: "Cluster", train: "Train") -> Iterator[dict[str, float]]:
    """Start a Ray here, or join one, for the duration -> the resources of one trial."""
    import ray

    for name in ("ray", "ray.tune", "ray.train"):
        logging.getLogger(name).setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="ray")
    os.environ["OMP_NUM_THREADS"] = str(train.threads)
    if os.environ.get("RAY_AUTH_MODE", "token") != "token":
        raise UserError("RAY_AUTH_MODE is not `token`: Ray executes what anyone who reaches its ports sends; unset it")
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR, "include_dashboard": False}
    if settings.address == "local":
        options |= {"address": "local", "num_cpus": os.cpu_count()}  # without `local` it would join one it finds
    else:
        import a3m

        package = Path(a3m.__file__).parent  # workers get the package alone, not the project folder
        del options["include_dashboard"]
        options |= {"address": settings.address, "runtime_env": {"py_modules": [str(package)]}}
    try:
        ray.init(**options)
    except (ConnectionError, RuntimeError, ValueError, OSError) as error:
        raise UserError(f"cluster.address={settings.address}: {str(error).splitlines()[0]}") from error
    try:
        whole = ray.cluster_resources()
        gpus = settings.gpus_per_trial if settings.gpus_per_trial >= 0 else float(whole.get("GPU", 0) > 0)
        for name, wanted in (("CPU", settings.cpus_per_trial), ("GPU", gpus)):
            if wanted > whole.get(name, 0):
                raise UserError(
                    f"cluster.{name.lower()}s_per_trial={wanted}: the cluster has {whole.get(name, 0):g}: no trial could ever start"
                )
        yield {"CPU": settings.cpus_per_trial, "GPU": gpus}
    finally:
        ray.shutdown()
