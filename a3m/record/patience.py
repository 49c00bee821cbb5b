"""Waiting for a service that is away for a while, such as an MLflow server that is being restarted."""

import time
from collections.abc import Callable, Iterator
from typing import TypeVar

from a3m.errors import StoreError

Answer = TypeVar("Answer")
FIRST, LONGEST = 0.5, 10.0  # seconds between two attempts, doubled from the first to the longest


class StoreAway(StoreError):
    """The store does not answer now and may later: refused connections, a restarting database, errors of a server's own."""


def delays() -> Iterator[float]:
    """Seconds to wait after the first, second, ... attempt that failed."""
    delay = FIRST
    while True:
        yield delay
        delay = min(2 * delay, LONGEST)


def patiently(call: Callable[[], Answer], seconds: float, tell: Callable[[float], None]) -> Answer:
    """What `call` returns, tried again for up to `seconds` while it raises StoreAway; every other error passes at once.

    `tell` hears once how long will be waited. Raises the last StoreAway, with the remedy, when the time is over.
    """
    began = time.monotonic()
    for number, delay in enumerate(delays()):
        try:
            return call()
        except StoreAway as error:
            left = seconds - (time.monotonic() - began)
            if left <= 0:
                raise StoreAway(
                    f"{error}\nIt was waited for {seconds:g} s (store.patience). Start it, or mend store.uri, and give the same "
                    "command again: what was trained is kept, and not trained again"
                ) from error
            if number == 0:
                tell(seconds)
            time.sleep(min(delay, left))
    raise AssertionError  # the attempts do not end by themselves
