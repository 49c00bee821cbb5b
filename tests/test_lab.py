"""The laboratory of hosts that tests/test_faults.py works in: what separates its hosts, and that nothing of it is left behind."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from lab.hosts import PLACE, Lab, kill, namespaces, wait_for

pytestmark = pytest.mark.hosts
LISTEN = (
    "import socket; s = socket.create_server(('0.0.0.0', 999)); print('listens', flush=True); s.accept(); print('met')"
)
KNOCK = "import socket, sys; socket.create_connection((sys.argv[1], 999), 2)"


@pytest.fixture(autouse=True)
def _allowed() -> None:
    if without := namespaces():
        pytest.skip(without)


def test_hosts_have_names_processes_and_files_of_their_own_and_share_one_folder() -> None:
    with Lab() as lab:
        one, two = lab.host("one", 1), lab.host("two", 2)
        assert one.call("hostname") == "one\n"
        one.call("touch", "/tmp/mine", str(lab.shared / "ours"), str(one.home / "at-home"))
        assert two.call("ls", "/tmp", str(two.home)).split() == ["/tmp:", f"{two.home}:"]
        assert two.call("ls", str(lab.shared)) == "ours\n"
        assert not list(Path("/tmp").glob("mine"))
        assert {process.name() for process in one.processes()} == {"sleep"}, "its first process waits"
        with pytest.raises(AssertionError, match="exit status 3"):
            one.call("bash", "-c", "exit 3")


def test_a_cut_host_is_reached_by_nobody_until_it_is_mended_and_a_killed_one_is_gone() -> None:
    with Lab() as lab:
        one, two = lab.host("one", 1), lab.host("two", 2)
        listening = two.popen([sys.executable, "-c", LISTEN])
        assert listening.stdout is not None
        assert listening.stdout.readline() == "listens\n"
        two.cut()
        assert "timed out" in one.run([sys.executable, "-c", KNOCK, two.address]).stdout
        two.mend()
        one.call(sys.executable, "-c", KNOCK, two.address)
        assert listening.communicate(timeout=10)[0] == "met\n"
        two.popen(["sleep", "1000"])
        wait_for(lambda: [p for p in two.processes() if p.name() == "sleep" and "1000" in p.cmdline()], 10, "it sleeps")
        inside = two.processes()
        two.kill()
        wait_for(lambda: not any(process.is_running() for process in inside), 10, "its processes are gone")
        assert lab.host("two", 2).call("hostname") == "two\n"


def test_ctrl_c_reaches_the_foreground_group_of_a_host() -> None:
    code = "import time\ntry:\n  print('works', flush=True)\n  time.sleep(60)\nexcept KeyboardInterrupt:\n  raise SystemExit(7)"
    with Lab() as lab:
        process = lab.host("one", 1).popen([sys.executable, "-c", code])
        assert process.stdout is not None
        assert process.stdout.readline() == "works\n"
        kill(process, signal.SIGINT)
        assert process.wait(10) == 7


def test_nothing_is_left_of_a_laboratory_whose_test_process_is_killed() -> None:
    code = (
        "import time\nfrom lab.hosts import Lab\nlab = Lab().__enter__()\nlab.mount('small', 1)\nhost = lab.host('one', 1, 10**9)\n"
        "host.popen(['sleep', '1000'])\nprint(lab.base, host.first, f'a3m{lab.id}', flush=True)\ntime.sleep(1000)"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent)}
    killed = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, env=environment)
    assert killed.stdout is not None
    base, first, link = killed.stdout.readline().split()
    assert psutil.pid_exists(int(first))
    assert Path("/sys/class/net", link).exists()
    killed.kill()
    killed.wait()
    wait_for(lambda: not psutil.pid_exists(int(first)), 10, "the host's first process is gone, and with it all others")
    wait_for(lambda: not Path("/sys/class/net", link).exists(), 10, "its network is gone")
    with Lab():  # the next one clears what no namespace held
        assert base not in Path("/proc/mounts").read_text()
        assert Path(base) not in list(PLACE.glob("a3m-lab-*"))
        assert not list(Path("/sys/fs/cgroup/memory").glob(f"{Path(base).name}*"))
