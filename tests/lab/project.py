"""A project as a user has it on the laboratory's shared storage: the code, one packed data set, a study, and what came of it."""

import contextlib
import json
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from lab.hosts import Host, ended, kill, wait_for
from lab.services import Cluster, Tracking

ROOT = Path(__file__).parents[2]
DATASET = "market1501"


def copy_project(folder: Path) -> None:
    """The working tree without what Git ignores, and its history's head: as a clone, with what is not yet committed."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        check=True,
    )
    for name in filter(None, listed.stdout.decode().split("\0")):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)


def pack(host: Host, project: Path, *settings: str) -> None:
    """Draw, prepare and pack the data set, as `dvc repro` does."""
    for stage in ("twin", "prepare", "pack"):
        command = [sys.executable, f"pipelines/{stage}.py", f"dataset={DATASET}", *settings]
        host.call(*command, cwd=project, env={"PYTHONPATH": str(project)}, timeout=300)


@dataclass
class Run:
    """A trial's run as MLflow has it."""

    run_id: str
    key: str
    status: str
    started: int
    ended: int | None
    tags: dict[str, str]
    steps: list[int] = field(default_factory=list)  # of train/loss, in order of arrival


class Study:
    """One study of a project: gives the command, looks into the state folder and into MLflow, holds results against results."""

    def __init__(self, cluster: Cluster, tracking: Tracking, project: Path, state: Path, *settings: str):
        self.cluster, self.tracking, self.project, self.state = cluster, tracking, project, state
        self.settings = settings
        self.epochs = next(int(s.partition("=")[2]) for s in settings if s.startswith("train.epochs="))

    def command(self, *more: str, address: str = "") -> list[str]:
        address = address or ("auto" if self.cluster.head.separate else self.cluster.address)
        store = [f"store.uri={self.tracking.uri}", f"store.state={self.state}"]
        return [sys.executable, "sweeps/ablation.py", *self.settings, f"cluster.address={address}", *store, *more]

    def start(self, *more: str, address: str = "", host: Host | None = None) -> "Driver":
        """Give the command on a host, the head unless told, as in a terminal."""
        output = self.project / f"said-{time.time_ns()}.txt"
        environment = {"PYTHONPATH": str(self.project)}
        with output.open("w") as file:
            command = self.command(*more, address=address)
            process = (host or self.cluster.head).popen(command, environment, stdout=file, cwd=self.project)
        return Driver(process, output)

    def tables(self, host: Host | None = None) -> None:
        (host or self.cluster.head).call(
            sys.executable, "pipelines/tables.py", cwd=self.project, env={"PYTHONPATH": str(self.project)}
        )

    def clear(self) -> None:
        """Forget every result, as in a fresh clone; the experiment in MLflow is renamed: what it holds stays to be looked at."""
        for name in ("results", "reports/tables"):
            shutil.rmtree(self.project / name, ignore_errors=True)
        shutil.rmtree(self.state, ignore_errors=True)
        client = self.client()
        found = client.get_experiment_by_name(DATASET)
        if found is not None:
            client.rename_experiment(found.experiment_id, f"{DATASET} {found.experiment_id} {time.time_ns()}")

    # --- what came of it ---

    def files(self) -> dict[str, bytes]:
        """results/<study>.csv and every file of reports/tables, by name."""
        paths = [self.project / "results" / "ablation.csv", *sorted((self.project / "reports" / "tables").iterdir())]
        return {str(path.relative_to(self.project)): path.read_bytes() for path in paths}

    def client(self) -> Any:
        from mlflow.tracking import MlflowClient

        return MlflowClient(self.tracking.uri)

    def runs(self) -> tuple[list[Run], list[Run]]:
        """What MLflow holds -> (runs of trials with the history of their loss, runs of studies)."""
        client = self.client()
        experiment = client.get_experiment_by_name(DATASET)
        trials, studies = [], []
        for found in client.search_runs([experiment.experiment_id], max_results=1000) if experiment is not None else ():
            info, tags = found.info, dict(found.data.tags)
            run = Run(info.run_id, tags.get("key", ""), info.status, info.start_time, info.end_time, tags)
            if run.key:
                run.steps = [point.step for point in client.get_metric_history(run.run_id, "train/loss")]
                trials.append(run)
            else:
                studies.append(run)
        return trials, studies

    def leases(self) -> dict[str, dict[str, Any]]:
        """Who trains what now, as the state folder says: key -> host, pid, token, expiry."""
        found = {}
        for path in (self.state / "leases").glob("*.json"):
            try:
                found[path.stem] = json.loads(path.read_text())
            except (OSError, ValueError):
                continue
        return found

    def trainer(self, lease: dict[str, Any]) -> str:
        """The host of the laboratory whose process holds a lease."""
        if self.cluster.head.separate:
            return str(lease["host"])
        with contextlib.suppress(psutil.Error):
            return psutil.Process(lease["pid"]).environ().get("A3M_LAB_HOST", "").partition("-")[2]
        return ""

    def checkpoints(self, key: str) -> list[Path]:
        return sorted((self.state / "checkpoints" / key).glob("??????-*.pt"))

    def wait_for_epoch(self, epoch: int, driver: "Driver", *, host: str = "", seconds: float = 240) -> str:
        """Wait until some trial that is being trained (on `host`) has a checkpoint of that epoch or a later one -> its key."""

        def reached() -> str:
            assert driver.process.poll() is None, f"the driver ended before anything was done to it:\n{driver.said()}"
            for key, lease in self.leases().items():
                files = self.checkpoints(key)
                done = int(files[-1].name[:6]) if files else 0
                if epoch <= done < self.epochs and host in ("", self.trainer(lease)):
                    return key
            return ""

        return str(wait_for(reached, seconds, f"a trial is in epoch {epoch}", 0.02))


class Driver:
    """The command as it runs: its foreground group, and what it says."""

    def __init__(self, process: subprocess.Popen[str], output: Path):
        self.process, self.output = process, output

    def said(self) -> str:
        return self.output.read_text()

    def signal(self, number: int = signal.SIGINT) -> None:
        """To the whole foreground group, as a terminal does."""
        kill(self.process, number)

    def kill(self) -> None:
        """kill -9 of the process itself."""
        started = psutil.Process(self.process.pid)
        entered = any(part.endswith("enter.py") for part in started.cmdline())
        for process in started.children() if entered else [started]:
            process.kill()
        self.process.wait(30)

    def finished(self, status: int = 0, seconds: float = 420) -> str:
        """Wait until it ends with this exit status -> what it said."""
        with ended(self.process):
            try:
                self.process.wait(seconds)
            except subprocess.TimeoutExpired:
                raise AssertionError(f"the command has not ended after {seconds:g} s:\n{self.said()}") from None
        assert self.process.returncode == status, f"exit status {self.process.returncode}, not {status}:\n{self.said()}"
        return self.said()


class Trained:
    """Every epoch that is trained, as the checkpoints show that appear: the log of who trained what how often."""

    def __init__(self, state: Path):
        self.state = state
        self.seen: dict[tuple[str, int, int], float] = {}  # (key, epoch, time of the file) -> when it was seen
        self._stop = threading.Event()

    def __enter__(self) -> "Trained":
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._stop.wait(0.02):
            self._look()
        self._look()

    def _look(self) -> None:
        for path in self.state.glob("checkpoints/*/??????-*.pt"):
            try:
                found = path.stat()
            except OSError:
                continue
            # A file that is written again has another time, but maybe the inode of an old one.
            self.seen.setdefault((path.parent.name, int(path.name[:6]), found.st_mtime_ns), time.time())

    def epochs(self, key: str = "") -> Counter[tuple[str, int]]:
        """(key, epoch) -> how often it was trained."""
        return Counter((k, epoch) for k, epoch, _ in self.seen if key in ("", k))

    def again(self) -> dict[str, int]:
        """Keys of which epochs were trained more than once -> how many epochs too many."""
        found: Counter[str] = Counter()
        for (key, _), times in self.epochs().items():
            found[key] += times - 1
        return {key: count for key, count in found.items() if count}

    def last(self, key: str) -> float:
        """When the last checkpoint of a key appeared, in seconds since 1970."""
        return max(when for (k, *_), when in self.seen.items() if k == key)


@contextmanager
def timed() -> Iterator[dict[str, float]]:
    """Seconds that a block took, as `seconds` of what it yields."""
    started, found = time.monotonic(), {"seconds": 0.0}
    try:
        yield found
    finally:
        found["seconds"] = time.monotonic() - started
