"""MLflow: finding, starting, continuing and finishing the run that records a trial.

One trial is one run, tagged with the trial's key; trials of a data set lie in one experiment; a study is a parent run there.
This is the only module that names MLflow. It uses clients with an explicit URI: a global call without one would create a
second store in the working folder.
"""

import contextlib
import importlib.metadata
import json
import logging
import os
import re
import socket
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

from a3m import database, spool
from a3m.errors import SettingsError, StoreError
from a3m.identity import Trial
from a3m.patience import Answer, StoreAway, patiently

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

# A request that the client sends again by itself could create a run twice, and 7 of them take minutes to say that a server is
# down: we wait ourselves, and look for the run before every attempt to create it.
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "60")
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "WARNING")  # a fresh store logs a page about its migration

FINISHED, FAILED, RUNNING, KILLED = "FINISHED", "FAILED", "RUNNING", "KILLED"
VERSIONS = ("torch", "torchvision", "timm", "numpy", "scipy", "scikit-learn", "pytorch-metric-learning")
PARENT = "mlflow.parentRunId"
SPEED = "train/images_per_second"  # as the loop of training reports it
NOTE = "mlflow.note.content"  # the description that MLflow's page shows, in Markdown
KIND = "mlflow.experimentKind"
PAGE = 1000
MODEL = "model"  # the folder of a run's artifacts that MLflow loads (a3m.serve.package)
SHOWN_AS_MODEL = "mlflow.log-model.history"


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
    """An MLflow tracking store. `open_store` makes one; workers construct it from the URI of a store that exists.

    What it is asked is asked again for up to `patience` seconds while it is away; `tell` hears so once each time. A StoreError
    is raised at once for what waiting does not mend.
    """

    def __init__(self, uri: str, patience: float = 0.0, tell: Callable[[str], None] | None = None):
        self.uri, self.patience = uri, patience
        self.tell = tell if tell is not None else lambda text: print(text, file=sys.stderr, flush=True)

    @cached_property
    def client(self) -> "MlflowClient":
        """MLflow's own client. It opens a database, so it can fail like every other call."""
        from mlflow.tracking import MlflowClient

        # MLflow logs a page of traceback each time that a database does not answer, and for a new one tries for 100 s by itself.
        logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)
        if urlsplit(self.uri).scheme in ("postgresql+psycopg2", "mysql+pymysql"):
            _knock(self.uri)
        return MlflowClient(self.uri)

    def ask(self, call: "Callable[[MlflowClient], Answer]") -> Answer:
        """What `call` makes of the client. It is called again after a failure, so it must bear being done twice."""

        def once() -> Answer:
            with _store_errors(self.uri):
                return call(self.client)

        return patiently(
            once,
            self.patience,
            lambda seconds: self.tell(f"MLflow at {shown(self.uri)} does not answer: waiting up to {seconds:g} s"),
        )

    def experiment(self, dataset: str, root: Path, *, create: bool = True) -> str:
        """The id of a data set's experiment; where there is none it is created, or with create=False the id is empty.

        A local store keeps its artifacts in `root`/mlartifacts.
        """
        from mlflow.exceptions import MlflowException

        place = (root / "mlartifacts").as_uri() if self.uri.startswith("sqlite") else None

        def made(client: "MlflowClient") -> Any:
            found = client.get_experiment_by_name(dataset)
            if found is None and create:
                try:
                    return client.get_experiment(client.create_experiment(dataset, artifact_location=place))
                except MlflowException:
                    found = client.get_experiment_by_name(dataset)  # another driver has created it in between
                    if found is None:
                        raise
            return found

        found = self.ask(made)
        if found is None:
            return ""
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

    def find(self, experiment: str, tag: str = "key", value: str | None = None) -> dict[str, Found]:
        """The run that counts for every key (or other tag) of an experiment: the first finished one, else the newest.

        `value` asks for one key alone.
        """
        best: dict[str, Found] = {}
        for found in self._tagged(experiment, tag, value) if experiment else ():
            other = best.get(found.key)
            if other is None or _rank(found) < _rank(other):
                best[found.key] = found
        return best

    def _tagged(self, experiment: str, tag: str, value: str | None) -> Iterator[Found]:
        """Runs that carry a tag. A database is read directly, which for 10,000 runs is a second instead of half a minute."""
        condition = f"tags.{_named(tag)} LIKE " + ("'%'" if value is None else _quoted(value))
        if urlsplit(self.uri).scheme.startswith("http"):
            yield from (_found(run, tag) for run in self._search([experiment], condition))
            return
        for row in self.ask(lambda _: database.tagged(self.uri, experiment, tag, value)):
            ended = row.ended / 1000 if row.ended else None
            yield Found(row.value, row.run_id, row.status, row.started / 1000, ended, row.metrics, row.tags)

    def _search(self, experiments: list[str], condition: str) -> Iterator[Any]:
        token = None
        while True:
            page = self.ask(_page(experiments, condition, token))
            yield from page
            token = page.token
            if not token:
                return

    def parent(
        self, experiment: str, study: str, digest: str, note: str, *, reopen: bool, lease: str = ""
    ) -> tuple[str, bool]:
        """The run of a study, found by its name and the digest of its space, else created -> (run id, is it open).

        A study that has nothing to train is not reopened, so that its run keeps the time that it took. `lease` says where to see
        whether its driver is alive.
        """
        condition = f"tags.study = {_quoted(study)} AND tags.space = {_quoted(digest)}"
        tags = {
            "study": study,
            "space": digest,
            NOTE: note,
            "mlflow.source.name": f"sweeps/{study}.py",
            "lease": lease,
        }

        def opened(client: "MlflowClient") -> tuple[str, bool]:
            for run in client.search_runs([experiment], condition, max_results=1):
                if not reopen and run.info.status == FINISHED:
                    return run.info.run_id, False
                client.update_run(run.info.run_id, status=RUNNING)
                for name in (NOTE, "lease"):
                    client.set_tag(run.info.run_id, name, tags[name])
                return run.info.run_id, True
            return client.create_run(experiment, run_name=study, tags=tags).info.run_id, True

        return self.ask(opened)

    def running(self, experiment: str, tag: str, value: str) -> list[Found]:
        """The runs of an experiment with this tag that are RUNNING."""
        condition = f"tags.{_named(tag)} = {_quoted(value)} AND attributes.status = '{RUNNING}'"
        return [_found(run, tag) for run in self._search([experiment], condition)]

    def member(self, experiment: str, population: str, digest: str, member: int, parent: str) -> tuple[str, int]:
        """The run of a population's member, set running, else created -> (run id, when it started in ms). It has no key."""
        named = {"population": population, "population.digest": digest, "member": str(member)}
        tags = named | {"mlflow.source.name": "sweeps/search.py", PARENT: parent}

        def opened(client: "MlflowClient") -> tuple[str, int]:
            condition = f"tags.`population.digest` = '{digest}' AND tags.member = '{member}'"
            for run in client.search_runs([experiment], condition, max_results=1):
                client.update_run(run.info.run_id, status=RUNNING)
                return run.info.run_id, run.info.start_time
            run = client.create_run(experiment, run_name=f"member {member}", tags=tags)
            return run.info.run_id, run.info.start_time

        return self.ask(opened)

    def log(self, run: tuple[str, int], epoch: int, metrics: Mapping[str, float]) -> None:
        """Log an epoch's metrics of a run (id, start in ms); the same epoch logged again stays one point."""
        from mlflow.entities import Metric

        points = [Metric(name, value, run[1] + epoch, epoch) for name, value in metrics.items()]
        self.ask(lambda client: client.log_batch(run[0], metrics=points))

    def end(self, run_id: str, status: str) -> None:
        """Close a run with FINISHED, FAILED or KILLED."""
        self.ask(lambda client: client.set_terminated(run_id, status))

    def tag(self, run_id: str, name: str, value: str) -> None:
        """Set a tag of a run."""
        self.ask(lambda client: client.set_tag(run_id, name, value))

    def join(self, found: Iterable[Found], study: str) -> None:
        """Tag runs as belonging to a study, so that a trial that several studies share is found by each."""
        for run in found:
            if run.tags.get(f"study.{study}") != "yes":
                self.tag(run.run_id, f"study.{study}", "yes")

    def fetch(self, run_id: str, name: str, folder: Path) -> Path | None:
        """Copy an artifact of a run into `folder`; None where the run has none of that name."""

        def copied(client: "MlflowClient") -> Path | None:
            if name not in {artifact.path for artifact in client.list_artifacts(run_id)}:
                return None
            return Path(client.download_artifacts(run_id, name, str(folder)))

        return self.ask(copied)

    def register(self, name: str, run_id: str, alias: str, note: str, tags: Mapping[str, str]) -> str | None:
        """The version of the registered model `name` that is the run's model, made where there is none, under an alias.

        None where the run holds no model.
        """

        def registered(client: "MlflowClient") -> str | None:
            if MODEL not in {artifact.path for artifact in client.list_artifacts(run_id)}:
                return None
            if not client.search_registered_models(f"name = {_quoted(name)}"):
                client.create_registered_model(name)
            known = [
                version for version in client.search_model_versions(f"run_id = '{run_id}'") if version.name == name
            ]
            if known:
                number = known[0].version
            else:
                source = f"runs:/{run_id}/{MODEL}"
                made = client.create_model_version(
                    name, source, run_id, tags=dict(tags), description=note, await_creation_for=0
                )
                number = made.version
            client.update_model_version(name, number, note)
            client.set_registered_model_alias(name, alias, number)
            return str(number)

        return self.ask(registered)

    def describe(self, experiment: str, note: str) -> None:
        """Give an experiment its description, in Markdown, and its kind: training, and not language models."""

        def described(client: "MlflowClient") -> None:
            there = client.get_experiment(experiment).tags
            for name, value in ((NOTE, note), (KIND, "custom_model_development")):
                if there.get(name) != value:
                    client.set_experiment_tag(experiment, name, value)

        self.ask(described)

    def inputs(self, run_id: str, datasets: Sequence[Mapping[str, str]]) -> None:
        """Log data sets as inputs of a run, as `a3m.inputs` describes them; those that it has already stay one."""
        from mlflow.entities import Dataset, DatasetInput, InputTag
        from mlflow.exceptions import MlflowException

        parts = ("name", "digest", "source_type", "source", "schema", "profile")
        given = [
            DatasetInput(
                Dataset(**{part: one[part] for part in parts}), [InputTag("mlflow.data.context", one["context"])]
            )
            for one in datasets
        ]
        if not given:
            return
        try:
            self.ask(lambda client: client.log_inputs(run_id, datasets=given))
        except StoreError as error:
            # The first two runs of a data set may both have tried to make its row: it is there now.
            if isinstance(error, StoreAway) or not isinstance(error.__cause__, MlflowException):
                raise
            self.ask(lambda client: client.log_inputs(run_id, datasets=given))

    def same_inputs(self, run_id: str, like: str) -> None:
        """Give a run the inputs of another one."""
        found = self.ask(lambda client: client.get_run(like)).inputs
        if found is not None and found.dataset_inputs:
            self.ask(lambda client: client.log_inputs(run_id, datasets=found.dataset_inputs))

    def write(self, run_id: str, text: str, name: str) -> None:
        """Write a text as an artifact of a run."""
        self.ask(lambda client: client.log_text(run_id, text, name))

    def upload(self, run_id: str, file: Path, name: str) -> None:
        """Copy a file to a run's artifacts into the folder `name`."""
        self.ask(lambda client: client.log_artifact(run_id, str(file), name))


def _page(experiments: list[str], condition: str, token: str | None) -> "Callable[[MlflowClient], Any]":
    return lambda client: client.search_runs(experiments, condition, max_results=PAGE, page_token=token)


def _quoted(value: str) -> str:
    """A value in a filter, whose grammar knows no escapes: with a quote it would end early and ask for something else."""
    if "'" in value or "\\" in value:
        raise SettingsError(f"{value!r}: a name that runs are searched by holds no quotes and no backslashes")
    return f"'{value}'"


def _named(tag: str) -> str:
    if "`" in tag:
        raise SettingsError(f"{tag!r}: a name that runs are searched by holds no backticks")
    return f"`{tag}`"


# --- which store, and what its errors mean ------------------------------------------------------------------------------


def full_uri(uri: str, root: Path) -> str:
    """The store's URI; empty is sqlite in the project, and a relative sqlite file lies there too: workers run elsewhere.

    Raises SettingsError for one that carries a password: it would reach workers, results and the list of processes.
    """
    if uri.startswith("sqlite:///"):
        return f"sqlite:///{root / uri.removeprefix('sqlite:///')}"
    parts = urlsplit(uri)
    served = parts.scheme in ("http", "https")
    if parts.password or (served and parts.username) or "password" in parse_qs(parts.query):
        mend = (
            "set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN"
            if served
            else "for PostgreSQL set PGPASSFILE or PGPASSWORD; for MySQL name a file with ?read_default_file="
        )
        raise SettingsError(
            f"store.uri={shown(uri)} carries a password: leave it out and {mend} in the environment of the driver and the workers"
        )
    return uri or f"sqlite:///{root / 'mlflow.db'}"


def shown(uri: str) -> str:
    """A URI without user, password and query: what messages show."""
    parts = urlsplit(uri)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2], query="").geturl() if parts.netloc else uri


def open_store(uri: str, root: Path, patience: float = 0.0, tell: Callable[[str], None] | None = None) -> Store:
    """Open a store, creating a fresh sqlite file here and now: processes that did so together would break its migration.

    Raises StoreError when it cannot be reached within `patience` seconds, or not written.
    """
    uri = full_uri(uri, root)
    scheme = urlsplit(uri).scheme
    if uri.startswith("sqlite:///"):
        path = Path(uri.removeprefix("sqlite:///"))
        if not path.parent.is_dir() or not os.access(path if path.exists() else path.parent, os.W_OK):
            raise StoreError(f"store.uri={uri}: {path} cannot be written: mend its permissions or set store.uri")
        if path.exists() and path.stat().st_size and path.open("rb").read(15) != b"SQLite format 3":
            raise StoreError(f"store.uri={uri}: {path} is not an sqlite file: move it away or set store.uri")
    elif scheme == "postgresql":
        raise StoreError(
            f"store.uri={shown(uri)}: write postgresql+psycopg2://... instead: without it SQLAlchemy asks for another driver"
        )
    elif scheme not in ("http", "https", "postgresql+psycopg2", "mysql+pymysql"):
        raise StoreError(
            f"store.uri={shown(uri)}: expected sqlite:///<file>, http(s)://... or postgresql+psycopg2://..."
        )
    store = Store(uri, patience, tell)
    store.ask(lambda client: client.search_experiments(max_results=1))
    return store


def _knock(uri: str) -> None:
    """Connect to a database once. Raises SQLAlchemy's error at once where MLflow would try on for itself."""
    import sqlalchemy

    engine = sqlalchemy.create_engine(uri)
    try:
        engine.connect().close()
    finally:
        engine.dispose()


@contextlib.contextmanager
def _store_errors(uri: str) -> Iterator[None]:
    """Name the store in whatever is raised: StoreAway for what passes by itself, StoreError for the rest."""
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    try:
        yield
    except StoreError:
        raise
    except Exception as error:
        named = isinstance(error, MlflowException | SQLAlchemyError | ImportError | OSError)
        if not named and not type(error).__module__.startswith(CLOUD):
            raise
        first = str(error).splitlines()[0] if str(error) else type(error).__name__
        where = f"MLflow store {shown(uri)}: {first}"
        if _passes(error, uri):
            raise StoreAway(where) from error
        raise StoreError(f"{where}: is it there, and writable? (store.uri)") from error


CLOUD = ("botocore", "boto3", "google.", "azure.")  # artifact stores that a worker writes to by itself
PASSING = (408, 429, 500, 502, 503, 504)  # HTTP
REFUSALS = (
    "password authentication failed", "no password supplied", "no pg_hba.conf entry", "does not exist", "Access denied",
    "Unknown database",
)  # fmt: skip


def _passes(error: BaseException, uri: str) -> bool:
    """Whether the same call may work later without anybody mending a setting."""
    import requests
    from mlflow.exceptions import MlflowException, RestException
    from sqlalchemy import exc

    chain = list(_causes(error))
    for one in chain:
        if isinstance(one, requests.exceptions.SSLError):
            return False
        if isinstance(one, requests.exceptions.HTTPError) and one.response is not None:
            return one.response.status_code in PASSING
        if isinstance(one, requests.ConnectionError | requests.Timeout | requests.exceptions.ChunkedEncodingError):
            return True
        if isinstance(one, exc.OperationalError | exc.InterfaceError | exc.InternalError | exc.TimeoutError):
            text = str(one)
            return "locked" in text if uri.startswith("sqlite") else not any(refusal in text for refusal in REFUSALS)
        if isinstance(one, exc.DBAPIError) and one.connection_invalidated:
            return True
        if type(one).__module__.startswith(CLOUD):
            answer = getattr(one, "response", None)
            status = answer.get("ResponseMetadata", {}).get("HTTPStatusCode") if isinstance(answer, dict) else None
            return status is None or status in PASSING
    if isinstance(error, MlflowException) and uri.startswith("http"):
        if isinstance(error, RestException) and "detail" in error.json:
            return False  # another web service answers there
        if re.search(r"psycopg2\.(InterfaceError|OperationalError)", str(error)):
            return True  # the server's database went away under it: MLflow calls some of these a bad request
        told = re.search(r"failed with error code (\d+) != 200", str(error))
        return int(told[1] if told else error.get_http_status_code()) in PASSING
    return False


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


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

        `inputs`: its data, of a3m.inputs. `note`: its description until it has finished.
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
            if not _whole(self.outputs):
                if record != self.spool.records[-1]:
                    return  # another attempt has begun since, because it is gone
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
