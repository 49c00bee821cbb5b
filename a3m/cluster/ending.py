"""How a sweep ends before its time: Ctrl-C once and twice, and a cluster whose head is gone."""

import os
import signal
import socket
import threading
import time
from types import FrameType

FIRST = "\ninterrupted: the trials are being stopped, which takes some seconds; Ctrl-C again ends at once\n"
AGAIN = "\nended at once: what was finished is kept, and the same command goes on after the last whole epochs\n"
LOST = "the cluster was lost: {}. What was finished is kept: start the cluster again, and the same command goes on"

CHECK_SECONDS = 2.0
AWAY_SECONDS = 40.0  # without a head: below the 60 s after which Ray aborts the driver's process without a word of ours
REFUSED_SECONDS = 10.0  # the head's machine answers, but Ray's head process is gone
EXIT_SECONDS = 20.0  # for ending in good order; calls into a Ray that is gone may wait for ever


class ClusterLost(BaseException):
    """The head of the cluster is gone. Not an Exception: Tune would first wait for actors that nobody can stop any more."""


class CtrlC:
    """The first Ctrl-C asks to stop, the second ends the process at once.

    After an interruption it stays in place: what is then still written (results, states of runs) can be cut off in the same way.
    """

    def __init__(self) -> None:
        self.pressed = False

    def __enter__(self) -> "CtrlC":
        self._main = threading.current_thread() is threading.main_thread()
        if self._main:
            self._before = signal.signal(signal.SIGINT, self._press)
        return self

    def __exit__(self, *error: object) -> None:
        if self._main and not self.pressed:
            signal.signal(signal.SIGINT, self._before)

    def _press(self, number: int, frame: FrameType | None) -> None:
        if self.pressed:
            os.write(2, AGAIN.encode())
            os._exit(130)  # files are written under temporary names and renamed: nothing is left half-written
        self.pressed = True
        os.write(2, FIRST.encode())


class Watch:
    """Looks whether the head of the cluster answers: `lost` says since when it does not, '' while it does.

    Ray itself aborts a driver that has not reached its head for 60 s, without running any `finally`. Whoever sees `lost` ends
    in good order; what hangs in a call into Ray all the same is ended with a message after EXIT_SECONDS.
    """

    def __init__(self) -> None:
        self.lost = ""
        self._stop = threading.Event()

    def __enter__(self) -> "Watch":
        return self

    def __exit__(self, *error: object) -> None:
        self._stop.set()

    def begin(self) -> None:
        """Watch the head of the cluster that this process has joined. Ray's client notices a lost head by itself."""
        import ray

        if ray.util.client.ray.is_connected():
            return
        address = ray.get_runtime_context().gcs_address
        threading.Thread(target=self._watch, args=(address,), daemon=True).start()

    def check(self) -> None:
        """Raise ClusterLost when the head is gone."""
        if self.lost:
            raise ClusterLost(self.lost)

    def _watch(self, address: str) -> None:
        answered = time.monotonic()
        while not self._stop.wait(CHECK_SECONDS):
            said = _knock(address)
            if said == "":
                answered = time.monotonic()
            away = time.monotonic() - answered
            if away > (REFUSED_SECONDS if said == "refused" else AWAY_SECONDS):
                self.lost = f"its head {address} has not answered for {away:.0f} s"
                break
        if self.lost and not self._stop.wait(EXIT_SECONDS):
            os.write(2, f"error: {LOST.format(self.lost)}\n".encode())
            os._exit(1)


def _knock(address: str) -> str:
    """'' when something listens at host:port, `refused` when its machine says that nothing does, `away` when nobody answers."""
    host, _, port = address.rpartition(":")
    try:
        with socket.create_connection((host.strip("[]"), int(port)), timeout=CHECK_SECONDS):
            return ""
    except ConnectionRefusedError:
        return "refused"
    except OSError:
        return "away"
