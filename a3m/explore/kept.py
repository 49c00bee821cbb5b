"""A finished run by its id, its key or the beginning of one, with the artifacts that a verb needs, in .a3m/cache/runs/<run id>.

A run's artifacts never change, so that what was fetched once is asked for no more. `begin` fetches in a process of its own: MLflow
and torch take seconds each to import, and so they are imported side by side.
"""

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import url2pathname

from a3m.errors import DataError, StoreError, UserError

ALWAYS = ("settings.json", "digests.json")
CACHE = Path(".a3m") / "cache" / "runs"
SHORTEST = 4  # letters of a key or id
Fetch = Callable[[str, str, Path], Path | None]  # (run id, artifact, folder) -> its copy in the folder


@dataclass(frozen=True)
class Kept:
    """One finished run and where its artifacts lie."""

    run_id: str
    key: str
    name: str
    dataset: str
    source: str  # twins | raw | raw subset
    metrics: dict[str, float]
    tags: dict[str, str]
    folder: str

    @property
    def files(self) -> Path:
        """Folder of the artifacts."""
        return Path(self.folder)

    @property
    def described(self) -> dict[str, Any]:
        """The trial's settings.json: key, data, code, settings."""
        return json.loads((self.files / "settings.json").read_text())


def keep(reference: str, root: Path, wanted: Sequence[str], overrides: Sequence[str] = ()) -> Kept:
    """The run that `reference` names, with its artifacts `wanted` at hand.

    Raises SettingsError, StoreError or UserError saying what there is instead: no such run, several, one that is not finished, or
    artifacts that are gone.
    """
    cached = _cached(reference, root, wanted)
    if cached is not None:
        return cached
    from a3m import config
    from a3m.plan import store_exists
    from a3m.record import address, runs

    params = config.load(overrides, root=root)
    if not store_exists(params, root):
        raise StoreError(
            f"{address.full_uri(params.store.uri, root)}: no store yet: `make repro` or `a3m train` makes one"
        )
    here = _on_this_disk(address.full_uri(params.store.uri, root), root, reference)
    if here is not None:
        found, fetch = here
    else:
        store = runs.open_store(params.store.uri, root)
        run = one_run(store.client, reference)
        found = _kept(root, run.info.run_id, run.info.run_name or "", dict(run.data.metrics), run.data.tags)
        fetch = store.fetch
    folder = found.files
    folder.mkdir(parents=True, exist_ok=True)
    for name in ALWAYS:
        _fetch(fetch, found, name)
    digests = json.loads((folder / "digests.json").read_text())
    for name in wanted:
        if name not in digests and not any(file.startswith(f"{name}/") for file in digests):
            if name == "model" and "weights.safetensors" in digests:
                name = "weights.safetensors"  # recorded before runs held a model: it is made of them here
            else:
                continue  # the method leaves no such file
        if not (folder / name).exists():
            _fetch(fetch, found, name)
    _verify(folder, digests)
    (folder / "run.json").write_text(json.dumps(asdict(found), indent=1) + "\n")  # last: all is here
    return found


def _kept(root: Path, run_id: str, name: str, metrics: dict[str, float], all_tags: Mapping[str, str]) -> Kept:
    tags = {tag: value for tag, value in all_tags.items() if not tag.startswith("mlflow.log-model")}
    folder = root / CACHE / run_id
    return Kept(run_id, tags["key"], name, tags.get("dataset", ""), tags.get("source", ""), metrics, tags, str(folder))


def _on_this_disk(uri: str, root: Path, reference: str) -> tuple[Kept, Fetch] | None:
    """A run named in full of a store in an sqlite file, without MLflow, whose import takes seconds; None: it is to be asked."""
    if not uri.startswith("sqlite:///"):
        return None
    from sqlalchemy.exc import SQLAlchemyError

    from a3m.record import database

    try:
        found = database.finished(uri, reference)
    except SQLAlchemyError:
        return None  # MLflow is asked, and says what is the matter
    if found is None:
        return None
    row, name, place = found
    address = urlsplit(place)
    artifacts = Path(url2pathname(address.path))
    if address.scheme not in ("", "file") or not artifacts.is_dir():
        return None

    def fetch(run_id: str, wanted: str, folder: Path) -> Path | None:
        source = artifacts / wanted
        if source.is_dir():
            return Path(shutil.copytree(source, folder / wanted))
        return Path(shutil.copy(source, folder / wanted)) if source.is_file() else None

    return _kept(root, row.run_id, name, row.metrics, row.tags), fetch


def one_run(client: Any, reference: str) -> Any:
    """The one finished run whose id or key is, or begins with, `reference`."""
    if not re.fullmatch(r"[0-9a-f]+", reference) or len(reference) < SHORTEST:
        raise UserError(
            f"run {reference}: expected a run id or a trial's key, or the first {SHORTEST} or more letters of one "
            "(0-9 a-f): results/<study>.runs.csv and the MLflow UI list them"
        )
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    found: dict[str, Any] = {}
    for condition in (f"tags.`key` LIKE '{reference}%'", f"attributes.run_id LIKE '{reference}%'"):
        token = None
        while True:
            page = client.search_runs(experiments, condition, max_results=1000, page_token=token)
            found |= {run.info.run_id: run for run in page}
            token = page.token
            if not token:
                break
    exact = [run for run in found.values() if reference in (run.info.run_id, run.data.tags.get("key"))]
    runs = exact or list(found.values())
    if not runs:
        raise UserError(f"run {reference}: this store has none: results/<study>.runs.csv and the MLflow UI list them")
    finished = [run for run in runs if run.info.status == "FINISHED" and "key" in run.data.tags]
    keys = {run.data.tags["key"] for run in finished}
    if len(keys) > 1:
        listed = "\n".join(f"  {run.data.tags['key']}  {run.info.run_id}  {run.info.run_name}" for run in finished[:10])
        raise UserError(f"run {reference}: {len(keys)} runs begin so, give more letters:\n{listed}")
    if not finished:
        run = runs[0]
        if "key" not in run.data.tags:
            raise UserError(f"run {reference}: {run.info.run_name} is the run of a study: name one of its trials")
        raise UserError(
            f"run {reference}: {run.info.run_name} is {run.info.status}, not finished: the sweep or `a3m train` that "
            "began it goes on with it"
        )
    return min(finished, key=lambda run: run.info.end_time or 0)  # doubled runs: the first finished one counts


def _fetch(fetch: Fetch, found: Kept, name: str) -> None:
    """Copy an artifact into the cache under a temporary name first."""
    temporary = found.files / ".fetching"
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir()
    try:
        path = fetch(found.run_id, name, temporary)
        if path is None:
            raise StoreError(
                f"run {found.run_id} ({found.name}): its artifact {name} is not in the store any more: "
                "bring mlartifacts back, or train the trial again"
            )
        target = found.files / name
        shutil.rmtree(target, ignore_errors=True)
        path.replace(target)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _verify(folder: Path, digests: dict[str, str]) -> None:
    from a3m.identity import file_digest

    for name, digest in digests.items():
        if (folder / name).is_file() and file_digest(folder / name) != digest:
            shutil.rmtree(folder)
            raise StoreError(f"run {folder.name}: its artifact {name} is damaged: its digest is not the recorded one")


def _cached(reference: str, root: Path, wanted: Sequence[str]) -> Kept | None:
    """A run named in full, all of whose wanted artifacts are here."""
    for file in (root / CACHE).glob("*/run.json"):
        known = json.loads(file.read_text())
        if reference in (known["run_id"], known["key"]) and Path(known["folder"]) == file.parent:
            digests = json.loads((file.parent / "digests.json").read_text())
            needed = [name for name in digests if any(name == one or name.startswith(f"{one}/") for one in wanted)]
            if "model" in wanted and "weights.safetensors" in digests:
                needed.append("weights.safetensors")
            if all((file.parent / name).exists() or _packed(file.parent, name) for name in needed):
                return Kept(**known)
    return None


def _packed(folder: Path, name: str) -> bool:
    return name == "weights.safetensors" and (folder / "model" / "artifacts" / name).exists()


# --- in a process of its own --------------------------------------------------------------------------------------------


def begin(reference: str, root: Path, wanted: Sequence[str], overrides: Sequence[str] = ()) -> Callable[[], Kept]:
    """Start fetching; the function returned waits for the end. Raises as `keep` does, then."""
    cached = _cached(reference, root, wanted)
    if cached is not None:
        return lambda: cached
    request = json.dumps(
        {"reference": reference, "root": str(root), "wanted": list(wanted), "overrides": list(overrides)}
    )
    process = subprocess.Popen(
        [sys.executable, "-m", "a3m.explore.kept"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )

    def wait() -> Kept:
        said, _ = process.communicate()
        try:
            answer = json.loads(said.splitlines()[-1])
        except (IndexError, ValueError):
            raise StoreError(f"run {reference}: looking it up ended with exit code {process.returncode}") from None
        if "error" in answer:
            error = UserError(answer["error"])
            error.code = answer["code"]
            raise error
        return Kept(**answer)

    assert process.stdin is not None
    process.stdin.write(request)
    process.stdin.close()
    process.stdin = None
    return wait


def main() -> None:
    """Read a request, answer with the run or the error, both as JSON."""
    request = json.load(sys.stdin)
    try:
        kept = keep(request["reference"], Path(request["root"]), request["wanted"], request["overrides"])
    except UserError as error:
        print(json.dumps({"error": str(error), "code": error.code}))
    else:
        print(json.dumps(asdict(kept)))


# --- what a run was trained on ------------------------------------------------------------------------------------------


def pack_of(kept: Kept, root: Path) -> Any:
    """The pack that the run was trained and tested on. Raises DataError when the one that is here is another."""
    from a3m.data.pack import FILE, open_verified

    path = root / "data" / "prepared" / kept.dataset / FILE
    data = kept.described["data"]
    if not path.is_file():
        raise DataError(
            f"{path}: not there, and it holds the images of run {kept.run_id}: run `dvc repro pack@{kept.dataset}`"
        )
    try:
        return open_verified(path, data, root / ".a3m" / "cache")
    except DataError as error:
        raise DataError(
            f"{path} is not the data version {data[:12]} that run {kept.run_id} ({kept.name}) was trained on: "
            f"`dvc checkout` or the settings of that time bring it back, or name a run of the present data ({error})"
        ) from error


def predictor_of(kept: Kept, pack: Any) -> Any:
    """The run's network, ready to answer; of runs that hold no model yet, made of their weights."""
    from a3m.explore import quick
    from a3m.serve.predictor import DESCRIPTION, WEIGHTS

    artifacts = kept.files / "model" / "artifacts"
    if not (artifacts / WEIGHTS).is_file():
        from a3m.serve import package

        digests = (kept.files / "digests.json").read_text()
        package.write(kept.files, pack)
        (kept.files / "digests.json").write_text(digests)  # of what the run holds
    return quick.load(artifacts / WEIGHTS, artifacts / DESCRIPTION)


if __name__ == "__main__":
    main()
