"""Runs read straight from MLflow's tables are those that MLflow's own search gives."""

import math

import pytest
from mlflow.entities import Metric

from a3m.record import database, runs


def as_mlflow_says(store: runs.Store, experiment: str, tag: str, value: str | None) -> list[runs.Found]:
    condition = f"tags.`{tag}` LIKE " + ("'%'" if value is None else f"'{value}'")
    return [runs._found(run, tag) for run in store._search([experiment], condition)]


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> tuple[runs.Store, str]:
    root = tmp_path_factory.mktemp("store")
    store = runs.open_store("", root)
    experiment = store.experiment("tiny", root)
    other = store.experiment("another", root)
    for number in range(6):
        tags = {"key": f"k{number % 4}", "seed": str(number), "odd name.x": "a 'quoted' % value"}
        run = store.client.create_run(other if number == 5 else experiment, run_name=f"r{number}", tags=tags)
        points = [
            Metric("test/mAP", 0.1 * number, 5, 1),
            Metric("test/mAP", 0.2 * number, 6, 2),  # the latest counts
            Metric("train/odd", math.nan if number == 1 else math.inf, 5, 1),
        ]
        store.client.log_batch(run.info.run_id, metrics=points[: 3 if number else 0])
        if number != 2:
            store.client.set_terminated(run.info.run_id, ["FINISHED", "FAILED", "KILLED"][number % 3])
        if number == 3:
            store.client.delete_run(run.info.run_id)
    store.client.create_run(experiment, tags={"seed": "9"})  # a study's own run has no key
    return store, experiment


@pytest.mark.parametrize(
    ("tag", "value"), [("key", None), ("key", "k0"), ("seed", None), ("seed", "4"), ("none", None)]
)
def test_the_tables_and_mlflows_search_say_the_same(
    filled: tuple[runs.Store, str], tag: str, value: str | None
) -> None:
    store, experiment = filled
    direct = list(store._tagged(experiment, tag, value))
    asked = as_mlflow_says(store, experiment, tag, value)
    assert len(direct) == {("key", None): 4, ("key", "k0"): 2, ("seed", None): 5, ("seed", "4"): 1}.get((tag, value), 0)
    # Runs that began in the same millisecond have no order among them.
    assert sorted(map(repr, direct)) == sorted(map(repr, asked))


def test_a_tags_value_is_taken_literally(filled: tuple[runs.Store, str]) -> None:
    store, experiment = filled
    assert not list(store._tagged(experiment, "key", "k%")), "no wildcard"
    for value in ("k0' or '1'='1", "k%"):
        assert not database.tagged(store.uri, experiment, "key", value), "no way out of the value"
