"""Accuracy of classes and attributes: numbers by hand, and what is not counted."""

import numpy as np
import pytest
import torch

from a3m.metrics.classification import accuracy, attribute_accuracy, majority


def test_accuracy_of_logits_and_of_predicted_classes_by_hand():
    logits = np.array([[0.1, 0.9, 0.0], [2.0, 1.0, 0.0], [0.0, 0.0, -1.0], [-3.0, -2.0, -1.0]])
    labels = [1, 1, 0, 2]  # right, wrong, right (the first of equals), right
    assert accuracy(logits, labels) == 0.75
    assert accuracy([1, 0, 0, 2], labels) == 0.75
    assert accuracy(torch.tensor(logits, requires_grad=True), torch.tensor(labels)) == 0.75
    assert accuracy(torch.tensor(logits).bfloat16(), np.array(labels, np.uint8)) == 0.75


@pytest.mark.parametrize(
    ("predictions", "labels", "message"),
    [
        ([[np.nan, 1.0]], [0], "logits hold NaN or infinity in 1 of 1 rows, first in row 0"),
        ([[np.inf, 1.0]], [0], "logits hold NaN"),
        (np.empty((0, 3)), np.empty(0, int), "labels have shape"),
        (np.empty((1, 0)), [0], "logits have shape"),
        ([0, 1], [0], "2 predictions for 1 labels"),
        ([0, 1], [0, -1], "labels hold -1"),
        ([0.0, 1.0], [0, 1], "predictions hold float64: expected integers"),
        ([0, 1], [[0, 1]], "labels have shape"),
    ],
)
def test_accuracy_refuses_bad_input(predictions, labels, message):
    with pytest.raises(ValueError, match=message):
        accuracy(predictions, labels)


def test_unlabelled_images_do_not_count_in_an_attributes_accuracy():
    labels = [[0, -1, -1], [1, -1, 2], [1, -1, 0], [-1, -1, 0]]
    predictions = [[0, 0, 2], [1, 1, 2], [0, 1, 1], [1, 0, 0]]
    first, second, third = attribute_accuracy(predictions, torch.tensor(labels))
    assert (first, third) == (pytest.approx(2 / 3), pytest.approx(2 / 3))
    assert np.isnan(second)


def test_majority_is_counted_in_training_and_scored_in_testing():
    train = [[1, 0, -1, 2], [1, 1, -1, -1], [0, -1, -1, 2], [-1, -1, -1, 0]]
    test = [[1, 0, 1, -1], [0, 1, 1, -1], [0, 1, 0, -1], [-1, 0, 0, -1]]
    shares = majority(train, test)
    assert shares[0] == pytest.approx(1 / 3)  # 1 is commonest in training, and one of three in testing
    assert shares[1] == 0.5  # 0 and 1 are equally common: the lowest
    assert np.isnan(shares[2:]).all()  # no training label; no test label


def test_a_model_that_guesses_the_majority_scores_it():
    rng = np.random.default_rng(0)
    train, test = rng.choice(4, (200, 5), p=[0.1, 0.2, 0.6, 0.1]), rng.integers(-1, 4, (90, 5))
    assert attribute_accuracy(np.full((90, 5), 2), test) == majority(train, test)
    assert attribute_accuracy(test, test) == [1.0] * 5


def test_attributes_refuse_bad_input():
    with pytest.raises(ValueError, match="predictions have shape"):
        attribute_accuracy([[0, 1]], [[0], [1]])
    with pytest.raises(ValueError, match="labels hold -2"):
        attribute_accuracy([[0]], [[-2]])
    with pytest.raises(ValueError, match="train_labels have 2 attributes, test_labels 1"):
        majority([[0, 1]], [[0]])
