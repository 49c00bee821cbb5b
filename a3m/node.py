"""Whether this machine can train the trials of a sweep: the same code and packages, the shared state folder, MLflow, the pack.

Knows no scheduler. The driver's own process says what it expects by `told`, a note that it leaves in the state folder too.
"""

import importlib.metadata
import json
import os
import platform
import shutil
import socket
import tempfile
import time
import uuid
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from a3m import identity, pull
from a3m.data import pack
from a3m.errors import DataError, StoreError
from a3m.record import address, runs
from a3m.record.patience import StoreAway
from a3m.state import EXPIRY_SECONDS, write_atomically

if TYPE_CHECKING:
    from a3m.settings import Params

SHARED = ("ray", "mlflow", *runs.VERSIONS)  # packages that must be of one version on all machines
CLOCK_SECONDS = 5.0
FREE_BYTES = 500 << 20  # of the state folder: some checkpoints
KNOCK_SECONDS = 10.0
Told = dict[
    str, Any
]  # note: the file's name, clock: this host's time less the file system's, only: whether nodes may be more


def expected(params: "Params", root: Path, trial: identity.Trial) -> dict[str, Any] | None:
    """What a job says to nodes, as plain values: versions, and where the pack can be fetched. None on this machine alone."""
    if params.cluster.address == "local":
        return None
    wanted = pull.source(root, Path(trial.pack).parent, trial.data, params.cluster.remote, params.cluster.data)
    return {"versions": versions(), "pull": wanted}


@cache
def versions() -> dict[str, str]:
    """What is installed here, by name; Python without its last number."""
    found = {"python": ".".join(platform.python_version_tuple()[:2])}
    for name in SHARED:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = "none"
    return found


def leave_note(state: Path) -> Told:
    """Leave the driver's note in the state folder -> what nodes are told of it. Raises StoreError when it cannot be written."""
    folder = state / "nodes"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        note = folder / uuid.uuid4().hex
        write_atomically(note, note.name.encode())
        return {"note": note.name, "clock": time.time() - note.stat().st_mtime, "driver": socket.gethostname()}
    except OSError as error:
        raise StoreError(f"store.state={state}: {error.strerror}: the state folder must be writable") from error


def forget(state: Path, told: Told) -> None:
    """Remove the driver's note and what nodes left beside it."""
    for path in (state / "nodes").glob(f"{told['note']}*"):
        path.unlink(missing_ok=True)


def heard_of(state: Path, told: Told, node: str) -> bool:
    """Whether what a node wrote into its state folder is seen here; over NFS that can take some seconds."""
    path = state / "nodes" / f"{told['note']}.{node}"
    for _ in range(10):
        if path.exists():
            return True
        time.sleep(0.5)
    return False


class Waiting(Exception):
    """MLflow does not answer now: no fault of this machine, if it passes."""


def check(job: dict[str, Any], told: Told, node: str) -> list[str]:
    """Everything that keeps this machine from training `job`, a line each: `what: remedy`. Writes a file named after `node`.

    Raises Waiting when MLflow does not answer and nothing else is wrong.
    """
    trial = identity.Trial(**job["trial"])
    problems = [*_code(job, trial), *_state(Path(trial.state), told, node), *_weights(trial), *_pack(job, trial)]
    try:
        problems += _mlflow(job, told)
    except StoreAway as error:
        if not problems:
            raise Waiting(str(error).splitlines()[0]) from error
        problems.append(str(error).splitlines()[0])
    return problems


def _code(job: dict[str, Any], trial: identity.Trial) -> list[str]:
    problems = []
    entry = "a3m.changes" if trial.settings["train"].get("changes") else identity.ENTRY
    if identity.code_digest(entry) != trial.code:
        problems.append(
            f"its code of a3m ({Path(identity.__file__).parent}) is not the driver's: is PYTHONPATH set there? Unset it before "
            "`ray start`"
        )
    for name, expected in job["node"]["versions"].items():
        if versions()[name] != expected:
            mend = f"pip install {name}=={expected}" if name != "python" else f"run it with Python {expected}"
            problems.append(f"{name} is {versions()[name]}, the driver has {expected}: {mend}")
    return problems


def _state(state: Path, told: Told, node: str) -> list[str]:
    shared = "it must be one shared folder, mounted there under the same path (docs/cluster.md)"
    note = state / "nodes" / told["note"]
    try:
        if note.read_text() != told["note"]:
            return [f"store.state={state} is not the driver's folder: {shared}"]
    except OSError:
        return [f"store.state={state} is not the driver's folder: {shared}"]
    problems = writable(state)
    if problems:
        return problems
    mine = note.with_name(f"{told['note']}.{node}")
    write_atomically(mine, socket.gethostname().encode())
    ahead = time.time() - mine.stat().st_mtime - told["clock"]
    if abs(ahead) > CLOCK_SECONDS:
        problems.append(clock(ahead))
    return problems


def clock(ahead: float) -> str:
    """A clock that is so many seconds ahead of the driver's, as a problem."""
    return (
        f"its clock is {abs(ahead):.0f} s {'ahead of' if ahead > 0 else 'behind'} the driver's, and leases expire after "
        f"{EXPIRY_SECONDS:.0f} s: set both by NTP"
    )


def writable(state: Path) -> list[str]:
    """What is wrong with the state folder as a place to write to."""
    probe = state / f".{uuid.uuid4().hex}"
    try:
        state.mkdir(parents=True, exist_ok=True)
        probe.write_bytes(b"a3m")
        free = shutil.disk_usage(state).free
    except OSError as error:
        return [f"store.state={state} cannot be written ({error.strerror}): mend its permissions or make room"]
    finally:
        probe.unlink(missing_ok=True)
    if free < FREE_BYTES:
        return [f"store.state={state} has {free >> 20} MB left of the {FREE_BYTES >> 20} that it needs: make room"]
    return []


def _weights(trial: identity.Trial) -> list[str]:
    if not trial.weights:
        return []
    try:
        same = identity.file_digest(Path(trial.weights)) == trial.settings["backbone"]["weights"]
    except OSError as error:
        return [f"backbone.weights={trial.weights}: {error.strerror}: put the driver's file there"]
    return [] if same else [f"backbone.weights={trial.weights}: another file than the driver's: copy that there"]


# --- the pack -----------------------------------------------------------------------------------------------------------


def _pack(job: dict[str, Any], trial: identity.Trial) -> list[str]:
    if _is_whole(Path(trial.pack), trial):
        return []
    if job["node"]["pull"] is None:
        name = Path(trial.pack).parent.name
        return [
            f"{trial.pack} is not there, or not the driver's: copy it, or let nodes fetch it from a DVC remote (`dvc remote add "
            f"-d`, `dvc push pack@{name}`)"
        ]
    if pull.place(job["node"]["pull"]).exists():
        return []
    problem = pull.missing(job["node"]["pull"])
    return [problem] if problem else []


def _is_whole(path: Path, trial: identity.Trial) -> bool:
    """Whether a pack of this machine is the one that the trial names. Its digest is kept in the machine's own cache."""
    try:
        pack.open_verified(path, trial.data, Path("~/.cache/a3m").expanduser())
    except (DataError, OSError):
        return False
    return True


def lacks_pack(job: dict[str, Any]) -> bool:
    """Whether this machine has to fetch the pack before it can train."""
    trial = identity.Trial(**job["trial"])
    wanted = job["node"]["pull"]
    return wanted is not None and not _is_whole(Path(trial.pack), trial) and not pull.place(wanted).exists()


def with_pack(job: dict[str, Any], tell: Callable[[str], None]) -> dict[str, Any]:
    """The job with the path of a pack that is on this machine: fetched when it is not. Raises DataError."""
    trial = identity.Trial(**job["trial"])
    if job["node"]["pull"] is None or _is_whole(Path(trial.pack), trial):
        return job
    path = pull.fetched(job["node"]["pull"], tell)
    if not _is_whole(path, trial):  # it lay there already, and was damaged since
        path.unlink(missing_ok=True)
        path = pull.fetched(job["node"]["pull"], tell)
    return job | {"trial": job["trial"] | {"pack": str(path)}}


# --- MLflow -------------------------------------------------------------------------------------------------------------


def _mlflow(job: dict[str, Any], told: Told) -> list[str]:
    """Whether runs and files written here arrive where the driver sees them. Raises StoreAway when the store does not answer."""
    _knock(job["store"])
    store = runs.Store(job["store"])
    try:
        store.ask(lambda client: client.get_experiment(job["experiment"]))
        if job["parent"] is not None:
            shown = store.ask(lambda client: client.list_artifacts(job["parent"], "nodes"))
            if f"nodes/{told['driver']}.json" not in {one.path for one in shown}:
                return [
                    "it does not see the files of MLflow's runs: they lie in a folder that only the server or the driver has: "
                    "start the server with --artifacts-destination (docs/cluster.md)"
                ]
            present(store, job["parent"])
    except StoreAway:
        raise
    except StoreError as error:
        return [str(error).splitlines()[0]]
    return []


def present(store: runs.Store, parent: str) -> None:
    """Record in a study's run what is installed here, as nodes/<host>.json."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / f"{socket.gethostname()}.json"
        file.write_text(json.dumps({"host": socket.gethostname(), "cpus": os.cpu_count(), **versions()}, indent=1))
        store.upload(parent, file, "nodes")


def _knock(uri: str) -> None:
    """Connect once: a firewall that drops packets would hold MLflow for minutes."""
    parts = urlsplit(uri)
    if not parts.hostname:
        return
    port = parts.port or {"http": 80, "https": 443, "postgresql+psycopg2": 5432, "mysql+pymysql": 3306}.get(
        parts.scheme
    )
    try:
        socket.create_connection((parts.hostname, port or 0), KNOCK_SECONDS).close()
    except OSError as error:
        raise StoreAway(
            f"MLflow at {address.shown(uri)} does not answer ({error.strerror or error}): is it reachable from there? (store.uri)"
        ) from error
