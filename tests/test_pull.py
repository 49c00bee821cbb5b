"""Packs that a machine fetches from a DVC remote: real remotes, filled by a real `dvc push`."""

import getpass
import hashlib
import multiprocessing
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import tiny

from a3m import pull
from a3m.data import pack
from a3m.errors import DataError, SettingsError

DVC = [sys.executable, "-m", "dvc"]


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Nobody's own DVC configuration; nothing remembered of another test's project."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    pull.remote_of.cache_clear()
    pull._record.cache_clear()


def dvc(root: Path, *arguments: str, **environment: str) -> None:
    environment = {**os.environ, "DVC_NO_ANALYTICS": "1", "DVC_SITE_CACHE_DIR": str(root / "site"), **environment}
    done = subprocess.run([*DVC, *arguments], cwd=root, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="module")
def committed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A DVC repository without git whose stage `pack@tiny` has a real pack as its output."""
    root = tmp_path_factory.mktemp("committed")
    folder = root / "data" / "prepared" / "tiny"
    tiny.write_pack(root / "made")
    folder.mkdir(parents=True)
    for name in (pack.FILE, pack.SUMMARY):
        shutil.copy(root / "made" / "packed" / name, folder / name)
    (root / "dvc.yaml").write_text(
        "stages:\n  pack:\n    foreach: [tiny]\n    do:\n      cmd: 'true'\n      outs:\n"
        "        - data/prepared/${item}/pack.safetensors\n"
    )
    dvc(root, "init", "--no-scm", "--quiet")
    dvc(root, "commit", "--force", "--quiet")
    return root


@pytest.fixture
def project(committed: Path, tmp_path: Path) -> Path:
    """A copy of it for one test."""
    return Path(shutil.copytree(committed, tmp_path / "project"))


def wanted(project: Path, data: Path, remote: str = "") -> pull.Source:
    folder = project / "data" / "prepared" / "tiny"
    found = pull.source(project, folder, pack.read_summary(folder)["digest"], remote, str(data))
    assert found is not None
    return found


def push(project: Path, url: str, *settings: tuple[str, str], **environment: str) -> None:
    dvc(project, "remote", "add", "--quiet", "-d", "lab", url)
    for name, value in settings:
        dvc(project, "remote", "modify", "lab", name, value)
    dvc(project, "push", "--quiet", "pack@tiny", **environment)


def local(project: Path) -> Path:
    """A folder as the remote, given relative to .dvc as DVC writes it."""
    push(project, "../remote")
    return project.parent / "remote"


def assert_whole(path: Path, source: pull.Source) -> None:
    assert hashlib.sha256(path.read_bytes()).hexdigest() == source["digest"]
    assert sorted(one.name for one in path.parent.iterdir()) == ["lock", pack.FILE]


# --- real remotes -------------------------------------------------------------------------------------------------------


def test_a_pack_comes_from_a_folder(project: Path, tmp_path: Path) -> None:
    local(project)
    source = wanted(project, tmp_path / "node")
    assert pull.missing(source) == ""
    told: list[str] = []
    path = pull.fetched(source, told.append)
    assert_whole(path, source)
    assert len(told) == 1
    assert "fetching the pack of tiny" in told[0]
    assert pull.fetched(source, told.append) == path
    assert len(told) == 1, "it is fetched once"


def free_port() -> int:
    with socket.socket() as opened:
        opened.bind(("127.0.0.1", 0))
        return opened.getsockname()[1]


@pytest.fixture
def ssh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """The port of an ssh server of the test's own on loopback, into which the key of a made-up home may log in."""
    server = shutil.which("sshd") or "/usr/sbin/sshd"
    if not Path(server).exists() or shutil.which("ssh-keygen") is None:
        pytest.skip("sshd is not here (Debian: apt-get install openssh-server)")
    home, port = tmp_path / "home", free_port()
    (home / ".ssh").mkdir(parents=True, mode=0o700)
    for file in (tmp_path / "host_key", home / ".ssh" / "id_ed25519"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(file)], check=True)
    authorised = tmp_path / "authorised"
    shutil.copy(home / ".ssh" / "id_ed25519.pub", authorised)
    host_key = " ".join((tmp_path / "host_key.pub").read_text().split()[:2])
    (home / ".ssh" / "known_hosts").write_text(f"[127.0.0.1]:{port} {host_key}\n")
    (tmp_path / "sshd_config").write_text(
        f"Port {port}\nListenAddress 127.0.0.1\nHostKey {tmp_path / 'host_key'}\nPidFile none\nUsePAM no\nStrictModes no\n"
        f"AuthorizedKeysFile {authorised}\nPasswordAuthentication no\nSubsystem sftp internal-sftp\n"
    )
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(exist_ok=True)
    process = subprocess.Popen([server, "-D", "-e", "-f", str(tmp_path / "sshd_config")], stderr=subprocess.PIPE)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    try:
        deadline = time.monotonic() + 10
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                break
            except OSError:
                assert process.poll() is None, process.communicate()[1]
                assert time.monotonic() < deadline
                time.sleep(0.05)
        yield port
    finally:
        process.kill()
        process.wait()


def test_a_pack_comes_over_ssh(project: Path, tmp_path: Path, ssh: int) -> None:
    user = getpass.getuser()
    push(project, f"ssh://127.0.0.1{tmp_path}/remote", ("user", user), ("port", str(ssh)))
    source = wanted(project, tmp_path / "node")
    assert source["options"] == {"host": "127.0.0.1", "username": user, "port": ssh}
    assert pull.missing(source) == ""
    assert_whole(pull.fetched(source, print), source)


def test_a_machine_without_a_key_or_with_another_host_key_is_told_so(
    project: Path, tmp_path: Path, ssh: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    push(project, f"ssh://{getpass.getuser()}@127.0.0.1:{ssh}{tmp_path}/remote")
    monkeypatch.setenv("HOME", str(tmp_path / "elsewhere"))
    source = wanted(project, tmp_path / "node")
    assert "this machine needs its own access" in pull.missing(source)
    with pytest.raises(DataError, match="needs its own access"):
        pull.fetched(source, print)
    assert not pull.place(source).exists()


def test_a_pack_comes_from_s3(project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    server = pytest.importorskip("moto.server", reason="moto is not installed (pip install a3m[dev])")
    boto3 = pytest.importorskip("boto3")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    served = server.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    served.start()
    try:
        host, port = served.get_host_and_port()
        endpoint = f"http://{host}:{port}"
        boto3.client("s3", endpoint_url=endpoint).create_bucket(Bucket="packs")
        push(project, "s3://packs/dvc", ("endpointurl", endpoint))
        source = wanted(project, tmp_path / "node")
        assert source["options"] == {"endpoint_url": endpoint}
        assert pull.missing(source) == ""
        assert_whole(pull.fetched(source, print), source)
        gone = {**source, "md5": "0" * 32, "data": str(tmp_path / "other")}
        assert "dvc push pack@tiny" in pull.missing(gone)
    finally:
        served.stop()


# --- what goes wrong ----------------------------------------------------------------------------------------------------


def fetch_and_tell(source: pull.Source, start: Any, queue: Any) -> None:
    told: list[str] = []
    start.wait()
    pull.fetched(source, told.append)
    queue.put(len(told))


def test_processes_that_want_it_together_fetch_it_once(project: Path, tmp_path: Path) -> None:
    local(project)
    source = wanted(project, tmp_path / "node")
    context = multiprocessing.get_context("spawn")
    start, queue = context.Event(), context.Queue()
    processes = [context.Process(target=fetch_and_tell, args=(source, start, queue)) for _ in range(3)]
    for process in processes:
        process.start()
    time.sleep(1)
    start.set()
    assert sorted(queue.get(timeout=60) for _ in processes) == [0, 0, 1]
    for process in processes:
        process.join()
    assert_whole(pull.place(source), source)


def stored(remote: Path, source: pull.Source) -> Path:
    path = remote / "files" / "md5" / source["md5"][:2] / source["md5"][2:]
    path.chmod(0o644)
    return path


def test_a_damaged_object_is_refused_and_leaves_nothing(project: Path, tmp_path: Path) -> None:
    path = stored(local(project), source := wanted_after_push(project, tmp_path))
    data = path.read_bytes()
    path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    with pytest.raises(DataError, match=r"damaged .*dvc push pack@tiny"):
        pull.fetched(source, print)
    assert [one.name for one in pull.place(source).parent.iterdir()] == ["lock"]
    path.write_bytes(data[:-100])
    with pytest.raises(DataError, match=rf"holds {len(data) - 100} of {len(data)} bytes"):
        pull.fetched(source, print)
    path.write_bytes(data)
    pull.place(source).with_suffix(".part").write_bytes(b"what a killed process left")
    assert_whole(pull.fetched(source, print), source)


def wanted_after_push(project: Path, tmp_path: Path) -> pull.Source:
    pull.remote_of.cache_clear()
    return wanted(project, tmp_path / "node")


def test_a_pack_that_was_not_pushed_names_the_command(project: Path, tmp_path: Path) -> None:
    dvc(project, "remote", "add", "--quiet", "-d", "lab", "../remote")
    source = wanted(project, tmp_path / "node")
    assert "run `dvc push pack@tiny`" in pull.missing(source)
    with pytest.raises(DataError, match="run `dvc push pack@tiny`"):
        pull.fetched(source, print)


def test_a_lock_file_that_names_another_pack_is_told(project: Path, tmp_path: Path) -> None:
    local(project)
    source = {**wanted(project, tmp_path / "node"), "digest": "0" * 64}
    with pytest.raises(DataError, match=r"dvc\.lock names another pack"):
        pull.fetched(source, print)
    assert not pull.place(source).exists()


def test_a_full_disk_is_told_before_anything_is_fetched(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    local(project)
    source = wanted(project, tmp_path / "node")
    monkeypatch.setattr(pull.shutil, "disk_usage", lambda folder: shutil._ntuple_diskusage(10, 9, 1))
    assert "make room or set cluster.data" in pull.missing(source)
    with pytest.raises(DataError, match=r"make room or set cluster\.data"):
        pull.fetched(source, print)


def test_no_secret_of_the_configuration_goes_along(project: Path, tmp_path: Path) -> None:
    push_nothing = ("remote", "add", "--quiet", "-d", "lab", "s3://packs/dvc")
    dvc(project, *push_nothing)
    dvc(project, "remote", "modify", "--local", "lab", "secret_access_key", "S3CRET")
    dvc(project, "remote", "modify", "--local", "lab", "access_key_id", "S3CRET")
    assert "S3CRET" in (project / ".dvc" / "config.local").read_text()
    assert "S3CRET" not in repr(wanted(project, tmp_path / "node"))
    config = project / ".dvc" / "config"
    config.write_text(config.read_text().replace("s3://packs/dvc", "ssh://me:S3CRET@host/remote"))
    pull.remote_of.cache_clear()
    with pytest.raises(SettingsError, match="holds a password") as raised:
        wanted(project, tmp_path / "node")
    assert "S3CRET" not in str(raised.value)


def test_without_a_remote_or_a_record_nothing_can_be_fetched(project: Path, tmp_path: Path) -> None:
    folder = project / "data" / "prepared" / "tiny"
    assert pull.source(project, folder, "digest", "", "data") is None
    with pytest.raises(SettingsError, match="no such DVC remote"):
        pull.source(project, folder, "digest", "lab", "data")
    dvc(project, "remote", "add", "--quiet", "-d", "lab", "../remote")
    pull.remote_of.cache_clear()
    assert pull.source(project, folder.with_name("other"), "digest", "", "data") is None
