"""Which runs of a report have an address in MLflow."""

from types import SimpleNamespace

import pytest
from report_data import alpha_beta, runs

from a3m.errors import StoreError
from a3m.record import links


class Store:
    """A store that holds the first three trials of a data set."""

    def __init__(self, uri, listed):
        self.uri, self.listed, self.asked = uri, listed, []

    def experiment(self, dataset, root, *, create):
        assert not create
        self.asked.append(dataset)
        return "7"

    def find(self, experiment):
        assert experiment == "7"
        return {
            key: SimpleNamespace(run_id=run)
            for key, run in zip(self.listed["key"][:3], self.listed["run_id"], strict=False)
        }


@pytest.fixture
def listed():
    return runs(alpha_beta()).assign(study_run="f" * 32)


def found(monkeypatch, tmp_path, listed, uri="sqlite:///mlflow.db", studies=("alpha_beta",)):
    store = Store(uri, listed)
    monkeypatch.setattr(links, "store_exists", lambda params, root: True)
    monkeypatch.setattr(links.runs, "open_store", lambda uri, root, patience: store)
    params = SimpleNamespace(store=SimpleNamespace(uri=uri, patience=0.0))
    results = dict.fromkeys(studies, alpha_beta())
    return links.run_links(params, tmp_path, results, dict.fromkeys(studies, listed)), store


def test_runs_of_this_store_and_the_studys_own_have_an_address_and_no_other(monkeypatch, tmp_path, listed):
    addresses, _ = found(monkeypatch, tmp_path, listed)
    assert set(addresses) == {*listed["run_id"][:3], "f" * 32}
    one = listed["run_id"][0]
    assert addresses[one] == f"http://127.0.0.1:5000/#/experiments/7/runs/{one}?workflowType=machine_learning"


def test_a_server_is_its_own_address(monkeypatch, tmp_path, listed):
    addresses, _ = found(monkeypatch, tmp_path, listed, "https://mlflow.example/")
    assert addresses[listed["run_id"][0]].startswith("https://mlflow.example/#/experiments/7/runs/")


def test_a_data_set_of_two_studies_is_asked_for_once(monkeypatch, tmp_path, listed):
    assert found(monkeypatch, tmp_path, listed, studies=("alpha_beta", "cub200"))[1].asked == ["cub200"]


def test_a_study_whose_runs_are_elsewhere_has_no_address(monkeypatch, tmp_path, listed):
    foreign = listed.assign(run_id=[f"{i:032x}" for i in range(100, 100 + len(listed))])
    store = Store("", listed)
    monkeypatch.setattr(links, "store_exists", lambda params, root: True)
    monkeypatch.setattr(links.runs, "open_store", lambda *_: store)
    params = SimpleNamespace(store=SimpleNamespace(uri="", patience=0.0))
    assert links.run_links(params, tmp_path, {"alpha_beta": alpha_beta()}, {"alpha_beta": foreign}) == {}


def test_a_store_that_is_away_is_a_warning(monkeypatch, tmp_path, listed, capsys):
    def away(*_):
        raise StoreError("nobody answers")

    monkeypatch.setattr(links, "store_exists", lambda params, root: True)
    monkeypatch.setattr(links.runs, "open_store", away)
    params = SimpleNamespace(store=SimpleNamespace(uri="", patience=0.0))
    assert links.run_links(params, tmp_path, {"alpha_beta": alpha_beta()}, {"alpha_beta": listed}) == {}
    assert "names runs by their keys, without links: nobody answers" in capsys.readouterr().err


def test_where_there_is_no_store_none_is_created(monkeypatch, tmp_path, listed):
    monkeypatch.setattr(links, "store_exists", lambda params, root: False)
    assert links.run_links(SimpleNamespace(), tmp_path, {"alpha_beta": alpha_beta()}, {"alpha_beta": listed}) == {}
    assert list(tmp_path.iterdir()) == []
