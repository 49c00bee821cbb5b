"""Batches: which rows, in which order, and that they depend on nothing but seed and step."""

import numpy as np
import pytest
import tiny
import torch

from a3m.data import augmentation, loaders, pack, sampling
from a3m.errors import DataError, SettingsError
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


def batches(
    opened: pack.Pack, seed: int = 0, *, images_per_class: int = 0, shuffle_attributes: bool = False, **train: object
) -> loaders.TrainBatches:
    rows, settings = loaders.parts(opened, "train+val"), Train(**{"batch_size": 8} | train)
    return loaders.TrainBatches(
        opened, rows.train, rows.classes, settings, seed, MEAN, STD,
        images_per_class=images_per_class, shuffle_attributes=shuffle_attributes,
    )  # fmt: skip


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


# --- batches of P classes with K images ---------------------------------------------------------------------------------


def test_a_batch_has_p_classes_with_k_images_each_and_a_class_no_image_twice(opened: pack.Pack) -> None:
    source = batches(opened, images_per_class=4)
    assert (source.batch_size, source.steps_per_epoch) == (8, 3)
    for step in range(6):
        batch = source[step]
        _, counts = np.unique(batch.labels.numpy(), return_counts=True)
        assert counts.tolist() == [4, 4]
        assert len(set(batch.index.tolist())) == 8
        assert batch.labels.tolist() == opened.label[batch.index.numpy()].tolist()


def test_a_batch_of_classes_is_a_function_of_seed_and_step(opened: pack.Pack) -> None:
    first = [batches(opened, images_per_class=2)[step].index.tolist() for step in (5, 0, 3)]
    again = batches(opened, images_per_class=2)
    assert first == [again[step].index.tolist() for step in (5, 0, 3)]
    assert first != [batches(opened, seed=1, images_per_class=2)[step].index.tolist() for step in (5, 0, 3)]


def drawn(labels: np.ndarray, P: int, K: int, steps: int, seed: int = 0) -> np.ndarray:
    return sampling.class_batches(labels, P, K, steps, np.random.default_rng(seed)).reshape(steps, P, K)


@pytest.mark.parametrize(("P", "K", "steps"), [(3, 2, 11), (7, 4, 5), (5, 3, 1)])
def test_classes_and_their_images_take_turns(P: int, K: int, steps: int) -> None:
    """In an epoch no class is shown more than once more than another, nor an image than another of its class."""
    labels = np.random.default_rng(1).permutation(np.repeat(np.arange(7), [4, 5, 6, 7, 8, 9, 10]))
    chosen = drawn(labels, P, K, steps)
    of_class = labels[chosen]
    assert (of_class == of_class[:, :, :1]).all()
    assert all(len(set(batch[:, 0])) == P for batch in of_class)
    assert all(len(set(images)) == K for batch in chosen for images in batch)
    shown = np.bincount(of_class[:, :, 0].ravel(), minlength=7)
    assert np.ptp(shown) <= 1
    images = np.bincount(chosen.ravel(), minlength=len(labels))
    assert all(np.ptp(images[labels == label]) <= 1 for label in range(7))


def test_a_class_with_fewer_images_repeats_them_evenly() -> None:
    labels = np.array([0, 0, 0, 1, 1, 1, 1, 1, 2])
    chosen = drawn(labels, 3, 4, 6)
    for batch in chosen:
        counts = {labels[images[0]]: np.unique(images, return_counts=True)[1] for images in batch}
        assert sorted(counts[0]) == [1, 1, 2]
        assert sorted(counts[1]) == [1, 1, 1, 1]
        assert sorted(counts[2]) == [4]


@pytest.mark.parametrize(("K", "batch_size"), [(1, 8), (8, 8), (5, 8)])
def test_a_batch_that_compares_nothing_is_refused(opened: pack.Pack, K: int, batch_size: int) -> None:
    with pytest.raises(SettingsError, match=f"images_per_class={K} with train.batch_size=8"):
        batches(opened, images_per_class=K, batch_size=batch_size)


def test_few_classes_make_smaller_batches(opened: pack.Pack) -> None:
    source = batches(opened, images_per_class=3, batch_size=24)
    assert source.batch_size == 12, "four classes"
    assert sorted(set(source[0].labels.tolist())) == [0, 1, 2, 3]


# --- shuffled attribute labels ------------------------------------------------------------------------------------------


def test_shuffled_attributes_are_exchanged_between_images_and_training_rows_only(opened: pack.Pack) -> None:
    true, shuffled = batches(opened), batches(opened, shuffle_attributes=True)
    rows = loaders.parts(opened, "train+val")
    assert sorted(map(tuple, shuffled.attributes)) == sorted(map(tuple, true.attributes))
    assert (shuffled.attributes != true.attributes).any()
    batch = shuffled[4]
    assert torch.equal(batch.images, true[4].images), "nothing but the labels"
    assert batch.attributes.tolist() == shuffled.attributes[np.searchsorted(rows.train, batch.index.numpy())].tolist()
    assert np.array_equal(shuffled.attributes, batches(opened, shuffle_attributes=True).attributes)
    (tested,) = loaders.evaluation_batches(opened, rows.test["test"], MEAN, STD)
    assert tested.attributes.tolist() == opened.attributes[rows.test["test"]].tolist()


def test_attributes_of_a_person_are_exchanged_whole() -> None:
    people = np.repeat(np.arange(20), 3)
    of_person = np.random.default_rng(0).integers(-1, 4, (20, 5))
    shuffled = sampling.shuffled_attributes(of_person[people], people + 100, seed=3)
    given = shuffled[::3]
    assert all(len({tuple(row) for row in shuffled[people == person]}) == 1 for person in range(20))
    assert sorted(map(tuple, given)) == sorted(map(tuple, of_person))
    assert (given != of_person).any(axis=1).mean() > 0.5
    other = sampling.shuffled_attributes(of_person[people], people + 100, seed=4)
    assert not np.array_equal(shuffled, other)


# --- augmentation and evaluation ----------------------------------------------------------------------------------------


def test_a_training_image_is_a_crop_of_the_packed_one_mirrored_half_the_time(opened: pack.Pack) -> None:
    """Every image of two epochs is found among the 2 x 9 crops of 16 of 18 pixels, and all of them occur."""
    source, found = batches(opened), []
    for step in range(60):
        batch = source[step]
        for image, row in zip(batch.images, batch.index.tolist(), strict=True):
            packed = np.array(opened.image(row))
            crops = {
                (top, left, mirrored): packed[top : top + 16, left : left + 16][:, :: -1 if mirrored else 1]
                for top in range(3) for left in range(3) for mirrored in (False, True)
            }  # fmt: skip
            matches = [
                key for key, crop in crops.items()
                if torch.allclose(image, plainly_normalised(crop), atol=1e-5)
            ]  # fmt: skip
            assert len(matches) == 1
            found += matches
    counts = {key: found.count(key) for key in set(found)}
    assert len(counts) == 18
    assert all(abs(count - 480 / 18) < 25 for count in counts.values()), counts  # five standard deviations
    assert abs(sum(mirrored for _, _, mirrored in found) - 240) < 55


def plainly_normalised(image: np.ndarray) -> torch.Tensor:
    return (torch.from_numpy(image.copy()).permute(2, 0, 1) / 255 - MEAN.view(3, 1, 1)) / STD.view(3, 1, 1)


def test_without_crop_and_flip_training_sees_the_centre(opened: pack.Pack) -> None:
    batch = batches(opened, augment=[])[0]
    (expected,) = loaders.evaluation_batches(opened, batch.index.numpy(), MEAN, STD)
    assert torch.equal(batch.images, expected.images)


def test_one_kind_of_augmentation_leaves_the_others_as_they_were(opened: pack.Pack) -> None:
    plain, erased = batches(opened)[2].images, batches(opened, augment=["crop", "flip", "erase"])[2].images
    same = (plain == erased).all(dim=1).flatten(1).float().mean(dim=1)
    assert (same == 1).any(), "erasing leaves half of the images alone"
    assert ((same > 0.5) & (same < 1)).any(), "and of the others the rest"
    moved = batches(opened, augment=["crop", "flip", "affine"])[2].images
    assert not any(torch.equal(a, b) for a, b in zip(plain, moved, strict=True))


def test_normalising_row_by_row_is_the_plain_formula() -> None:
    images = np.random.default_rng(0).integers(0, 256, (3, 5, 7, 3), dtype=np.uint8)
    found = augmentation.normalise(images, MEAN, STD)
    assert found.shape == (3, 3, 5, 7)
    for image, expected in zip(found, map(plainly_normalised, images), strict=True):
        assert torch.allclose(image, expected, atol=1e-6)


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
