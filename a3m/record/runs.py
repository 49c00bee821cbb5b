"""MLflow's store: what runs it holds, the runs of studies, what is written to a run beside its trial's record.

One trial is one run, tagged with the trial's key; trials of a data set lie in one experiment; a study is a parent run there.
MLflow is named in this package alone, and by clients with an explicit URI: a global call without one would create a second
store in the working folder.
"""

import logging
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from a3m.errors import SettingsError, StoreError
from a3m.record import database
from a3m.record.address import full_uri, shown
from a3m.record.failures import store_errors
from a3m.record.patience import Answer, StoreAway, patiently

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
NOTE = "mlflow.note.content"  # the description that MLflow's page shows, in Markdown
KIND = "mlflow.experimentKind"
PAGE = 1000
MODEL = "model"  # the folder of a run's artifacts that MLflow loads (a3m.serve.package)


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
            with store_errors(self.uri):
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

    def running(self, experiment: str, tag: str, value: str | None = None) -> list[Found]:
        """The runs of an experiment with this tag, and this value if one is given, that are RUNNING."""
        asked = "LIKE '%'" if value is None else f"= {_quoted(value)}"
        condition = f"tags.{_named(tag)} {asked} AND attributes.status = '{RUNNING}'"
        return [_found(run, tag) for run in self._search([experiment], condition)]

    def drop_doubles(
        self, experiment: str, finished: Mapping[str, str], is_free: Callable[[str], bool] = lambda key: True
    ) -> None:
        """Delete runs that are RUNNING beside the finished one of their key (`finished`: key -> run id); one with metrics is ended.

        A slow server may make a run that it was asked for after whoever asked gave up, and found none when it asked again. Only
        for keys that nobody trains (`is_free`).
        """
        for run in self.running(experiment, "key"):
            if run.key not in finished or run.run_id == finished[run.key] or not is_free(run.key):
                continue
            if run.metrics:
                self.end(run.run_id, KILLED)
            else:
                self.ask(lambda client, run_id=run.run_id: client.delete_run(run_id))  # type: ignore[misc]

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
        """Log data sets as inputs of a run, as `a3m.record.inputs` describes them; those that it has already stay one."""
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


def _found(run: Any, tag: str) -> Found:
    info, data = run.info, run.data
    return Found(
        data.tags[tag], info.run_id, info.status, info.start_time / 1000, info.end_time / 1000 if info.end_time else None,
        dict(data.metrics), dict(data.tags),
    )  # fmt: skip


def _rank(found: Found) -> tuple[bool, float, bool]:
    """The first that finished, else the one that began last; of two that a slow server made of one, that which has epochs."""
    finished = found.status == FINISHED
    return not finished, (found.ended or 0.0) if finished else -found.started, not found.metrics


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
