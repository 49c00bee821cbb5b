"""Which training images stand in which batch, and the control of shuffled attribute labels.

Everything is a function of its arguments: the generator that a caller passes in is made for one epoch, and thrown away.
Shape suffixes: N training rows, B batch, P classes of a batch, K attributes.
"""

import numpy as np

from a3m import randomness
from a3m.errors import SettingsError


def classes_of_a_batch(batch_size: int, images_per_class: int, classes: int) -> int:
    """P of batches of P classes with `images_per_class` images each, at most `batch_size`. Raises SettingsError below 2."""
    if images_per_class < 2 or batch_size // images_per_class < 2 or classes < 2:
        raise SettingsError(
            f"images_per_class={images_per_class} with train.batch_size={batch_size} and {classes} classes to train on: "
            "a batch needs two classes of two images or more; raise train.batch_size, or set images_per_class=0"
        )
    return min(batch_size // images_per_class, classes)


def class_batches(
    labels: np.ndarray, classes_per_batch: int, images_per_class: int, batches: int, generator: np.random.Generator
) -> np.ndarray:
    """(batches, P * images_per_class) positions in `labels` (N,), class by class.

    The classes take turns in shuffled rounds, so that in an epoch one is shown at most once more than another, and never twice in
    a batch; so do the images of a class. Only a class with fewer images than are drawn of it repeats them.
    """
    names, members = np.unique(labels), np.argsort(labels, kind="stable")
    of_class = np.split(members, np.searchsorted(labels[members], names[1:]))
    classes_BP = take_turns(np.arange(len(names)), classes_per_batch, batches, generator)
    chosen = np.empty((batches, classes_per_batch, images_per_class), np.int64)
    for number, images in enumerate(of_class):
        batch, place = np.nonzero(classes_BP == number)
        chosen[batch, place] = take_turns(images, images_per_class, len(batch), generator)
    return chosen.reshape(batches, -1)


def take_turns(items: np.ndarray, size: int, groups: int, generator: np.random.Generator) -> np.ndarray:
    """(groups, size): the items in one shuffled round after another, cut into groups.

    A group that begins in one round and ends in the next shows no item twice, unless there are fewer items than `size`.
    """
    taken = np.empty(0, items.dtype)
    while len(taken) < groups * size:
        following = generator.permutation(items)
        begun = taken[len(taken) - len(taken) % size :]
        again = np.isin(following, begun)  # already in the group that the round before left incomplete: put last
        taken = np.concatenate([taken, following[~again], following[again]])
    return taken[: groups * size].reshape(groups, size)


def shuffled_attributes(attributes: np.ndarray, labels: np.ndarray, seed: int) -> np.ndarray:
    """Attribute labels (N, K) that say nothing of the image they stand at: the control of shuffled attributes.

    Where all images of a label have equal attributes (people, car models) whole labels exchange theirs, else single images: the
    values, their frequencies and what goes with what stay as they are.
    """
    generator = np.random.default_rng(randomness.derive(seed, "shuffled attributes"))
    _, first, label = np.unique(labels, return_index=True, return_inverse=True)
    of_label = attributes[first]
    if len(of_label) > 1 and np.array_equal(of_label[label], attributes):
        return of_label[generator.permutation(len(of_label))][label]
    return attributes[generator.permutation(len(attributes))]
