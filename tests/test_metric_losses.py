"""The comparators' losses, each against its published formula in plain loops."""

import math
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor

from a3m import loss
from a3m.errors import SettingsError
from a3m.loss import learners
from a3m.loss.arguments import DEFAULTS
from a3m.loss.hdc import hardest
from a3m.loss.verification import balanced_pairs
from a3m.model import Output

LABELS = torch.tensor([0, 1, 0, 2, 1, 2, 0, 2])
B, D, CLASSES = len(LABELS), 12, 4  # class 3 is not in the batch
NO_ATTRIBUTES = torch.zeros(B, 0, dtype=torch.int64)


def embeddings(seed: int = 0, scale: float = 1.0) -> Tensor:
    return torch.randn(B, D, generator=torch.Generator().manual_seed(seed)).mul(scale).requires_grad_()


def output(embedding: Tensor, category: Tensor | None = None, attributes: tuple[Tensor, ...] = ()) -> Output:
    return Output(category, list(attributes), None, embedding, embedding, None, None)


def criterion(name: str, seed: int = 0, **arguments: float) -> torch.nn.Module:
    method = SimpleNamespace(loss=name, loss_arguments=arguments, attribute_labels=name == "apr")
    return loss.build(method, SimpleNamespace(alpha=0.5, beta=0.0, label_smoothing=0.0), CLASSES, D, seed)


def rows(tensor: Tensor) -> list[list[float]]:
    return tensor.detach().double().tolist()


def dot(x: list[float], y: list[float]) -> float:
    return sum(a * b for a, b in zip(x, y, strict=True))


def unit(x: list[float]) -> list[float]:
    return [a / math.sqrt(dot(x, x)) for a in x]


def squared(x: list[float], y: list[float]) -> float:
    return sum((a - b) ** 2 for a, b in zip(x, y, strict=True))


def softmax_loss(logits: list[float], label: int) -> float:
    return math.log(sum(math.exp(value) for value in logits)) - logits[label]


def pairs() -> list[tuple[int, int]]:
    return [(i, j) for i in range(B) for j in range(i + 1, B)]


# --- formulas -----------------------------------------------------------------------------------------------------------


def test_npair_by_plain_loops():
    """Sohn 2016, equation 7: one pair a class, the other classes' positives are the negatives."""
    x, labels = embeddings(scale=0.5), LABELS.tolist()
    vectors = rows(x)
    first, second = {}, {}
    for i, label in enumerate(labels):
        if label not in first:
            first[label] = i
        elif label not in second:
            second[label] = i
    expected = 0.0
    for label, i in first.items():
        others = [
            math.exp(dot(vectors[i], vectors[j]) - dot(vectors[i], vectors[second[label]]))
            for other, j in second.items()
            if other != label
        ]
        expected += math.log(1 + sum(others)) / len(first)
    norms = sum(dot(vector, vector) for vector in vectors) / B
    losses = criterion("npair", l2=0.01)(output(x), LABELS, NO_ATTRIBUTES)
    assert losses.category.item() == pytest.approx(expected, rel=1e-5)
    assert losses.total.item() == pytest.approx(expected + 0.01 * norms / 2, rel=1e-5)


def test_lifted_structure_by_plain_loops():
    """Oh Song et al. 2016, equation 4: J = 1/(2|P|) sum max(0, J_ij)^2."""
    x, labels = embeddings(1), LABELS.tolist()
    vectors = [unit(vector) for vector in rows(x)]
    distance = [[math.sqrt(squared(a, b)) for b in vectors] for a in vectors]
    terms = []
    for i, j in pairs():
        if labels[i] == labels[j]:
            negatives = sum(
                math.exp(0.8 - distance[anchor][k])
                for anchor in (i, j)
                for k in range(B)
                if labels[k] != labels[anchor]
            )
            terms.append(max(0.0, math.log(negatives) + distance[i][j]) ** 2)
    losses = criterion("lifted", margin=0.8)(output(x), LABELS, NO_ATTRIBUTES)
    assert losses.total.item() == pytest.approx(sum(terms) / (2 * len(terms)), rel=1e-5)


def test_proxy_anchor_by_plain_loops():
    """Kim et al. 2020, equation 4; the class without an image in the batch counts among the negatives only."""
    x, labels = embeddings(2), LABELS.tolist()
    measured = criterion("proxy_anchor", margin=0.2, scale=8.0)
    (proxies,) = measured.parameters()
    vectors, centres = [unit(v) for v in rows(x)], [unit(p) for p in rows(proxies)]
    positive = [
        math.log(1 + sum(math.exp(-8 * (dot(vectors[i], centres[c]) - 0.2)) for i in range(B) if labels[i] == c))
        for c in set(labels)
    ]
    negative = [
        math.log(1 + sum(math.exp(8 * (dot(vectors[i], centres[c]) + 0.2)) for i in range(B) if labels[i] != c))
        for c in range(CLASSES)
    ]
    expected = sum(positive) / 3 + sum(negative) / CLASSES
    assert measured(output(x), LABELS, NO_ATTRIBUTES).total.item() == pytest.approx(expected, rel=1e-5)
    assert measured.learning_rate_factor == 100


def test_identification_and_verification_by_plain_loops():
    x = embeddings(3)
    logits = torch.randn(B, CLASSES, generator=torch.Generator().manual_seed(4))
    measured = criterion("verification", identification=0.5, verification=2.0)
    weight, bias = rows(measured.classifier.weight), measured.classifier.bias.tolist()
    vectors, labels = rows(x), LABELS.tolist()
    identity = sum(softmax_loss(rows(logits)[i], labels[i]) for i in range(B)) / B
    same = []
    for i in range(B):
        positive = next(j % B for j in range(i + 1, i + B) if labels[j % B] == labels[i])
        negative = next(j % B for j in range(i + B // 2, i + B // 2 + B) if labels[j % B] != labels[i])
        for j, answer in ((positive, 1), (negative, 0)):
            square = [(a - b) ** 2 for a, b in zip(vectors[i], vectors[j], strict=True)]
            same.append(softmax_loss([dot(weight[c], square) + bias[c] for c in range(2)], answer))
    losses = measured(output(x, logits), LABELS, NO_ATTRIBUTES)
    assert losses.category.item() == pytest.approx(identity, rel=1e-5)
    assert losses.total.item() == pytest.approx(0.5 * identity + 2 * sum(same) / len(same), rel=1e-5)


def test_pairs_of_verification_are_balanced_and_right():
    labels = torch.tensor([3, 3, 5, 5, 5, 8])  # 8 has no positive partner, and so no pair
    found = balanced_pairs(labels)
    assert found.same.sum() * 2 == len(found.same) == 10
    assert ((labels[found.first] == labels[found.second]) == found.same.bool()).all()
    assert (found.first != found.second).all()
    assert 5 not in found.first


@pytest.mark.parametrize("labels", [[0, 1, 2], [1, 1, 1]])
def test_a_batch_without_pairs_has_no_verification_loss(labels: list[int]):
    logits = torch.zeros(3, CLASSES)
    losses = criterion("verification")(output(torch.ones(3, D), logits), torch.tensor(labels), NO_ATTRIBUTES[:3])
    assert losses.total.item() == pytest.approx(math.log(CLASSES))


def test_attr_id_is_eight_times_the_identity_loss_and_the_mean_of_the_attributes():
    category = torch.randn(2, 3, generator=torch.Generator().manual_seed(0))
    logits = (torch.tensor([[1.0, 2.0], [0.0, 1.0]]), torch.tensor([[0.0, 1.0, 2.0], [3.0, 0.0, 1.0]]))
    attributes = torch.tensor([[-1, 1], [1, 2]])  # the first image has no first attribute
    identity = sum(softmax_loss(rows(category)[i], label) for i, label in enumerate((0, 2))) / 2
    first, second = softmax_loss([0, 1], 1), (softmax_loss([0, 1, 2], 1) + softmax_loss([3, 0, 1], 2)) / 2
    losses = criterion("apr")(output(torch.zeros(2, D), category, logits), torch.tensor([0, 2]), attributes)
    assert losses.category.item() == pytest.approx(identity)
    assert losses.attribute.item() == pytest.approx((first + second) / 2)
    assert losses.total.item() == pytest.approx(8 * identity + (first + second) / 2)


@pytest.mark.parametrize("cascade", [0, 1])
def test_hdc_by_plain_loops(cascade: int):
    x, labels = embeddings(5), LABELS.tolist()
    vectors, expected = rows(x), 0.0
    kept = {kind: [p for p in pairs() if (labels[p[0]] == labels[p[1]]) == kind] for kind in (True, False)}
    every = {kind: list(found) for kind, found in kept.items()}
    for head, share in enumerate((1.0, 0.5, 0.2)):
        cut = [unit(vector[head * 4 : head * 4 + 4]) for vector in vectors]
        costs = {
            (i, j): (squared(cut[i], cut[j]) if labels[i] == labels[j] else 10 * max(0.0, 1 - squared(cut[i], cut[j])))
            for i, j in pairs()
        }
        total, counted = 0.0, 0
        for kind in (True, False):
            candidates = kept[kind] if cascade else every[kind]
            number = min(max(int(share * len(every[kind])), 1), len(candidates))
            kept[kind] = sorted(sorted(candidates), key=lambda pair: -costs[pair])[:number]  # ties: the first
            total += sum(costs[pair] for pair in kept[kind])
            counted += sum(costs[pair] > 0 for pair in kept[kind])
        expected += total / counted
    losses = criterion("hdc", cascade=cascade)(output(x), LABELS, NO_ATTRIBUTES)
    assert losses.total.item() == pytest.approx(expected, rel=1e-5)


def test_the_two_ways_of_hdc_to_mine_differ():
    values = [criterion("hdc", cascade=c)(output(embeddings(5)), LABELS, NO_ATTRIBUTES).total.item() for c in (0, 1)]
    assert values[0] > values[1], "a cascaded head chooses among fewer pairs"


def test_the_hardest_pairs_are_a_share_of_one_kind_and_ties_go_to_the_first():
    cost = torch.tensor([1.0, 5.0, 3.0, 3.0, 9.0, 3.0])
    kind = torch.tensor([True, True, True, True, False, True])
    every = torch.ones(6, dtype=torch.bool)
    assert hardest(cost, kind, 0.4, every).nonzero()[:, 0].tolist() == [1, 2]
    assert hardest(cost, kind, 0.01, every).sum() == 1
    assert hardest(cost, kind, 1.0, cost < 4).nonzero()[:, 0].tolist() == [0, 2, 3, 5]


def test_bier_by_plain_loops():
    x, labels = embeddings(6), LABELS.tolist()
    sizes = [2, 4, 6]
    vectors, number = rows(x), {True: 0, False: 0}
    for i, j in pairs():
        number[labels[i] == labels[j]] += 1
    expected = 0.0
    for i, j in pairs():
        same = labels[i] == labels[j]
        sign, weight, ensemble, start = (1.0 if same else -25.0), 1.0, 0.0, 0
        for m, size in enumerate(sizes, start=1):
            cosine = dot(unit(vectors[i][start : start + size]), unit(vectors[j][start : start + size]))
            z = 2 * sign * (cosine - 0.5)
            expected += weight * math.log(1 + math.exp(-z)) / number[same] / 3
            eta = 2 / (m + 1)
            ensemble = (1 - eta) * ensemble + eta * cosine
            weight = 1 / (1 + math.exp(2 * sign * (ensemble - 0.5)))
            start += size
    overlap = 0.0
    for vector in vectors:
        v = unit(vector)
        groups = [v[0:2], v[2:6], v[6:12]]
        overlap += sum((a * b) ** 2 for i in range(3) for j in range(i) for a in groups[i] for b in groups[j]) / B
    losses = criterion("bier", diversity=0.3)(output(x), LABELS, NO_ATTRIBUTES)
    assert losses.category.item() == pytest.approx(expected, rel=1e-5)
    assert losses.total.item() == pytest.approx(expected + 0.3 * overlap, rel=1e-5)


def test_later_learners_of_bier_look_at_what_the_earlier_got_wrong():
    """With a first learner that is right about every pair, the second gets next to no gradient; with a wrong one it does."""
    corner = torch.eye(CLASSES)[LABELS]
    gradients = []
    for first in (corner, corner.roll(1, 0)):
        x = torch.cat([first, embeddings(7).detach()[:, :8]], dim=1).requires_grad_()
        criterion("bier", learners=2, diversity=0.0, scale=8.0)(output(x), LABELS, NO_ATTRIBUTES).total.backward()
        gradients.append(x.grad[:, 4:].norm().item())
    assert gradients[0] < 0.2 * gradients[1]


# --- learners -----------------------------------------------------------------------------------------------------------


def test_learners_cut_the_whole_embedding():
    assert learners.even_sizes(384, 3) == [128, 128, 128]
    assert learners.even_sizes(128, 3) == [43, 43, 42]
    assert learners.growing_sizes(384, 3) == [64, 128, 192]
    assert learners.growing_sizes(1024, 3) == [170, 341, 513]
    for cut in (lambda: learners.even_sizes(2, 3), lambda: learners.growing_sizes(5, 3)):
        with pytest.raises(SettingsError, match=r"head\.d="):
            cut()


def test_shares_unroll_the_boosting_recursion():
    assert learners.shares(3) == pytest.approx([1 / 6, 2 / 6, 3 / 6])
    scores, ensemble = [0.3, -0.2, 0.9], 0.0
    for eta, score in zip(learners.step_sizes(3), scores, strict=True):
        ensemble = (1 - eta) * ensemble + eta * score
    assert dot(learners.shares(3), scores) == pytest.approx(ensemble)


# --- every loss ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [name for name in DEFAULTS if name not in ("equation11", "apr")])
def test_a_gradient_reaches_every_image_and_every_parameter(name: str):
    x, logits = embeddings(8), torch.zeros(B, CLASSES, requires_grad=True)
    measured = criterion(name)
    measured(output(x, logits), LABELS, NO_ATTRIBUTES).total.backward()
    touched = x.grad.norm(dim=1) > 0
    used = touched[[0, 1, 2, 3, 4, 5]] if name == "npair" else touched  # one pair a class
    assert used.all()
    assert torch.isfinite(x.grad).all()
    assert all(p.grad is not None and (p.grad != 0).any() for p in measured.parameters())


@pytest.mark.parametrize("name", [name for name in DEFAULTS if name not in ("equation11", "apr")])
def test_equal_images_have_a_finite_gradient(name: str):
    """A class with fewer images than a batch draws of it shows one twice; distance 0 has no slope."""
    x = torch.ones(B, D).requires_grad_()
    measured = criterion(name)(output(x, torch.zeros(B, CLASSES)), LABELS, NO_ATTRIBUTES)
    measured.total.backward()
    assert torch.isfinite(measured.total)
    assert torch.isfinite(x.grad).all()


@pytest.mark.parametrize("name", ["proxy_anchor", "verification"])
def test_what_a_loss_learns_is_drawn_from_the_seed_and_leaves_the_global_generator(name: str):
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    same, again, other = (list(criterion(name, seed).parameters()) for seed in (0, 0, 1))
    assert torch.equal(before, torch.random.get_rng_state())
    assert all(torch.equal(a, b) for a, b in zip(same, again, strict=True))
    assert not torch.equal(same[0], other[0])


def test_an_unknown_loss_or_argument_is_named():
    with pytest.raises(SettingsError, match=r"method\.loss=triplet: expected one of equation11"):
        criterion("triplet")
    with pytest.raises(SettingsError, match=r"loss_arguments\.margn: .*did you mean margin"):
        criterion("lifted", margn=1.0)
    with pytest.raises(SettingsError, match="this loss takes none"):
        criterion("equation11", alpha=1.0)
