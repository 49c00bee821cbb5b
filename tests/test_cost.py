"""What a plan costs, by hand: epochs left times images, at a rate that was measured or is stated."""

from pathlib import Path

import pytest
import tiny

from a3m import cost
from a3m.plan import Planned
from a3m.record import runs
from a3m.settings import Params


@pytest.fixture
def params() -> Params:
    given = tiny.params(epochs=10)
    given.data.source, given.dataset.train_images = "raw", 1000
    given.data.height = given.data.width = 112
    return given


def planned(folder: Path, params: Params, state: str, done: int = 0) -> Planned:
    trial = tiny.make_trial(folder, params)
    return Planned(trial, {}, 0, "a3m seed=0", state, None, done)


@pytest.fixture
def packed(tmp_path: Path) -> Path:
    tiny.write_pack(tmp_path)
    return tmp_path


def test_epochs_that_are_left_times_the_published_images(packed: Path, params: Params, tmp_path: Path) -> None:
    trials = [
        planned(packed, params, "new"),
        planned(packed, params, "interrupted", 4),
        planned(packed, params, "finished"),
    ]
    total = cost.cost(params, tmp_path / "nothing packed", trials)
    assert (total.trials, total.images, total.hours) == (2, 1000 * (10 + 6), None)
    params.train.on = "train"
    assert cost.cost(params, tmp_path / "nothing packed", trials).images == 800 * 16


def test_a_stated_rate_falls_with_the_pixels_and_a_measured_one_goes_before(
    packed: Path, params: Params, tmp_path: Path
) -> None:
    trials = [planned(packed, params, "new")]
    params.cluster.images_per_second = 5.0  # at 224 x 224; four times as many at 112 x 112
    total = cost.cost(params, tmp_path, trials)
    assert total.hours == pytest.approx(10_000 / 20 / 3600)
    assert "stated" in total.rate
    tags = {"images_per_second": "50", "backbone": "a3m_resnet_small", "data": trials[0].trial.data}
    known = [
        runs.Found("k", "r", runs.FINISHED, 0, 1, {}, tags),
        runs.Found("k", "r", runs.FAILED, 0, 1, {}, tags | {"images_per_second": "1"}),
    ]
    total = cost.cost(params, tmp_path, trials, known)
    assert total.hours == pytest.approx(10_000 / 50 / 3600)
    assert "measured" in total.rate
    elsewhere = [runs.Found("k", "r", runs.FINISHED, 0, 1, {}, tags | {"data": "of another size"})]
    assert "stated" in cost.cost(params, tmp_path, trials, elsewhere).rate


def test_a_twin_that_is_not_packed_has_no_count(packed: Path, params: Params, tmp_path: Path) -> None:
    params.data.source = "twins"
    total = cost.cost(params, tmp_path / "nothing packed", [planned(packed, params, "new")])
    assert (total.images, total.hours) == (0, None)
    assert cost.text(total).startswith("1 trials to train (")


def test_a_pack_of_other_settings_is_not_counted(tmp_path: Path) -> None:
    """After the demo, a plan of profile paper still reckons with the published images."""
    folder = tmp_path / "data" / "prepared" / "tiny"
    tiny.write_pack(folder)
    for path in (folder / "packed").iterdir():
        path.rename(folder / path.name)
    here = tiny.params()
    assert cost.training_images(here, tmp_path) == 24
    here.data.source, here.dataset.train_images = "raw", 1000
    assert cost.training_images(here, tmp_path) == 1000
