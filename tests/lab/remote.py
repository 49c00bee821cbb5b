"""A DVC remote on a host of the laboratory, reached by ssh, and what users do to put a pack there."""

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

from lab.hosts import Host, kill

SSHD = shutil.which("sshd") or "/usr/sbin/sshd"


def available() -> bool:
    return Path(SSHD).exists() and shutil.which("ssh-keygen") is not None


class Remote:
    """An ssh server on `host`; `admit` gives another host a key to it."""

    def __init__(self, host: Host):
        self.host, self.folder = host, host.own_home / "ssh"
        self.folder.mkdir()
        for name in ("host_key", "user_key"):
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(self.folder / name)], check=True)
        inside = host.home / "ssh"
        (self.folder / "config").write_text(
            f"Port 22\nListenAddress {host.address}\nHostKey {inside}/host_key\nPidFile none\nUsePAM no\nStrictModes no\n"
            f"AuthorizedKeysFile {inside}/user_key.pub\nPasswordAuthentication no\nSubsystem sftp internal-sftp\n"
        )
        command = ["bash", "-c", f"mount -t tmpfs none /run && mkdir /run/sshd && exec {SSHD} -D -e -f {inside}/config"]
        self.log = self.folder / "log"
        with self.log.open("w") as log:
            self.process = host.popen(command, stdout=log, cwd="/")
        deadline = time.monotonic() + 20
        while "listening" not in self.log.read_text():
            working = self.process.poll() is None and time.monotonic() < deadline
            assert working, f"sshd: {self.log.read_text()}"
            time.sleep(0.05)
        self.url = f"ssh://root@{host.address}{host.home}/remote"

    def admit(self, host: Host) -> None:
        folder = host.own_home / ".ssh"
        folder.mkdir(mode=0o700, exist_ok=True)
        shutil.copy(self.folder / "user_key", folder / "id_ed25519")
        key = " ".join((self.folder / "host_key.pub").read_text().split()[:2])
        (folder / "known_hosts").write_text(f"{self.host.address} {key}\n")

    def close(self) -> None:
        kill(self.process)
        self.process.wait()


def push(host: Host, project: Path, dataset: str, url: str) -> None:
    """Put the project's pack, as a stage's output, into a remote that becomes the project's default one."""
    folder = f"data/prepared/{dataset}"
    (project / "dvc.yaml").write_text(
        f"stages:\n  pack:\n    foreach: [{dataset}]\n    do:\n      cmd: 'true'\n      outs:\n"
        f"        - {folder}/pack.safetensors\n"
    )
    (project / "dvc.lock").unlink(missing_ok=True)
    for arguments in (
        ["init", "--no-scm", "-f", "--quiet"],
        ["commit", "--force", "--quiet"],
        ["remote", "add", "--quiet", "-d", "lab", url],
        ["push", "--quiet", f"pack@{dataset}"],
    ):
        environment = {
            "DVC_NO_ANALYTICS": "1",
            "DVC_SITE_CACHE_DIR": str(host.home / "dvc"),
            "PATH": os.environ["PATH"],
        }
        host.call(sys.executable, "-m", "dvc", *arguments, cwd=project, env=environment)
