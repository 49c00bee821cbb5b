"""Searches: the grammar of a space, TPE and ASHA on a real Ray, going on after a kill, populations and their schedules."""

import json
import random
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest
import tiny
import torch
from rich.console import Console
from safetensors.torch import load_file

from a3m import changes, config, plan, study
from a3m.cluster import searching
from a3m.errors import SettingsError
from a3m.points import check, varied
from a3m.record import runs
from a3m.searching import evolution, hunt, population, search
from a3m.searching.distributions import Distribution, check_space, parse
from a3m.searching.journal import Asked, Journal
from a3m.searching.summary import winner
from a3m.settings import Params
from a3m.state import Checkpoints

ROOT = Path(__file__).parents[1]
SPACE = ["train.learning_rate=loguniform(1e-6, 3e-2)", "loss.alpha=uniform(0, 1)"]


def params(**changed: Any) -> Params:
    result = tiny.params(epochs=4)
    result.search.seeds, result.search.trials, result.search.reduction = [0], 10, 2
    for name, value in changed.items():
        setattr(result.search, name, value)
    return result


@pytest.fixture
def project(tmp_path: Path) -> Path:
    return pack_into(tmp_path)


def pack_into(root: Path) -> Path:
    """A tiny packed data set with 16 images to validate on."""
    folder = root / "data" / "prepared" / "tiny"
    tiny.write_pack(folder, images=96)
    for path in (folder / "packed").iterdir():
        path.rename(folder / path.name)
    return root


def all_runs(project: Path, tag: str) -> list[runs.Found]:
    """Every run that has a tag; `key` of each is the tag's value."""
    store = runs.open_store("", project)
    found = store.client.search_runs([store.experiment("tiny", project)], max_results=1000)
    return [
        runs.Found(
            run.data.tags[tag], run.info.run_id, run.info.status, 0, 0, dict(run.data.metrics), dict(run.data.tags)
        )
        for run in found
        if tag in run.data.tags
    ]


def steps(project: Path, run: runs.Found, metric: str = "val/accuracy") -> list[int]:
    store = runs.open_store("", project)
    return [point.step for point in store.client.get_metric_history(run.run_id, metric)]


# --- the grammar --------------------------------------------------------------------------------------------------------


def test_a_space_is_the_same_text_in_a_file_and_on_the_command_line() -> None:
    given = (
        'search.space=["loss.alpha=uniform(0,1)", "train.learning_rate=loguniform(1e-4,1e-2)", "head.merge=choice(max,mean)", '
        '"train.augment=choice([crop],[crop,flip])", "head.d=integer(8,32,8)"]'
    )
    space = parse(config.load([given], root=ROOT).search.space)
    assert space["loss.alpha"] == Distribution("uniform", 0.0, 1.0)
    assert space["train.learning_rate"] == Distribution("loguniform", 1e-4, 1e-2)
    assert space["head.merge"].ends() == ["max", "mean"]
    assert space["train.augment"].ends() == [["crop"], ["crop", "flip"]]
    assert space["head.d"].ends() == [8, 32]
    assert {space["head.d"].draw(random.Random(n)) for n in range(40)} == {8, 16, 24, 32}
    check_space(config.load([given], root=ROOT), space, config.methods())
    assert parse([f"{path}={one}" for path, one in space.items()]) == space, "what is printed can be given again"


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["loss.alpha"], "expected <setting>=<distribution>"),
        (["loss.alpha=normal(0,1)"], "normal: expected one of uniform, loguniform, integer, choice"),
        (["loss.alpha=uniform(1,0)"], "1 is not less than 0"),
        (["loss.alpha=uniform(0)"], "uniform takes two numbers"),
        (["train.learning_rate=loguniform(0,1)"], "greater than 0"),
        (["head.d=integer(1.5,3)"], "whole numbers"),
        (["head.merge=choice(max)"], "at least two choices"),
        (["loss.alpha=uniform(0,1)", "loss.alpha=uniform(0,2)"], "stands there twice"),
        (["loss.gamma=uniform(0,1)"], "no such setting"),
        (["head.merge=choice(max,sum)"], "expected one of max, mean"),
        (["head.d=uniform(8,32)"], "expected int"),
        (["train.on=choice(train,train+val)"], "cannot be searched"),
        (["train.epochs=integer(1,9)"], "equal numbers of epochs"),
        (["data.height=choice(64,96)"], "cannot be searched: expected a setting of"),
        (["train.workers=integer(0,2)"], "no trial of this search reads it"),
        (["train.momentum=uniform(0.5,0.9)"], "no trial of this search reads it"),
        ([], "search.space is empty"),
    ],
)
def test_a_space_that_cannot_be_searched_is_refused_with_its_line(lines: list[str], message: str) -> None:
    with pytest.raises(SettingsError) as error:
        check_space(tiny.params(), parse(lines), config.methods())
    assert message in str(error.value)


def test_a_setting_that_only_some_trials_read_may_be_searched() -> None:
    lines = ["train.optimiser=choice(sgd,adamw)", "train.momentum=uniform(0.5,0.9)"]
    check_space(tiny.params(), parse(lines), config.methods())


def test_settings_of_a_search_are_checked() -> None:
    for name, value in (
        ("metric", "test/mAP"),
        ("algorithm", "grid"),
        ("reduction", 1),
        ("name", "cub200"),
        ("seeds", []),
    ):
        with pytest.raises(SettingsError, match="search"):
            check(params(**{name: value}))
    for line in ([[0, {"loss.alpha": 1.0}]], [[4, {"loss.alpha": 1.0}]], [[1, {"head.d": 3}]], [1]):
        one = params()
        one.train.changes = list(line)
        with pytest.raises(SettingsError, match=r"train\.changes"):
            check(one)


@pytest.mark.parametrize("profile", ["smoke", "demo", "paper", "modern"])
def test_the_default_spaces_fit_every_profile(profile: str) -> None:
    module: dict[str, Any] = {}
    exec((ROOT / "sweeps" / "search.py").read_text(), module | {"__name__": "sweep"}, module)
    for dataset in ("cub200", "market1501"):
        one = config.load([f"profile={profile}", f"dataset={dataset}", "train.device=cpu"], root=ROOT)
        check_space(hunt.searched(one), parse(module["SPACE"]), config.methods())
        check_space(hunt.searched(one), parse(module["CHANGING"]), config.methods())
        if profile != "smoke":
            assert one.search.grace < one.train.epochs
        population.check(one, list(parse(module["CHANGING"])))


def test_the_first_of_equal_trials_wins_and_a_stopped_one_never() -> None:
    asked = [
        Asked(0, "a", {}, outcome="finished", value=0.5),
        Asked(1, "b", {}, outcome="stopped", value=0.9, stopped=1),
        Asked(2, "c", {}, outcome="finished", value=0.7),
        Asked(3, "d", {}, outcome="finished", value=0.7),
        Asked(4, "e", {}, outcome="failed"),
    ]
    assert winner(asked, "max") is asked[2]
    assert winner(asked, "min") is asked[0]
    assert winner(asked[4:], "max") is None


def test_a_journal_outlives_a_torn_line(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "searches" / "x.jsonl")
    journal.append({"asked": 0, "key": "a", "values": {"loss.alpha": 0.1}})
    journal.append({"key": "a", "epoch": 1, "value": 0.5})
    with journal.path.open("ab") as file:
        file.write(b'{"key": "a", "epo')
    journal.append({"key": "a", "stopped": 1, "value": 0.5})
    assert journal.read() == {"a": Asked(0, "a", {"loss.alpha": 0.1}, {1: 0.5}, stopped=1, value=0.5)}
    assert journal.epochs() == [("a", 1, 0.5)]


# --- TPE and ASHA -------------------------------------------------------------------------------------------------------


@pytest.mark.cluster
@pytest.mark.timeout(900)
def test_a_search_stops_trials_retrains_its_winner_and_is_not_repeated(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    search.run(params(), project, SPACE)
    said = capsys.readouterr().out
    trials = all_runs(project, "search")
    assert len(trials) == len({run.tags["key"] for run in trials}) == 10
    stopped = [run for run in trials if "stopped" in run.tags]
    finished = [run for run in trials if "stopped" not in run.tags]
    assert stopped
    assert {run.status for run in stopped} == {runs.KILLED}
    assert {run.status for run in finished} == {runs.FINISHED}
    for run in stopped:
        assert steps(project, run) == list(range(1, int(run.tags["stopped"]) + 1))
        assert int(run.tags["stopped"]) < 4
    for run in trials:
        assert not [name for name in run.metrics if name.startswith("test/")], "a search never looks at test data"

    (parent,) = all_runs(project, "best.key")
    assert parent.status == runs.FINISHED
    best = max(run.metrics["val/accuracy"] for run in finished)
    chosen = next(run for run in trials if run.tags["key"] == parent.tags["best.key"])
    assert chosen.metrics["val/accuracy"] == best
    assert parent.tags["best.run"] == chosen.run_id
    assert {"best.loss.alpha", "best.train.learning_rate", "importance.loss.alpha"} <= set(parent.tags)
    shares = [float(value) for name, value in parent.tags.items() if name.startswith("importance.")]
    assert sum(shares) == pytest.approx(1, abs=0.01)
    assert parent.tags["best.key"] in parent.tags["mlflow.note.content"]
    store = runs.open_store("", project)
    names = {item.path for item in store.client.list_artifacts(parent.run_id, "search")}
    assert names == {"search/trials.csv", "search/importance.csv", "search/importance.png"}
    table = pd.read_csv(store.client.download_artifacts(parent.run_id, "search/trials.csv", str(project)))
    assert list(table["trial"]) == list(range(10))
    assert set(table["outcome"]) == {"finished", "stopped"}

    rows = pd.read_csv(project / "results" / "search.csv")
    assert len(rows) == 2, "the winner beside the untuned settings"
    assert set(rows["train.on"]) == {"train+val"}
    assert rows["test/accuracy"].notna().all()
    first = (project / "results" / "search.csv").read_bytes()
    (version,) = runs.open_store("", project).client.search_model_versions("name = 'search'")
    assert version.run_id in set(pd.read_csv(project / "results" / "search.runs.csv")["run_id"])

    before = {run.run_id: steps(project, run) for run in trials}
    search.run(params(), project, SPACE)
    again = capsys.readouterr().out
    assert "0 to be asked for" in again
    line = next(line for line in said.splitlines() if "Best by" in line)
    assert line in again
    assert (project / "results" / "search.csv").read_bytes() == first
    assert {run.run_id: steps(project, run) for run in all_runs(project, "search")} == before

    # Another study asks for the key of a stopped trial: it is continued in its run, never taken for complete.
    one = stopped[0]
    (path,) = project.glob(".a3m/state/searches/*.jsonl")
    values = Journal(path).read()[one.tags["key"]].values
    wanted = hunt.searched(params())
    wanted.ablation.seeds = [0]
    study.run(wanted, project, "ablation", [values])
    assert "1 interrupted, continued" in capsys.readouterr().out
    (row,) = pd.read_csv(project / "results" / "ablation.csv").to_dict("records")
    assert (row["key"], row["status"]) == (one.tags["key"], "finished")
    (after,) = [run for run in all_runs(project, "key") if run.key == one.tags["key"]]
    assert (after.run_id, after.status) == (one.run_id, runs.FINISHED)
    assert "stopped" not in after.tags
    assert steps(project, after) == [1, 2, 3, 4]


def begun(journal: Journal, **changed: Any) -> searching.Begun:
    """What a search would be made of from this journal, without a store."""
    asked = list(journal.read().values())
    for one in asked:
        one.outcome = one.outcome or ("stopped" if one.stopped is not None else "")
    space = parse(SPACE)
    return searching.Begun(
        params(**changed).search, "val/accuracy", 4, space, journal, [one for one in asked if one.outcome],
        [one for one in asked if not one.outcome], 10 - sum(bool(one.outcome) for one in asked),
        lambda values: {"key": f"{values['loss.alpha']:.12f}"},
    )  # fmt: skip


def test_a_search_that_goes_on_knows_what_was_suggested_and_decided(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "x.jsonl")

    def reported(made: dict[str, Any], key: str, epoch: int, value: float) -> str:
        trial = SimpleNamespace(trial_id=f"tune {key}", config={"job": {"key": key}})
        return made["scheduler"].on_trial_result(None, trial, {"epoch": epoch, "val/accuracy": value})

    fresh = searching.search_and_schedule(begun(journal))
    keys = [fresh["search_alg"].suggest(name)["job"]["key"] for name in "abc"]
    assert [one.index for one in journal.read().values()] == [0, 1, 2]
    assert reported(fresh, keys[0], 1, 0.2) == "CONTINUE", "nobody to compare with yet"
    assert reported(fresh, keys[0], 2, 0.9) == "CONTINUE"
    assert reported(fresh, keys[1], 1, 0.1) == "STOP"
    assert fresh["scheduler"].stopped == {keys[1]: {"stopped": 1, "value": 0.1}}

    again = searching.search_and_schedule(begun(journal))
    assert again["num_samples"] == 9
    first = [again["search_alg"].suggest(name)["job"]["key"] for name in "def"]
    assert first[:2] == [keys[0], keys[2]], "what was cut off goes on first"
    assert first[2] not in keys
    assert [one.index for one in journal.read().values()] == [0, 1, 2, 3], "what goes on is not asked for twice"
    assert reported(again, keys[0], 3, 0.9) == "CONTINUE"
    assert reported(again, first[2], 1, 0.1) == "STOP", "by what the rung held before"
    assert reported(again, keys[2], 1, 0.3) == "CONTINUE"
    assert reported(again, keys[2], 2, 0.5) == "STOP", "0.9 was heard by the earlier call"
    assert reported(again, keys[2], 4, 0.0) == "CONTINUE", "what is trained to its end is not stopped"


DRIVER = """
import sys
from pathlib import Path
sys.path.insert(0, {tests!r})
import test_search
from a3m import config
from a3m.searching import search
with config.user_errors():
    search.run(test_search.params(**{changed!r}), Path({root!r}), {space!r})
"""


def start(project: Path, space: list[str], **changed: Any) -> subprocess.Popen[str]:
    code = DRIVER.format(tests=str(Path(__file__).parent), changed=changed, root=str(project), space=space)
    return subprocess.Popen(
        [sys.executable, "-c", code],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def wait_for(what: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 240
    while not what():
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.cluster
@pytest.mark.timeout(900)
def test_a_search_whose_driver_was_killed_goes_on_and_trains_nothing_twice(project: Path) -> None:
    process = start(project, SPACE, trials=6)

    def under_way() -> bool:
        found = [line for path in project.glob(".a3m/state/searches/*.jsonl") for line in path.read_text().splitlines()]
        return any('"outcome"' in line for line in found) and sum('"asked"' in line for line in found) >= 3

    wait_for(under_way, process)
    process.kill()
    process.wait()
    (path,) = project.glob(".a3m/state/searches/*.jsonl")
    before = Journal(path).read()
    again = start(project, SPACE, trials=6)
    said = again.communicate(timeout=600)[0]
    assert again.returncode == 0, said
    assert [path] == list(project.glob(".a3m/state/searches/*.jsonl")), "it is the same search"
    after = Journal(path).read()
    assert list(after)[: len(before)] == list(before)
    assert [one.index for one in after.values()] == list(range(6))
    trials = all_runs(project, "search")
    assert sorted(run.tags["key"] for run in trials) == sorted(after), "as many as were asked for, none doubled"
    for run in trials:
        assert run.status == (runs.KILLED if "stopped" in run.tags else runs.FINISHED)
        assert steps(project, run) == list(range(1, int(run.tags.get("stopped", 4)) + 1)), "each epoch once"
    assert not [run for run in all_runs(project, "key") if run.status == runs.RUNNING]


@pytest.mark.cluster
@pytest.mark.timeout(900)
def test_a_space_with_few_points_is_tried_once_each_and_failures_are_told(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    space = ["train.learning_rate=choice(0.003, 1e30)", "head.merge=choice(max, mean)"]
    search.run(params(algorithm="random", scheduler="none", name="few"), project, space)
    said = capsys.readouterr().out
    assert "4 trials: 2 finished, 2 failed" in said
    assert "the loss is" in said
    assert sorted(run.status for run in all_runs(project, "search")) == ["FAILED", "FAILED", "FINISHED", "FINISHED"]
    assert (project / "results" / "few.csv").exists()


def test_a_plan_changes_nothing(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one = params(algorithm="pbt", interval=2)
    one.plan = True
    before = sorted(project.rglob("*"))
    search.run(one, project, SPACE)
    assert "0 of 2 rounds are over" in capsys.readouterr().out
    one.search.algorithm = "tpe"
    search.run(one, project, SPACE)
    assert "10 to be asked for" in capsys.readouterr().out
    assert sorted(project.rglob("*")) == before


def test_a_metric_that_is_not_measured_is_told_with_those_that_are() -> None:
    measured = {"val/loss": 1, "val/accuracy": 1, "val/attribute/colour": 1, "train/loss": 1, "epoch": 1}
    said = hunt.unmeasured("val/mAP", measured)
    assert said == "search.metric=val/mAP is not measured: expected one of val/accuracy, val/loss"


# --- populations --------------------------------------------------------------------------------------------------------


def test_the_worse_members_take_over_from_the_better_ones() -> None:
    space = parse(["loss.alpha=uniform(0,1)", "train.learning_rate=loguniform(1e-4,1e-2)"])
    born = population.born(space, 8, seed=0)
    scores = [0.1, 0.8, 0.3, None, 0.5, 0.9, 0.6, 0.7]
    after = population.exchange(born, space, scores, 5, "max", 0, last=False)
    assert [number for number, one in enumerate(after.members) if one.copied is not None] == [0, 3]
    for number in (0, 3):
        member = after.members[number]
        assert member.copied in (5, 1)
        assert member.line[0] == born.members[member.copied].line[0]
        assert member.line[1][0] == 5
        assert 0 <= member.values["loss.alpha"] <= 1
        assert 1e-4 <= member.values["train.learning_rate"] <= 1e-2
    assert population.exchange(born, space, scores, 5, "max", 0, last=False) == after, "a function of seed and round"
    assert population.exchange(born, space, scores, 5, "max", 1, last=False) != after
    over = population.exchange(born, space, scores, 5, "max", 0, last=True)
    assert not over.exchanges
    assert population.order(over.members, "max")[0] == 5
    assert population.order(over.members, "min")[0] == 0
    assert population.order(over.members, "min")[-1] == 3, "no number is worse than any"


def test_a_line_becomes_a_schedule_of_what_changes() -> None:
    line = [
        (0, {"loss.alpha": 0.1, "loss.beta": 1.0}),
        (2, {"loss.alpha": 0.2, "loss.beta": 1.0}),
        (4, {"loss.alpha": 0.2, "loss.beta": 1.0}),
    ]
    assert population.changes(line) == ({"loss.alpha": 0.1, "loss.beta": 1.0}, [[2, {"loss.alpha": 0.2}]])
    settings = {"loss": {"alpha": 0.1}, "train": {"epochs": 6, "changes": [[2, {"loss.alpha": 0.2}]]}}
    assert changes.parts(settings) == [
        (0, 2, {"loss": {"alpha": 0.1}, "train": {"epochs": 6}}),
        (2, 6, {"loss": {"alpha": 0.2}, "train": {"epochs": 6}}),
    ]


CHANGING = [*SPACE, "train.weight_decay=loguniform(1e-4, 1e-1)"]


class Stop(Exception):
    pass


def here(
    jobs: list[dict[str, Any]], perform: Any, cluster: Any, train: Any, event: Any, *, epochs: int = 10**6
) -> None:
    """In place of the cluster: one job after the other in this process, until so many epochs were trained."""
    trained = 0

    def report(values: dict[str, Any]) -> None:
        nonlocal trained
        trained += "epoch" in values
        if trained > epochs:
            raise Stop

    for job in jobs:
        event(job["key"], perform(job, report))


def evolved(
    project: Path, monkeypatch: pytest.MonkeyPatch, *, stops: tuple[int, ...] = ()
) -> tuple[dict[str, Any], hunt.Hunt]:
    store = runs.open_store("", project)
    one = params(algorithm="pbt", population=4, interval=1)
    found = hunt.prepare(one, project, CHANGING, store)
    for epochs in stops:
        monkeypatch.setattr(evolution.cluster_jobs, "run", lambda *args, epochs=epochs: here(*args, epochs=epochs))
        with pytest.raises(Stop):
            evolution.evolve(Console(), found, store)
    monkeypatch.setattr(evolution.cluster_jobs, "run", here)
    return evolution.evolve(Console(), found, store), found


def test_a_population_that_was_cut_off_ends_as_one_that_was_not(
    project: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    best, found = evolved(project, monkeypatch)
    whole = population.load(evolution.folder_of(found))
    assert whole is not None
    assert whole.rounds == 4
    assert len(whole.exchanges) >= 3, "in each round but the last the worst takes over"

    other = pack_into(tmp_path_factory.mktemp("other"))
    best_again, found_again = evolved(other, monkeypatch, stops=(1, 2))
    assert population.load(evolution.folder_of(found_again)) == whole
    assert best_again == best

    for root in (project, other):
        members = all_runs(root, "member")
        assert sorted(run.key for run in members) == ["0", "1", "2", "3"]
        for run in members:
            assert "key" not in run.tags, "a member is no trial"
            assert run.tags["population"] == "search"
            assert run.status == runs.FINISHED
            assert steps(root, run) == steps(root, run, "setting/loss.alpha") == [1, 2, 3, 4]
            assert not [name for name in run.metrics if name.startswith("test/")]
        (parent,) = all_runs(root, "best.member")
        store = runs.open_store("", root)
        names = {Path(item.path).name for item in store.client.list_artifacts(parent.run_id, "search")}
        assert {"history.csv", "lineage.csv", "schedule.csv", "importance.csv"} <= names


def test_the_winners_schedule_gives_the_weights_that_the_population_had(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, found = evolved(project, monkeypatch)
    now = population.load(evolution.folder_of(found))
    assert now is not None
    number = max(
        (n for n in range(4) if len(now.members[n].line) > 1), key=lambda n: len(now.members[n].line)
    )  # one whose settings have changed, whoever has won
    member = now.members[number]
    first, later = population.changes(member.line)
    assert later
    one = found.params
    trial = plan.make_trial(varied(one, first | {"train.changes": later}, config.methods()), project, 0)
    plain = plan.make_trial(varied(one, first, config.methods()), project, 0)
    assert trial.key != plain.key
    assert trial.code != plain.code, "the code that changes settings is in the key"

    class Killed(Exception):
        pass

    def killed_after(epoch: int, metrics: dict[str, float]) -> None:
        if epoch == 2:
            raise Killed

    with pytest.raises(Killed):
        changes.train_changing(trial, killed_after)
    metrics = changes.train_changing(trial)
    assert metrics["val/accuracy"] == member.score
    place = population.place(evolution.folder_of(found), number, 3)
    latest = Checkpoints(place / "checkpoints").latest()
    assert latest is not None
    weights = load_file(trial.outputs / "weights.safetensors")
    assert weights.keys() == latest[1]["model"].keys()
    for name, tensor in weights.items():
        assert torch.equal(tensor, latest[1]["model"][name]), name
    said = json.loads((trial.outputs / "settings.json").read_text())
    assert said["settings"]["train"]["changes"] == later
    assert said["key"] == trial.key


@pytest.mark.cluster
@pytest.mark.timeout(900)
def test_a_population_on_the_cluster_ends_with_a_schedule_that_is_tested_once(project: Path) -> None:
    process = start(project, CHANGING, algorithm="pbt", population=3, interval=2)
    wait_for(lambda: bool(list(project.glob(".a3m/state/populations/*/*/0/epochs.json"))), process)
    process.kill()
    process.wait()
    again = start(project, CHANGING, algorithm="pbt", population=3, interval=2)
    said = again.communicate(timeout=600)[0]
    assert again.returncode == 0, said
    assert "epoch 4/4: best member" in said
    rows = pd.read_csv(project / "results" / "search.csv")
    assert set(rows["status"]) == {"finished"}
    assert set(rows["train.on"]) == {"train+val"}
    assert rows["test/accuracy"].notna().all()
    keys = {run.key for run in all_runs(project, "key")}
    assert keys == set(rows["key"]), "members of a population have no key"
    assert not [run for run in all_runs(project, "member") if run.status != runs.FINISHED]
