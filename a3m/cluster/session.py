"""A Ray to work with: one of our own on this machine, or an existing cluster."""

import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from a3m.errors import UserError

if TYPE_CHECKING:
    from a3m.settings import Cluster, Train

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")  # read when ray.tune is imported
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
os.environ.setdefault("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", "1")
os.environ.setdefault("TUNE_DISABLE_SIGINT_HANDLER", "0")


@contextmanager
def connected(settings: "Cluster", train: "Train") -> Iterator[dict[str, float]]:
    """Start a Ray here, or join one, for the duration -> the resources of one trial."""
    import ray

    for name in ("ray", "ray.tune", "ray.train"):
        logging.getLogger(name).setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="ray")
    os.environ["OMP_NUM_THREADS"] = str(train.threads)
    if os.environ.get("RAY_AUTH_MODE", "token") != "token":
        raise UserError("RAY_AUTH_MODE is not `token`: Ray executes what anyone who reaches its ports sends; unset it")
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR, "include_dashboard": False}
    if settings.address == "local":
        options |= {"address": "local", "num_cpus": os.cpu_count()}  # without `local` it would join one it finds
    else:
        import a3m

        package = Path(a3m.__file__).parent  # workers get the package alone, not the project folder
        del options["include_dashboard"]
        options |= {"address": settings.address, "runtime_env": {"py_modules": [str(package)]}}
    try:
        ray.init(**options)
    except (ConnectionError, RuntimeError, ValueError, OSError) as error:
        raise UserError(f"cluster.address={settings.address}: {str(error).splitlines()[0]}") from error
    try:
        whole = ray.cluster_resources()
        gpus = settings.gpus_per_trial if settings.gpus_per_trial >= 0 else float(whole.get("GPU", 0) > 0)
        for name, wanted in (("CPU", settings.cpus_per_trial), ("GPU", gpus)):
            if wanted > whole.get(name, 0):
                raise UserError(
                    f"cluster.{name.lower()}s_per_trial={wanted}: the cluster has {whole.get(name, 0):g}: no trial could ever start"
                )
        yield {"CPU": settings.cpus_per_trial, "GPU": gpus}
    finally:
        ray.shutdown()
