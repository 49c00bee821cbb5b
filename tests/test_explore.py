"""explain, compare and export of runs that two tiny trials left in a store: what they write is what the runs were tested with."""

import json
import shutil
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tiny
from PIL import Image
from safetensors.numpy import load_file

from a3m import config, identity, trial
from a3m.data.pack import Pack
from a3m.errors import DataError, SettingsError, StoreError, UserError
from a3m.explore import arguments, compare, drawing, export, quick, verbs
from a3m.explore import explain as explaining
from a3m.explore import kept as keeping
from a3m.explore.kept import Kept
from a3m.identity import Trial
from a3m.record import runs
from a3m.serve import package

METHODS = ("a3m", "baseline1")


class Project:
    """A project's root with one data set, a store, and a run of each method."""

    def __init__(self, root: Path, task: str, *, model: bool = True):
        self.root = root
        (root / "params.yaml").write_text((config.Path(__file__).parents[1] / "params.yaml").read_text())
        (root / "dvc.yaml").write_text("stages: {}\n")
        images = root / "data" / "twins" / "tiny"
        tiny.write_pack(images, task=task)
        (root / "data" / "prepared" / "tiny").mkdir(parents=True)
        for file in (images / "packed").iterdir():
            shutil.copy(file, root / "data" / "prepared" / "tiny" / file.name)
        self.images = images
        self.pack = Pack(root / "data" / "prepared" / "tiny" / "pack.safetensors")
        self.store = runs.open_store("", root)
        self.experiment = self.store.experiment("tiny", root)
        self.trials: dict[str, Trial] = {}
        self.run_ids: dict[str, str] = {}
        for method in METHODS:
            settings = tiny.params(epochs=1)
            settings.method = config.methods()[method]
            one = tiny.make_trial(images, settings)
            metrics = trial.train(one)
            if model:
                package.write(one.outputs, self.pack)
            self.trials[method] = one
            self.run_ids[method] = self.record(one, metrics)

    def record(self, one: Trial, metrics: dict[str, float]) -> str:
        client = self.store.client
        tags = {"key": one.key, "dataset": "tiny", "source": "twins", "data": one.data, "version.torch": "2"}
        run = client.create_run(self.experiment, run_name=f"{one.settings['method']['name']} seed=0", tags=tags)
        client.log_artifacts(run.info.run_id, str(one.outputs))
        for name, value in metrics.items():
            client.log_metric(run.info.run_id, name, value)
        client.set_terminated(run.info.run_id, "FINISHED")
        return run.info.run_id


@pytest.fixture(scope="module")
def people(tmp_path_factory: pytest.TempPathFactory) -> Project:
    return Project(tmp_path_factory.mktemp("people"), "re-identification")


@pytest.fixture(scope="module")
def birds(tmp_path_factory: pytest.TempPathFactory) -> Project:
    return Project(tmp_path_factory.mktemp("birds"), "classification")


# --- finding a run ------------------------------------------------------------------------------------------------------


def test_a_run_is_found_by_its_id_its_key_and_the_beginning_of_either(people: Project) -> None:
    run_id, key = people.run_ids["a3m"], people.trials["a3m"].key
    for reference in (key[:8], run_id[:8], key, run_id):
        kept = keeping.keep(reference, people.root, ["model"])
        assert (kept.run_id, kept.key, kept.dataset) == (run_id, key, "tiny")
    digests = json.loads((kept.files / "digests.json").read_text())
    for name in ("settings.json", "model/MLmodel", "model/artifacts/weights.safetensors"):
        assert identity.file_digest(kept.files / name) == digests[name]


def test_a_run_named_in_full_that_was_fetched_before_needs_no_store(
    people: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = keeping.keep(people.trials["a3m"].key, people.root, ["model"])
    monkeypatch.setattr(runs, "open_store", lambda *_: pytest.fail("the store was asked"))
    for reference in (people.trials["a3m"].key, people.run_ids["a3m"]):
        assert keeping.keep(reference, people.root, ["model"]) == first


def test_a_run_named_in_full_is_fetched_from_this_disk_without_mlflow_and_is_the_same(
    people: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    trial = people.trials["a3m"]
    cache = people.root / keeping.CACHE
    shutil.rmtree(cache, ignore_errors=True)
    asked = keeping.keep(trial.key[:12], people.root, ["model", "predictions.parquet"])
    files = {path.relative_to(cache): path.read_bytes() for path in cache.rglob("*") if path.is_file()}
    shutil.rmtree(cache)
    with monkeypatch.context() as away:
        away.setattr(runs, "open_store", lambda *_: pytest.fail("the store was asked"))
        for reference in (trial.key, people.run_ids["a3m"]):
            assert keeping.keep(reference, people.root, ["model", "predictions.parquet"]) == asked
            assert {path.relative_to(cache): path.read_bytes() for path in cache.rglob("*") if path.is_file()} == files
            shutil.rmtree(cache)
    monkeypatch.setattr("a3m.record.database.finished", lambda *_: None)
    assert keeping.keep(trial.key, people.root, ["model", "predictions.parquet"]) == asked


def test_fetching_in_a_process_of_its_own_gives_the_same_and_its_errors(people: Project) -> None:
    reference = people.trials["baseline1"].key[:10]
    assert keeping.begin(reference, people.root, ["model"])() == keeping.keep(reference, people.root, ["model"])
    wait = keeping.begin("ffff0000", people.root, ["model"])
    with pytest.raises(UserError, match="this store has none"):
        wait()


class Listed:
    """A client that lists made-up runs."""

    def __init__(self, *listed: tuple[str, str | None, str]):
        self.listed = listed

    def search_experiments(self) -> list[object]:
        return []

    def search_runs(self, experiments: object, condition: str, **_: object) -> "Page":
        return Page(
            [
                Run(*one)
                for one in self.listed
                if "tags" in condition and condition.split("'")[1][:-1] in (one[1] or one[0])
            ]
        )


class Page(list):
    token = None


class Run:
    def __init__(self, run_id: str, key: str | None, status: str):
        self.info = type(
            "Info", (), {"run_id": run_id, "status": status, "end_time": int(run_id, 16), "run_name": "a3m seed=0"}
        )
        self.data = type("Data", (), {"tags": {} if key is None else {"key": key}})


@pytest.mark.parametrize(
    ("listed", "said"),
    [
        ((), "this store has none"),
        ((("0a", "abcd1", "FINISHED"), ("0b", "abcd2", "FINISHED")), "2 runs begin so.*\n.*abcd1  0a.*\n.*abcd2"),
        ((("0a", "abcd1", "RUNNING"),), "is RUNNING, not finished"),
        ((("abcd", None, "FINISHED"),), "is the run of a study"),
    ],
)
def test_a_reference_that_names_no_finished_trial_says_what_there_is(listed: tuple, said: str) -> None:
    with pytest.raises(UserError, match=said):
        keeping.one_run(Listed(*listed), "abcd")


def test_of_doubled_runs_the_first_finished_counts_and_odd_references_are_refused() -> None:
    doubled = Listed(("0c", "abcd1", "FINISHED"), ("0b", "abcd1", "FINISHED"), ("0a", "abcd1", "FAILED"))
    assert keeping.one_run(doubled, "abcd").info.run_id == "0b"
    for reference in ("abc", "../etc", "abcd' OR 1=1", "ABCD%"):
        with pytest.raises(UserError, match="expected a run id"):
            keeping.one_run(doubled, reference)


def test_artifacts_that_are_gone_or_damaged_are_named(tmp_path: Path) -> None:
    project = Project(tmp_path, "classification")
    artifacts = next((tmp_path / "mlartifacts").glob(f"{project.run_ids['a3m']}/artifacts"))
    weights = artifacts / "model" / "artifacts" / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    with pytest.raises(StoreError, match=r"weights\.safetensors is damaged"):
        keeping.keep(project.trials["a3m"].key, tmp_path, ["model"])
    shutil.rmtree(artifacts / "model")
    with pytest.raises(StoreError, match="artifact model is not in the store any more"):
        keeping.keep(project.trials["a3m"].key, tmp_path, ["model"])


def test_a_pack_of_another_version_is_refused_with_the_way_back(people: Project, tmp_path: Path) -> None:
    kept = keeping.keep(people.trials["a3m"].key, people.root, ["model"])
    prepared = tmp_path / "data" / "prepared" / "tiny"
    with pytest.raises(DataError, match="run `dvc repro pack@tiny`"):
        keeping.pack_of(kept, tmp_path)
    prepared.mkdir(parents=True)
    tiny.write_pack(tmp_path / "other", seed=1)
    shutil.copy(tmp_path / "other" / "packed" / "pack.safetensors", prepared)
    with pytest.raises(DataError, match="is not the data version"):
        keeping.pack_of(kept, tmp_path)


# --- explain ------------------------------------------------------------------------------------------------------------


def test_a_query_is_explained_as_it_was_tested(people: Project, tmp_path: Path) -> None:
    predictions = pd.read_parquet(people.trials["a3m"].outputs / "predictions.parquet")
    one = predictions[predictions["prediction"].notna()].iloc[0]
    folder = explaining.explain(people.images / one["id"], people.trials["a3m"].key, people.root, tmp_path / "out")
    said = json.loads((folder / "explanation.json").read_text())
    assert said["nearest"][0]["image"] == one["nearest"], "the nearest image is the protocol's"
    assert said["nearest"][0]["right"] == (one["prediction"] == one["label"])
    assert [near["similarity"] for near in said["nearest"]] == sorted(
        (near["similarity"] for near in said["nearest"]), reverse=True
    )
    for near in said["nearest"]:
        row = people.pack.names.index(near["image"])
        assert (people.pack.label[row], people.pack.camera[row]) != (one["label"], one["camera"])
    for name, values in people.pack.description["attributes"].items():
        assert said["attributes"][name]["value"] == values[one[f"predicted.{name}"]]
        assert said["attributes"][name]["true"] == (
            None if one[f"attribute.{name}"] < 0 else values[one[f"attribute.{name}"]]
        )
        assert sum(said["attributes"][name]["probabilities"].values()) == pytest.approx(1)
    kept = load_file(people.trials["a3m"].outputs / "attention.safetensors")
    place = list(kept["rows"]).index(people.pack.names.index(one["id"]))
    assert said["merged"]["highest"] == pytest.approx(float(kept["weights"][place].max()), abs=1e-5)
    assert said["merged"]["highest"] == pytest.approx(max(one["highest"] for one in said["maps"].values()))
    assert len(list((folder / "maps").glob("*.png"))) == 2
    with Image.open(folder / "overview.png") as image:
        image.load()


def test_the_page_needs_nothing_else_and_escapes_what_data_say(people: Project, tmp_path: Path) -> None:
    foreign = tmp_path / "<b>&.png"
    Image.effect_noise((301, 77), 50).convert("P").save(foreign)
    folder = explaining.explain(foreign, people.trials["a3m"].key, people.root)
    assert folder == people.root / "reports" / "explain" / f"b-{people.trials['a3m'].key}"
    said = json.loads((folder / "explanation.json").read_text())
    assert said["known"] is None
    assert {near["right"] for near in said["nearest"]} == {None}
    page = (folder / "index.html").read_text()
    assert "<b>" not in page
    assert "&lt;b&gt;&amp;.png" in page
    assert "synthetic twin" in page
    for attribute in ("src", "href"):
        for value in page.split(f'{attribute}="')[1:]:
            assert value.startswith("data:image/png;base64,")
    assert "<script" not in page


@pytest.mark.parametrize("size", [(1, 1), (2000, 31), (16, 16)])
def test_any_size_is_taken(birds: Project, tmp_path: Path, size: tuple[int, int]) -> None:
    Image.new("RGB", size, (10, 200, 30)).save(tmp_path / "image.jpg")
    folder = explaining.explain(
        tmp_path / "image.jpg", birds.trials["baseline1"].key, birds.root, tmp_path / "out", nearest=3
    )
    said = json.loads((folder / "explanation.json").read_text())
    assert len(said["nearest"]) == 3
    assert said["merged"] is None
    assert said["attributes"] == {}
    assert sum(one["probability"] for one in said["classes"]) == pytest.approx(1)


def test_what_is_no_image_is_said(birds: Project, tmp_path: Path) -> None:
    (tmp_path / "image.png").write_text("no image")
    for path, said in ((tmp_path / "image.png", "image.png"), (tmp_path / "none.png", "no such image")):
        with pytest.raises(DataError, match=said):
            explaining.explain(path, birds.trials["a3m"].key, birds.root)


def test_runs_recorded_before_they_held_a_model_are_explained_too(tmp_path: Path) -> None:
    project = Project(tmp_path, "classification", model=False)
    image = project.images / project.pack.names[30]
    folder = explaining.explain(image, project.trials["a3m"].key, tmp_path)
    predictions = pd.read_parquet(project.trials["a3m"].outputs / "predictions.parquet").set_index("id")
    said = json.loads((folder / "explanation.json").read_text())
    assert said["classes"][0]["class"] == str(predictions["prediction"][project.pack.names[30]])
    again = explaining.explain(image, project.trials["a3m"].key, tmp_path, tmp_path / "again")
    assert (again / "explanation.json").read_text() == (folder / "explanation.json").read_text()


def test_the_light_way_to_load_a_network_gives_the_same_and_leaves_the_compiler_alone(birds: Project) -> None:
    """In a process of its own, where nothing has been imported yet."""
    artifacts = birds.trials["a3m"].outputs / "model" / "artifacts"
    code = f"""
import sys, numpy as np
from pathlib import Path
from a3m.explore import quick
folder = Path({str(artifacts)!r})
light = quick.load(folder / "weights.safetensors", folder / "description.json")
images = np.random.default_rng(0).integers(0, 255, (2, 16, 16, 3), dtype=np.uint8)
answer = light(images).embedding
assert "torch._dynamo" not in sys.modules and "sympy" not in sys.modules, "it is not light any more"
from a3m.serve.predictor import Predictor
plain = Predictor(folder / "weights.safetensors", folder / "description.json")
assert (plain(images).embedding == answer).all()
import torch._dynamo
assert torch._dynamo.__file__ and torch._dynamo.is_compiling() is False
"""
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr


def test_the_way_back_when_the_stand_in_does_not_do(birds: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    artifacts = birds.trials["a3m"].outputs / "model" / "artifacts"
    description = json.loads((artifacts / "description.json").read_text())
    del description["map"]  # as written before it was kept
    other = birds.root / "description.json"
    other.write_text(json.dumps(description))
    images = np.zeros((1, 16, 16, 3), np.uint8)
    answers = [
        quick.load(artifacts / "weights.safetensors", one)(images) for one in (artifacts / "description.json", other)
    ]
    np.testing.assert_array_equal(answers[0].embedding, answers[1].embedding)


def test_colours_of_a_map() -> None:
    image = np.zeros((4, 4, 3), np.uint8)
    drawn = drawing.overlay(image, np.array([[0.0, 1.0]]), 0.0, 1.0)
    low, high = drawing.HEAT * drawing.VIRIDIS[0], drawing.HEAT * drawing.VIRIDIS[-1]
    np.testing.assert_allclose(drawn[0, 0], low, atol=12)
    np.testing.assert_allclose(drawn[0, 3], high, atol=12)
    flat = drawing.overlay(image, np.full((2, 2), 0.3), 0.3, 0.3)
    assert (flat == flat[0, 0]).all()


# --- compare ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["people", "birds"])
def test_a_comparison_gives_the_metrics_of_both_runs(kind: str, request: pytest.FixtureRequest) -> None:
    project: Project = request.getfixturevalue(kind)
    found = compare.compare((project.trials["a3m"].key, project.trials["baseline1"].key), project.root)
    assert found.metrics
    for one in found.metrics:
        for kept, value in zip(found.runs, (one.first, one.second), strict=True):
            assert value == pytest.approx(100 * kept.metrics[f"test/{one.metric}"], abs=1e-6)
        assert one.difference == pytest.approx(one.first - one.second)
        assert one.interval[0] <= one.difference <= one.interval[1]
    settings = dict(found.settings[["setting", "first"]].itertuples(index=False))
    assert settings["method.name"] == "a3m"
    assert "seed" not in settings
    assert "train.epochs" not in settings
    labels = project.pack.label[[project.pack.names.index(name) for name in pd.read_parquet(
        project.trials["a3m"].outputs / "predictions.parquet")["id"]]]  # fmt: skip
    assert found.groups == (len(np.unique(labels)) if kind == "people" else len(labels))


def test_queries_that_one_gets_right_are_those() -> None:
    first = pd.DataFrame({"id": list("abcde"), "label": [1] * 5, "prediction": [1, 1, 0, 0, 1]})
    second = first.assign(prediction=[1, 0, 1, 0, 0])
    right = [compare.values_of(frame, "classification")["accuracy"] for frame in (first, second)]
    found = compare.only_one(first, second, right[0], right[1], "classification")
    assert found[["id", "right"]].to_dict("list") == {"id": ["b", "e", "c"], "right": ["first", "first", "second"]}


def test_skipped_queries_and_missing_labels_count_nowhere() -> None:
    frame = pd.DataFrame(
        {
            "id": ["a", "b", "c"], "label": [1, 2, 3], "prediction": [1, 9, None], "nearest": ["x", "y", None],
            "average_precision": [1.0, 0.5, np.nan], "first_match": [1, 6, 0],
            "attribute.hat": [0, -1, 1], "predicted.hat": [0, 0, 0],
        }
    )  # fmt: skip
    values = compare.values_of(frame, "re-identification")
    assert [np.nanmean(values[name]) for name in ("rank1", "rank5", "rank10", "mAP", "attribute/hat")] == [
        0.5,
        0.5,
        1,
        0.75,
        0.5,
    ]
    assert [np.isnan(values[name]).sum() for name in ("rank1", "mAP", "attribute/hat")] == [1, 1, 1]


def test_runs_that_cannot_be_compared_are_told(people: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    key = people.trials["a3m"].key
    with pytest.raises(DataError, match="both are one run"):
        compare.compare((key, people.run_ids["a3m"]), people.root)
    real = keeping.keep

    def elsewhere(reference: str, *rest: object) -> Kept:
        kept = real(reference, *rest)  # type: ignore[arg-type]
        return kept if kept.key == key else Kept(**{**kept.__dict__, "dataset": "cars"})

    monkeypatch.setattr(keeping, "keep", elsewhere)
    with pytest.raises(DataError, match=r"ran on tiny, .* on cars"):
        compare.compare((key, people.trials["baseline1"].key), people.root)


@pytest.mark.parametrize("kind", ["people", "birds"])
def test_compare_on_the_terminal_and_its_files(
    kind: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    project: Project = request.getfixturevalue(kind)
    monkeypatch.setattr(config, "running_root", lambda: project.root)
    keys = [project.trials[method].key for method in METHODS]
    monkeypatch.setattr(sys, "argv", ["a3m", *keys])
    verbs.compare()
    said = capsys.readouterr().out
    folder = project.root / "reports" / "compare" / "-".join(keys)
    assert "method.name" in said
    assert "McNemar" in said
    assert "synthetic twin" in " ".join(said.split())
    summary = json.loads((folder / "comparison.json").read_text())
    queries = pd.read_csv(folder / "queries.csv")
    assert len(queries) == summary["right"]["only_first"] + summary["right"]["only_second"]
    assert (folder / "queries.png").is_file() == bool(len(queries))
    total = sum(summary["right"][name] for name in ("both", "only_first", "only_second", "neither"))
    assert total == max(one["images"] for one in summary["metrics"] if not one["metric"].startswith("attribute"))


# --- export -------------------------------------------------------------------------------------------------------------


def test_embeddings_carry_the_labels_of_their_images(people: Project, tmp_path: Path) -> None:
    export.export(people.trials["a3m"].key, people.root, tmp_path, ["embeddings"])
    stored = load_file(people.trials["a3m"].outputs / "embeddings.safetensors")
    arrays = dict(np.load(tmp_path / "embeddings.npz", allow_pickle=False))
    table = pd.read_parquet(tmp_path / "embeddings.parquet")
    assert {path.name for path in tmp_path.iterdir()} == {"embeddings.npz", "embeddings.parquet"}
    for name in ("final", "category", "attribute"):
        np.testing.assert_array_equal(arrays[name], stored[name])
        np.testing.assert_array_equal(np.stack(table[name]), stored[name])
    for place, row in enumerate(stored["rows"]):
        assert arrays["image"][place] == table["image"][place] == people.pack.names[row]
        assert arrays["label"][place] == table["label"][place] == people.pack.label[row]
        colour = people.pack.attributes[row, 0]
        named = table["attribute.colour"][place]
        assert pd.isna(named) if colour < 0 else named == "rgb"[colour]
    assert set(table["split"]) == {"query", "gallery"}
    assert json.loads(str(arrays["meta"]))["key"] == people.trials["a3m"].key


@pytest.mark.parametrize("method", METHODS)
def test_exported_networks_answer_as_the_run_also_for_other_numbers_of_images(
    birds: Project, tmp_path: Path, method: str
) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    import torch

    found = export.export(birds.trials[method].key, birds.root, tmp_path)
    assert set(found.differences) == {"onnx", "torch"}
    assert max(found.differences.values()) < 1e-4
    kept = keeping.keep(birds.trials[method].key, birds.root, export.WANTED)
    predictor = keeping.predictor_of(kept, birds.pack)
    images = np.stack([predictor.crop(birds.pack.image(row)) for row in range(5)])
    answers = predictor(images)
    session = onnxruntime.InferenceSession(str(tmp_path / "model.onnx"), providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    assert names == ["embedding", "class", *(["attribute.colour", "attribute.mark"] if method == "a3m" else [])]
    said = dict(zip(names, session.run(None, {"images": images}), strict=True))
    loaded = torch.export.load(tmp_path / "model.pt2").module()(torch.from_numpy(images))
    assert list(loaded) == names
    for other in (said, {name: value.detach().numpy() for name, value in loaded.items()}):
        np.testing.assert_allclose(other["embedding"], answers.embedding, atol=1e-5)
        np.testing.assert_allclose(other["class"], answers.classes, atol=1e-5)


def test_a_network_that_answers_otherwise_is_removed_and_told(tmp_path: Path) -> None:
    import torch

    class Constant(torch.nn.Module):
        def forward(self, images: torch.Tensor) -> dict[str, torch.Tensor]:
            return {"embedding": torch.ones(len(images), 2)}

    path = tmp_path / "model.onnx"
    path.write_text("")
    images = np.zeros((2, 4, 4, 3), np.uint8)
    assert export.held_against(Constant(), lambda given: {"embedding": np.ones((len(given), 2))}, images, path) == 0
    for wrong in (0.0, np.nan):
        path.write_text("")
        with pytest.raises(UserError, match="answers otherwise"):
            export.held_against(
                Constant(), lambda given, wrong=wrong: {"embedding": np.full((len(given), 2), wrong)}, images, path
            )
        assert not path.exists()


def test_parts_of_an_export_that_are_none_are_refused(birds: Project) -> None:
    with pytest.raises(SettingsError, match="expected some of embeddings, onnx, torch"):
        export.export(birds.trials["a3m"].key, birds.root, None, ["tflite"])


# --- the command line ---------------------------------------------------------------------------------------------------


def test_options_names_and_settings_are_told_apart() -> None:
    for given in (["a.png", "--run", "abcd"], ["--run=abcd", "a.png"], ["run=abcd", "a.png"]):
        assert arguments.parse("explain", [*given, "store.uri=sqlite:///x"], ["IMAGE"], ["run"]) == arguments.Arguments(
            ["a.png"], {"run": "abcd"}, ["store.uri=sqlite:///x"]
        )


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ([], "expected IMAGE, got nothing"), (["a", "b"], "expected IMAGE, got a b"), (["a", "--run"], "a value is missing"),
        (["a", "--ran", "x"], "no such option; there are --run"),
    ],
)  # fmt: skip
def test_a_wrong_command_line_says_what_is_expected(given: list[str], said: str) -> None:
    with pytest.raises(SettingsError, match=said):
        arguments.parse("explain", given, ["IMAGE"], ["run"])


def test_explain_without_a_run_asks_for_one(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["a3m", "image.png"])
    with pytest.raises(SystemExit) as ended:
        verbs.explain()
    assert ended.value.code == 2
    assert "which run?" in capsys.readouterr().err


VERBS = [  # and how its help begins
    ("train", "usage: a3m train"), ("plan", "usage: a3m plan"), ("clean", "usage: a3m clean"), ("ui", "usage: a3m ui"),
    ("check", "usage: a3m check"), ("explain", "usage: a3m explain"), ("compare", "usage: a3m compare"),
    ("export", "usage: a3m export"),
]  # fmt: skip


@pytest.mark.parametrize(("verb", "said"), VERBS)
def test_every_verb_helps_and_imports_nothing_heavy_for_it(verb: str, said: str) -> None:
    code = f"""
import sys
sys.argv = ["a3m", "{verb}", "--help"]
from a3m.__main__ import main
main()
heavy = {{"torch", "mlflow", "ray", "pandas", "timm", "matplotlib"}} & set(sys.modules)
assert not heavy, heavy
"""
    ran = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=Path(__file__).parents[1]
    )
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.startswith(said)


def test_help_comes_at_once() -> None:
    def seconds(*command: str) -> float:
        began = time.process_time_ns(), time.perf_counter()
        subprocess.run([sys.executable, *command], check=True, capture_output=True)
        return time.perf_counter() - began[1]

    bare: Callable[[], float] = lambda: seconds("-c", "")  # noqa: E731
    assert min(seconds("-m", "a3m", "--help") - bare() for _ in range(3)) < 0.5


def test_the_store_of_a_project_without_one_is_not_made(tmp_path: Path, people: Project) -> None:
    shutil.copy(people.root / "params.yaml", tmp_path)
    (tmp_path / "dvc.yaml").write_text("")
    with pytest.raises(StoreError, match="no store yet"):
        keeping.keep("abcd", tmp_path, ["model"])
    assert not list(tmp_path.glob("*.db"))
    with sqlite3.connect(people.root / "mlflow.db") as database:
        assert database.execute("select count(*) from runs").fetchone()[0] == 2
