"""The run of one trial, written from the process that trains it: begun or continued, an epoch at a time, ended.

Everything goes into the trial's spool first and from there to MLflow, by steps that bear being done twice.
"""

import importlib.metadata
import json
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from a3m.errors import StoreError
from a3m.identity import Trial
from a3m.record import spool
from a3m.record.address import shown
from a3m.record.runs import FAILED, FINISHED, KILLED, MODEL, NOTE, PARENT, RUNNING, VERSIONS, Store

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

SPEED = "train/images_per_second"  # as the loop of training reports it
SHOWN_AS_MODEL = "mlflow.log-model.history"


def spool_of(state: Path, key: str) -> Path:
    """Where what a trial has to say is kept until it is delivered."""
    return state / "spool" / f"{key}.jsonl"


def undelivered(state: Path, key: str) -> spool.Record | None:
    """The record with which a trial ended that may not be delivered yet; None where it has to be trained to say so."""
    last = spool.ended(spool.records(spool_of(state, key)))
    if last is None or last["status"] == KILLED:
        return None
    return last if last["status"] == FAILED or _whole(state / "outputs" / key) else None


def _whole(outputs: Path) -> bool:
    """Whether a folder holds all that a finished trial leaves: the digests are written last."""
    return (outputs / "digests.json").exists()


class Recorder:
    """Writes one trial's run from the process that trains it: each epoch once, also when epochs are trained again.

    Everything goes into the trial's spool first and is delivered from there, by find and create, so that a kill at any moment
    leaves what the next attempt, or the driver, delivers to its end. Nothing here waits for the store but `delivered`.
    """

    def __init__(self, uri: str, experiment: str, state: Path, key: str, guard: Callable[[], None] | None = None):
        self.store, self.experiment, self.key = (
            Store(uri),
            experiment,
            key,
        )  # a store without patience: the spool has it
        self.outputs = state / "outputs" / key
        self._run: tuple[str, int] | None = None  # the run's id, and when it started in ms
        self._elsewhere = False
        self.spool = spool.Spool(spool_of(state, key), self._deliver, address=f"{uri} {experiment}", guard=guard)
        self._epochs = {record["epoch"] for record in self.spool.records if record["kind"] == "epoch"}

    @property
    def run_id(self) -> str | None:
        """The run's id; None until it was found or created."""
        return self._run[0] if self._run is not None else None

    @property
    def epochs(self) -> int | None:
        """The last epoch that was reported here or before; None when no attempt has begun here."""
        before = [record["done"] for record in self.spool.records if record["kind"] == "begin"]
        return max([*self._epochs, *before]) if before else None

    @property
    def speed(self) -> float | None:
        """Images a second in the last epoch that was trained here or before; None where none was."""
        return next((record["speed"] for record in reversed(self.spool.records) if "speed" in record), None)

    def begin(
        self,
        trial: Trial,
        name: str,
        done: int,
        *,
        parent: str | None,
        study: str | None,
        source: str,
        commit: str,
        inputs: Sequence[Mapping[str, str]] = (),
        note: str = "",
    ) -> None:
        """Start the trial's run, or continue the one that it has, after `done` epochs.

        `inputs`: its data, of a3m.record.inputs. `note`: its description until it has finished.
        """
        tags = {
            "key": trial.key,
            "key.any_code": trial.key_of_any_code,
            "data": trial.data,
            "code": trial.code,
            "dataset": str(trial.settings["dataset"]),
            "source": source,
            "method": str(trial.settings["method"]["name"]),
            "seed": str(trial.settings["seed"]),
            "backbone": str(trial.settings["backbone"]["name"]),
            "host": socket.gethostname(),
            "mlflow.source.git.commit": commit,
            **{f"version.{name}": importlib.metadata.version(name) for name in VERSIONS},
        }
        if study is not None:
            tags[f"study.{study}"] = "yes"
        first = {"mlflow.source.name": f"sweeps/{study}.py" if study else "a3m train", NOTE: note}
        if parent is not None:
            first[PARENT] = parent
        params = {path: str(value)[:6000] for path, value in flat(trial.settings).items()}
        self.spool.append(
            {
                "kind": "begin",
                "name": name,
                "time": _now(),
                "done": done,
                "tags": tags,
                "first_tags": first,
                "params": params,
                "inputs": [dict(one) for one in inputs],
            }
        )

    def report(self, epoch: int, metrics: Mapping[str, float]) -> None:
        """Record an epoch's metrics. One that is trained and reported again, after a kill, stays the same point.

        Its speed, which differs each time it is measured, becomes no point but a tag at the end.
        """
        if epoch in self._epochs:
            return
        record: spool.Record = {"kind": "epoch", "epoch": epoch, "metrics": _floats(metrics)}
        if SPEED in record["metrics"]:
            record["speed"] = record["metrics"].pop(SPEED)
        self.spool.append(record)
        self._epochs.add(epoch)

    def finish(self, epoch: int, metrics: Mapping[str, float], tags: Mapping[str, str]) -> None:
        """Record that the trial is complete: what it left, its test metrics, its speed and tags."""
        speed = {} if self.speed is None else {"images_per_second": f"{self.speed:.4g}"}
        self.end(FINISHED, speed | dict(tags), epoch, metrics)

    def fail(self, reason: str) -> None:
        """Record that the trial failed for a reason that would come again."""
        self.end(FAILED, {"failure": reason[:5000]})

    def end(
        self, status: str, tags: Mapping[str, str], epoch: int = 0, metrics: Mapping[str, float] | None = None
    ) -> None:
        """Record how the trial ended: FINISHED with its outputs, FAILED, or KILLED by somebody's decision."""
        self.spool.append(
            {
                "kind": "end",
                "status": status,
                "time": _now(),
                "epoch": epoch,
                "metrics": _floats(metrics or {}),
                "tags": dict(tags),
            }
        )

    def delivered(self, seconds: float) -> str:
        """Wait until the store has everything, at most so long -> why it has not, or '' when it has."""
        if self.spool.flush(seconds):
            return ""
        refused = self.spool.refused
        if refused is None:
            return f"MLflow at {shown(self.store.uri)} does not answer"
        return str(refused) if isinstance(refused, StoreError) else f"{type(refused).__name__}: {refused}"

    def close(self, *, forget: bool = False) -> None:
        """Stop delivering; with `forget` the spool is removed too."""
        if forget:
            self.spool.remove()
        else:
            self.spool.close()

    # --- in the delivering thread: every step bears being done twice ---

    def _deliver(self, record: spool.Record) -> None:
        if record["kind"] == "begin":
            self._run = None
        if self._run is None and not self._elsewhere:
            begins = [one for one in self.spool.records if one["kind"] == "begin"]
            self._open(record if record["kind"] == "begin" else begins[-1])
        if self._elsewhere:
            return
        if record["kind"] == "epoch":
            self._log(record)
        if record["kind"] == "end":
            self._end(record)

    def _open(self, begin: spool.Record) -> None:
        """Find the trial's run and set it running, or create it. A finished one has everything already."""
        from mlflow.entities import Param, RunTag

        found = self.store.find(self.experiment, value=self.key).get(self.key)
        if found is not None and found.status == FINISHED:
            self._run, self._elsewhere = (found.run_id, round(found.started * 1000)), True
            return

        def opened(client: "MlflowClient") -> tuple[str, int]:
            if found is None:
                tags = begin["tags"] | begin["first_tags"]
                run = client.create_run(self.experiment, start_time=begin["time"], run_name=begin["name"], tags=tags)
            else:
                client.update_run(found.run_id, status=RUNNING)
                tags = [RunTag(name, value) for name, value in begin["tags"].items()]
                client.log_batch(found.run_id, tags=tags)
                for name in ("failure", "stopped"):  # of how it ended before
                    if name in found.tags:
                        client.delete_tag(found.run_id, name)
                run = client.get_run(found.run_id)
            # Also when it continues: the attempt before may have been killed before they were written.
            missing = [Param(*item) for item in begin["params"].items() if item[0] not in run.data.params]
            for start in range(0, len(missing), 100):
                client.log_batch(run.info.run_id, params=missing[start : start + 100])
            return run.info.run_id, run.info.start_time

        run = self.store.ask(opened)
        self.store.inputs(run[0], begin.get("inputs", ()))  # a spool of before has none
        self._run = run

    def _log(self, record: spool.Record) -> None:
        """An epoch's metrics in one batch. The timestamp is the trial's first start plus the step in milliseconds: equal points
        are one point.
        """
        from mlflow.entities import Metric

        assert self._run is not None
        run_id, started = self._run
        epoch = record["epoch"]
        metrics = [Metric(name, value, started + epoch, epoch) for name, value in record["metrics"].items()]
        if metrics:
            self.store.ask(lambda client: client.log_batch(run_id, metrics=metrics))

    def _end(self, record: spool.Record) -> None:
        """Upload what the trial left, log its test metrics and tags, close the run: in this order."""
        assert self._run is not None
        run_id = self._run[0]
        if record["status"] == FINISHED:
            if record != self.spool.records[-1]:
                return  # another attempt has begun since, because it was gone; what lies there may be half of that one's
            if not _whole(self.outputs):
                raise StoreError(
                    f"{self.outputs}: what the trial left is not there any more; it has to be trained again"
                )
            self.store.ask(lambda client: client.log_artifacts(run_id, str(self.outputs)))
            if (self.outputs / MODEL / "MLmodel").is_file():
                self.store.tag(run_id, SHOWN_AS_MODEL, _shown_as_model(run_id, record["time"]))
        self._log(record)
        for name, value in record["tags"].items():
            self.store.tag(run_id, name, value)
        self.store.ask(lambda client: client.set_terminated(run_id, record["status"], record["time"]))


def _shown_as_model(run_id: str, milliseconds: int) -> str:
    """What tells MLflow's page that a folder of artifacts is a model: it then shows MLmodel's signature and how to load it."""
    made = datetime.fromtimestamp(milliseconds / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S.%f")
    entry = {"artifact_path": MODEL, "run_id": run_id, "utc_time_created": made, "flavors": {"python_function": {}}}
    return json.dumps([entry])


def _now() -> int:
    return round(time.time() * 1000)


def _floats(metrics: Mapping[str, float]) -> dict[str, float]:
    return {name: float(value) for name, value in metrics.items()}


def flat(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings by their paths: {"loss": {"alpha": 0.5}} -> {"loss.alpha": 0.5}."""
    result: dict[str, Any] = {}
    for name, value in settings.items():
        if isinstance(value, Mapping):
            result |= flat(value, f"{prefix}{name}.")
        else:
            result[prefix + name] = value
    return result
