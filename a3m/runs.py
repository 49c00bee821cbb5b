"""MLflow: finding, starting, continuing and finishing the run that records a trial.

One trial is one run, tagged with the trial's key; trials of a data set lie in one experiment; a study is a parent run there.
This is the only module that names MLflow. It uses clients with an explicit URI: a global call without one would create a
second store in the working folder.
"""

import contextlib
import importlib.metadata
import os
import socket
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from a3m.errors import StoreError
from a3m.identity import Trial

os.environ.setdefault(
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES", "3"
)  # the default of 7 takes minutes to say that a server is down
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "WARNING")  # a fresh store logs a page about its migration

FINISHED, FAILED, RUNNING, KILLED = "FINISHED", "FAILED", "RUNNING", "KILLED"
VERSIONS = ("torch", "torchvision", "timm", "numpy", "scipy", "scikit-learn", "pytorch-metric-learning")
PARENT = "mlflow.parentRunId"
PAGE = 1000


@dataclass(frozen=True)
class Found:
    """A trial's run as the store has it. Times are seconds since 1970."""

    key: str
    run_id: str
    status: str
    started: float
    ended: float | None
    metrics: dict[str, float]
    tags: dict[str, str]

    @property
    def failed(self) -> str | None:
        """Why the trial failed for a reason that would come again, or None."""
        return self.tags.get("failure") if self.status == FAILED else None


class Store:
    """An MLflow tracking store. `open_store` makes one; workers construct it from the URI of a store that exists."""

    def __init__(self, uri: str):
        from mlflow.tracking import MlflowClient

        self.uri = uri
        self.client = MlflowClient(uri)

    def experiment(self, dataset: str, root: Path, *, create: bool = True) -> str:
        """The id of a data set's experiment; where there is none it is created, or with create=False the id is empty.

        A local store keeps its artifacts in `root`/mlartifacts.
        """
        with _store_errors(self.uri):
            found = self.client.get_experiment_by_name(dataset)
            place = (root / "mlartifacts").as_uri() if self.uri.startswith("sqlite") else None
            if found is None and not create:
                return ""
            if found is None:
                return self.client.create_experiment(dataset, artifact_location=place)
            if found.lifecycle_stage == "deleted":
                raise StoreError(
                    f"{self.uri}: the experiment {dataset} was deleted: `mlflow experiments restore` or set store.uri"
                )
            if place is not None and found.artifact_location != place:
                raise StoreError(
                    f"{self.uri}: the artifacts of {dataset} are recorded in {found.artifact_location}, and this project lies "
                    f"in {root}: move it back, or leave a link there to {root / 'mlartifacts'}, or begin a store with store.uri"
                )
            return found.experiment_id

    def find(self, experiment: str, tag: str = "key", value: str = "%") -> dict[str, Found]:
        """The run that counts for every key (or other tag) of an experiment: the first finished one, else the newest.

        `value` asks for one key alone.
        """
        best: dict[str, Found] = {}
        if not experiment:
            return best
        for run in self._search([experiment], f"tags.`{tag}` LIKE '{value}'"):
            found = _found(run, tag)
            other = best.get(found.key)
            if other is None or _rank(found) < _rank(other):
                best[found.key] = found
        return best

    def _search(self, experiments: list[str], condition: str) -> Iterator[Any]:
        token = None
        while True:
            with _store_errors(self.uri):
                page = self.client.search_runs(experiments, condition, max_results=PAGE, page_token=token)
            yield from page
            token = page.token
            if not token:
                return

    def parent(self, experiment: str, study: str, digest: str, note: str, *, reopen: bool) -> tuple[str, bool]:
        """The run of a study, found by its name and the digest of its space, else created -> (run id, is it open).

        A study that has nothing to train is not reopened, so that its run keeps the time that it took.
        """
        with _store_errors(self.uri):
            condition = f"tags.study = '{study}' AND tags.space = '{digest}'"
            for run in self._search([experiment], condition):
                if not reopen and run.info.status == FINISHED:
                    return run.info.run_id, False
                self.client.update_run(run.info.run_id, status=RUNNING)
                self.client.set_tag(run.info.run_id, "mlflow.note.content", note)
                return run.info.run_id, True
            tags = {
                "study": study,
                "space": digest,
                "mlflow.note.content": note,
                "mlflow.source.name": f"sweeps/{study}.py",
            }
            return self.client.create_run(experiment, run_name=study, tags=tags).info.run_id, True

    def end(self, run_id: str, status: str) -> None:
        """Close a run with FINISHED, FAILED or KILLED."""
        with _store_errors(self.uri):
            self.client.set_terminated(run_id, status)

    def join(self, found: Iterable[Found], study: str) -> None:
        """Tag runs as belonging to a study, so that a trial that several studies share is found by each."""
        for run in found:
            if run.tags.get(f"study.{study}") != "yes":
                with _store_errors(self.uri):
                    self.client.set_tag(run.run_id, f"study.{study}", "yes")

    def fetch(self, run_id: str, name: str, folder: Path) -> Path | None:
        """Copy an artifact of a run into `folder`; None where the run has none of that name."""
        with _store_errors(self.uri):
            if name not in {artifact.path for artifact in self.client.list_artifacts(run_id)}:
                return None
            return Path(self.client.download_artifacts(run_id, name, str(folder)))

    def upload(self, run_id: str, file: Path, name: str) -> None:
        """Copy a file to a run's artifacts into the folder `name`."""
        with _store_errors(self.uri):
            self.client.log_artifact(run_id, str(file), name)


def full_uri(uri: str, root: Path) -> str:
    """The store's URI; empty is sqlite in the project, and a relative sqlite file lies there too: workers run elsewhere."""
    if uri.startswith("sqlite:///"):
        return f"sqlite:///{root / uri.removeprefix('sqlite:///')}"
    return uri or f"sqlite:///{root / 'mlflow.db'}"


def open_store(uri: str, root: Path) -> Store:
    """Open a store, creating a fresh sqlite file here and now: processes that did so together would break its migration.

    Raises StoreError when it cannot be reached or written.
    """
    uri = full_uri(uri, root)
    if uri.startswith("sqlite:///"):
        path = Path(uri.removeprefix("sqlite:///"))
        if not path.parent.is_dir() or not os.access(path if path.exists() else path.parent, os.W_OK):
            raise StoreError(f"store.uri={uri}: {path} cannot be written: mend its permissions or set store.uri")
        if path.exists() and path.stat().st_size and path.open("rb").read(15) != b"SQLite format 3":
            raise StoreError(f"store.uri={uri}: {path} is not an sqlite file: move it away or set store.uri")
    elif urlsplit(uri).scheme not in ("http", "https", "postgresql", "postgresql+psycopg2", "mysql+pymysql"):
        raise StoreError(f"store.uri={uri}: expected sqlite:///<file>, http(s)://... or postgresql+psycopg2://...")
    with _store_errors(uri):
        store = Store(uri)
        store.client.search_experiments(max_results=1)
    return store


@contextlib.contextmanager
def _store_errors(uri: str) -> Iterator[None]:
    """Name the store in whatever MLflow raises."""
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    try:
        yield
    except (MlflowException, SQLAlchemyError, ImportError, OSError) as error:
        where = (
            urlsplit(uri)._replace(netloc=urlsplit(uri).netloc.rpartition("@")[2]).geturl()
        )  # no password in a message
        first = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise StoreError(f"MLflow store {where}: {first}: is it there, and writable? (store.uri)") from error


def _found(run: Any, tag: str) -> Found:
    info, data = run.info, run.data
    return Found(
        data.tags[tag], info.run_id, info.status, info.start_time / 1000, info.end_time / 1000 if info.end_time else None,
        dict(data.metrics), dict(data.tags),
    )  # fmt: skip


def _rank(found: Found) -> tuple[bool, float]:
    finished = found.status == FINISHED
    return not finished, (found.ended or 0.0) if finished else -found.started


# --- one trial's run ----------------------------------------------------------------------------------------------------


class Recorder:
    """Writes one trial's run from the process that trains it: each epoch once, also when epochs are trained again."""

    def __init__(self, store: Store, run_id: str, started_ms: int):
        self.store, self.run_id, self.started_ms = store, run_id, started_ms

    @classmethod
    def begin(
        cls, store: Store, experiment: str, trial: Trial, name: str, *,
        existing: str | None, parent: str | None, study: str | None, source: str, commit: str,
    ) -> "Recorder":  # fmt: skip
        """Start the trial's run, or continue the `existing` one."""
        from mlflow.entities import Param, RunTag

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
        with _store_errors(store.uri):
            if existing is None:
                if parent is not None:
                    tags[PARENT] = parent
                tags["mlflow.source.name"] = f"sweeps/{study}.py" if study else "a3m train"
                run = store.client.create_run(experiment, run_name=name, tags=tags)
            else:
                store.client.update_run(existing, status=RUNNING)
                store.client.log_batch(existing, tags=[RunTag(key, value) for key, value in tags.items()])
                with contextlib.suppress(Exception):
                    store.client.delete_tag(existing, "failure")
                run = store.client.get_run(existing)
            # Also when it continues: it may have been killed before they were written, and an equal value may come twice.
            params = [Param(path, str(value)[:6000]) for path, value in flat(trial.settings).items()]
            for start in range(0, len(params), 100):
                store.client.log_batch(run.info.run_id, params=params[start : start + 100])
        return cls(store, run.info.run_id, run.info.start_time)

    def report(self, epoch: int, metrics: Mapping[str, float]) -> None:
        """Log an epoch's metrics in one batch. The timestamp is the trial's first start plus the step in milliseconds, so that
        an epoch that is trained and reported again stays one point.
        """
        from mlflow.entities import Metric

        with _store_errors(self.store.uri):
            self.store.client.log_batch(
                self.run_id,
                metrics=[Metric(name, value, self.started_ms + epoch, epoch) for name, value in metrics.items()],
            )

    def finish(self, epoch: int, metrics: Mapping[str, float], outputs: Path, tags: Mapping[str, float]) -> None:
        """Upload what the trial left, log its test metrics and tags, close the run as finished: in this order."""
        with _store_errors(self.store.uri):
            self.store.client.log_artifacts(self.run_id, str(outputs))
            for name, value in tags.items():
                self.store.client.set_tag(self.run_id, name, f"{value:.4g}")
        self.report(epoch, metrics)
        self.store.end(self.run_id, FINISHED)

    def fail(self, reason: str) -> None:
        """Close the run as failed for a reason that would come again."""
        with _store_errors(self.store.uri):
            self.store.client.set_tag(self.run_id, "failure", reason[:5000])
        self.store.end(self.run_id, FAILED)


def flat(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings by their paths: {"loss": {"alpha": 0.5}} -> {"loss.alpha": 0.5}."""
    result: dict[str, Any] = {}
    for name, value in settings.items():
        if isinstance(value, Mapping):
            result |= flat(value, f"{prefix}{name}.")
        else:
            result[prefix + name] = value
    return result
