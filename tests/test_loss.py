"""Equation 11 by hand, and the mask of unlabelled attributes."""

import math
from types import SimpleNamespace

import pytest
import torch

from a3m.loss import attribute_loss, build, total
from a3m.model import Output


def output(category, final, attributes) -> Output:
    embedding = torch.zeros(len(category), 2)
    return Output(category, attributes, final, embedding, embedding, None, None)


def cross_entropy(row: list[float], label: int) -> float:
    return math.log(sum(math.exp(value) for value in row)) - row[label]


LABELS = torch.tensor([0, 2])
CATEGORY = torch.tensor([[1.0, 0.0, -1.0], [0.5, 0.5, 0.0]])
FINAL = torch.tensor([[2.0, -1.0, 0.0], [0.0, 0.0, 3.0]])
ATTRIBUTES = [torch.tensor([[1.0, 2.0], [0.0, 1.0]]), torch.tensor([[0.0, 1.0, 2.0], [3.0, 0.0, 1.0]])]
CATEGORY_LOSS = (cross_entropy([1, 0, -1], 0) + cross_entropy([0.5, 0.5, 0], 2)) / 2
FINAL_LOSS = (cross_entropy([2, -1, 0], 0) + cross_entropy([0, 0, 3], 2)) / 2


def test_total_is_final_plus_alpha_category_plus_beta_mean_of_the_attributes():
    labels = torch.tensor([[0, 1], [1, 2]])
    losses = total(output(CATEGORY, FINAL, ATTRIBUTES), LABELS, labels, alpha=0.2, beta=0.7)
    first = (cross_entropy([1, 2], 0) + cross_entropy([0, 1], 1)) / 2
    second = (cross_entropy([0, 1, 2], 1) + cross_entropy([3, 0, 1], 2)) / 2
    assert losses.category.item() == pytest.approx(CATEGORY_LOSS)
    assert losses.final.item() == pytest.approx(FINAL_LOSS)
    assert losses.attribute.item() == pytest.approx((first + second) / 2)
    assert losses.total.item() == pytest.approx(FINAL_LOSS + 0.2 * CATEGORY_LOSS + 0.7 * (first + second) / 2)


def test_unlabelled_images_are_left_out_of_their_attributes_mean():
    labels = torch.tensor([[-1, 1], [1, -1]])
    expected = (cross_entropy([0, 1], 1) + cross_entropy([0, 1, 2], 1)) / 2
    assert attribute_loss(ATTRIBUTES, labels).item() == pytest.approx(expected)


def test_an_attribute_without_any_label_counts_zero_and_the_divisor_stays():
    labels = torch.tensor([[-1, 1], [-1, 2]])
    second = (cross_entropy([0, 1, 2], 1) + cross_entropy([3, 0, 1], 2)) / 2
    assert attribute_loss(ATTRIBUTES, labels).item() == pytest.approx(second / 2)


def test_no_label_at_all_is_zero_with_zero_gradient():
    logits = [tensor.clone().requires_grad_() for tensor in ATTRIBUTES]
    value = attribute_loss(logits, torch.full((2, 2), -1))
    value.backward()
    assert value.item() == 0
    assert all((tensor.grad == 0).all() for tensor in logits)


def test_unlabelled_images_get_no_gradient():
    logits = [tensor.clone().requires_grad_() for tensor in ATTRIBUTES]
    attribute_loss(logits, torch.tensor([[-1, 1], [1, -1]])).backward()
    assert (logits[0].grad[0] == 0).all()
    assert (logits[1].grad[1] == 0).all()
    assert (logits[0].grad[1] != 0).all()


def test_beta_zero_leaves_the_attributes_out_of_the_graph():
    logits = [tensor.clone().requires_grad_() for tensor in ATTRIBUTES]
    category = CATEGORY.clone().requires_grad_()
    losses = total(output(category, FINAL, logits), LABELS, torch.zeros(2, 2, dtype=torch.int64), alpha=0.5, beta=0.0)
    losses.total.backward()
    assert losses.attribute.item() == 0
    assert not losses.attribute.requires_grad
    assert all(tensor.grad is None for tensor in logits)
    assert losses.total.item() == pytest.approx(FINAL_LOSS + 0.5 * CATEGORY_LOSS)


def test_baseline_1_is_the_category_loss_with_weight_one():
    losses = total(output(CATEGORY, None, []), LABELS, torch.zeros(2, 0, dtype=torch.int64), alpha=0.3, beta=0.5)
    assert losses.total.item() == losses.category.item() == pytest.approx(CATEGORY_LOSS)
    assert losses.final.item() == losses.attribute.item() == 0


def test_label_smoothing_by_hand():
    """(1 - e) of the label's cross-entropy and e of the mean over all classes; category and final only."""
    plain = total(output(CATEGORY, FINAL, ATTRIBUTES), LABELS, torch.zeros(2, 2, dtype=torch.int64), alpha=1, beta=1)
    smooth = total(
        output(CATEGORY, FINAL, ATTRIBUTES),
        LABELS,
        torch.zeros(2, 2, dtype=torch.int64),
        alpha=1,
        beta=1,
        label_smoothing=0.1,
    )
    uniform = sum(cross_entropy(row, label) for row in CATEGORY.tolist() for label in range(3)) / 6
    assert smooth.category.item() == pytest.approx(0.9 * CATEGORY_LOSS + 0.1 * uniform)
    assert smooth.attribute.item() == plain.attribute.item()


def test_the_wrong_number_of_attribute_columns_is_an_error_of_ours():
    with pytest.raises(ValueError, match="3 attribute columns for 2"):
        attribute_loss(ATTRIBUTES, torch.zeros(2, 3, dtype=torch.int64))


def test_the_criterion_of_equation_11_is_the_total_with_the_settings_weights():
    labels = torch.tensor([[0, 1], [1, 2]])
    weights = SimpleNamespace(alpha=0.2, beta=0.7, label_smoothing=0.1)
    for labelled, beta in ((True, 0.7), (False, 0.0)):
        method = SimpleNamespace(loss="equation11", loss_arguments={}, attribute_labels=labelled)
        found = build(method, weights, 3, 2, 0)(output(CATEGORY, FINAL, ATTRIBUTES), LABELS, labels)
        expected = total(output(CATEGORY, FINAL, ATTRIBUTES), LABELS, labels, alpha=0.2, beta=beta, label_smoothing=0.1)
        assert found == expected
