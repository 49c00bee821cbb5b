"""A pack for a machine that has none: fetched once from the DVC remote into `cluster.data`, verified, then used from there.

The driver says what to fetch: md5 and size from its dvc.lock, the remote's URL from the project's DVC configuration. Credentials
never travel: each machine uses its own ssh keys and AWS environment. A DVC 3 remote keeps a file at <url>/files/md5/ab/cdef...
"""

import configparser
import contextlib
import fcntl
import hashlib
import os
import shutil
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml

from a3m.data import pack
from a3m.errors import DataError, SettingsError

Source = dict[str, Any]  # url, options, md5, size, digest, name, data: plain values, part of a job
SPARE_BYTES = 100 << 20  # left free beside a pack
SECONDS = 30  # for a connection


def source(root: Path, prepared: Path, digest: str, remote: str, data: str) -> Source | None:
    """Where a machine without this pack gets it; None where DVC has no record of the pack, or the project no remote.

    `prepared` is the data set's folder below `root`, `digest` the pack's, `remote` a remote's name (empty: DVC's default), `data`
    the folder for packs on each machine. Raises SettingsError for a remote that is not there, or whose URL holds a password.
    """
    record = _record(root / "dvc.lock", (prepared / pack.FILE).relative_to(root).as_posix())
    found = remote_of(root, remote)
    if record is None or found is None:
        return None
    return {**found, **record, "digest": digest, "name": prepared.name, "data": data}


@cache
def _record(lock: Path, path: str) -> dict[str, Any] | None:
    """md5 and size of an output, as dvc.lock has them."""
    try:
        stages = yaml.load(lock.read_text(), getattr(yaml, "CSafeLoader", yaml.SafeLoader))["stages"]
    except (OSError, yaml.YAMLError, KeyError, TypeError):
        return None
    for stage in stages.values():
        for out in stage.get("outs", []):
            if out.get("path") == path and "md5" in out:
                return {"md5": out["md5"], "size": out["size"]}
    return None


@cache
def remote_of(root: Path, name: str) -> dict[str, Any] | None:
    """URL and options, none of them secret, of a DVC remote; None when `name` is empty and there is no default."""
    config = configparser.ConfigParser(interpolation=None, strict=False)
    personal = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "dvc" / "config"
    try:
        config.read([personal, root / ".dvc" / "config", root / ".dvc" / "config.local"])
    except configparser.Error as error:
        raise SettingsError(f"{root / '.dvc' / 'config'}: {str(error).splitlines()[0]}") from error
    chosen = name or config.get("core", "remote", fallback="")
    if not chosen:
        return None
    section = next((one for one in (f'remote "{chosen}"', f"'remote \"{chosen}\"'") if config.has_section(one)), None)
    if section is None or not config.get(section, "url", fallback=""):
        raise SettingsError(f"cluster.remote={chosen}: the project has no such DVC remote: see `dvc remote list`")
    url = config.get(section, "url")
    parts = urlsplit(url)
    if parts.password or (parts.scheme not in ("ssh", "") and parts.username):
        raise SettingsError(
            f"the URL of the DVC remote {chosen} holds a password: leave it out, and give each machine its own key"
        )
    if parts.scheme in ("", "file"):
        folder = Path(parts.path if parts.scheme else url).expanduser()
        return {"url": str((root / ".dvc" / folder).resolve()), "options": {}}
    options: dict[str, Any] = {}
    if parts.scheme == "ssh":
        options = {"host": parts.hostname or ""}
        user = parts.username or config.get(section, "user", fallback="")
        port = parts.port or config.getint(section, "port", fallback=0)
        options |= ({"username": user} if user else {}) | ({"port": port} if port else {})
    elif parts.scheme == "s3":
        endpoint, region = config.get(section, "endpointurl", fallback=""), config.get(section, "region", fallback="")
        if urlsplit(endpoint).username:
            raise SettingsError(f"the endpointurl of the DVC remote {chosen} holds a user or password: leave it out")
        options = ({"endpoint_url": endpoint} if endpoint else {}) | (
            {"client_kwargs": {"region_name": region}} if region else {}
        )
    return {"url": url.rstrip("/"), "options": options}


# --- on the machine that lacks the pack ---------------------------------------------------------------------------------


def place(wanted: Source) -> Path:
    """Where a fetched pack lies on this machine."""
    return Path(wanted["data"]).expanduser() / "packs" / wanted["digest"] / pack.FILE


def missing(wanted: Source) -> str:
    """Why this machine could not fetch a pack: a remote that does not answer or hold it, a full disk; '' where it can."""
    folder = place(wanted).parent
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _room(folder, wanted["size"])
        with _remote(wanted) as (files, path):
            _in_remote(files, path, wanted)
    except DataError as error:
        return str(error)
    except OSError as error:
        return f"{folder}: {error.strerror}: set cluster.data to a folder that can be written"
    return ""


def fetched(wanted: Source, tell: Callable[[str], None]) -> Path:
    """The pack on this machine, fetched if it is not there yet: by one process while the others wait.

    `tell` hears that it is being fetched. Raises DataError when the remote does not hold it, or it is not what the trial names.
    """
    file = place(wanted)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with _locked(file.parent / "lock"):
            if not file.exists():
                _room(file.parent, wanted["size"])
                tell(f"fetching the pack of {wanted['name']}, {wanted['size'] / 1e6:,.0f} MB, from the DVC remote")
                _fetch(wanted, file)
    except OSError as error:
        raise DataError(f"{file.parent}: {error.strerror or error}: make room or set cluster.data") from error
    return file


def _fetch(wanted: Source, file: Path) -> None:
    temporary = file.with_suffix(".part")  # one name: what a killed process left is written over
    try:
        with _remote(wanted) as (files, path):
            _in_remote(files, path, wanted)
            files.get_file(path, str(temporary))
        md5, sha256 = hashlib.md5(usedforsecurity=False), hashlib.sha256()
        with temporary.open("rb+") as fetched_file:
            while block := fetched_file.read(1 << 20):
                md5.update(block)
                sha256.update(block)
            os.fsync(fetched_file.fileno())
        if md5.hexdigest() != wanted["md5"]:
            raise DataError(
                f"the DVC remote {wanted['url']} holds a damaged {path.rpartition('/files/')[2]}: remove it there, then "
                f"`dvc push pack@{wanted['name']}`"
            )
        if sha256.hexdigest() != wanted["digest"]:
            raise DataError(
                f"dvc.lock names another pack of {wanted['name']} than the one that is there: run `dvc repro "
                f"pack@{wanted['name']}`, then `dvc push pack@{wanted['name']}`"
            )
        temporary.replace(file)
    finally:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def _remote(wanted: Source) -> Iterator[tuple[Any, str]]:
    """A connection to the remote, and the pack's path there. Whatever a library raises becomes a DataError."""
    import fsspec

    scheme = urlsplit(wanted["url"]).scheme or "file"
    named = f"the DVC remote {wanted['url']}"
    try:
        limits: dict[str, Any] = {}
        if scheme == "ssh":
            limits = {"connect_timeout": SECONDS, "login_timeout": SECONDS}
        elif scheme == "s3":
            limits = {"config_kwargs": {"connect_timeout": SECONDS, "retries": {"max_attempts": 2}}}
        files = fsspec.filesystem(scheme, **wanted["options"], **limits, skip_instance_cache=True)
        top = urlsplit(wanted["url"]).path if scheme == "ssh" else wanted["url"]
        yield files, f"{top}/files/md5/{wanted['md5'][:2]}/{wanted['md5'][2:]}"
    except DataError:
        raise
    except ImportError as error:
        raise DataError(f"{named}: {error}: pip install dvc-{scheme}") from error
    except Exception as error:  # asyncssh, botocore and others raise what they like
        said = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DataError(f"{named}: {said}: this machine needs its own access to it (ssh key, AWS profile)") from error


def _in_remote(files: Any, path: str, wanted: Source) -> None:
    try:
        size = files.info(path)["size"]
    except FileNotFoundError as error:
        raise DataError(
            f"the DVC remote {wanted['url']} does not hold the pack of {wanted['name']}: run `dvc push pack@{wanted['name']}`"
        ) from error
    if size not in (None, wanted["size"]):
        raise DataError(
            f"the DVC remote {wanted['url']} holds {size} of {wanted['size']} bytes of the pack of {wanted['name']}: remove "
            f"{path.rpartition('/files/')[2]} there, then `dvc push pack@{wanted['name']}`"
        )


def _room(folder: Path, size: int) -> None:
    free = shutil.disk_usage(folder).free
    if free < size + SPARE_BYTES:
        raise DataError(
            f"{folder}: {free / 1e6:,.0f} MB free, the pack needs {(size + SPARE_BYTES) / 1e6:,.0f}: make room or set cluster.data"
        )


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
