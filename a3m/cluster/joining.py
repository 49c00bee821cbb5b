"""Whether an existing cluster lets us in: asked in seconds, with an answer that says what to mend.

Ray itself tries for 20 to 30 s and says "Failed to connect" alike for a wrong address, a head that is down and a wrong token.
"""

import contextlib
import io
import os
import re
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from a3m.errors import UserError

SECONDS = 10.0
CLIENT = "ray://"
TOKEN = "copy ~/.ray/auth_token of the cluster's head to this machine, readable by you alone (docs/cluster.md)"
START = "is its head running (`ray start --head`), and does a firewall let this machine through? (docs/cluster.md)"


def ready(address: str) -> str:
    """The address to join, with `auto` resolved, of a cluster that answers and takes our token.

    Raises UserError within SECONDS: nobody answers, the token is wrong, or the head runs another Ray.
    """
    found = _here() if address == "auto" else address
    host, _, port = found.removeprefix(CLIENT).rpartition(":")
    if not host or not port.isdigit():
        raise UserError(
            f"cluster.address={address}: expected local, auto, <host>:<port> of a head, or {CLIENT}<host>:<port>"
        )
    _ask(f"cluster.address={address}" + (f" ({found})" if found != address else ""), found)
    return found


def token_file() -> Path:
    """Where Ray looks for the token, unless RAY_AUTH_TOKEN holds it."""
    return Path(os.environ.get("RAY_AUTH_TOKEN_PATH") or Path.home() / ".ray" / "auth_token")


def _here() -> str:
    """The cluster that runs on this machine, or the one that RAY_ADDRESS names."""
    from ray._private import services

    try:
        with contextlib.redirect_stderr(io.StringIO()):
            return str(services.get_ray_address_from_environment("auto", None))
    except ConnectionError as error:
        raise UserError(
            "cluster.address=auto: no cluster runs on this machine, and RAY_ADDRESS is not set: `ray start --head` here, or name "
            f"a head with cluster.address=<host>:6379 or cluster.address={CLIENT}<host>:10001"
        ) from error


def _ask(named: str, address: str) -> None:
    token = os.environ.get("RAY_AUTH_TOKEN", "")
    if not token:
        try:
            token = token_file().read_text().strip()
        except OSError as error:
            raise UserError(f"{named}: no token in {token_file()} ({error.strerror}): {TOKEN}") from error
    if not token:
        raise UserError(f"{named}: {token_file()} is empty: {TOKEN}")
    try:
        import grpc
    except ImportError:
        return  # an installation without ray[client]: Ray's own, slower answer has to do
    import ray

    try:
        version = _version(address, token)
    except grpc.RpcError as error:
        status: Any = error
        if status.code() == grpc.StatusCode.UNAUTHENTICATED:
            raise UserError(f"{named}: this cluster has another token: {TOKEN}") from error
        if status.code() == grpc.StatusCode.UNIMPLEMENTED:
            other = f"{CLIENT}<host>:10001" if not address.startswith(CLIENT) else "<host>:6379 without ray://"
            raise UserError(f"{named}: no Ray of that kind listens there: {other} is the other form") from error
        said = re.split(r": ", str(status.details()))[-1] or str(status.code())
        raise UserError(f"{named} does not answer ({said}): {START}") from error
    if version and version != ray.__version__:
        raise UserError(
            f"{named}: the cluster runs Ray {version}, here is {ray.__version__}: install the same on all machines"
        )


def _version(address: str, token: str) -> str:
    """Ray's version on the head; '' where Ray's client answers, which does not say. Raises grpc.RpcError."""
    import grpc
    from ray.core.generated import gcs_service_pb2, gcs_service_pb2_grpc, ray_client_pb2, ray_client_pb2_grpc

    options = [("grpc.enable_http_proxy", 0)]
    with grpc.insecure_channel(urlsplit(f"//{address.removeprefix(CLIENT)}").netloc, options=options) as channel:
        sent: dict[str, Any] = {"timeout": SECONDS, "metadata": [("authorization", f"Bearer {token}")]}
        if address.startswith(CLIENT):
            client: Any = ray_client_pb2_grpc.RayletDriverStub(channel)
            messages: Any = ray_client_pb2
            sent["metadata"].append(("client_id", "a3m"))
            client.ClusterInfo(messages.ClusterInfoRequest(type=messages.ClusterInfoType.PING), **sent)
            return ""
        head: Any = gcs_service_pb2_grpc.NodeInfoGcsServiceStub(channel)
        messages = gcs_service_pb2
        return str(head.CheckAlive(messages.CheckAliveRequest(), **sent).ray_version)
