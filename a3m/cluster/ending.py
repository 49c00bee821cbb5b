"""How a sweep ends before its time: Ctrl-C once and twice, and a cluster whose head is gone."""

import atexit
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from types import FrameType

from a3m.errors import UserError

FIRST = "\ninterrupted: the trials are being stopped, which takes some seconds; Ctrl-C again ends at once\n"
AGAIN = "\nended at once: what was finished is kept, and the same command goes on after the last whole epochs\n"
LOST = "the cluster was lost: {}. What was finished is kept: start the cluster again, and the same command goes on"

CHECK_SECONDS = 2.0
AWAY_SECONDS = 40.0  # nobody answers: well below the 60 s after which Ray aborts the driver's process
REFUSED_SECONDS = 10.0  # the head's machine answers, but its Ray is gone


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


def apart(work: Callable[["Watch"], None]) -> None:
    """Do `work` in a thread and wait for it. Raises what it raised, and UserError as soon as its watch finds the cluster lost.

    Without a head, calls into Ray do not come back: after 60 s Ray aborts the process instead, without running any `finally`.
    The thread that hangs in one is left behind, so that results can still be written.
    """
    watch = Watch()
    raised: list[BaseException] = []

    def guarded() -> None:
        try:
            work(watch)
        except BaseException as error:
            raised.append(error)

    thread = threading.Thread(target=guarded, daemon=True)
    thread.start()
    while thread.is_alive() and not watch.lost:
        thread.join(CHECK_SECONDS / 10)
    watch.stop.set()
    if watch.lost:
        atexit.register(_leave)
        raise UserError(LOST.format(watch.lost))
    if raised:
        raise raised[0]


def _leave() -> None:
    """Before Ray's own handler at exit, which would wait for the head."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(UserError.code)


class Watch:
    """Looks from `begin` on whether the head of the cluster answers; `lost` is '' while it does, then says since when not."""

    def __init__(self) -> None:
        self.lost = ""
        self.stop = threading.Event()

    def begin(self) -> None:
        """Watch the cluster that this process has joined. Ray's client notices a lost head by itself."""
        import ray

        if not ray.util.client.ray.is_connected():
            address = ray.get_runtime_context().gcs_address
            threading.Thread(target=self._watch, args=(address,), daemon=True).start()

    def _watch(self, address: str) -> None:
        answered = time.monotonic()
        while not self.stop.wait(CHECK_SECONDS):
            said = _knock(address)
            if said == "":
                answered = time.monotonic()
            away = time.monotonic() - answered
            if away > (REFUSED_SECONDS if said == "refused" else AWAY_SECONDS):
                self.lost = f"its head {address} has not answered for {away:.0f} s"
                return


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
