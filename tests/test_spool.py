"""The spool: on disk first, in order, each once; what is torn is cut; who lost the lease is silent."""

import threading
import time
from pathlib import Path
from typing import Any

import pytest

from a3m.errors import StoreError
from a3m.record import patience, spool
from a3m.record.patience import StoreAway
from a3m.state import LeaseLost

BEGIN = {"kind": "begin"}


def epoch(number: int) -> dict[str, Any]:
    return {"kind": "epoch", "epoch": number}


class Listener:
    """A store that can be away, refuse, and remembers what it was told."""

    def __init__(self, error: Exception | None = None):
        self.error, self.told, self.asked = error, [], 0

    def __call__(self, record: dict[str, Any]) -> None:
        self.asked += 1
        if self.error is not None:
            raise self.error
        self.told.append(record)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "spool" / "key.jsonl"


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patience, "FIRST", 0.01)


def test_what_is_said_while_the_store_is_away_is_delivered_later_in_order_and_once(path: Path) -> None:
    store = Listener(StoreAway("away"))
    one = spool.Spool(path, store, address="a")
    for number in range(5):
        began = time.monotonic()
        one.append(epoch(number))
        assert time.monotonic() - began < 0.5, "whoever trains does not wait for the store"
    assert not one.flush(0.1)
    assert store.asked > 1
    assert not store.told
    assert [record["epoch"] for record in spool.records(path)] == [0, 1, 2, 3, 4], "on disk meanwhile"
    store.error = None
    assert one.flush(5)
    assert [record["epoch"] for record in store.told] == [0, 1, 2, 3, 4]
    one.close()


def test_another_attempt_goes_on_where_the_last_one_stopped_delivering(path: Path) -> None:
    first, second = Listener(), Listener()
    one = spool.Spool(path, first, address="a")
    one.append(BEGIN)
    one.append(epoch(1))
    assert one.flush(5)
    first.error = StoreAway("away")
    one.append(epoch(2))
    one.close()
    two = spool.Spool(path, second, address="a")
    assert two.records == [BEGIN, epoch(1), epoch(2)]
    two.append(epoch(3))
    assert two.flush(5)
    two.close()
    assert first.told + second.told == [BEGIN, epoch(1), epoch(2), epoch(3)]


def test_another_store_is_told_everything(path: Path) -> None:
    first, second = Listener(), Listener()
    for store, address in ((first, "a"), (second, "b")):
        one = spool.Spool(path, store, address=address)
        one.append(BEGIN)
        assert one.flush(5)
        one.close()
    assert second.told == [BEGIN, BEGIN]


@pytest.mark.parametrize("torn", [b'{"kind": "epo', b"\0\0\0\0\n", b'{"kind": "epoch"\n{"kind": "end"}\n', b'"text"\n'])
def test_a_torn_line_is_ignored_and_cut_before_the_next_is_written(path: Path, torn: bytes) -> None:
    store = Listener()
    one = spool.Spool(path, store, address="a")
    one.append(BEGIN)
    one.append(epoch(1))
    assert one.flush(5)
    one.close()
    whole = path.read_bytes()
    path.write_bytes(whole + torn)
    assert spool.records(path) == [BEGIN, epoch(1)]
    assert path.read_bytes() == whole + torn, "reading changes nothing: somebody may be writing"
    two = spool.Spool(path, store, address="a")
    two.append(epoch(2))
    assert two.flush(5)
    two.close()
    assert spool.records(path) == [BEGIN, epoch(1), epoch(2)]
    assert store.told == [BEGIN, epoch(1), epoch(2)]


@pytest.mark.parametrize("damage", ["", "{", '{"to": "a", "delivered": 7}', '{"to": "a", "delivered": 100000}'])
def test_a_damaged_cursor_costs_one_more_delivery_and_skips_nothing(path: Path, damage: str) -> None:
    store = Listener()
    one = spool.Spool(path, store, address="a")
    one.append(BEGIN)
    one.append(epoch(1))
    assert one.flush(5)
    one.close()
    path.with_suffix(".cursor").write_text(damage)
    two = spool.Spool(path, store, address="a")
    assert two.flush(5)
    two.close()
    assert store.told == [BEGIN, epoch(1)] * 2


def test_a_store_that_is_slow_is_not_given_up_as_one_that_is_away(path: Path) -> None:
    one = spool.Spool(path, lambda record: time.sleep(0.5), address="a")
    one.append(BEGIN)
    assert one.flush(0.05)
    one.close()


def test_who_lost_the_lease_neither_writes_nor_delivers(path: Path) -> None:
    lost = threading.Event()

    def guard() -> None:
        if lost.is_set():
            raise LeaseLost("taken over")

    store = Listener(StoreAway("away"))
    one = spool.Spool(path, store, address="a", guard=guard)
    one.append(BEGIN)
    lost.set()
    store.error = None
    with pytest.raises(LeaseLost):
        one.flush(5)
    with pytest.raises(LeaseLost):
        one.append(epoch(1))
    assert not store.told
    assert spool.records(path) == [BEGIN]
    one.close()


def test_what_is_refused_for_good_stops_delivering_and_nothing_else(path: Path) -> None:
    store = Listener(StoreError("403"))
    one = spool.Spool(path, store, address="a")
    one.append(BEGIN)
    assert not one.flush(5)
    assert str(one.refused) == "403"
    one.append(epoch(1))
    assert store.asked == 1
    assert spool.records(path) == [BEGIN, epoch(1)]
    one.close()


def test_a_full_disk_leaves_whole_lines_only_and_is_named(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = spool.Spool(path, Listener(), address="a")
    one.append(BEGIN)

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as broken:
        broken.setattr(spool.os, "fsync", full)
        with pytest.raises(StoreError, match=r"key\.jsonl: cannot be written \(No space left on device\): make room"):
            one.append(epoch(1))
    one.append(epoch(1))
    one.close()
    assert spool.records(path) == [BEGIN, epoch(1)]


def test_a_trial_has_ended_only_when_nothing_began_after_it() -> None:
    end = {"kind": "end", "status": "FAILED"}
    assert spool.ended([]) is None
    assert spool.ended([BEGIN, epoch(1)]) is None
    assert spool.ended([BEGIN, epoch(1), end]) == end
    assert spool.ended([BEGIN, end, BEGIN]) is None


def test_what_is_away_is_waited_for_and_said_once_and_what_is_wrong_fails_at_once() -> None:
    said: list[float] = []
    calls = iter([StoreAway("x"), StoreAway("x"), StoreAway("x"), None])

    def call() -> int:
        error = next(calls)
        if error is not None:
            raise error
        return 7

    assert patience.patiently(call, 5, said.append) == 7
    assert said == [5]

    def wrong() -> int:
        raise StoreError("404")

    with pytest.raises(StoreError, match=r"^404$"):
        patience.patiently(wrong, 5, said.append)
    assert said == [5]

    def gone() -> int:
        raise StoreAway("x")

    began = time.monotonic()
    with pytest.raises(StoreAway, match=r"(?s)x.*waited for 0\.2 s \(store\.patience\)"):
        patience.patiently(gone, 0.2, said.append)
    assert 0.15 < time.monotonic() - began < 3


def test_back_off_doubles_up_to_ten_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patience, "FIRST", 0.5)
    waits = patience.delays()
    assert [next(waits) for _ in range(7)] == [0.5, 1, 2, 4, 8, 10, 10]
