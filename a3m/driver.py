"""What a driver does beside training: it delivers what trials before it could not, and closes runs that a killed one left open."""

import contextlib
import socket
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from a3m.plan import Planned
from a3m.record import runs
from a3m.state import Lease, holder
from a3m.work import deliver


def lease_of(state: Path, study: str, digest: str) -> tuple[Lease, str]:
    """The lease of a study's driver, and how the study's run names it: `<host>:<path>`."""
    held = Lease(state / "leases" / f"{study}.{digest}.json")
    return held, f"{socket.gethostname()}:{held.path}"


@contextlib.contextmanager
def driving(store: runs.Store, experiment: str, state: Path, study: str, digest: str) -> Iterator[None]:
    """Hold the lease of a study with this space. Runs of its drivers that were killed on this host are closed first.

    A driver of the same space goes on in the same run; one of another space would leave it open for good.
    """
    held, _ = lease_of(state, study, digest)
    held.try_acquire()  # two drivers of one space share its run: whoever ends last closes it
    try:
        for parent in store.running(experiment, "study", study):
            host, _, path = parent.tags.get("lease", "").partition(":")
            if parent.tags.get("space") == digest or host != socket.gethostname() or holder(Path(path)) is not None:
                continue
            for trial in store.running(experiment, runs.PARENT, parent.run_id):
                if holder(Path(path).with_name(f"{trial.tags.get('key')}.json")) is None:
                    store.end(trial.run_id, runs.KILLED)
            store.end(parent.run_id, runs.KILLED)
        yield
    finally:
        held.release()


def deliver_kept(console: Console, kept: Sequence[Planned], job: Callable[[Planned], dict[str, Any]]) -> dict[str, str]:
    """Deliver to MLflow what trials that have ended had to say -> {key: why} of those that could not be delivered."""
    reasons: dict[str, str] = {}
    for number, one in enumerate(kept, start=1):

        def event(values: dict[str, Any], name: str = one.name) -> None:
            console.print(f"  {name}: {waiting(values)}")

        # Who was waited for once in vain is not waited for by each of the others.
        outcome = deliver(job(one) | ({"patience": 0.0} if reasons else {}), event)
        if outcome["outcome"] in ("undelivered", "lost"):
            reasons[one.trial.key] = outcome["reason"]
        text = reasons.get(one.trial.key) or "delivered to MLflow, not trained again"
        console.print(f"  [{number}/{len(kept)}] {one.name}: trained before; {text}")
    return reasons


def waiting(values: dict[str, Any]) -> str:
    """What a trial waits for, as a line for the terminal: another process, or the store."""
    return f"being trained by {values['waiting']}, waited for" if "waiting" in values else str(values["away"])
