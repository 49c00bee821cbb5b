"""Every node is checked before the first trial, and each process of a node once more before its first: nodes join late.

A node that cannot train must not become a hole that job after job falls into. Its processes keep the job that they were given and
check again until the node is mended; when nothing else is running, a new experiment leaves such nodes out.
"""

import functools
import os
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from a3m import node
from a3m.cluster.tuning import Event, Exchange, Job, Perform
from a3m.errors import DataError, UserError
from a3m.record import runs

if TYPE_CHECKING:
    from a3m.settings import Cluster

NODE_SECONDS = 90.0  # after which a node that has not answered is named
NODE_ID = "ray.io/node-id"  # the label that Ray gives each node
FETCH_SECONDS = 3600.0
AGAIN_SECONDS = 5.0  # between two checks of a node that cannot train
STUCK_SECONDS = 15.0  # without anything running but on nodes that cannot train
SQLITE = (
    "a store in an sqlite file is for one machine: start `mlflow server` and set store.uri=http://<host>:5000 "
    "(docs/cluster.md)"
)


class Nodes:
    """The nodes of a cluster during one call of a sweep. With cluster.address=local there is nothing to say but of this machine."""

    def __init__(self, settings: "Cluster"):
        self.local = settings.address == "local"
        self.told: node.Told | None = None
        self._state = Path()
        self._running: dict[str, str] = {}  # key -> the node's id, or '' where it can train
        self._unfit: dict[str, str] = {}  # id -> what is wrong there
        self._since = 0.0
        self._stuck = False

    def check(self, job: Job) -> None:
        """Check every node at once, the first time. Raises UserError with all that is wrong, a line each."""
        if self.told is not None:
            return
        self._state = Path(job["trial"]["state"])
        if self.local:
            self.told = {}
            problems = node.writable(self._state)
        else:
            began = time.monotonic()
            self.told = node.leave_note(self._state)
            problems = _examined(job, self.told)
        if problems:
            raise UserError("nothing was trained:\n" + "\n".join(f"  {one}" for one in problems))
        if not self.local:
            print(f"  {_size()}; checked in {time.monotonic() - began:.1f} s", flush=True)

    def close(self) -> None:
        """Remove what was left in the state folder."""
        if self.told:
            node.forget(self._state, self.told)

    def guarded(self, perform: Perform) -> Perform:
        """`perform` for workers: only where the node can train, on the devices that it was given."""
        return functools.partial(_guarded, perform, self.told)

    def resources(self, resources: dict[str, float]) -> Any:
        """The resources of one trial, on nodes that can train. Raises UserError when none of these is left that has them."""
        self._running.clear()  # of an experiment that crashed
        self._stuck = False
        if not self._unfit:
            return resources
        from ray.tune import PlacementGroupFactory

        left = [one for one in _alive() if one["NodeID"] not in self._unfit]
        if not any(all(one["Resources"].get(name, 0) >= value for name, value in resources.items()) for one in left):
            listed = "\n".join(f"  {text}" for text in self._unfit.values())
            raise UserError(f"no node is left that can train:\n{listed}")
        selector = {NODE_ID: f"!in({','.join(self._unfit)})"}
        bundle = {name: value for name, value in resources.items() if value}
        return PlacementGroupFactory([bundle], bundle_label_selector=[selector])

    def exchange(self, exchange: Exchange) -> Exchange:
        """`exchange` that keeps what processes say of their nodes, and stops when only such are waiting that cannot train."""

        def noted(events: list[Event]) -> bool:
            passed = []
            for key, result in events:
                news = self._note(key, result)
                if "node" not in result:
                    passed.append((key, result))
                elif news:
                    passed.append((key, {"away": f"waits, since its node cannot train: {news}"}))
            stopped = exchange(passed)
            self._stuck = bool(self._running) and all(self._running.values())
            if not self._stuck:
                self._since = time.monotonic()
            return stopped or (self._stuck and time.monotonic() - self._since > STUCK_SECONDS)

        self._since = time.monotonic()
        return noted

    def why_stuck(self) -> str:
        """Why the experiment that has just ended was stopped here; '' when it was not."""
        stuck = self._stuck and time.monotonic() - self._since > STUCK_SECONDS
        return "; ".join(self._unfit.values()) if stuck else ""

    def _note(self, key: str, result: dict[str, Any]) -> str:
        """Keep what a process said of its node -> what is wrong there, when that was not known."""
        if "outcome" in result or "retried" in result:
            self._running.pop(key, None)
        elif "node" in result:
            unfit = result["unfit"]
            self._running[key] = result["node"] if unfit else ""
            known = self._unfit.pop(result["node"], "")
            if unfit:
                self._unfit[result["node"]] = unfit
            return "" if unfit == known else unfit
        return ""


# --- the driver ---------------------------------------------------------------------------------------------------------


def _alive() -> list[dict[str, Any]]:
    import ray

    return [one for one in ray.nodes() if one["Alive"]]


def _name(one: dict[str, Any]) -> str:
    address, host = one["NodeManagerAddress"], one["NodeManagerHostname"]
    return f"node {address}" + (f" ({host})" if host != address else "")


def _size() -> str:
    def total(name: str) -> float:
        return sum(one["Resources"].get(name, 0) for one in _alive())

    count = len(_alive())
    return f"{count} node{'s' * (count != 1)}, {total('CPU'):g} CPUs, {total('GPU'):g} GPUs"


def _examined(job: Job, told: node.Told) -> list[str]:
    """What is wrong with the nodes, a line each; the packs that they lack are fetched when nothing is."""
    nodes = {one["NodeID"]: one for one in _alive()}
    told["only"] = next(iter(nodes)) if len(nodes) == 1 else ""
    if job["store"].startswith("sqlite") and len(nodes) > 1:
        return [f"{len(nodes)} nodes: {SQLITE}"]
    told["machine"] = _machine()
    if job["parent"] is not None:
        node.present(runs.Store(job["store"]), job["parent"])
    asked = time.time()
    answers = _on_each(nodes, _examine, NODE_SECONDS, job, told)
    problems = []
    for identifier, answer in answers.items():
        name = _name(nodes[identifier])
        if isinstance(answer, str):
            problems.append(f"{name}: {answer}")
            continue
        found = list(answer["problems"])
        ahead = max(answer["time"] - time.time(), 0) + min(answer["time"] - asked, 0)
        if abs(ahead) > node.CLOCK_SECONDS and not any("its clock is" in one for one in found):
            found.append(node.clock(ahead))
        if not found and not node.heard_of(Path(job["trial"]["state"]), told, identifier):
            found.append("what it writes into store.state is not seen by the driver: it must be one shared folder")
        problems += [f"{name}: {one}" for one in found]
    lacking = {key: nodes[key] for key, answer in answers.items() if not isinstance(answer, str) and answer["lacks"]}
    if lacking and not problems:
        wanted = job["node"]["pull"]
        print(
            f"  the pack of {wanted['name']}, {wanted['size'] / 1e6:,.0f} MB, is fetched from the DVC remote by "
            + ", ".join(map(_name, lacking.values())),
            flush=True,
        )
        for identifier, answer in _on_each(lacking, _fetch, FETCH_SECONDS, job).items():
            if answer:
                problems.append(f"{_name(nodes[identifier])}: {answer}")
    return problems


def _on_each(nodes: dict[str, Any], call: Callable[..., Any], seconds: float, *arguments: Any) -> dict[str, Any]:
    """Call a function on every node at once -> what each returned, or as a string why it did not."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    remote: Any = ray.remote(num_cpus=0, max_retries=0)(call)
    asked = {
        remote.options(scheduling_strategy=NodeAffinitySchedulingStrategy(one, soft=False)).remote(one, *arguments): one
        for one in nodes
    }
    done, late = ray.wait(list(asked), num_returns=len(asked), timeout=seconds)
    answers: dict[str, Any] = {}
    for reference in done:
        try:
            answers[asked[reference]] = ray.get(reference)
        except Exception as error:  # whatever the function raised there, or Ray when it could not start it
            lines = [line for line in str(error).strip().splitlines() if line.strip()]
            answers[asked[reference]] = f"{lines[-1].strip() if lines else type(error).__name__}"
    for reference in late:
        answers[asked[reference]] = f"did not answer within {seconds:.0f} s: is it overloaded, or a mount of it hung?"
        ray.cancel(reference, force=True)
    return answers


# --- on a node ----------------------------------------------------------------------------------------------------------


def _machine() -> str:
    """The boot of this machine: equal for processes of one kernel."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


def _examine(identifier: str, job: Job, told: node.Told) -> dict[str, Any]:
    now = time.time()
    try:
        problems = [*_alone(identifier, job, told), *node.check(job, told, identifier)]
    except node.Waiting as error:
        problems = [str(error)]
    return {"problems": problems, "time": now, "lacks": not problems and node.lacks_pack(job)}


def _fetch(identifier: str, job: Job) -> str:
    try:
        node.with_pack(job, lambda text: None)
    except DataError as error:
        return str(error)
    return ""


def _alone(identifier: str, job: Job, told: node.Told) -> list[str]:
    """A store in an sqlite file is used by one machine, which is the driver's."""
    if job["store"].startswith("sqlite") and (identifier != told["only"] or _machine() != told["machine"]):
        return [SQLITE]
    return []


_fit = False  # whether the node of this process was found able to train: once a process


def _guarded(
    perform: Perform, told: node.Told | None, job: Job, report: Callable[[dict[str, Any]], None]
) -> dict[str, Any]:
    import ray

    context = ray.get_runtime_context()
    if not context.get_accelerator_ids().get("GPU"):
        # Ray leaves these as they are for a trial without a GPU, which would then find those of others.
        os.environ["CUDA_VISIBLE_DEVICES"] = os.environ["HIP_VISIBLE_DEVICES"] = ""
    if not told:
        return perform(job, report)
    identifier = context.get_node_id()
    _hold(identifier, job, told, report)
    report({"node": identifier, "unfit": ""})
    try:
        job = node.with_pack(job, lambda text: report({"away": text}))
    except DataError as error:
        return {"outcome": "lost", "reason": str(error)}
    return perform(job, report)


def _hold(identifier: str, job: Job, told: node.Told, report: Callable[[dict[str, Any]], None]) -> None:
    """Return when this node can train: at once when this process knows so already."""
    import ray

    global _fit
    began, said = time.monotonic(), ""
    while not _fit:
        try:
            problems = [*_alone(identifier, job, told), *node.check(job, told, identifier)]
        except node.Waiting as error:
            # The trial itself would wait for MLflow as long; only then is it this node's own trouble.
            problems = [str(error)] if time.monotonic() - began > job["patience"] else []
            if not problems:
                time.sleep(AGAIN_SECONDS)
                continue
        _fit = not problems
        if problems and problems[0] != said:
            said = problems[0]
            named = f"node {ray.util.get_node_ip_address()} ({socket.gethostname()})"
            report({"node": identifier, "unfit": "; ".join(f"{named}: {one}" for one in problems)})
        if problems:
            time.sleep(AGAIN_SECONDS)
