"""What runs on the hosts of the laboratory: a Ray cluster with token authentication, and MLflow on PostgreSQL."""

import contextlib
import importlib.util
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

from lab.hosts import Host, Lab, ended, kill, wait_for

RAY = str(Path(sys.executable).with_name("ray"))
MLFLOW = str(Path(sys.executable).with_name("mlflow"))
OBJECT_STORE = 100_000_000  # bytes; the least that Ray takes is 75 MB


class Cluster:
    """`ray start --head` on one host and `ray start --address` on workers of one CPU each. The head runs no trials."""

    def __init__(self, lab: Lab, workers: int = 2, memory: int = 0):
        """`memory` (bytes) limits each worker's host."""
        self.memory = memory if lab.limits_memory else 0
        self.lab, self.names = lab, [f"worker{number}" for number in range(1, workers + 1)]
        self.token = secrets.token_hex(32)
        lab.environment |= {
            "RAY_AUTH_MODE": "token", "RAY_USAGE_STATS_ENABLED": "0", "RAY_DISABLE_IMPORT_WARNING": "1",
            "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "RAY_worker_niceness": "0",
        }  # fmt: skip
        self._started: dict[str, subprocess.Popen[str]] = {}

    @property
    def head(self) -> Host:
        return self.lab.hosts["head"]

    @property
    def address(self) -> str:
        return f"{self.head.address}:{self.port}"

    @property
    def client_address(self) -> str:
        """For a driver on a machine that is no part of the cluster."""
        return f"ray://{self.head.address}:{self.client_port}"

    def start(self) -> None:
        """Head and workers, all anew; returns when every worker is alive."""
        self.start_head()
        for name in self.names:
            self.start_worker(name, wait=not self.head.separate)  # on one machine they would take each other's files
        self.wait_for_workers(len(self.names))

    def start_head(self) -> None:
        host = self._host("head", 1)
        self.port, self.client_port = (6379, 10001) if host.separate else (_free_port(), _free_port())
        client = [f"--ray-client-server-port={self.client_port}"] if importlib.util.find_spec("grpc") else []
        self._ray(host, "--head", f"--port={self.port}", *client, "--num-cpus=0")

    def start_worker(self, name: str, *, wait: bool = True) -> Host:
        """Make a worker's host, anew where there was one, and let it join."""
        if name not in self.names:
            self.names.append(name)
        host = self._host(name, 2 + self.names.index(name), self.memory)
        before = self.alive() if wait else 0
        self._ray(host, f"--address={self.address}", "--num-cpus=1", wait=wait)
        if wait:
            self.wait_for_workers(before + 1)
        return host

    def desk(self) -> Host:
        """A machine that is no part of the cluster, with its token: where somebody gives commands."""
        return self.lab.hosts.get("desk") or self._host("desk", 50)

    def kill_worker(self, name: str) -> None:
        self.lab.hosts[name].kill()

    def stop_worker(self, name: str) -> None:
        """In order, so that the head knows at once."""
        host, before = self.lab.hosts[name], self.alive()
        if host.separate:
            host.call(RAY, "stop")
        host.kill()
        self.names.remove(name)
        wait_for(lambda: self.alive() < before, 60, "the head has noticed that a worker is gone")

    def kill(self) -> None:
        """Every host of the cluster at once, the head first."""
        for name in ["head", *self.names]:
            if name in self.lab.hosts:
                self.lab.hosts[name].kill()

    def alive(self) -> int:
        """Workers that the head calls alive."""
        said = self.head.run([sys.executable, "-c", ALIVE, self.address], timeout=60)
        assert said.returncode == 0, said.stdout
        return int(said.stdout.split()[-1])

    def wait_for_workers(self, count: int, seconds: float = 120) -> None:
        said = self.head.run(
            [sys.executable, "-c", ALIVE, self.address, str(count), str(seconds)], timeout=seconds + 60
        )
        assert said.returncode == 0, f"{count} workers are not alive after {seconds:g} s:\n{said.stdout}\n{self.logs()}"
        for name, process in list(self._started.items()):
            said_there = process.communicate(timeout=60)[0]
            assert process.returncode == 0, f"{name}: ray start: {said_there}"
            del self._started[name]

    def logs(self) -> str:
        """What `ray start` said where it failed."""
        return "\n".join(
            f"{name}: {process.communicate()[0]}"
            for name, process in self._started.items()
            if process.poll() not in (None, 0)
        )

    def _host(self, name: str, number: int, memory: int = 0) -> Host:
        host = self.lab.host(name, number, memory)
        folder = host.own_home / ".ray"
        folder.mkdir(mode=0o700, exist_ok=True)
        (folder / "auth_token").touch(mode=0o600)
        (folder / "auth_token").write_text(self.token)
        return host

    def _ray(self, host: Host, *arguments: str, wait: bool = True) -> None:
        command = [
            RAY,
            "start",
            *arguments,
            f"--node-ip-address={host.address}",
            f"--object-store-memory={OBJECT_STORE}",
        ]
        command += ["--include-dashboard=false"] if "--head" in arguments else []
        command += [] if host.separate else [f"--temp-dir={self.lab.base / 'ray'}"] if "--head" in arguments else []
        if wait:
            host.call(*command)
        else:
            self._started[host.name] = host.popen(command)


# Asks the head itself: `ray status` and the state API need the dashboard.
ALIVE = """
import os, sys, time
from ray._raylet import GcsClient
address, count, seconds = sys.argv[1], int((sys.argv[2:] or [0])[0]), float((sys.argv[3:] or [0])[0])
deadline = time.monotonic() + seconds
while True:
    nodes = GcsClient(address=address).get_all_node_info().values()
    alive = sum(node.state == 0 and not node.is_head_node for node in nodes)
    if alive >= count or time.monotonic() > deadline:
        break
    time.sleep(0.2)
print(alive)
sys.exit(alive < count)
"""


class Tracking:
    """An MLflow server with served artifacts, on PostgreSQL; both on a host of their own."""

    def __init__(self, lab: Lab):
        self.lab = lab
        self.bin = postgresql()
        self.server: subprocess.Popen[str] | None = None
        self.host = lab.host(
            "store", 100
        )  # here: a host dies with the thread that made it, and `start` may have one of its own
        self.log = self.host.own_home / "server.log"

    def start(self) -> None:
        self.port = 5000 if self.host.separate else _free_port()
        self.uri = f"http://{self.host.address}:{self.port}"
        self.folder = self.host.own_home / "postgresql"
        self.inside = self.host.home / "postgresql"
        self.folder.mkdir(exist_ok=True)
        if os.geteuid() == 0:
            shutil.chown(self.folder, "postgres", "postgres")
        self._postgres("initdb", "-D", str(self.inside), "-U", "mlflow", "-A", "trust", "-E", "UTF8", "--no-sync")
        self.start_postgresql()
        self._postgres("createdb", "-h", str(self.inside), "-U", "mlflow", "mlflow")
        self.start_server()

    def start_postgresql(self) -> None:
        options = f"-c listen_addresses='' -c unix_socket_directories='{self.inside}'"
        self._postgres("pg_ctl", "-D", str(self.inside), "-o", options, "-l", str(self.inside / "log"), "-w", "start")

    def stop_postgresql(self, mode: str = "fast") -> None:
        """`fast` drops connections and ends in order, `immediate` is a crash."""
        self._postgres("pg_ctl", "-D", str(self.inside), "-m", mode, "-w", "stop")

    def start_server(self, *, wait: bool = True) -> None:
        command = [
            MLFLOW, "server", "--host", self.host.address, "--port", str(self.port), "--workers", "1",
            "--allowed-hosts", f"{self.host.address}:{self.port}", "--cors-allowed-origins", self.uri,
            "--backend-store-uri", f"postgresql+psycopg2://mlflow@/mlflow?host={self.inside}",
            "--serve-artifacts", "--artifacts-destination", str(self.host.home / "artifacts"),
        ]  # fmt: skip
        environment = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
        with self.log.open("a") as log:
            self.server = self.host.popen(command, environment, stdout=log, cwd="/")
        if wait:
            self.wait()

    def wait(self, seconds: float = 120) -> None:
        """Until the server answers."""
        assert self.server is not None
        deadline = time.monotonic() + seconds
        while not self.answers():
            working = self.server.poll() is None and time.monotonic() < deadline
            assert working, f"the MLflow server does not answer:\n{self.log.read_text()}"
            time.sleep(0.2)

    def answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.uri}/health", timeout=2) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    def stop_server(self, number: int = signal.SIGKILL) -> None:
        assert self.server is not None
        kill(self.server, number)
        with ended(self.server):
            self.server.wait(30)

    def query(self, sql: str) -> list[list[str]]:
        """Ask PostgreSQL itself -> rows of strings."""
        psql = self._postgres(
            "psql", "-h", str(self.inside), "-U", "mlflow", "-d", "mlflow", "-At", "-F", "\t", "-c", sql
        )
        return [line.split("\t") for line in psql.splitlines()]

    def close(self) -> None:
        if self.server is not None:
            with contextlib.suppress(Exception):
                self.stop_server()

    def _postgres(self, tool: str, *arguments: str) -> str:
        """Run one of PostgreSQL's tools as its own user: it refuses to run as root."""
        become = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"] if os.geteuid() == 0 else []
        said = self.lab.base / f"{tool}.said"  # no pipe: the server that pg_ctl leaves behind would hold it open
        with said.open("w") as file:
            done = self.host.run([*become, str(self.bin / tool), *arguments], stdout=file, cwd="/")
        assert done.returncode == 0, f"{tool} {' '.join(arguments)}: {said.read_text()}"
        return said.read_text()


def postgresql() -> Path:
    """The folder of PostgreSQL's programs. Raises FileNotFoundError when it is not installed."""
    for folder in sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True):
        if (folder / "initdb").exists():
            return folder
    found = shutil.which("initdb")
    if found is None:
        raise FileNotFoundError("PostgreSQL is not installed (Debian: postgresql)")
    return Path(found).resolve().parent


def _free_port() -> int:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return int(listening.getsockname()[1])
