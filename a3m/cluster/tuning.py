"""One Ray Tune experiment over some jobs: what is reported, how each job ends, and what the scheduler itself dies of."""

import logging
import os
import re
import shutil
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import a3m.cluster.session  # noqa: F401 - sets Ray's environment, on the head of a cluster too

Job = dict[str, Any]
Perform = Callable[[Job, Callable[[dict[str, Any]], None]], dict[str, Any]]  # in a worker: (job, report) -> outcome
Event = tuple[str, dict[str, Any]]  # (key, what a worker reported, or how the job ended)
Exchange = Callable[[list[Event]], bool]  # hands events over -> whether to stop

EXCHANGE_SECONDS = 0.25
LESS_MEMORY = (
    "a smaller train.batch_size, a larger cluster.cpus_per_trial or a smaller cluster.max_concurrent leave it more"
)


class Ended(NamedTuple):
    """How an experiment ended. Without a `crash` every job has had its outcome, or it was told to stop."""

    crash: str = ""  # why the scheduler itself stopped
    memory: bool = False  # it stopped since Ray's memory monitor killed a worker
    suspects: tuple[str, ...] = ()  # keys of the jobs that were killed then, or ran


def experiment(
    jobs: Sequence[Job],
    perform: Perform,
    resources: Any,  # of one job: {"CPU": 1, ...} or a PlacementGroupFactory
    concurrent: int,
    retries: int,
    exchange: Exchange,
    tuned: Callable[[], dict[str, Any]] | None = None,
) -> Ended:
    """Perform the jobs, `concurrent` at a time (0: as many as fit), each anew up to `retries` times when its process dies.

    With `tuned` a search takes the place of the jobs: what it returns, search_alg, scheduler and num_samples, is for
    tune.TuneConfig; it suggests {"job": job}, and its scheduler's `stopped` says which jobs it has ended, and with what words.
    Tune's own records are of no use to us and lie in a temporary folder of this machine: workers write nothing there.
    """
    os.environ["TUNE_DISABLE_SIGINT_HANDLER"] = (
        "1"  # else it takes the first Ctrl-C, which is ours (a3m.cluster.ending)
    )
    from ray import tune
    from ray.tune.execution import class_cache

    # Tune hands the driver's AWS keys to workers in a runtime environment, which Ray writes into a log that all can read.
    class_cache.ENV_VARS_TO_PROPAGATE -= {name for name in class_cache.ENV_VARS_TO_PROPAGATE if name.startswith("AWS_")}
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)  # pages of traceback, of which we tell one line
    search = tuned() if tuned is not None else {}
    stopped: dict[str, dict[str, Any]] = search["scheduler"].stopped if search else {}
    events: list[Event] = []
    running: dict[str, str] = {}  # key -> id of the actor

    # Tune pickles both for a restore, which is never made: what they hold cannot be pickled and is left out.
    class Listener(tune.Callback):
        def __getstate__(self) -> dict[str, Any]:
            return {}

        def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
            actor = trial.temporary_state.ray_actor
            running[trial.config["job"]["key"]] = actor._actor_id.hex() if actor is not None else ""

        def on_trial_result(
            self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
        ) -> None:
            reported = {name: result[name] for name in result["a3m_reported"]}
            events.append((trial.config["job"]["key"], reported))

        def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
            key = trial.config["job"]["key"]
            running.pop(key, None)
            if key in stopped:
                events.append((key, {"outcome": "stopped", **stopped[key]}))

        def on_trial_recover(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
            key = trial.config["job"]["key"]
            running.pop(key, None)
            events.append((key, {"retried": reason(_error(trial))}))

        def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
            key = trial.config["job"]["key"]
            running.pop(key, None)
            events.append((key, {"outcome": "lost", "reason": reason(_error(trial))}))

    class Stopper(tune.Stopper):
        def __init__(self, exchange: Exchange):
            self.exchange, self.last = exchange, 0.0

        def __getstate__(self) -> dict[str, Any]:
            return {}

        def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
            return False

        def stop_all(self) -> bool:  # Tune asks after each of its steps, ten times a second and more
            if not events and time.monotonic() - self.last < EXCHANGE_SECONDS:
                return False
            self.last = time.monotonic()
            return self.exchange(_taken(events))

    def worker(config: dict[str, Any]) -> None:
        def report(values: dict[str, Any]) -> None:
            tune.report({**values, "a3m_reported": list(values)})

        report(perform(config["job"], report))

    folder = tempfile.mkdtemp(prefix="a3m-tune-")
    try:
        tune.Tuner(
            tune.with_resources(worker, resources),
            param_space={} if search else {"job": tune.grid_search(list(jobs))},
            tune_config=tune.TuneConfig(
                **search,
                reuse_actors=True,  # importing torch anew takes longer than a short trial
                max_concurrent_trials=concurrent or None,
                trial_name_creator=lambda trial: trial.config["job"]["key"],
                trial_dirname_creator=lambda trial: trial.config["job"]["key"],
            ),
            run_config=tune.RunConfig(
                name="trials",
                storage_path=folder,
                verbose=0,
                stop=Stopper(exchange),
                failure_config=tune.FailureConfig(max_failures=retries),
                callbacks=[Listener()],
                log_to_file=False,
            ),
        ).fit()
        return Ended()
    except Exception as error:
        # A kill by Ray's memory monitor ends the whole experiment whatever max_failures says.
        return _ended(error, running)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        exchange(_taken(events))


def _error(trial: Any) -> BaseException | None:
    """What a trial's process died of. Tune's own get_pickled_error looks in a copy that is made some seconds later."""
    from ray import cloudpickle

    try:
        return cloudpickle.loads(Path(trial.pickled_error_file).read_bytes())
    except Exception:  # whatever an error of some library raises when it is made anew
        return None


def _taken(events: list[Event]) -> list[Event]:
    taken = list(events)
    events.clear()
    return taken


def _ended(error: Exception, running: dict[str, str]) -> Ended:
    from ray.exceptions import OutOfMemoryError

    text = str(error)
    memory = isinstance(error.__cause__, OutOfMemoryError) or "running low on memory" in text
    killed = {
        actor
        for line in text.splitlines()
        if "Selected to kill" in line
        for actor in re.findall(r"Actor\((\w+)\)", line)
    }
    named = tuple(key for key, actor in running.items() if actor in killed)
    if memory:
        return Ended(_memory(text), True, named or tuple(running))
    return Ended(_last_line(text) or type(error).__name__, False, tuple(running))


# --- why a job was lost -------------------------------------------------------------------------------------------------


def reason(error: BaseException | None) -> str:
    """What a job's process died of, in words: one line, with the remedy where there is one."""
    from ray.exceptions import OutOfMemoryError, RayActorError, RayTaskError

    if error is None:
        return "its process ended and left no word why"
    text = str(error)
    if isinstance(error, OutOfMemoryError) or "running low on memory" in text:
        return _memory(text)
    if isinstance(error, RayActorError):
        if "node has died" in text or "node was terminated" in text:
            address = re.search(r"ip: ([\d.]+)|IP: ([\d.]+)", text)
            return f"its machine{f' {next(filter(None, address.groups()))}' if address else ''} died or was cut off the network"
        return "its process was killed (signal 9), often by the system's lack of memory, or crashed"
    cause = getattr(error, "cause", None) if isinstance(error, RayTaskError) else error
    cause = cause if isinstance(cause, BaseException) else error
    said = (str(cause) if cause is not error else "") or _last_line(text)
    if isinstance(cause, MemoryError) or "MemoryError" in text or "out of memory" in text.lower():
        return f"out of memory in the trial ({said.splitlines()[0] if said else 'MemoryError'}): {LESS_MEMORY}"
    return said.strip() or type(cause).__name__


def _memory(text: str) -> str:
    used = re.findall(r"Selected to kill.*actual memory used=([\d.]+)\s*GB", text)
    node = re.search(r"\(IP: ([^,)]+).*?was ([\d.]+)\s*GB(?: used)? / ([\d.]+)\s*GB", text)
    at = f" at {max(map(float, used))} GB" if used else ""
    where = f" ({node[1]}: {node[2]} of {node[3]} GB used)" if node else ""
    return f"out of memory: Ray's memory monitor ended it{at}{where}: {LESS_MEMORY}"


def _last_line(text: str) -> str:
    return text.strip().splitlines()[-1].strip() if text.strip() else ""
