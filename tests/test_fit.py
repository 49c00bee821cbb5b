"""Training: exact, resumable, and loud when the loss is not a number."""

import copy
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
import tiny
import torch
from torch import nn

from a3m import loss
from a3m.data import loaders, pack
from a3m.errors import TrainingError
from a3m.fit import fit, learning_rate, make_optimiser
from a3m.model import Output, build
from a3m.settings import FORMS, Backbone, Baseline1, Loss, Method, Train
from a3m.state import Checkpoints

SEED = 3


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> pack.Pack:
    folder = tmp_path_factory.mktemp("tiny")
    tiny.write_pack(folder)
    return pack.Pack(folder / "packed" / pack.FILE)


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def network(opened: pack.Pack, form: str) -> nn.Module:
    settings = SimpleNamespace(
        backbone=Backbone(),
        head=SimpleNamespace(d=8, attributes=None, neck=False, **FORMS[form]),
        method=Method(),
        baseline1=Baseline1(),
        seed=SEED,
        input_size=opened.input_size,
    )
    return build(settings, 4, opened.attribute_sizes)


def settings(**given: object) -> Train:
    values = {"epochs": 4, "batch_size": 8, "device": "cpu", "augment": ["affine", "crop", "flip", "erase"], **given}
    return Train(**values)  # type: ignore[arg-type]


def train(
    opened: pack.Pack,
    chosen: Train,
    folder: Path | None = None,
    *,
    report: Callable[[int, dict[str, float]], None] | None = None,
    criterion: nn.Module | None = None,
    form: str = "released",
) -> nn.Module:
    rows = loaders.parts(opened, "train+val")
    mean, std = torch.zeros(3), torch.ones(3)
    batches = loaders.TrainBatches(opened, rows.train, rows.classes, chosen, SEED, mean, std)

    usual = loss.build(Method(), Loss(), 4, 8, SEED)
    checkpoints = Checkpoints(folder) if folder is not None else None
    return fit(network(opened, form), batches, criterion or usual, chosen, SEED, checkpoints=checkpoints, report=report)


class Stopped(Exception):
    pass


VARIATIONS = {
    "adamw, cosine, averaged": {"optimiser": "adamw", "schedule": "cosine", "warmup_epochs": 1, "ema": 0.9},
    "sgd, step": {"optimiser": "sgd", "schedule": "step", "last_epochs": 2, "learning_rate": 0.01},
    "sgd, stages": {
        "optimiser": "sgd",
        "schedule": "stages",
        "stages": [0.01, 0.003],
        "update_decay": 5e-4,
        "nesterov": True,
    },
}


@pytest.mark.parametrize("name", VARIATIONS)
def test_stopped_after_any_epoch_and_continued_elsewhere_the_weights_are_bit_identical(
    opened: pack.Pack, tmp_path: Path, name: str
) -> None:
    """The released form: dropout and batch norm too. `Elsewhere` is another model object with other random numbers drawn."""
    whole = train(opened, settings(**VARIATIONS[name])).state_dict()
    for last in (1, 3):

        def stop(epoch: int, metrics: dict[str, float], last: int = last) -> None:
            if epoch == last:
                raise Stopped

        folder = tmp_path / str(last)
        with pytest.raises(Stopped):
            train(opened, settings(**VARIATIONS[name]), folder, report=stop)
        torch.manual_seed(1234)
        torch.rand(17)
        seen: list[int] = []
        continued = train(
            opened, settings(**VARIATIONS[name]), folder, report=lambda epoch, metrics, seen=seen: seen.append(epoch)
        )
        assert seen == list(range(last + 1, 5))
        for key, tensor in continued.state_dict().items():
            assert torch.equal(tensor, whole[key]), key


def test_training_changes_the_weights_and_another_seed_would_change_them_otherwise(opened: pack.Pack) -> None:
    before = copy.deepcopy(network(opened, "released").state_dict())
    after = train(opened, settings(epochs=1, learning_rate=0.01)).state_dict()
    moved = [key for key in before if not torch.equal(before[key], after[key])]
    assert len(moved) > len(before) / 2


def test_it_learns_the_tiny_set(opened: pack.Pack) -> None:
    accuracies: list[float] = []
    chosen = settings(epochs=15, optimiser="adamw", learning_rate=5e-3, schedule="cosine", augment=[], weight_decay=0.0)
    train(opened, chosen, form="paper", report=lambda epoch, metrics: accuracies.append(metrics["train/accuracy"]))
    assert accuracies[-1] > 0.9 > accuracies[0]


def test_an_epoch_reports_losses_rate_and_the_spread_of_attention(opened: pack.Pack) -> None:
    reports: list[dict[str, float]] = []
    train(opened, settings(epochs=1), report=lambda epoch, metrics: reports.append(metrics))
    names = {"loss", "final_loss", "category_loss", "attribute_loss", "accuracy", "learning_rate", "images_per_second"}
    names |= {"region_mean", "region_std", "attribute_mean", "attribute_std"}
    assert {f"train/{name}" for name in names} == set(reports[0])
    assert 0 < reports[0]["train/region_std"] < 0.5
    expected = (
        reports[0]["train/final_loss"]
        + 0.5 * reports[0]["train/category_loss"]
        + 0.5 * reports[0]["train/attribute_loss"]
    )
    assert reports[0]["train/loss"] == pytest.approx(expected, rel=1e-5)


def test_a_loss_that_is_no_number_names_epoch_and_step(opened: pack.Pack, tmp_path: Path) -> None:
    class Broken(nn.Module):
        calls = 0

        def forward(self, output: Output, labels: torch.Tensor, attributes: torch.Tensor) -> loss.Losses:
            self.calls += 1
            losses = loss.total(output, labels, attributes, alpha=0.5, beta=0.5)
            return losses._replace(total=losses.total * float("nan")) if self.calls == 5 else losses

    with pytest.raises(TrainingError, match="nan in epoch 2, step 2 of 3"):
        train(opened, settings(), tmp_path, criterion=Broken())
    assert Checkpoints(tmp_path).epochs() == 1, "the damaged weights must not be kept as a checkpoint"


def test_the_learning_rate_is_that_of_the_paper_and_of_the_released_code() -> None:
    paper = Train(epochs=60, learning_rate=1e-3, schedule="step", last_epochs=10)
    assert [learning_rate(paper, step, 10) for step in (0, 499)] == [1e-3, 1e-3]
    assert [learning_rate(paper, step, 10) for step in (500, 599)] == pytest.approx([1e-4, 1e-4])
    stages = [0.001, 0.003, 0.001, 0.001, 0.001, 0.001, 0.001, 0.0001]
    released = Train(epochs=80, schedule="stages", stages=stages, update_decay=5e-4)
    assert [learning_rate(released, step, 10) for step in (0, 100, 700)] == [0.001, 0.003, 0.0001]
    assert learning_rate(released, 150, 10) == pytest.approx(0.003 / (1 + 5e-4 * 50))
    cosine = Train(epochs=10, learning_rate=1.0, schedule="cosine", warmup_epochs=2)
    assert learning_rate(cosine, 0, 10) == pytest.approx(1 / 20)
    assert learning_rate(cosine, 20, 10) == pytest.approx(1.0)
    assert learning_rate(cosine, 60, 10) == pytest.approx(0.5)
    assert 0 < learning_rate(cosine, 99, 10) < 0.01


def test_what_a_criterion_holds_is_trained_at_its_own_rate_and_goes_on_from_a_checkpoint(
    opened: pack.Pack, tmp_path: Path
) -> None:
    """Proxies: killed after two epochs and continued, they end bit for bit where they end undisturbed."""
    method = Method("proxy_anchor", network="a3m", loss="proxy_anchor")

    def criterion() -> nn.Module:
        return loss.build(
            method, Loss(), 4, network(opened, "paper")(torch.zeros(2, 3, *opened.input_size)).embedding.shape[1], SEED
        )

    fresh, whole, resumed = criterion(), criterion(), criterion()
    rates = {group["factor"] for group in make_optimiser(network(opened, "paper"), settings(), fresh).param_groups}
    assert rates == {1.0, fresh.learning_rate_factor}
    train(opened, settings(), criterion=whole, form="paper")
    before, after = next(fresh.parameters()), next(whole.parameters())
    assert not torch.equal(before, after)

    def stop(epoch: int, metrics: dict[str, float]) -> None:
        if epoch == 2:
            raise Stopped

    with pytest.raises(Stopped):
        train(opened, settings(), tmp_path, criterion=criterion(), form="paper", report=stop)
    train(opened, settings(), tmp_path, criterion=resumed, form="paper")
    assert torch.equal(next(resumed.parameters()), after)
