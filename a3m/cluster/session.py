"""A Ray to work with: one of our own on this machine, or an existing cluster."""

import contextlib
import logging
import os
import secrets
import tempfile
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import a3m.errors
from a3m.cluster.joining import ready
from a3m.errors import UserError
from a3m.relevance import device

if TYPE_CHECKING:
    from a3m.settings import Cluster, Train

PACKAGE = Path(a3m.errors.__file__).parent
SAME = "use one version of Python and of Ray on all machines"

os.environ.setdefault("RAY_AUTH_MODE", "token")  # before ray is imported: it is read then
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")  # read when ray.tune is imported
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # a3m.cluster.preflight hides devices itself
os.environ.setdefault("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", "1")


@contextmanager
def connected(settings: "Cluster", train: "Train") -> Iterator[dict[str, float]]:
    """Start a Ray here, or join one, for the duration -> the resources of one trial."""
    import ray
    from ray._raylet import Config  # type: ignore[attr-defined]

    for name in ("ray", "ray.tune", "ray.train"):
        logging.getLogger(name).setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="ray")
    os.environ["OMP_NUM_THREADS"] = str(train.threads)
    if os.environ.get("RAY_AUTH_MODE", "token") != "token":
        raise UserError("RAY_AUTH_MODE is not `token`: Ray executes what anyone who reaches its ports sends; unset it")
    private_token(create=settings.address == "local")
    if not ray.is_initialized():
        Config.initialize("")  # if somebody imported ray before this module, it has read its settings without the mode
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR, "include_dashboard": False}
    if settings.address == "local":
        options |= {"address": "local", "num_cpus": os.cpu_count()}  # without `local` it would join one it finds
    else:
        del options["include_dashboard"]
        code = {"py_modules": [str(PACKAGE)], "excludes": ["__pycache__"]}  # not the project folder
        options |= {"address": ready(settings.address), "runtime_env": code}
    try:
        with on_loopback() if settings.address == "local" else contextlib.nullcontext():
            ray.init(**options)
    except (ConnectionError, RuntimeError, ValueError, OSError) as error:
        first = str(error).strip().splitlines()[0]
        raise UserError(
            f"cluster.address={settings.address}: {first}{'' if 'ersion' not in first else ': ' + SAME}"
        ) from error
    try:
        if settings.address != "local" and head_mode() != "token":
            raise UserError(
                f"cluster.address={settings.address}: this cluster runs what anyone sends it: start its head with "
                "RAY_AUTH_MODE=token and a token file (docs/cluster.md)"
            )
        yield resources(settings, device(train, settings), [one["Resources"] for one in ray.nodes() if one["Alive"]])
    finally:
        ray.shutdown()


def resources(settings: "Cluster", device: str, nodes: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """The resources of one trial on a device (cpu or cuda), where nodes have these. Raises UserError when none has enough."""
    most = {name: max((one.get(name, 0.0) for one in nodes), default=0.0) for name in ("CPU", "GPU")}
    gpus = settings.gpus_per_trial
    if gpus < 0:
        gpus = float(device == "cuda")
    if device == "cuda" and gpus == 0:
        raise UserError("cluster.gpus_per_trial=0: with train.device=cuda each trial needs one, or a share such as 0.5")
    if device == "cpu" and gpus > 0:
        raise UserError(f"cluster.gpus_per_trial={gpus:g}: with train.device=cpu it would be reserved and not used")
    for name, wanted in (("CPU", float(settings.cpus_per_trial)), ("GPU", gpus)):
        if wanted > most[name]:
            raise UserError(
                f"cluster.{name.lower()}s_per_trial={wanted:g}: the largest node has {most[name]:g}: no trial could ever start"
                + (" (train.device=cpu needs no GPU)" if name == "GPU" else "")
            )
    return {"CPU": settings.cpus_per_trial, "GPU": gpus}


def private_token(*, create: bool) -> None:
    """Let nobody but the user read Ray's token, which whoever has it may run code with: Ray writes it readable for all."""
    if os.environ.get("RAY_AUTH_TOKEN"):
        return
    path = Path(os.environ.get("RAY_AUTH_TOKEN_PATH") or Path.home() / ".ray" / "auth_token")
    try:
        if path.is_file():
            if path.stat().st_mode & 0o077 and path.stat().st_uid == os.getuid():
                path.chmod(0o600)
        elif create and not os.environ.get("RAY_AUTH_TOKEN_PATH"):
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile("w", dir=path.parent, prefix=".auth_token.") as file:  # of mode 0600
                file.write(secrets.token_hex(32))
                file.flush()
                with contextlib.suppress(FileExistsError):  # another process has just made it
                    os.link(file.name, path)
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}: Ray's token must be a file that its user alone can read") from error


@contextmanager
def on_loopback() -> Iterator[None]:
    """Keep a Ray that is started here to 127.0.0.1: it listens on every interface unless its own address is loopback.

    `_node_ip_address` does not do it, since Ray takes 127.0.0.1 for a name of the outer address; this switch of its
    for other systems does.
    """
    from ray._private import ray_constants

    name, before = ray_constants.ENABLE_RAY_CLUSTERS_ENV_VAR, ray_constants.ENABLE_RAY_CLUSTER
    variable = os.environ.get(name)
    os.environ[name], ray_constants.ENABLE_RAY_CLUSTER = (
        "0",
        False,
    )  # for the processes that Ray starts, and for this one
    try:
        yield
    finally:
        ray_constants.ENABLE_RAY_CLUSTER = before
        del os.environ[name]
        if variable is not None:
            os.environ[name] = variable


def head_mode() -> str | None:
    """RAY_AUTH_MODE of the head, whose process keeps the door: a driver with a token also gets into a house without a lock."""
    import ray

    @ray.remote(num_cpus=0, resources={"node:__internal_head__": 0.001})
    def mode() -> str | None:
        return os.environ.get("RAY_AUTH_MODE")

    return ray.get(mode.remote(), timeout=120)
