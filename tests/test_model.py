"""The network: every equation against plain loops, the methods against each other, the two forms, shared initial values."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from a3m import config, loss
from a3m.errors import SettingsError
from a3m.model import Attention, Output, build
from a3m.model.attention import interleaved
from a3m.model.branches import LinearAttributes, LinearCategory
from a3m.randomness import derive, stream
from a3m.settings import FORMS, Backbone, Baseline1, Loss, Method

SIZES = [2, 3, 4]
CLASSES, D, K, INPUT, MAP = 5, 8, len(SIZES), (24, 16), (3, 2)
REGIONS = MAP[0] * MAP[1]
METHODS = {
    "baseline1": Method("baseline1", network="category", attribute_labels=False, region="equal", attribute="equal"),
    "baseline2": Method("baseline2", region="equal", attribute="equal"),
    "att1": Method("att1", region="learned", attribute="equal"),
    "att2": Method("att2", region="equal", attribute="learned"),
    "a3m_unlabelled": Method("a3m_unlabelled", attribute_labels=False),
    "a3m": Method("a3m"),
}
WITH_ATTRIBUTES = [name for name in METHODS if name != "baseline1"]


def settings(method: str, form: str = "paper", *, seed: int = 0, feature: str = "category", **head) -> SimpleNamespace:
    return SimpleNamespace(
        backbone=Backbone("a3m_resnet_small"),
        head=SimpleNamespace(**({"d": D, "attributes": None, "neck": False} | FORMS[form] | head)),
        method=METHODS[method],
        baseline1=Baseline1(feature),
        seed=seed,
        input_size=INPUT,
    )


def network(method: str, form: str = "paper", **given) -> nn.Module:
    return build(settings(method, form, **given), CLASSES, SIZES)


def images(count: int = 4, seed: int = 1) -> torch.Tensor:
    return torch.randn(count, 3, *INPUT, generator=torch.Generator().manual_seed(seed))


def parts(model: nn.Module, batch: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
    """V (B, D, L) and A (B, K, D) of the paper form in float64."""
    with torch.no_grad():
        shared = model.backbone(batch)
        V, _ = model.category_branch(shared)
        return V.double().numpy(), model.attribute_branch(shared).double().numpy()


def sigmoid(x: float) -> float:
    return 1.0 / (1.0 + np.exp(-x))


# --- equations ----------------------------------------------------------------------------------------------------------


def test_equations_5_to_8_by_plain_loops():
    model, batch = network("a3m").eval(), images()
    with torch.no_grad():
        output = model(batch)
    V, A = parts(model, batch)
    B = len(batch)
    scores, m = np.zeros((B, K, REGIONS)), np.zeros((B, REGIONS))
    s, region, attribute = np.zeros((B, K)), np.zeros((B, D)), np.zeros((B, D))
    for b in range(B):
        for l in range(REGIONS):  # noqa: E741 - the paper's letter
            for k in range(K):
                scores[b, k, l] = sum(V[b, d, l] * A[b, k, d] for d in range(D))
            m[b, l] = max(sigmoid(scores[b, k, l]) for k in range(K))  # eq. 5
        v = [sum(V[b, d, l] for l in range(REGIONS)) / REGIONS for d in range(D)]  # noqa: E741
        for k in range(K):
            s[b, k] = sigmoid(sum(A[b, k, d] * v[d] for d in range(D)))  # eq. 7
        for d in range(D):
            region[b, d] = sum(V[b, d, l] * m[b, l] for l in range(REGIONS)) / REGIONS  # eq. 6  # noqa: E741
            attribute[b, d] = sum(A[b, k, d] * s[b, k] for k in range(K)) / K  # eq. 8
    np.testing.assert_allclose(output.attention.scores, scores, atol=1e-5)
    np.testing.assert_allclose(output.attention.region, m, atol=1e-6)
    np.testing.assert_allclose(output.attention.attribute, s, atol=1e-6)
    np.testing.assert_allclose(output.embedding, region + attribute, atol=1e-5)
    np.testing.assert_allclose(output.category_embedding, V.mean(2), atol=1e-5)
    np.testing.assert_allclose(output.attribute_embedding, A.mean(1), atol=1e-5)


def test_classifiers_of_equations_1_3_and_9_see_v_a_k_and_f():
    model, batch = network("a3m").eval(), images()
    with torch.no_grad():
        output = model(batch)
        _, A = parts(model, batch)
        torch.testing.assert_close(output.category, model.category_classifier(output.category_embedding))
        torch.testing.assert_close(output.final, model.final_classifier(output.embedding))
        for k in range(K):
            expected = model.attribute_classifiers[k](torch.tensor(A[:, k], dtype=torch.float32))
            torch.testing.assert_close(output.attributes[k], expected, atol=1e-5, rtol=1e-5)
    assert output.logits is output.final


def test_equal_weights_are_v_and_the_mean_of_the_attribute_embeddings():
    model = network("baseline2").eval()
    with torch.no_grad():
        output = model(images())
    assert torch.equal(output.embedding, output.category_embedding + output.attribute_embedding)
    assert (output.attention.region == 1).all()
    assert (output.attention.attribute == 1).all()


def test_pooling_first_equals_k_convolutions_over_the_map():
    shared = torch.randn(3, 16, 5, 4)
    branch = LinearAttributes(16, K, D)
    with torch.no_grad():
        pooled_first = branch(shared)
        for k in range(K):
            weight = branch.linear.weight[k * D : (k + 1) * D, :, None, None]
            own_map = functional.conv2d(shared, weight, branch.linear.bias[k * D : (k + 1) * D])
            torch.testing.assert_close(pooled_first[:, k], own_map.mean(dim=(2, 3)), atol=1e-5, rtol=1e-5)


def test_the_category_map_is_a_convolution_with_bias_and_v_its_mean():
    shared, branch = torch.randn(2, 16, 5, 4), LinearCategory(16, D)
    with torch.no_grad():
        category, v = branch(shared)
        for l in range(20):  # noqa: E741
            expected = branch.convolution.weight[:, :, 0, 0] @ shared[1, :, l // 4, l % 4] + branch.convolution.bias
            torch.testing.assert_close(category[1, :, l], expected, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(v, category.mean(2))


@pytest.mark.parametrize("head", [{}, {"merge": "mean"}, {"fuse": "concat"}])
def test_saturated_attention_is_baseline_2(head):
    """Scores so large that m = s = 1: A3M with the same parameters is Baseline-2."""
    a3m, baseline2 = network("a3m", **head).eval(), network("baseline2", **head).eval()
    with torch.no_grad():
        assert not torch.allclose(a3m(images()).final, baseline2(images()).final)
        for model in (a3m, baseline2):
            model.category_branch.convolution.bias += 30
            model.attribute_branch.linear.bias += 30
        saturated, equal = a3m(images()), baseline2(images())
    assert (saturated.attention.region == 1).all()
    assert (saturated.attention.attribute == 1).all()
    for name in ("category", "final", "embedding", "category_embedding", "attribute_embedding"):
        torch.testing.assert_close(getattr(saturated, name), getattr(equal, name), atol=1e-5, rtol=1e-5)


# --- the forms ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", list(FORMS))
@pytest.mark.parametrize("method", list(METHODS))
def test_shapes(method, form):
    model = network(method, form)
    for training in (True, False):
        output = model.train(training)(images())
        assert output.category.shape == (4, CLASSES)
        assert output.category_embedding.shape == (4, D)
        if method == "baseline1":
            assert (output.final, output.attributes, output.attention) == (None, [], None)
            assert output.embedding.shape == (4, D)
            assert output.attribute_embedding is None
            assert output.logits is output.category
            continue
        assert output.final.shape == (4, CLASSES)
        assert [tuple(logits.shape) for logits in output.attributes] == [(4, size) for size in SIZES]
        assert output.embedding.shape == (4, D if form == "paper" else 2 * D)
        assert output.attribute_embedding.shape == (4, D)
        assert output.attention.region.shape == (4, REGIONS)
        assert output.attention.attribute.shape == (4, K)
        assert output.attention.map_size == MAP
        if not training:
            assert output.attention.scores.shape == (4, K, REGIONS)


def test_raw_scores_are_there_in_evaluation_for_every_method_with_the_branch():
    for method in WITH_ATTRIBUTES:
        model, batch = network(method, normalise_scores=True).eval(), images()
        V, A = parts(model, batch)
        scores = model(batch).attention.scores
        np.testing.assert_allclose(scores, np.einsum("bdl,bkd->bkl", V, A), atol=1e-5)


def test_normalised_scores_by_hand_in_training():
    """max: batch norm over batch and places, per attribute, then sigmoid, then max over attributes."""
    model, batch = network("a3m", normalise_scores=True).train(), images(6)
    with torch.no_grad():
        attention = model(batch).attention
    x = attention.scores.double().numpy()
    mean, var = x.mean((0, 2), keepdims=True), x.var((0, 2), keepdims=True)
    np.testing.assert_allclose(attention.region, sigmoid((x - mean) / np.sqrt(var + 1e-5)).max(1), atol=1e-4)


def test_mean_of_scores_is_normalised_per_place_then_one_sigmoid():
    model, batch = network("a3m", "released").train(), images(6)
    with torch.no_grad():
        attention = model(batch).attention
    x = attention.scores.double().numpy().mean(1)
    expected = sigmoid((x - x.mean(0)) / np.sqrt(x.var(0) + 1e-3))  # Keras' epsilon
    np.testing.assert_allclose(attention.region, expected, atol=1e-4)


def test_released_branch_by_hand():
    """Convolution, BN, ReLU, pool, BN, ReLU with Keras' constants, in evaluation with unfitted statistics."""
    model, batch = network("a3m", "released").eval(), images()
    with torch.no_grad():
        shared, output = model.backbone(batch), model(batch)
        scale = 1 / np.sqrt(1 + 1e-3)
        for branch, got in (
            (model.category_branch, output.category_embedding),
            (model.attribute_branch, model.attribute_branch(shared).flatten(1)),
        ):
            maps = (functional.conv2d(shared, branch.convolution.weight) * scale).relu()
            torch.testing.assert_close(got, (maps.mean((2, 3)) * scale).relu(), atol=1e-5, rtol=1e-4)
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm1d)]
    assert {(norm.eps, norm.momentum) for norm in norms} == {(1e-3, 0.01)}


def test_the_compared_vector_of_the_released_form_is_the_relu_of_the_concatenation_without_dropout():
    model = network("a3m", "released").eval()
    seen = {}
    model.region_attention.register_forward_hook(lambda *call: seen.update(region=call[2][0]))
    model.attribute_attention.register_forward_hook(lambda *call: seen.update(attribute=call[2][0]))
    with torch.no_grad():
        output = model(images())
    assert torch.equal(output.embedding, torch.cat([seen["attribute"], seen["region"]], dim=1).relu())
    assert model.fuse.dropout.p == 0.5


@pytest.mark.parametrize(("attend", "before", "after"), [("before_dropout", 0.0, 0.5), ("after_dropout", 0.5, 0.0)])
def test_what_attends_is_before_or_after_the_branch_dropout(attend, before, after):
    model = network("a3m", "released", attend=attend)
    rates = [getattr(module, "p", 0.0) for module in (model.dropout_before, model.dropout_after)]
    assert rates == [before, after]


def test_interleaved_matrix_by_index():
    attributes = torch.randn(2, K, D)
    matrix = interleaved(attributes)
    end_to_end = [[float(attributes[b, n // D, n % D]) for n in range(K * D)] for b in range(2)]
    for b in range(2):
        for i in range(D):
            for j in range(K):
                assert float(matrix[b, i, j]) == end_to_end[b][i * K + j]


def test_interleaved_attribute_feature_by_index():
    model, batch = network("a3m", fusion="interleaved", fuse="concat").eval(), images()
    seen = {}
    model.attribute_attention.register_forward_hook(lambda *call: seen.update(feature=call[2][0]))
    with torch.no_grad():
        s = model(batch).attention.attribute.double().numpy()
    _, A = parts(model, batch)
    expected = np.zeros((4, D))
    for b in range(4):
        for i in range(D):
            expected[b, i] = sum(A[b, (i * K + j) // D, (i * K + j) % D] * s[b, j] for j in range(K)) / K
    np.testing.assert_allclose(seen["feature"], expected, atol=1e-6)


def test_interleaved_equal_weights_average_over_the_wrong_axis_and_skip_the_batch_norm():
    model, batch = network("baseline2", "released", fusion="interleaved").eval(), images()
    with torch.no_grad():
        output = model(batch)
        A = model.attribute_branch(model.backbone(batch))
    assert output.embedding.shape == (4, K + D)
    torch.testing.assert_close(output.embedding[:, :K], interleaved(A).mean(dim=1))
    torch.testing.assert_close(output.embedding[:, K:], output.category_embedding)  # >= 0: the ReLU changes nothing
    with pytest.raises(SettingsError, match=r"head\.fuse=sum"):
        network("baseline2", fusion="interleaved")


# --- Baseline-1 and refusals --------------------------------------------------------------------------------------------


def test_plain_baseline_1_compares_the_pooled_backbone_feature():
    model = network("baseline1", feature="pooled").eval()
    with torch.no_grad():
        output = model(images())
        pooled = model.backbone(images()).mean((2, 3))
    torch.testing.assert_close(output.embedding, pooled)
    torch.testing.assert_close(output.category, model.category_classifier(pooled))
    assert output.embedding.shape == (4, model.backbone.channels)


def test_no_attributes_in_the_data_is_refused_with_the_remedy():
    with pytest.raises(SettingsError, match="method=baseline1"):
        build(settings("a3m"), CLASSES, [])
    build(settings("baseline1"), CLASSES, [])


# --- initial values -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", list(FORMS))
def test_methods_of_one_seed_share_the_initial_values_of_what_they_share(form):
    reference = dict(network("a3m", form).named_parameters())
    for method in METHODS:
        own = dict(network(method, form).named_parameters())
        shared = own.keys() & reference.keys()
        assert {"category_classifier.weight", "category_branch.convolution.weight"} <= shared
        assert all(
            torch.equal(own[name], reference[name]) for name in shared if own[name].shape == reference[name].shape
        )
        if method != "baseline1":
            assert {"final_classifier.weight", "attribute_classifiers.2.weight"} <= shared
    other = dict(network("a3m", form, seed=1).named_parameters())
    differ = {name for name in reference if not torch.equal(reference[name], other[name])}
    assert {"category_classifier.weight", "final_classifier.weight", "backbone.model.conv1.weight"} <= differ


def test_components_of_one_seed_draw_different_values():
    model = network("a3m")
    assert not torch.equal(model.category_classifier.weight, model.final_classifier.weight)


def test_building_leaves_the_global_generator_alone():
    before = torch.get_rng_state()
    network("a3m")
    assert torch.equal(before, torch.get_rng_state())


def test_streams_are_named_and_repeatable():
    with stream(0, "a", 1):
        first = torch.rand(3)
    with stream(0, "a", 1):
        assert torch.equal(first, torch.rand(3))
    seeds = {derive(0, "a", 1), derive(0, "a", "1"), derive(0, "a1"), derive(1, "a", 1), derive(0, "a"), derive(0)}
    assert len(seeds) == 6
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert derive(0, "backbone") == 4101742851402268517  # printf '[0, "backbone"]' | sha256sum, 63 bits of it


# --- learning -----------------------------------------------------------------------------------------------------------


def targets(count: int = 8) -> tuple[torch.Tensor, torch.Tensor]:
    index = torch.arange(count)
    return index % CLASSES, torch.stack([index % size for size in SIZES], dim=1)


def backward(model: nn.Module, **weights) -> Output:
    labels, attributes = targets(4)
    output = model.train()(images(4))
    loss.total(output, labels, attributes, **weights).total.backward()
    return output


@pytest.mark.parametrize("method", list(METHODS))
def test_gradient_reaches_every_parameter_of_the_labelled_methods(method):
    model = network(method)
    backward(model, alpha=0.5, beta=0.5)
    assert [name for name, parameter in model.named_parameters() if parameter.grad is None] == []


def test_without_attribute_labels_the_embeddings_learn_through_attention_and_the_classifiers_do_not():
    model = network("a3m_unlabelled")
    backward(model, alpha=0.5, beta=0.0)
    without = {name for name, parameter in model.named_parameters() if parameter.grad is None}
    assert without == {f"attribute_classifiers.{k}.{kind}" for k in range(K) for kind in ("weight", "bias")}
    assert float(model.attribute_branch.linear.weight.grad.abs().min()) > 0


def test_attention_statistics_hold_no_graph():
    attention = backward(network("a3m"), alpha=0.5, beta=0.5).attention
    assert isinstance(attention, Attention)
    assert not any(tensor.requires_grad for tensor in attention[:3])


@pytest.mark.parametrize("form", list(FORMS))
@pytest.mark.parametrize("method", list(METHODS))
def test_overfits_eight_images(method, form):
    model, batch, (labels, attributes) = network(method, form).train(), images(8), targets()
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0  # else eight images and eight numbers are mostly noise
    with stream(0, "patches"):  # instead of the ResNet, which would take most of the time
        model.backbone.model = nn.Sequential(nn.Conv2d(3, 128, 8, stride=8), nn.ReLU())
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-2, fused=True)
    beta = 0.5 if METHODS[method].attribute_labels else 0.0
    totals = []
    for _ in range(20 if form == "paper" else 40):  # the released form has two ReLUs between eight numbers and the map
        losses = loss.total(output := model(batch), labels, attributes, alpha=0.5, beta=beta)
        optimiser.zero_grad()
        losses.total.backward()
        optimiser.step()
        totals.append(losses.total.item())
    assert totals[-1] < 0.3 * totals[0]
    assert (output.logits.argmax(1) == labels).all()


@pytest.mark.parametrize("form", list(FORMS))
def test_runs_under_autocast_and_channels_last(form):
    model = network("a3m", form).to(memory_format=torch.channels_last).eval()
    plain = network("a3m", form).eval()
    with torch.no_grad():
        output = model(images().to(memory_format=torch.channels_last))
        torch.testing.assert_close(output.final, plain(images()).final, atol=1e-4, rtol=1e-3)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            half = model(images())
    labels, attributes = targets(4)
    assert torch.isfinite(loss.total(half, labels, attributes, alpha=0.5, beta=0.5).total)


def test_exports_without_control_flow_on_data():
    model, batch = network("a3m").eval(), images(2)
    exported = torch.export.export(model, (batch,)).module()
    with torch.no_grad():
        torch.testing.assert_close(exported(batch).logits, model(batch).logits)


# --- controls, retrieval, comparators -----------------------------------------------------------------------------------


def head_parameters(model: nn.Module) -> int:
    return sum(p.numel() for name, p in model.named_parameters() if not name.startswith("backbone."))


@pytest.mark.parametrize("form", ["paper", "released"])
def test_the_wide_baseline_has_as_many_parameters_as_a3m(form: str) -> None:
    """To within half a unit of its inner layer, which is the finest step that it can make."""
    wide = network("baseline1", form, feature="wide", d=32)
    wanted = head_parameters(network("a3m", form, d=32))
    step = wide.backbone.channels + 1 + 32
    assert abs(head_parameters(wide) - wanted) <= step / 2
    assert head_parameters(network("baseline1", form, d=32)) < 0.5 * wanted


def test_without_attributes_k_is_a_setting_and_nothing_is_classified() -> None:
    given = settings("a3m_unlabelled", attributes=7)
    output = build(given, CLASSES, [])(images())
    assert output.attention.attribute.shape == (4, 7)
    assert output.attributes == []
    with pytest.raises(SettingsError, match=r"head\.attributes=<K>"):
        build(settings("a3m_unlabelled"), CLASSES, [])
    with pytest.raises(SettingsError, match="no attributes"):
        build(settings("a3m", attributes=7), CLASSES, [])


def test_the_neck_normalises_what_is_compared_and_classified() -> None:
    for method in ("baseline1", "a3m"):
        model = network(method, neck=True).train()
        batch = images(16)
        embedding = model(batch).embedding
        torch.testing.assert_close(embedding.mean(0), torch.zeros(embedding.shape[1]), atol=1e-5, rtol=0)
        assert isinstance(model.neck, nn.BatchNorm1d)


def test_a_loss_that_compares_embeddings_has_no_classifier() -> None:
    given = settings("baseline1")
    given.method = Method("npair", network="category", loss="npair", attribute_labels=False)
    model = build(given, CLASSES, SIZES)
    assert model(images()).logits is None
    assert not [name for name, _ in model.named_parameters() if "classifier" in name]


def test_every_method_of_the_settings_builds_trains_a_step_and_shares_its_backbone() -> None:
    first = None
    for name, method in config.methods().items():
        given = settings("a3m", d=12)
        given.method, given.seed = method, 3
        model = build(given, CLASSES, SIZES).train()
        criterion = loss.build(method, Loss(), CLASSES, model(images()).embedding.shape[1], 3)
        labels = torch.arange(8) // 2 % CLASSES
        attributes = torch.zeros(8, K, dtype=torch.int64)
        losses = criterion(model(images(8)), labels, attributes)
        losses.total.backward()
        assert torch.isfinite(losses.total), name
        weight = model.backbone.model.conv1.weight.detach()
        first = weight if first is None else first
        torch.testing.assert_close(weight, first, atol=0, rtol=0)
