"""Batches: which rows, in which order, and that they depend on nothing but seed and step."""

import numpy as np
import pytest
import tiny
import torch

from a3m.data import loaders, pack
from a3m.errors import DataError
from a3m.settings import Train

MEAN, STD = torch.tensor([0.5, 0.4, 0.3]), torch.tensor([0.2, 0.2, 0.2])


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> pack.Pack:
    folder = tmp_path_factory.mktemp("tiny")
    tiny.write_pack(folder)
    return pack.Pack(folder / "packed" / pack.FILE)


@pytest.fixture(scope="module")
def people(tmp_path_factory: pytest.TempPathFactory) -> pack.Pack:
    folder = tmp_path_factory.mktemp("people")
    tiny.write_pack(folder, task="re-identification")
    return pack.Pack(folder / "packed" / pack.FILE)


def batches(opened: pack.Pack, seed: int = 0, **train: object) -> loaders.TrainBatches:
    rows = loaders.parts(opened, "train+val")
    return loaders.TrainBatches(opened, rows.train, rows.classes, Train(batch_size=8, **train), seed, MEAN, STD)


def test_train_plus_val_trains_on_all_training_rows_and_train_leaves_the_validation_part(opened: pack.Pack) -> None:
    whole, part = loaders.parts(opened, "train+val"), loaders.parts(opened, "train")
    assert (len(whole.train), whole.prefix, list(whole.test)) == (24, "test", ["test"])
    assert part.prefix == "val"
    assert set(part.train) | set(part.test["test"]) == set(whole.train)
    assert not set(part.train) & set(part.test["test"])
    assert not set(part.test["test"]) & set(whole.test["test"]), "test data is not measured while settings are chosen"


def test_validation_identities_are_not_trained(people: pack.Pack) -> None:
    part = loaders.parts(people, "train")
    assert part.classes.tolist() == [1, 2, 3]
    assert set(people.label[np.concatenate(list(part.test.values()))]) == {4}
    assert list(part.test) == ["query", "gallery"]


def test_an_empty_part_is_named(opened: pack.Pack, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(opened.__dict__, "fold", np.full(len(opened), -1, np.int8))
    with pytest.raises(DataError, match=r"train\.on=train finds no train images"):
        loaders.parts(opened, "train")


def test_an_epoch_shows_every_image_once_and_epochs_differ(opened: pack.Pack) -> None:
    source = batches(opened)
    assert source.steps_per_epoch == 3
    epochs = [[row for step in range(3) for row in source[epoch * 3 + step].index.tolist()] for epoch in range(2)]
    assert sorted(epochs[0]) == sorted(epochs[1]) == list(range(24))
    assert epochs[0] != epochs[1]


@pytest.mark.parametrize("workers", [0, 2])
def test_a_batch_is_a_function_of_seed_and_step(opened: pack.Pack, workers: int) -> None:
    source = batches(opened, augment=["affine", "crop", "flip", "erase"])
    streamed = list(batches(opened, augment=["affine", "crop", "flip", "erase"]).stream(2, 6, workers))
    for step, batch in zip(range(2, 6), streamed, strict=True):
        assert torch.equal(batch.images, source[step].images)
        assert torch.equal(batch.labels, source[step].labels)
    other = batches(opened, seed=1, augment=["affine", "crop", "flip", "erase"])
    assert not torch.equal(streamed[0].images, other[2].images)


def test_evaluation_sees_the_normalised_centre(opened: pack.Pack) -> None:
    rows = np.array([3, 0, 7])
    (batch,) = loaders.evaluation_batches(opened, rows, MEAN, STD)
    expected = (
        torch.from_numpy(np.array(opened.image(0))[1:17, 1:17]).permute(2, 0, 1) / 255 - MEAN.view(3, 1, 1)
    ) / STD.view(3, 1, 1)
    assert torch.allclose(batch.images[1], expected, atol=1e-6)
    assert batch.index.tolist() == [3, 0, 7]
    assert batch.labels.tolist() == opened.label[rows].tolist()


def test_regions_follow_the_centre_crop(opened: pack.Pack) -> None:
    regions = loaders.evaluation_regions(opened, np.array([0]))
    assert regions is not None
    # A square of 6 pixels at 4, 4 of 18 x 18, cropped by one pixel on each side to 16 x 16.
    assert np.allclose(regions[0, 0], [3 / 16, 3 / 16, 9 / 16, 9 / 16])
