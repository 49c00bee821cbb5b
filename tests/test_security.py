"""What SECURITY.md promises: nothing from outside is run, nothing listens beyond what was asked for, no secret is written."""

import ast
import os
import re
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import textwrap
import time
import urllib.error
import urllib.request
from pathlib import Path

import psutil
import pytest

from a3m import runs
from a3m.cluster import session
from a3m.errors import UserError
from a3m.settings import Cluster, Train

ROOT = Path(__file__).parents[1]
CODE = sorted(
    path for folder in ("a3m", "pipelines", "sweeps", "benchmarks", "docs") for path in (ROOT / folder).rglob("*.py")
)

# --- what code may call -------------------------------------------------------------------------------------------------

FORBIDDEN = {
    "eval", "exec", "__import__", "os.system", "os.popen", "subprocess.getoutput", "subprocess.getstatusoutput",
    "pickle.load", "pickle.loads", "pickle.Unpickler", "marshal.load", "marshal.loads", "shelve.open",
    "joblib.load", "dill.load", "dill.loads", "cloudpickle.load", "cloudpickle.loads", "ray.cloudpickle.loads",
    "pandas.read_pickle", "pandas.eval", "yaml.full_load", "yaml.unsafe_load", "torch.hub.load",
    "torch.jit.load", "torch.package.PackageImporter", "mlflow.pyfunc.load_model", "mlflow.pytorch.load_model",
    "zipfile.ZipFile.extractall", "shutil.unpack_archive",
}  # fmt: skip
# Tune's own record of what a worker died of, in a folder that only this user can read: Ray has unpickled it before, when it
# came from the cluster, whose token is what that rests on.
WITHIN_THE_CLUSTER = {"a3m/cluster/tuning.py": "ray.cloudpickle.loads"}
SHELLS = {"subprocess.run", "subprocess.Popen", "subprocess.call", "subprocess.check_call", "subprocess.check_output"}


def violations(source: str) -> list[str]:
    """Calls in a source text that could run or unpack what came from outside, each with its line."""
    tree = ast.parse(source)
    names: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.asname or alias.name.partition(".")[0]: alias.name if alias.asname else alias.name.partition(".")[0]
                      for alias in node.names}  # fmt: skip
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names}

    def dotted(node: ast.expr) -> str:
        if isinstance(node, ast.Attribute):
            return f"{dotted(node.value)}.{node.attr}"
        return names.get(node.id, node.id) if isinstance(node, ast.Name) else "?"

    def safe(call: ast.Call) -> bool:
        """Whether every loader that a call of yaml.load names is a safe one."""
        named = " ".join(ast.unparse(one) for one in [*call.args[1:], *(keyword.value for keyword in call.keywords)])
        return {"SafeLoader"} >= set(re.findall(r"(?<=C)SafeLoader|\w*Loader", named)) - {
            "CSafeLoader"
        } and "Loader" in named

    def given(call: ast.Call, keyword: str) -> object:
        """The literal value of a keyword; None when it is not given, "?" when it is no literal."""
        for one in call.keywords:
            if one.arg == keyword:
                return one.value.value if isinstance(one.value, ast.Constant) else "?"
        return None

    found = []
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        name, last = dotted(node.func), dotted(node.func).rpartition(".")[2]
        wrong = (
            name in FORBIDDEN
            or (name in ("torch.load", "torch.serialization.load") and given(node, "weights_only") is not True)
            or (name in ("numpy.load", "numpy.lib.npyio.load") and given(node, "allow_pickle") not in (None, False))
            or (name in ("yaml.load", "yaml.load_all") and not safe(node))
            or (name in SHELLS and given(node, "shell") not in (None, False))
            or (name in SHELLS and bool(node.args) and isinstance(node.args[0], ast.Constant | ast.JoinedStr))
            or (last == "extractall" and given(node, "filter") != "data")
            or (last == "eval" and bool(node.args))  # a data frame's, of a string; a network's has no argument
        )  # fmt: skip
        if wrong:
            found.append(f"line {node.lineno}: {name}")
    return found


@pytest.mark.parametrize(
    "bad",
    [
        "import torch\ntorch.load('x')",
        "import torch as t\nt.load('x', weights_only=False)",
        "from torch import load as read\nread('x', map_location='cpu')",
        "import torch\nchosen = False\ntorch.load('x', weights_only=chosen)",
        "import numpy as np\nnp.load('x', allow_pickle=True)",
        "import pickle\npickle.loads(b'')",
        "from pickle import load\nload(open('x', 'rb'))",
        "import pandas as pd\npd.read_pickle('x')",
        "import pandas as pd\npd.DataFrame().eval('a + b')",
        "import yaml\nyaml.load('x', Loader=yaml.Loader)",
        "import yaml\nyaml.load('x')",
        "import yaml\nyaml.load('x', getattr(yaml, 'CLoader', yaml.SafeLoader))",
        "import joblib\njoblib.load('x')",
        "eval('1')",
        "exec('x = 1')",
        "import os\nos.system('ls')",
        "import subprocess\nsubprocess.run(['ls'], shell=True)",
        "import subprocess as s\ns.Popen('ls')",
        "import subprocess\nname = 'x'\nsubprocess.run(f'ls {name}', check=True)",
        "import tarfile\ntarfile.open('x').extractall('y')",
        "import tarfile\nwith tarfile.open('x') as file:\n    file.extractall('y')",
        "import zipfile\nzipfile.ZipFile('x').extractall('y')",
        "import shutil\nshutil.unpack_archive('x', 'y')",
    ],
)
def test_what_could_run_or_unpack_something_from_outside_is_recognised(bad: str) -> None:
    assert violations(bad), bad


def test_what_is_harmless_is_not_taken_for_a_violation() -> None:
    good = """
        import io, subprocess, pickle, tarfile
        import numpy as np, torch, yaml, pandas as pd
        torch.load(io.BytesIO(b""), weights_only=True, map_location="cpu")
        np.load("x"); np.load("x", allow_pickle=False)
        yaml.safe_load("a: 1")
        yaml.load("a: 1", getattr(yaml, "CSafeLoader", yaml.SafeLoader))
        subprocess.run(["git", "status"], check=True)
        torch.nn.Linear(1, 1).eval()
        tarfile.open("x").extractall("y", filter="data")
        kept = pickle.UnpicklingError
    """
    assert violations(textwrap.dedent(good)) == []


@pytest.mark.parametrize("path", CODE, ids=lambda path: str(path.relative_to(ROOT)))
def test_nothing_is_unpickled_evaluated_unpacked_or_given_to_a_shell(path: Path) -> None:
    allowed = WITHIN_THE_CLUSTER.get(str(path.relative_to(ROOT)), "nothing")
    assert [one for one in violations(path.read_text()) if not one.endswith(f" {allowed}")] == []


def test_no_archive_is_unpacked_at_all() -> None:
    """SECURITY.md says so; the day that one is, it must say how its members are kept inside their folder."""
    assert not [path for path in CODE if re.search(r"extractall|unpack_archive|\.extract\(", path.read_text())]


# --- what the repository holds ------------------------------------------------------------------------------------------

SECRET = re.compile(
    r"-----BEGIN [A-Z ]*PRIVATE KEY|\bAKIA[0-9A-Z]{16}\b|\bgh[pousr]_[A-Za-z0-9]{36}|\bhf_[A-Za-z0-9]{30,}|\bxox[bp]-[0-9]"
    r"|\bsk-[A-Za-z0-9]{32,}|\beyJ[A-Za-z0-9_-]{20,}\.eyJ"
)
IN_URL = re.compile(r"\b[a-z][a-z0-9+.-]*://[^\s/:@\"'<>{}$]+:[^\s/@\"'<>{}$]+@[\w.-]+")
MACHINE = re.compile(r"(?<![\w.$~}])/(?:home/[a-z][\w-]*|Users/\w+|root|work|workspace)/[\w.]|[A-Z]:\\\\Users")
REGISTRY = re.compile(
    r"https?://(?:[\w.-]*\b(?:pypi|artifactory|nexus|devpi|proxy|mirror)[\w.-]*)(?::\d+)?/|--(?:extra-)?index-url|--trusted-host"
)


def tracked() -> list[Path]:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    paths = [ROOT / name for name in listed.split("\0") if name]
    return [path for path in paths if path.is_file() and b"\0" not in path.read_bytes()[:8192]]


def test_the_patterns_find_what_they_are_for() -> None:
    assert SECRET.search("-----BEGIN OPENSSH " + "PRIVATE KEY-----")
    assert SECRET.search("key = AKIA" + "A" * 16)
    assert IN_URL.search("postgresql://ann:" + "hunter2@db.example/x")
    assert not IN_URL.search("postgresql+psycopg2://db.example/x")
    for path in ("/ro" + "ot/.ssh/x", "see /ho" + "me/ann/data", "'/wo" + "rk/main/x'"):
        assert MACHINE.search(path)
    assert REGISTRY.search("https://pypi" + ".example.com/simple")


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="no git repository: nothing is tracked")
def test_no_tracked_file_holds_a_secret_a_path_of_a_machine_or_a_registry() -> None:
    found = []
    for path in tracked():
        text = path.read_text(errors="replace")
        name = str(path.relative_to(ROOT))
        patterns = [SECRET, MACHINE, REGISTRY] if name.startswith("tests/") else [SECRET, MACHINE, REGISTRY, IN_URL]
        found += [f"{name}: {match.group()}" for pattern in patterns for match in pattern.finditer(text)]
    assert found == []


@pytest.mark.parametrize("name", ["x' OR tags.study LIKE '%", "it's", "a\\' OR 1=1"])
def test_no_name_changes_what_a_search_of_runs_asks_for(tmp_path: Path, name: str) -> None:
    store = runs.open_store("", tmp_path)
    experiment = store.experiment("tiny", tmp_path)
    store.parent(experiment, "ablation", "0123", "note", reopen=True)
    with pytest.raises(UserError, match="no quotes"):
        store.find(experiment, value=name)
    with pytest.raises(UserError, match="no quotes"):
        store.parent(experiment, name, "0123", "note", reopen=True)
    with pytest.raises(UserError, match="no backticks"):
        store.find(experiment, "study` LIKE '%' AND tags.`space")
    assert store.find(experiment, "study", "%; -- %") == {}
    assert set(store.find(experiment, "study")) == {"ablation"}


# --- what listens -------------------------------------------------------------------------------------------------------


def listening(process: psutil.Process) -> dict[str, set[str]]:
    """Address -> names of the processes, of all sockets that a process and its children listen on."""
    found: dict[str, set[str]] = {}
    for one in [process, *process.children(recursive=True)]:
        try:
            for connection in one.net_connections("inet"):
                if connection.status == psutil.CONN_LISTEN:
                    found.setdefault(connection.laddr.ip.removeprefix("::ffff:"), set()).add(one.name())
        except psutil.NoSuchProcess:
            continue
    return found


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def answer(url: str, host: str) -> int:
    """HTTP status for a request with a Host header of one's choice, as a page that was rebound to loopback sends it."""
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers={"Host": host}), timeout=10) as reply:
            return reply.status
    except urllib.error.HTTPError as error:
        return error.code


@pytest.mark.slow
def test_the_mlflow_ui_listens_on_loopback_and_refuses_foreign_hosts_whatever_the_environment_says(
    tmp_path: Path,
) -> None:
    for name in ("params.yaml", "dvc.yaml"):
        (tmp_path / name).write_bytes((ROOT / name).read_bytes())
    runs.open_store("", tmp_path)
    port = free_port()
    process = subprocess.Popen(
        [sys.executable, "-m", "a3m", "ui", f"port={port}"],
        cwd=tmp_path, env=os.environ | {"MLFLOW_HOST": "0.0.0.0", "PYTHONPATH": str(ROOT)}, start_new_session=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    try:
        deadline = time.monotonic() + 90
        while True:
            assert process.poll() is None, process.communicate()[0]
            assert time.monotonic() < deadline
            try:
                if answer(f"http://127.0.0.1:{port}/version", f"127.0.0.1:{port}") == 200:
                    break
            except OSError:
                time.sleep(0.3)
        assert set(listening(psutil.Process(process.pid))) == {"127.0.0.1"}
        assert answer(f"http://127.0.0.1:{port}/version", "evil.example") == 200, "holds nothing"
        assert answer(f"http://127.0.0.1:{port}/ajax-api/2.0/mlflow/experiments/search", "evil.example") == 403
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


# --- Ray: who gets in ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["disabled", "", "none", "TOKEN "])
def test_a_ray_without_token_authentication_is_neither_started_nor_joined(
    monkeypatch: pytest.MonkeyPatch, mode: str
) -> None:
    monkeypatch.setenv("RAY_AUTH_MODE", mode)
    for address in ("local", "auto", "ray://127.0.0.1:1"):
        with pytest.raises(UserError, match="RAY_AUTH_MODE"), session.connected(Cluster(address=address), Train()):
            raise AssertionError


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_rays_token_is_made_for_its_user_alone_and_one_that_others_can_read_is_closed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
        monkeypatch.delenv(name, raising=False)
    token = tmp_path / ".ray" / "auth_token"
    session.private_token(create=False)
    assert not token.exists(), "a cluster's token is the cluster's: none is made up for it"
    session.private_token(create=True)
    first = token.read_text()
    assert re.fullmatch("[0-9a-f]{64}", first)
    assert mode_of(token) == 0o600
    assert mode_of(token.parent) == 0o700
    assert [path.name for path in token.parent.iterdir()] == ["auth_token"]
    token.chmod(0o644)
    session.private_token(create=True)
    assert (token.read_text(), mode_of(token)) == (first, 0o600)
    elsewhere = tmp_path / "cluster_token"
    elsewhere.write_text("x")
    elsewhere.chmod(0o640)
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(elsewhere))
    session.private_token(create=False)
    assert mode_of(elsewhere) == 0o600


NETWORK = """
ip link set lo up
ip link add out0 type veth peer name out1
ip addr add 10.99.7.2/24 dev out0
ip link set out0 up; ip link set out1 up
ip route add default via 10.99.7.1
export RAY_TMPDIR=$SHORT HOME=$WORK/home PYTHONPATH=$PROJECT
"""  # a host of its own with an outer address, which nobody else is connected to


def in_a_network_of_its_own(folder: Path, script: str, timeout: float) -> str:
    """Run a shell script as a host of its own; whatever it starts ends with it."""
    (folder / "home").mkdir(exist_ok=True)
    kind = ["unshare", "-n"] if os.geteuid() == 0 else ["unshare", "-r", "-n"]
    if subprocess.run([*kind, "true"], check=False, capture_output=True).returncode:
        pytest.skip("network namespaces are not allowed here")
    # Ray's sockets lie below its folder, and the path of a socket has at most 107 characters.
    short = Path(tempfile.mkdtemp(prefix="ray-"))
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("RAY_", "MLFLOW_"))}
    places = {
        "WORK": folder,
        "SHORT": short,
        "PROJECT": ROOT,
        "PYTHON": sys.executable,
        "RAY": Path(sys.executable).with_name("ray"),
    }
    try:
        done = subprocess.run(
            [*kind, "-p", "-f", "--kill-child", "--mount-proc", "bash", "-c", NETWORK + script],
            env=clean | {name: str(place) for name, place in places.items()},
            capture_output=True, text=True, timeout=timeout, check=False, cwd=folder,
        )  # fmt: skip
        return done.stdout + done.stderr
    finally:
        shutil.rmtree(short, ignore_errors=True)


OWN = """
import os, psutil, ray
from pathlib import Path
from a3m.cluster.session import connected
from a3m.settings import Cluster, Train
with connected(Cluster(), Train()):
    @ray.remote
    def mode():
        return os.environ.get("RAY_AUTH_MODE")
    print("mode", ray.get(mode.remote()))
    heard = [c for c in psutil.net_connections("inet") if c.status == psutil.CONN_LISTEN]
    print("sockets", len(heard), sorted({c.laddr.ip.removeprefix("::ffff:") for c in heard}))
token = Path.home() / ".ray" / "auth_token"
print("token", oct(token.stat().st_mode & 0o777))
secret = token.read_text()
print("leaks", [str(p) for p in Path(os.environ["RAY_TMPDIR"]).rglob("*") if p.is_file() and secret.encode() in p.read_bytes()])
"""


@pytest.mark.cluster
def test_a_ray_of_our_own_listens_on_loopback_with_its_token_on_and_writes_that_nowhere_else(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    folder = tmp_path_factory.mktemp("own")
    (folder / "own.py").write_text(OWN)
    said = in_a_network_of_its_own(folder, "$PYTHON own.py", 120)
    assert "mode token" in said, said
    (count, addresses) = re.search(r"sockets (\d+) (\[.*\])", said).groups()
    assert int(count) >= 4, said
    assert ast.literal_eval(addresses) == ["127.0.0.1"]
    assert "token 0o600" in said
    assert "leaks []" in said


CLUSTER = """
start() {  # a head in the foreground of a process of its own, so that it ends with this shell
  RAY_AUTH_MODE=$1 $RAY start --head --port=$2 --node-ip-address=10.99.7.2 --num-cpus=1 --include-dashboard=false \
    --ray-client-server-port=$3 --temp-dir=$SHORT/$1 --block > $WORK/$1.log 2>&1 &
  for _ in $(seq 150); do ss -ltn | grep -q ":$2 " && break; sleep 0.2; done; sleep 4
}
$RAY get-auth-token --generate > /dev/null 2>&1
start token 6401 10011
echo "heard: $(ss -ltnH | awk '{print $4}' | sed 's/:[0-9]*$//' | sort -u | tr '\n' ' ')"
echo "with the token:     $(timeout 100 $PYTHON join.py 10.99.7.2:6401 2>&1 | tail -1)"
echo "with another token: $(RAY_AUTH_TOKEN=0000 timeout 100 $PYTHON join.py 10.99.7.2:6401 2>&1 | tail -1)"
echo "without a token:    $(HOME=$WORK/nobody timeout 100 $PYTHON bare.py 10.99.7.2:6401 2>&1 | tail -1)"
echo "leaks: $(grep -rlF "$(cat $HOME/.ray/auth_token)" $SHORT/token $WORK/token.log | tr '\n' ' ')"
kill %1; sleep 2
start disabled 6402 10012
echo "an open cluster:    $(timeout 100 $PYTHON join.py 10.99.7.2:6402 2>&1 | tail -1)"
"""
JOIN = """
import sys
from a3m.cluster.session import connected
from a3m.errors import UserError
from a3m.settings import Cluster, Train
try:
    with connected(Cluster(address=sys.argv[1]), Train()):
        print("joined")
except UserError as error:
    print("refused:", str(error).replace("\\n", " "))
"""
BARE = """
import os, sys
os.environ["RAY_AUTH_MODE"] = "disabled"
import ray
try:
    ray.init(address=sys.argv[1], log_to_driver=False)
    print("joined")
except Exception as error:
    print("refused:", type(error).__name__)
"""  # somebody on the network who has no token and does not use our code


@pytest.mark.cluster
def test_a_cluster_lets_nobody_in_without_its_token_and_we_join_none_that_lets_anybody_in(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    folder = tmp_path_factory.mktemp("door")
    for name, text in (("join.py", JOIN), ("bare.py", BARE)):
        (folder / name).write_text(text)
    (folder / "nobody").mkdir()
    said = in_a_network_of_its_own(folder, CLUSTER, 280)
    assert re.search(r"with the token: +joined", said), said
    assert re.search(r"with another token: +refused:", said), said
    assert re.search(r"without a token: +refused:", said), said
    assert re.search(r"an open cluster: +refused: .*RAY_AUTH_MODE=token", said), said
    assert re.search(r"leaks: *\n", said), said
    assert "*" in re.search(r"heard: (.*)", said)[1], "SECURITY.md says that a head listens on every interface"
