"""Several hosts on this machine: each with an address, a host name, processes, a /tmp and a home of its own, on one network.

A host is a set of Linux namespaces held by one process. When that process dies the kernel ends every process of the host and
takes its network and its mounts away, and it dies with the test process: nothing is left behind, whatever ends the tests.
Where namespaces are not allowed `Plain` hosts stand in: groups of processes that share everything else.
"""

import contextlib
import ctypes
import functools
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import psutil

ENTER = Path(__file__).with_name("enter.py")
PLACE = Path("/var/tmp")  # outside /tmp, which each host has for itself
MEMORY_GROUPS = Path("/sys/fs/cgroup/memory")  # control groups of version 1

# The first process of a host: it also reaps orphans, else a killed process would stay visible as a zombie.
FIRST_PROCESS = r"""
set -e
hostname "$NAME"
ip link set lo up
mkdir -p "$BASE/home"
mount --bind "$BASE/hosts/$NAME/home" "$BASE/home"
for kept in $KEPT; do
  mkdir -p "$BASE/hosts/$NAME/tmp${kept#/tmp}"
  mount --bind "$kept" "$BASE/hosts/$NAME/tmp${kept#/tmp}"
done
mount --rbind "$BASE/hosts/$NAME/tmp" /tmp
mount -t tmpfs none /dev/shm
[ -z "$GROUP" ] || mount --bind "$GROUP" /sys/fs/cgroup/memory
mount -t tmpfs none "$BASE/hosts"  # what the others keep to themselves
echo ready
exec <&-
set +e
while :; do sleep 3600 & wait $!; done
"""


def namespaces() -> str:
    """Why hosts with namespaces of their own cannot be made here; '' when they can."""
    if os.geteuid() != 0:
        return "namespaces need root"
    for tool in ("unshare", "ip", "bridge"):
        if shutil.which(tool) is None:
            return f"`{tool}` is not here (Debian: iproute2, util-linux)"
    made = subprocess.run(
        ["unshare", "-n", "-u", "-i", "-m", "-p", "--fork", "ip", "link", "add", "br0", "type", "bridge"],
        capture_output=True,
        text=True,
        check=False,
    )
    return "" if made.returncode == 0 else f"namespaces are not allowed here: {made.stderr.strip()}"


class Host:
    """One host. `memory` (bytes) limits all of its processes together."""

    separate = True  # has an address, a name, a /tmp of its own

    def __init__(self, lab: "Lab", name: str, number: int, memory: int = 0):
        self.lab, self.name, self.address, self._port = lab, name, f"{lab.subnet}.{number}", f"h{number}"
        self.folder = lab.base / "hosts" / name
        self.group = ""
        for part in ("tmp", "home"):
            (self.folder / part).mkdir(parents=True, exist_ok=True)
        (self.folder / "tmp").chmod(0o1777)
        if memory:
            group = MEMORY_GROUPS / f"{lab.base.name}-{name}"
            group.mkdir(exist_ok=True)
            (group / "memory.limit_in_bytes").write_text(str(memory))
            self.group = str(group)
        self.first = lab.first_process(name, self.group)
        if lab.switch is not None:
            self._connect(lab.switch)

    def _connect(self, switch: int) -> None:
        first = str(self.first)
        # The kernel takes the network of a host that died away when it has the time for it.
        with contextlib.suppress(AssertionError):
            _ip("link", "del", self._port, inside=switch)
        _ip("link", "add", "eth0", "netns", first, "type", "veth", "peer", "name", self._port, "netns", str(switch))
        _ip("link", "set", self._port, "master", "br0", "up", inside=switch)
        _ip("addr", "add", f"{self.address}/24", "dev", "eth0", inside=self.first)
        _ip("link", "set", "eth0", "up", inside=self.first)

    @property
    def home(self) -> Path:
        return self.lab.base / "home"

    @property
    def private(self) -> Path:
        """This host's /tmp as the test process sees it."""
        return self.folder / "tmp"

    @property
    def own_home(self) -> Path:
        """This host's home as the test process sees it."""
        return self.folder / "home"

    def popen(
        self, command: Sequence[str], env: Mapping[str, str] | None = None, **options: Any
    ) -> subprocess.Popen[str]:
        """Start a command here, as a shell in a terminal would: the leader of a process group of its own."""
        options = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "cwd": self.lab.shared} | options
        entered = [sys.executable, "-S", "-E", str(ENTER), str(self.first), self.group, *command]
        environment = {**self.environment(), **(env or {})}
        return subprocess.Popen(
            entered, env=environment, text=True, start_new_session=True, stdin=subprocess.DEVNULL, **options
        )

    def environment(self) -> dict[str, str]:
        """What a user's shell has here."""
        kept = {
            name: value for name, value in os.environ.items() if not name.startswith(("RAY_", "MLFLOW_", "PYTEST_"))
        }
        tools = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        return {
            **kept,
            **self.lab.environment,
            "HOME": str(self.home),
            "PATH": tools,
            "TMPDIR": "/tmp",
            "PYTHONUNBUFFERED": "1",
        }

    def run(
        self, command: Sequence[str], env: Mapping[str, str] | None = None, timeout: float = 120, **options: Any
    ) -> subprocess.CompletedProcess[str]:
        """Run a command here to its end -> exit status and what it said."""
        process = self.popen(command, env, **options)
        try:
            said, _ = process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            kill(process)
            said, _ = process.communicate()
            raise AssertionError(f"{self.name}: {' '.join(command)}: not done after {timeout:g} s:\n{said}") from None
        return subprocess.CompletedProcess(command, process.returncode, said, "")

    def call(self, *command: str, **options: Any) -> str:
        """Run a command that must succeed -> what it said."""
        done = self.run(command, **options)
        assert done.returncode == 0, f"{self.name}: {' '.join(command)}: exit status {done.returncode}:\n{done.stdout}"
        return done.stdout

    def processes(self) -> list[psutil.Process]:
        """Every process of this host but its first."""
        try:
            below = Path(f"/proc/{self.first}/ns/pid").stat().st_ino
        except OSError:
            return []
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(OSError, psutil.Error):
                if process.pid != self.first and Path(f"/proc/{process.pid}/ns/pid").stat().st_ino == below:
                    found.append(process)
        return found

    def kill(self) -> None:
        """Pull the plug: all of its processes at once."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.first, signal.SIGKILL)
        wait_for(lambda: not psutil.pid_exists(self.first) or not _alive(self.first), 20, f"{self.name} is dead")

    def cut(self) -> None:
        """The switch drops every frame of this host: nobody is told."""
        assert self.lab.switch is not None
        _bridge("link", "set", "dev", self._port, "state", "0", inside=self.lab.switch)

    def freeze(self) -> None:
        """Stop every process where it is, as when a virtual machine is paused or its storage hangs."""
        self.call("bash", "-c", "kill -STOP -1")

    def thaw(self) -> None:
        self.call("bash", "-c", "kill -CONT -1")

    def mend(self) -> None:
        assert self.lab.switch is not None
        _bridge("link", "set", "dev", self._port, "state", "3", inside=self.lab.switch)


class Plain(Host):
    """A group of processes where namespaces are not allowed: it can be killed, but has neither an address nor files of its own."""

    separate = False

    def __init__(self, lab: "Lab", name: str, number: int, memory: int = 0):
        self.lab, self.name, self.address, self.group, self.first = lab, name, "127.0.0.1", "", 0
        self.folder = lab.base / "hosts" / name
        for part in ("tmp", "home"):
            (self.folder / part).mkdir(parents=True, exist_ok=True)

    @property
    def home(self) -> Path:
        return self.folder / "home"

    def popen(
        self, command: Sequence[str], env: Mapping[str, str] | None = None, **options: Any
    ) -> subprocess.Popen[str]:
        options = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "cwd": self.lab.shared} | options
        environment = {
            **self.environment(),
            "TMPDIR": str(self.folder / "tmp"),
            **(env or {}),
            "A3M_LAB_HOST": self._mark,
        }
        return subprocess.Popen(
            list(command), env=environment, text=True, start_new_session=True, stdin=subprocess.DEVNULL, **options
        )

    @property
    def _mark(self) -> str:
        return f"{self.lab.id}-{self.name}"

    def processes(self) -> list[psutil.Process]:
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                if process.environ().get("A3M_LAB_HOST") == self._mark:
                    found.append(process)
        return found

    def kill(self) -> None:
        while alive := self.processes():
            for process in alive:
                with contextlib.suppress(psutil.Error):
                    process.kill()
            psutil.wait_procs(alive, 5)


class Lab:
    """The hosts of one test session, their network, and the folder that all of them share at the same path.

    Use it as a context manager.
    """

    def __init__(self) -> None:
        self.id = uuid.uuid4().hex[:4]
        forced = "A3M_LAB=processes asks for it" if os.environ.get("A3M_LAB") == "processes" else ""
        self.without = forced or namespaces()  # why there are no namespaces; '' when there are
        self.environment: dict[str, str] = {}
        self.hosts: dict[str, Host] = {}
        self._holders: list[subprocess.Popen[str]] = []
        self.switch: int | None = None
        number = int(self.id, 16)
        self.subnet = f"10.{128 + number // 256 % 100}.{number % 256}"

    def __enter__(self) -> "Lab":
        for stale in PLACE.glob("a3m-lab-*"):
            if not psutil.pid_exists(int(stale.name.split("-")[2])):
                _remove(stale)
        self.base = Path(tempfile.mkdtemp(prefix=f"a3m-lab-{os.getpid()}-", dir=PLACE))
        self.base.chmod(0o755)  # PostgreSQL's own user must pass
        self.shared = self.base / "shared"
        self.shared.mkdir()
        try:
            if not self.without:
                self._network()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def mount(self, name: str, megabytes: int) -> Path:
        """A small file system in the shared folder, one that can be filled. Before the first host is made: hosts see it then."""
        folder = self.shared / name
        folder.mkdir()
        assert not self.hosts, "hosts that are there would not see it"
        if not self.without:
            _tool("mount", ["-t", "tmpfs", "-o", f"size={megabytes}m", "a3m-lab", str(folder)], None)
        return folder

    @property
    def limits_memory(self) -> bool:
        """Whether a host's memory can be limited: Ray's memory monitor then watches that, not this machine's."""
        return not self.without and (MEMORY_GROUPS / "memory.limit_in_bytes").exists()

    @property
    def kind(self) -> str:
        return f"processes without namespaces ({self.without})" if self.without else "hosts in namespaces of their own"

    def host(self, name: str, number: int, memory: int = 0) -> Host:
        """Make a host, or make it anew after `kill`: with the same name and address, an empty /tmp and its old home."""
        if name in self.hosts:
            self.hosts[name].kill()
            shutil.rmtree(self.base / "hosts" / name / "tmp", ignore_errors=True)
        self.hosts[name] = (Plain if self.without else Host)(self, name, number, memory)
        return self.hosts[name]

    def first_process(self, name: str, group: str = "") -> int:
        """Make the namespaces of a host -> the process that holds them."""
        (self.base / "hosts" / name / "home").mkdir(parents=True, exist_ok=True)
        (self.base / "hosts" / name / "tmp").mkdir(parents=True, exist_ok=True)
        kept = {str(Path(path).resolve()) for path in (sys.prefix, sys.base_prefix, ENTER.parents[2])}
        environment = {
            "PATH": os.environ["PATH"], "BASE": str(self.base), "NAME": name, "GROUP": group,
            "KEPT": " ".join(sorted(path for path in kept if path.startswith("/tmp/"))),
        }  # fmt: skip
        holder = subprocess.Popen(
            ["unshare", "-n", "-u", "-i", "-m", "-p", "--fork", "--kill-child", "--mount-proc", "bash", "-c", FIRST_PROCESS],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment,
            start_new_session=True, preexec_fn=functools.partial(_with_parent, group),
        )  # fmt: skip
        self._holders.append(holder)
        assert holder.stdout is not None
        said = holder.stdout.readline()
        assert said == "ready\n", f"{name}: {said}{holder.stdout.read()}"
        return int(Path(f"/proc/{holder.pid}/task/{holder.pid}/children").read_text().split()[0])

    def _network(self) -> None:
        self.switch = self.first_process("switch")
        _ip("link", "add", "br0", "type", "bridge", "forward_delay", "0", inside=self.switch)
        _ip("link", "set", "br0", "up", inside=self.switch)
        ours = f"a3m{self.id}"  # where the test process asks MLflow
        _ip("link", "add", ours, "type", "veth", "peer", "name", "outside", "netns", str(self.switch))
        _ip("link", "set", "outside", "master", "br0", "up", inside=self.switch)
        _ip("addr", "add", f"{self.subnet}.254/24", "dev", ours)
        _ip("link", "set", ours, "up")

    def close(self) -> None:
        """End everything: processes, networks, mounts, files."""
        for host in self.hosts.values():
            with contextlib.suppress(Exception):
                host.kill()
        for holder in self._holders:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(holder.pid, signal.SIGKILL)
            holder.wait()
            for pipe in (holder.stdin, holder.stdout):
                if pipe is not None:
                    with contextlib.suppress(OSError):
                        pipe.close()
        _remove(self.base)


def kill(process: subprocess.Popen[str], number: int = signal.SIGKILL) -> None:
    """Send a signal to a command's whole foreground group, as a terminal does."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, number)


@contextlib.contextmanager
def ended(process: subprocess.Popen[str]) -> Iterator[subprocess.Popen[str]]:
    """Make sure that a process is gone afterwards."""
    try:
        yield process
    finally:
        kill(process)
        process.wait()


def wait_for(true: Any, seconds: float, what: str, pause: float = 0.1) -> Any:
    """Wait until a function returns something true -> that. Raises AssertionError with `what` after so many seconds."""
    deadline = time.monotonic() + seconds
    while not (found := true()):
        assert time.monotonic() < deadline, f"after {seconds:g} s still not: {what}"
        time.sleep(pause)
    return found


def _with_parent(group: str) -> None:
    """In the new process: die when the test process dies."""
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
    if group:
        Path(group, "cgroup.procs").write_text(str(os.getpid()))


def _alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _remove(base: Path) -> None:
    """What a laboratory leaves outside its namespaces: mounts and files below its folder, and control groups."""
    mounted = [line.split()[1] for line in Path("/proc/mounts").read_text().splitlines()]
    for folder in mounted:
        if folder.startswith(f"{base}/"):
            _tool("umount", ["-l", folder], None)
    for group in MEMORY_GROUPS.glob(f"{base.name}-*"):
        with contextlib.suppress(OSError, AssertionError):
            wait_for(lambda group=group: _removed(group), 10, "its control group is empty")
    shutil.rmtree(base, ignore_errors=True)


def _removed(group: Path) -> bool:
    with contextlib.suppress(OSError):
        group.rmdir()
    return not group.exists()


def _ip(*arguments: str, inside: int | None = None) -> None:
    _tool("ip", arguments, inside)


def _bridge(*arguments: str, inside: int) -> None:
    _tool("bridge", arguments, inside)


def _tool(name: str, arguments: Sequence[str], inside: int | None) -> None:
    entered = ["nsenter", "-t", str(inside), "-n"] if inside is not None else []
    done = subprocess.run([*entered, name, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{name} {' '.join(arguments)}: {done.stderr.strip()}"
