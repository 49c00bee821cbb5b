"""What a study leaves for the figures: the right images, maps and embeddings, and equal bytes for equal trials."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tiny
from safetensors.numpy import load_file

from a3m import samples, trial
from a3m.data.pack import Pack
from a3m.plan import Planned
from a3m.record import runs
from a3m.report import samples as reader


class Outputs(runs.Store):
    """A store that hands out the files of a finished trial's folder, as MLflow does."""

    def __init__(self, folder: Path):
        self.folder = folder

    def fetch(self, run_id: str, name: str, folder: Path) -> Path | None:
        path = self.folder / name
        return path if path.is_file() else None


def planned(folder: Path, *, state: str = "finished") -> Planned:
    one = tiny.make_trial(folder, tiny.params(epochs=1))
    if state == "finished":
        trial.train(one)
    found = runs.Found(one.key, "run", runs.FINISHED, 0.0, 1.0, {}, {})
    return Planned(one, {"method": "a3m"}, 0, "a3m seed=0", state, found)


@pytest.mark.parametrize("task", ["classification", "re-identification"])
def test_samples_are_those_of_the_trial(tmp_path: Path, task: str) -> None:
    tiny.write_pack(tmp_path, task=task, images=36)
    one = planned(tmp_path)
    pack = Pack(Path(one.trial.pack))
    store = Outputs(one.trial.outputs)
    path, again = tmp_path / "one.samples.npz", tmp_path / "two.samples.npz"
    for file in (path, again):
        samples.gather(store, [one], "twins", file)
    assert path.read_bytes() == again.read_bytes()
    found = dict(np.load(path, allow_pickle=False))
    assert reader.read(path) is not None

    predictions = pd.read_parquet(one.trial.outputs / "predictions.parquet").set_index("id")
    said = dict(predictions.iterrows())
    maps = load_file(one.trial.outputs / "attention.safetensors")
    rows_of = {pack.image(row)[1:17, 1:17].tobytes(): row for row in range(len(pack))}
    for i, image in enumerate(found["query_images"]):
        row = rows_of[image.tobytes()]
        here = said[pack.names[row]]
        assert found["query_labels"][i] == here["label"] == pack.label[row]
        assert found["query_right"][i] == (not pd.isna(here["prediction"]) and here["prediction"] == here["label"])
        assert list(found["query_predicted"][i]) == [here["predicted.colour"], here["predicted.mark"]]
        place = list(maps["rows"]).index(row)
        np.testing.assert_allclose(found["query_scores"][i], maps["scores"][place], rtol=1e-6)
        if task == "re-identification":
            assert rows_of[found["nearest_images"][i].tobytes()] == pack.names.index(here["nearest"])
    assert len(set(found["train_labels"])) == len(found["train_labels"])
    embeddings = load_file(one.trial.outputs / "embeddings.safetensors")
    stored = {tuple(vector) for vector in embeddings["final"].tolist()}
    assert {tuple(vector) for vector in found["embedding_final"].tolist()} <= stored
    assert len(found["embedding_labels"]) == len(found["embedding_category"]) == len(found["embedding_attribute"]) > 0


def test_without_a_finished_a3m_the_file_says_so(tmp_path: Path) -> None:
    tiny.write_pack(tmp_path)
    path = tmp_path / "none.samples.npz"
    samples.gather(Outputs(tmp_path), [planned(tmp_path, state="failed")], "twins", path)
    assert "no A3M trial" in str(np.load(path, allow_pickle=False)["meta"])
