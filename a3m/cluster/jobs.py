"""Ray Tune: run the jobs that are missing.

Ray Tune schedules; it keeps nothing that matters. Checkpoints and results lie in the state folder and in MLflow under the
trial's key, so what is missing is decided by looking there, never by restoring a Tune experiment.
"""

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from a3m.cluster.ending import LOST, CtrlC, Watch, apart
from a3m.cluster.preflight import Nodes
from a3m.cluster.session import connected
from a3m.cluster.tuning import EXCHANGE_SECONDS, Ended, Event, Exchange, Job, Perform, experiment, reason
from a3m.errors import InterruptedByUser, StoreError, UserError
from a3m.state import Lease

if TYPE_CHECKING:
    from a3m.settings import Cluster, Train

CRASHES = 3  # of Tune itself, without an outcome of any job between them, before we give up
WAVE = 500

Tuned = Callable[[], dict[str, Any]]  # further arguments of tune.TuneConfig, made where Tune runs
Tune = Callable[
    ..., Ended
]  # (jobs, at most so many at a time, tuned, like): one experiment; `like` stands for the jobs of `tuned`


def run(
    jobs: list[Job], perform: Perform, settings: "Cluster", train: "Train", event: Callable[[str, dict[str, Any]], None]
) -> None:
    """Perform every job (a plain dict with a "key") on the cluster; `event` hears of each report and each outcome.

    A job whose process dies is started again up to settings.retries times, then its outcome is `lost`, with what it died of.
    Raises InterruptedByUser after Ctrl-C, UserError when the cluster was lost.
    """
    waiting = {job["key"]: job for job in jobs}

    def heard(key: str, result: dict[str, Any]) -> None:
        if "outcome" in result:
            waiting.pop(key, None)
        event(key, result)

    def decide(tune: Tune, stopped: Callable[[], bool]) -> None:
        _rounds(waiting, settings.max_concurrent, heard, tune, stopped)

    if scheduled(settings, train, perform, heard, decide) and waiting:
        raise InterruptedByUser("interrupted: nothing is lost; the same command goes on where this one stopped")


def scheduled(
    settings: "Cluster",
    train: "Train",
    perform: Perform,
    event: Callable[[str, dict[str, Any]], None],
    decide: Callable[[Tune, Callable[[], bool]], None],
) -> bool:
    """Start or join a Ray and let `decide(tune, stopped)` run one experiment after another -> whether Ctrl-C was pressed.

    Raises UserError when the cluster was lost.
    """
    failed: list[Exception] = []
    leases: dict[str, Lease] = {}

    def give_back(keys: list[str]) -> None:
        """End the leases of processes that are gone: on another host they would be waited for until they expire.

        A process that is cut off and goes on has lost its trial then: it is told so before it writes anything more.
        """
        for key in keys:
            held = leases.pop(key, None)
            with contextlib.suppress(StoreError, OSError):
                if held is not None:
                    held.release()

    def exchange(events: list[Event]) -> bool:
        try:
            for key, result in events:
                if "lease" in result:
                    leases[key] = Lease(Path(result["lease"]))
                    leases[key].token = result["token"]
                    continue
                if "retried" in result or result.get("outcome") == "lost":
                    give_back([key])
                elif "outcome" in result and result["outcome"] != "stopped":
                    leases.pop(key, None)  # who was stopped may die with the lease: it ends with the experiment
                event(key, result)
        except Exception as error:  # Tune would take it for its own
            failed.append(error)
        return ctrl_c.pressed or bool(failed)

    def work(watch: Watch) -> None:
        with connected(settings, train) as resources:
            watch.begin()

            def tune(jobs: list[Job], concurrent: int, tuned: Tuned | None = None, like: Job | None = None) -> Ended:
                nodes.check(like or jobs[0])
                ended = _experiment(
                    jobs, nodes.guarded(perform), nodes.resources(resources), concurrent, settings.retries,
                    nodes.exchange(exchange), tuned,
                )  # fmt: skip
                give_back(list(leases))
                if failed:
                    raise failed[0]
                return ended._replace(crash=ended.crash or nodes.why_stuck())

            nodes = Nodes(settings)
            try:
                decide(tune, lambda: ctrl_c.pressed)
            finally:
                nodes.close()

    with CtrlC() as ctrl_c:
        try:
            apart(work)
        except ConnectionError as error:  # of Ray's client
            raise UserError(LOST.format(str(error).strip().splitlines()[0])) from error
        finally:
            give_back(list(leases))
        return ctrl_c.pressed


def _rounds(
    waiting: dict[str, Job],
    concurrent: int,
    heard: Callable[[str, dict[str, Any]], None],
    tune: Tune,
    stopped: Callable[[], bool],
) -> None:
    """Experiments until no job is waiting.

    Ray's memory monitor ends an experiment, not only the job that needed too much, and kills several at once. Those it killed
    are suspects: the others go on without them, then each suspect runs alone. Who is killed when alone is lost.
    """
    suspects: set[str] = set()
    crashes = 0
    while waiting and not stopped():
        free = [key for key in waiting if key not in suspects]
        chosen = free[:WAVE] or list(waiting)[:1]
        known = len(suspects) - len(waiting)  # grows by each outcome and each suspect
        ended = tune([waiting[key] for key in chosen], concurrent if free else 1)
        if ended.memory and not stopped():
            if not free:
                heard(chosen[0], {"outcome": "lost", "reason": ended.crash})
            for key in set(ended.suspects) & set(waiting):
                suspects.add(key)
                heard(key, {"retried": f"{ended.crash}; it runs alone, after the others"})
        crashes = crashes + 1 if len(suspects) - len(waiting) == known else 0
        if crashes == CRASHES:
            raise UserError(f"Ray Tune stopped {crashes} times: {ended.crash or 'trials ended without an outcome'}")


def _experiment(
    jobs: list[Job],
    perform: Perform,
    resources: Any,
    concurrent: int,
    retries: int,
    exchange: Exchange,
    tuned: Tuned | None,
) -> Ended:
    """One experiment (a3m.cluster.tuning): in this process, or for a driver that is Ray's client (ray://) on the cluster's head.

    Tune would go there by itself, but its callbacks too, which then speak to nobody.
    """
    import ray
    from ray.exceptions import RayError

    if not ray.util.client.ray.is_connected():
        return experiment(jobs, perform, resources, concurrent, retries, exchange, tuned)
    on_head: Any = {"num_cpus": 0, "resources": {"node:__internal_head__": 0.001}}
    mailbox: Any = ray.remote(**on_head)(_Mailbox).remote()
    task = ray.remote(**on_head, max_retries=0)(_on_head).remote(
        jobs, perform, resources, concurrent, retries, mailbox, tuned
    )
    done: list[Any] = []
    while not done:
        done, _ = ray.wait([task], timeout=EXCHANGE_SECONDS)
        if exchange(ray.get(mailbox.take.remote())):
            mailbox.stop.remote()
    exchange(ray.get(mailbox.take.remote()))
    try:
        return ray.get(task)
    except RayError as error:
        return Ended(reason(error))


def _on_head(
    jobs: list[Job],
    perform: Perform,
    resources: Any,
    concurrent: int,
    retries: int,
    mailbox: Any,
    tuned: Tuned | None,
) -> Ended:
    import ray

    def exchange(events: list[Event]) -> bool:
        return ray.get(mailbox.put.remote(events))

    return experiment(jobs, perform, resources, concurrent, retries, exchange, tuned)


class _Mailbox:
    """An actor between the experiment on the head and the driver elsewhere."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.stopped = False

    def put(self, events: list[Event]) -> bool:
        self.events += events
        return self.stopped

    def take(self) -> list[Event]:
        taken, self.events = self.events, []
        return taken

    def stop(self) -> None:
        self.stopped = True
