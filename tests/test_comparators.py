"""The comparators' networks: formulas in plain loops, training on eight images, equal initial values for a seed."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from a3m import loss
from a3m.errors import SettingsError
from a3m.loss.arguments import DEFAULTS
from a3m.model import build
from a3m.model.backbone import create, default_taps
from a3m.model.comparators import bilinear_descriptor, build_comparator
from a3m.model.network import CategoryNetwork, Output
from a3m.randomness import stream
from a3m.settings import FORMS, Backbone, Baseline1, Method, Params

SIZES, CLASSES, D, INPUT = [2, 3], 4, 12, (24, 16)
LABELS = torch.tensor([0, 0, 1, 1, 2, 2, 3, 3])
METHODS = {
    "attr_id": Method("attr_id", "apr", "apr"),
    "identification_verification": Method("identification_verification", "category", "verification"),
    "bilinear": Method("bilinear", "bilinear", "equation11"),
    "hdc": Method("hdc", "hdc", "hdc"),
    "npair": Method("npair", "category", "npair"),
    "lifted": Method("lifted", "category", "lifted"),
    "proxy_anchor": Method("proxy_anchor", "category", "proxy_anchor"),
    "bier": Method("bier", "bier", "bier"),
}
COMPARATORS = [name for name, method in METHODS.items() if method.network != "category"]
CLASSIFIED = ("attr_id", "identification_verification", "bilinear")


def settings(name: str, seed: int = 0, d: int = D) -> SimpleNamespace:
    head = SimpleNamespace(d=d, neck=False, attributes=None, **FORMS["paper"])
    return SimpleNamespace(
        backbone=Backbone("a3m_resnet_small"), head=head, method=METHODS[name], baseline1=Baseline1(), seed=seed,
        input_size=INPUT,
    )  # fmt: skip


def network(name: str, seed: int = 0, d: int = D) -> nn.Module:
    return build(settings(name, seed, d), CLASSES, SIZES)


def criterion(name: str, width: int, seed: int = 0) -> nn.Module:
    weights = SimpleNamespace(alpha=0.5, beta=0.0, label_smoothing=0.0)
    return loss.build(METHODS[name], weights, CLASSES, width, seed)


def images(count: int = 8, seed: int = 1) -> Tensor:
    return torch.randn(count, 3, *INPUT, generator=torch.Generator().manual_seed(seed))


def evaluated(model: nn.Module, batch: Tensor) -> Output:
    with torch.no_grad():
        return model.eval()(batch)


# --- formulas -----------------------------------------------------------------------------------------------------------


def test_the_bilinear_descriptor_by_plain_loops():
    """Lin et al. 2015, section 3: sum over the regions of the outer product, signed square root, length 1."""
    shared = torch.randn(2, 3, 5, generator=torch.Generator().manual_seed(0))
    found = bilinear_descriptor(shared)
    for b in range(2):
        pooled = np.zeros((3, 3))
        for l in range(5):  # noqa: E741 - a region
            for i in range(3):
                for j in range(3):
                    pooled[i, j] += float(shared[b, i, l]) * float(shared[b, j, l])
        rooted = [np.sign(x) * np.sqrt(abs(x)) for x in pooled.ravel()]
        np.testing.assert_allclose(found[b], np.array(rooted) / np.sqrt(sum(x * x for x in rooted)), atol=1e-6)


def test_a_dead_channel_of_the_bilinear_descriptor_has_a_finite_gradient():
    shared = torch.randn(2, 3, 5)
    shared[:, 1] = 0
    shared.requires_grad_()
    bilinear_descriptor(shared).sum().backward()
    assert torch.isfinite(shared.grad).all()


def test_the_bilinear_network_reduces_a_wide_map_and_leaves_a_narrow_one():
    narrow, wide = network("bilinear", d=512), network("bilinear")
    channels = narrow.backbone.channels
    assert isinstance(narrow.reduce, nn.Identity)
    assert narrow.category_classifier.in_features == channels**2
    assert wide.category_classifier.in_features == D**2
    output, batch = evaluated(wide, images()), images()
    with torch.no_grad():
        reduced = wide.reduce(wide.backbone(batch)).flatten(2)
        torch.testing.assert_close(output.category, wide.category_classifier(bilinear_descriptor(reduced)))
    assert output.embedding.shape == (8, D)


def test_attr_id_classifies_everything_from_baseline_1s_embedding():
    model, batch = network("attr_id"), images()
    output = evaluated(model, batch)
    with torch.no_grad():
        _, v = model.category_branch(model.backbone(batch))
        torch.testing.assert_close(output.embedding, v)
        torch.testing.assert_close(output.category, model.category_classifier(v))
        for logits, classifier, size in zip(output.attributes, model.attribute_classifiers, SIZES, strict=True):
            assert logits.shape == (8, size)
            torch.testing.assert_close(logits, classifier(v))


def test_hdc_concatenates_normalised_heads_at_the_taps_with_the_test_weights():
    model, batch = network("hdc"), images()
    output = evaluated(model, batch)
    with torch.no_grad():
        maps = model.backbone.maps(batch)
        vectors = [functional.normalize(head(m.mean(dim=(2, 3)))) for head, m in zip(model.heads, maps, strict=True)]
    torch.testing.assert_close(output.category_embedding, torch.cat(vectors, dim=1))
    torch.testing.assert_close(output.embedding, torch.cat([vectors[0], vectors[1], 2 * vectors[2]], dim=1))
    assert [vector.shape[1] for vector in vectors] == [4, 4, 4]


def test_biers_compared_vector_gives_the_boosted_score():
    """Its dot product is s^M of the recursion, eta_m = 2 / (m + 1)."""
    model = network("bier")
    output = evaluated(model, images())
    score, start = torch.zeros(8, 8), 0
    for m, size in enumerate([2, 4, 6], start=1):
        vectors = functional.normalize(output.category_embedding[:, start : start + size])
        score = (1 - 2 / (m + 1)) * score + 2 / (m + 1) * vectors @ vectors.T
        start += size
    torch.testing.assert_close(output.embedding @ output.embedding.T, score, atol=1e-6, rtol=1e-5)


# --- every network ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", METHODS)
def test_output_says_what_there_is(name: str):
    output = evaluated(network(name), images())
    assert output.embedding.shape == output.category_embedding.shape == (8, D)
    assert output.final is None
    assert output.attention is None
    assert output.attribute_embedding is None
    assert (output.category is not None) == (name in CLASSIFIED)
    assert output.category is None or output.category.shape == (8, CLASSES)
    assert len(output.attributes) == (2 if name == "attr_id" else 0)


@pytest.mark.parametrize("name", METHODS)
def test_eight_images_are_learned_and_every_parameter_with_them(name: str):
    """The loss falls far, every parameter moves, and images of a class end up nearer to each other than to any other."""
    torch.manual_seed(0)
    model = network(name, d=24)
    measured = criterion(name, 24)
    optimiser = torch.optim.AdamW([*model.parameters(), *measured.parameters()], lr=3e-3)
    before = {id(p): p.detach().clone() for p in (*model.parameters(), *measured.parameters())}
    batch, attributes = images(), torch.stack([LABELS % 2, LABELS % 3], dim=1)
    values = []
    for _ in range(40):
        losses = measured(model(batch), LABELS, attributes)
        optimiser.zero_grad()
        losses.total.backward()
        assert all(p.grad is not None for p in (*model.parameters(), *measured.parameters()))
        optimiser.step()
        values.append(losses.total.item())
    assert values[-1] < 0.5 * values[0], values[::8]
    assert all(not torch.equal(p, before[id(p)]) for p in (*model.parameters(), *measured.parameters()))
    with torch.no_grad():
        output = model(batch)  # in training mode: the batch norm's averages are of forty steps only
    if name in CLASSIFIED:
        assert (output.category.argmax(1) == LABELS).all()
    else:
        vectors = functional.normalize(output.embedding)
        nearest = (vectors @ vectors.T).fill_diagonal_(-2).argmax(dim=1)
        assert (LABELS[nearest] == LABELS).all()


@pytest.mark.parametrize("name", METHODS)
def test_initial_values_follow_the_seed_alone(name: str):
    torch.manual_seed(9)
    first = network(name).state_dict()
    torch.manual_seed(10)
    again, other = network(name).state_dict(), network(name, seed=1).state_dict()
    assert all(torch.equal(first[key], again[key]) for key in first)
    assert any(not torch.equal(first[key], other[key]) for key in first)


@pytest.mark.parametrize("name", ["attr_id", "identification_verification", "bier"])
def test_parts_shared_with_baseline_1_start_from_the_same_values(name: str):
    given = settings(name)
    given.method = Method("baseline1", "category", attribute_labels=False, region="equal", attribute="equal")
    baseline1, model = build(given, CLASSES, SIZES), network(name)
    assert isinstance(baseline1, CategoryNetwork)
    shared = [key for key in model.state_dict() if key in baseline1.state_dict()]
    assert any(key.startswith("category_branch.") for key in shared)
    assert all(torch.equal(model.state_dict()[key], baseline1.state_dict()[key]) for key in shared)


def test_attr_ids_attribute_classifiers_start_as_baseline_2s():
    given = settings("attr_id")
    given.method = Method("baseline2", region="equal", attribute="equal")
    baseline2, model = build(given, CLASSES, SIZES), network("attr_id")
    for ours, theirs in zip(model.attribute_classifiers, baseline2.attribute_classifiers, strict=True):
        assert torch.equal(ours.weight, theirs.weight)


# --- what is refused ----------------------------------------------------------------------------------------------------


def backbone(taps: tuple[str, ...] = ()) -> nn.Module:
    with stream(0, "backbone"):
        return create(Backbone("a3m_resnet_small"), input_size=INPUT, taps=taps)


@pytest.mark.parametrize(
    ("method", "d", "sizes", "message"),
    [
        (METHODS["attr_id"], D, [], "method=attr_id learns attributes, but the data set has no attributes"),
        (METHODS["hdc"], D, SIZES, "hdc has 3 heads, but the backbone is tapped at 1"),
        (METHODS["bier"], 5, SIZES, r"head\.d=5 cannot be cut .*raise head\.d to 6"),
        (Method("x", "vit", "hdc"), D, SIZES, r"method\.network=vit: expected one of apr"),
        (Method("hdc", "hdc", "hdc", {"test_wait_1": 2.0}), D, SIZES, "did you mean test_weight_1"),
    ],
)
def test_what_has_no_meaning_is_refused(method: Method, d: int, sizes: list[int], message: str):
    head = SimpleNamespace(d=d, **FORMS["paper"])
    with pytest.raises(SettingsError, match=message):
        build_comparator(method, backbone(), head, CLASSES, sizes, 0)


def test_the_method_files_name_every_argument_with_its_published_value(request: pytest.FixtureRequest):
    """So that a trial's key says them; HDC's test weights are those of CUB-200-2011, and on CARS196 the study sets its own."""
    import yaml

    folder = request.config.rootpath / "a3m" / "conf" / "method"
    for name in METHODS:
        method = yaml.safe_load((folder / f"{name}.yaml").read_text())
        assert method["name"] == name
        assert method["loss_arguments"] == DEFAULTS[method["loss"]]
    own = Params().cars196_retrieval.own["hdc"]
    assert own == {"method.loss_arguments.test_weight_2": 2.0, "method.loss_arguments.test_weight_3": 3.0}


def test_a_head_stands_at_every_map_of_the_tapped_backbone():
    tapped = backbone(default_taps("a3m_resnet_small"))
    head = SimpleNamespace(d=13, **FORMS["paper"])
    model = build_comparator(METHODS["hdc"], tapped, head, CLASSES, SIZES, 0)
    assert [layer.in_features for layer in model.heads] == list(tapped.tap_channels)
    assert [layer.out_features for layer in model.heads] == [5, 4, 4]
