"""What SECURITY.md promises: nothing from outside is run, nothing listens beyond what was asked for, no secret is written."""

import ast
import csv
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
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import yaml
from PIL import Image

from a3m.cluster import session
from a3m.data.records import ATTRIBUTE
from a3m.errors import UserError
from a3m.record import runs
from a3m.settings import Cluster, Store, Train

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
    r"https?://(?:[\w.-]*\b(?:pypi|artifactory|nexus|devpi|proxy|mirror)[\w.-]*)(?::\d+)?/|--(?:extra-)?index-url|--trusted[-]host"
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
from a3m.settings import Cluster, Store, Train
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
start token 6401 9801
echo "heard: $(ss -ltnH | awk '{print $4}' | sed 's/:[0-9]*$//' | sort -u | tr '\n' ' ')"
echo "with the token:     $(timeout 100 $PYTHON join.py 10.99.7.2:6401 2>&1 | tail -1)"
echo "with another token: $(RAY_AUTH_TOKEN=0000 timeout 100 $PYTHON join.py 10.99.7.2:6401 2>&1 | tail -1)"
echo "without a token:    $(HOME=$WORK/nobody timeout 100 $PYTHON bare.py 10.99.7.2:6401 2>&1 | tail -1)"
echo "leaks: $(grep -rlF "$(cat $HOME/.ray/auth_token)" $SHORT/token $WORK/token.log | tr '\n' ' ')"
kill %1; sleep 2
start disabled 6402 9802
echo "an open cluster:    $(timeout 100 $PYTHON join.py 10.99.7.2:6402 2>&1 | tail -1)"
"""
JOIN = """
import sys
from a3m.cluster.session import connected
from a3m.errors import UserError
from a3m.settings import Cluster, Train
try:
    with connected(Cluster(address=sys.argv[1]), Train(device="cpu")):
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
@pytest.mark.timeout(600)
def test_a_cluster_lets_nobody_in_without_its_token_and_we_join_none_that_lets_anybody_in(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    folder = tmp_path_factory.mktemp("door")
    for name, text in (("join.py", JOIN), ("bare.py", BARE)):
        (folder / name).write_text(text)
    (folder / "nobody").mkdir()
    said = in_a_network_of_its_own(folder, CLUSTER, 560)
    assert re.search(r"with the token: +joined", said), said
    assert re.search(r"with another token: +refused:", said), said
    assert re.search(r"without a token: +refused:", said), said
    assert re.search(r"an open cluster: +refused: .*RAY_AUTH_MODE=token", said), said
    assert re.search(r"leaks: *\n", said), said
    assert "*" in re.search(r"heard: (.*)", said)[1], "SECURITY.md says that a head listens on every interface"


# --- names from data, and secrets from the environment ------------------------------------------------------------------

CLASSES = (
    "../../../pwned", "$(touch pwned)", "`touch pwned`", "'; DROP TABLE runs; --", '<script>alert("x")</script>',
    "=cmd|' /C touch pwned'!A0", "100% \\input{/etc/passwd} $x^{", "@SUM(1+1)*| [a](javascript:alert(1)) ünï-日本",
)  # fmt: skip
VALUES = ("<img src=x onerror=alert(1)>", "=1+1", "{{7*7}} ${7*7} %s%n", "; touch pwned")
ATTRIBUTES = ("ünï. .b-c..", "0 -rf x")  # the worst that a name of an attribute may be
SECRETS = {
    "MLFLOW_TRACKING_USERNAME": "ann", "MLFLOW_TRACKING_PASSWORD": "secret-xyz-mlflow", "PGPASSWORD": "secret-xyz-postgres",
    "AWS_ACCESS_KEY_ID": "secret-xyz-id", "AWS_SECRET_ACCESS_KEY": "secret-xyz-aws", "AWS_SESSION_TOKEN": "secret-xyz-session",
    "RAY_AUTH_TOKEN": "secret-xyz-ray" + "0" * 50,
}  # fmt: skip
SETTINGS = """
twins: []
datasets:
  manifest: {reader: manifest, images: manifest}
studies:
  ablation: manifest
figures:
  figure2: {study: ablation, file: samples.npz}
data: {source: raw}
ablation: {seeds: [0], groups: [], beside: []}
train: {epochs: 1, batch_size: 8}
cluster: {max_concurrent: 1}
hydra:"""


def write_hostile_images(folder: Path) -> None:
    """Eight classes of eight images whose names, classes and values of attributes try what names can try."""
    rng = np.random.default_rng(0)
    rows = [["image", "label", "split", *ATTRIBUTES]]
    for label, name in enumerate(CLASSES):
        place = Path(f"$(touch pwned) {label};touch pwned") / f"<script>'%s\"@`touch pwned`=cmd|{label}"
        (folder / place).mkdir(parents=True)
        for number in range(8):
            image = str(place / f"-rf {number} & ünï.png")
            pixels = rng.integers(0, 90, (24, 24, 3), dtype=np.uint8)
            pixels[:, :, label % 3] += np.uint8(20 * label)
            Image.fromarray(pixels).save(folder / image)
            values = [VALUES[(label + number + which) % len(VALUES)] for which in range(len(ATTRIBUTES))]
            rows.append([image, name, "train" if number < 4 else "test", *values])
    with (folder / "manifest.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(rows)


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A copy of the project that has taken such a data set from its CSV to the report, with secrets around -> it, its output."""
    around = tmp_path_factory.mktemp("around")
    project = around / "project"
    for name in ("a3m", "pipelines", "sweeps"):
        shutil.copytree(ROOT / name, project / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "dvc.yaml", project)
    text = (ROOT / "params.yaml").read_text().replace("profile: demo", "profile: smoke")
    head, _, _ = text.partition("# layouts that are drawn")
    (project / "params.yaml").write_text(head + SETTINGS + text.partition("\nhydra:")[2])
    write_hostile_images(project / "data" / "raw" / "manifest")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("RAY_", "MLFLOW_"))}
    temporary = Path(tempfile.mkdtemp(prefix="a3m-"))  # Ray's sockets have short paths
    environment |= SECRETS | {"PYTHONPATH": str(project), "HOME": str(around), "OMP_NUM_THREADS": "1"}
    environment |= {
        "TMPDIR": str(temporary),
        "RAY_TMPDIR": str(temporary),
        "PYTHONDONTWRITEBYTECODE": "1",
        "MPLCONFIGDIR": str(temporary),
    }
    said = ""
    try:
        for command in (
            ["-m", "a3m", "check", "data/raw/manifest/manifest.csv"],
            ["pipelines/settings.py"],
            ["pipelines/prepare.py", "dataset=manifest"],
            ["pipelines/pack.py", "dataset=manifest"],
            ["sweeps/ablation.py"],
            ["pipelines/tables.py"],
            *(["pipelines/figures.py", f"figure{number}", "study=ablation"] for number in (2, 4, 5, 6)),
            ["pipelines/report.py"],
        ):
            done = subprocess.run(
                [sys.executable, *command],
                cwd=project,
                env=environment,
                capture_output=True,
                text=True,
                check=False,
                timeout=280,
            )
            said += f"$ {command}\n{done.stdout}{done.stderr}"
            assert done.returncode == 0, said[-6000:]
        logs = [path for path in temporary.rglob("*") if path.is_file() and path.stat().st_size < 50_000_000]
        shutil.rmtree(around / "logs", ignore_errors=True)
        for number, path in enumerate(logs):
            (around / "logs").mkdir(exist_ok=True)
            shutil.copy(path, around / "logs" / f"{number}-{path.name}")
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return project, said


@pytest.mark.cluster
@pytest.mark.slow
@pytest.mark.timeout(900)
def test_names_from_data_run_nothing_and_lead_nowhere(hostile: tuple[Path, str]) -> None:
    project, said = hostile
    around = project.parent
    assert not [path for path in around.rglob("*pwned") if "raw/manifest" not in str(path)], said
    assert {path.name for path in around.iterdir()} <= {"project", ".ray", "logs", ".cache", ".config"}
    found = {run.data.tags["method"]: run for run in runs_of(project)}
    assert set(found) >= {"baseline1", "a3m"}
    for run in found.values():
        assert run.info.status == runs.FINISHED
    for attribute in ATTRIBUTES:
        assert f"test/attribute/{attribute}" in found["a3m"].data.metrics


@pytest.mark.cluster
@pytest.mark.slow
@pytest.mark.timeout(900)
def test_names_from_data_are_escaped_in_page_tables_and_figures(hostile: tuple[Path, str]) -> None:
    project, _ = hostile
    reports = project / "reports"
    page = (reports / "index.html").read_text()
    assert not re.search(r"<script>alert|<img src=x|href=\"?javascript:", page)
    for svg in (reports / "figures").glob("*.svg"):
        assert not re.search(r"<script>alert|<img src=x", svg.read_text()), svg
    tables = list((reports / "tables").glob("*"))
    assert tables
    for path in tables:
        text = path.read_text()
        if path.suffix == ".tex":
            assert r"\input{" not in text, path
        if path.suffix == ".md":
            assert not re.search(r"(?<!\\)<script>|(?<!\\)\[a\]\(javascript", text), path
    for path in [*reports.rglob("*.csv"), *(project / "results").glob("*.csv")]:
        with path.open(newline="", encoding="utf-8") as file:
            for row in csv.reader(file):
                assert not [cell for cell in row if re.match(r"[=@]|[+-](?![\d.])", cell)], (
                    f"{path}: a spreadsheet would run it"
                )


@pytest.mark.cluster
@pytest.mark.slow
@pytest.mark.timeout(900)
def test_no_secret_of_the_environment_is_written_anywhere(hostile: tuple[Path, str]) -> None:
    project, said = hostile
    assert "secret-xyz" not in said
    files = [path for path in project.parent.rglob("*") if path.is_file()]
    assert any(path.name == "mlflow.db" for path in files)
    assert any("raylet" in path.name for path in files), "Ray's logs were kept to be looked at"
    assert [str(path) for path in files if b"secret-xyz" in path.read_bytes()] == []


def runs_of(project: Path) -> list[Any]:
    """All runs of trials in a project's store."""
    store = runs.open_store(f"sqlite:///{project}/mlflow.db", project)
    return [run for run in store.client.search_runs([store.experiment("manifest", project)]) if "key" in run.data.tags]


def test_a_name_that_mlflow_would_refuse_never_becomes_a_metric() -> None:
    for name in (
        "a@b",
        "a/../b",
        "../x",
        ".",
        "..",
        "-x",
        "=1",
        "a:b",
        "a\nb",
        "a%b",
        "x" * 101,
        "",
        "$(x)",
        "`x`",
        "a,b",
    ):
        assert not ATTRIBUTE.fullmatch(name), name
    for name in ATTRIBUTES:
        assert ATTRIBUTE.fullmatch(name), name


# --- what the documents say ---------------------------------------------------------------------------------------------


def test_every_sentence_of_security_md_that_names_a_test_has_it() -> None:
    text = (ROOT / "SECURITY.md").read_text()
    marks = [one for group in re.findall(r"\[(`[^\]]+)\]", text) for one in re.findall(r"`(\w+)\.\.\.`", group)]
    assert len(marks) >= 8
    tests = [name for name in globals() if name.startswith("test_")]
    for mark in marks:
        assert any(name.startswith(f"test_{mark}") or name.startswith(f"test_no_{mark}") for name in tests), mark
    for path in re.findall(r"`(tests/\w+\.py)`", text):
        assert (ROOT / path).is_file(), path


def test_the_guide_to_clusters_names_settings_and_files_that_exist() -> None:
    guide = (ROOT / "docs" / "cluster.md").read_text()
    written = yaml.safe_load(guide.split("```yaml")[1].split("```")[0])
    for section, kind in (("cluster", Cluster), ("store", Store)):
        assert set(written[section]) <= {one.name for one in fields(kind)}
    for section, name in re.findall(r"`(cluster|store)\.(\w+)[=`]", guide):
        assert name in {one.name for one in fields(Cluster if section == "cluster" else Store)}, name
    for target in re.findall(r"\]\(([\w./-]+)\)", guide):
        assert (ROOT / "docs" / target).exists(), target


def test_ray_takes_the_cluster_file_and_it_holds_the_token_on_every_machine() -> None:
    from ray.autoscaler._private.util import prepare_config, validate_config

    config = prepare_config(yaml.safe_load((ROOT / "docs" / "cluster" / "ray-cluster.yaml").read_text()))
    validate_config(config)
    for commands in (config["head_start_ray_commands"], config["worker_start_ray_commands"]):
        assert "RAY_AUTH_MODE=token" in commands[-1]
        assert "ray start" in commands[-1]
    assert "~/.ray/auth_token" in config["file_mounts"]


def test_the_files_for_kubernetes_have_a_token_no_secret_and_no_more_rights_than_needed() -> None:
    folder = ROOT / "docs" / "cluster"
    claim, cluster = yaml.safe_load_all((folder / "raycluster.yaml").read_text())
    assert claim["spec"]["accessModes"] == ["ReadWriteMany"]
    spec = cluster["spec"]
    assert spec["authOptions"] == {"mode": "token"}
    assert f"ray=={spec['rayVersion']}" in (ROOT / "constraints.txt").read_text()
    for group in (spec["headGroupSpec"], *spec["workerGroupSpecs"]):
        pod = group["template"]["spec"]
        assert pod["securityContext"]["runAsNonRoot"] is True
        for container in pod["containers"]:
            assert container["securityContext"]["allowPrivilegeEscalation"] is False
            assert "env" not in container, "passwords come from a Secret"
            assert {"mountPath": "/shared", "name": "shared"} in container["volumeMounts"]
        assert {volume["name"] for volume in pod["volumes"]} == {
            m["name"] for c in pod["containers"] for m in c["volumeMounts"]
        }
    job = yaml.safe_load((folder / "rayjob.yaml").read_text())["spec"]
    assert job["clusterSelector"] == {"ray.io/cluster": cluster["metadata"]["name"]}
    assert not job.get("backoffLimit"), "KubeRay refuses it for a cluster that is there"
