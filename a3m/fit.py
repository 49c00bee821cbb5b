"""The training loop of one trial, by the paper's schedules or others, and exact.

Every random choice is a function of (seed, what for, step). Same settings, same data, same kind of device: the same
weights, bit for bit, also when the trial was stopped after any epoch and continued elsewhere.
"""

import math
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from a3m import randomness
from a3m.data.loaders import TrainBatches
from a3m.errors import TrainingError
from a3m.loss import Losses
from a3m.model import Output

if TYPE_CHECKING:
    from a3m.settings import Train
    from a3m.state import Checkpoints

PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
Report = Callable[[int, dict[str, float]], None]  # (epochs done, metrics of the last one)


def fit(
    model: nn.Module,
    batches: TrainBatches,
    criterion: nn.Module,
    settings: "Train",
    seed: int,
    *,
    checkpoints: "Checkpoints | None" = None,
    report: Report | None = None,
    validate: Callable[[nn.Module], dict[str, float]] | None = None,
) -> nn.Module:
    """Train `model` in place for settings.epochs epochs and return what is to be tested (its averaged copy with EMA).

    `criterion` (a3m.loss.build) maps (output, labels, attributes) to Losses; what it holds itself, such as proxies, is trained too.
    Continues from the newest checkpoint, if there is one. After each epoch `report` gets its metrics; every
    settings.validate_every epochs those of `validate` are among them.
    Raises TrainingError naming epoch and step when the loss is not a number.
    """
    device = torch.device(settings.device)
    memory_format = torch.channels_last if settings.memory_format == "channels_last" else torch.contiguous_format
    model.to(device, memory_format=memory_format)  # type: ignore[call-overload]
    criterion.to(device)
    optimiser = make_optimiser(model, settings, criterion)
    averaged = (
        AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(settings.ema), use_buffers=True)
        if settings.ema
        else None
    )
    scaler = torch.amp.GradScaler(device.type, enabled=settings.precision == "float16")
    parts: dict[str, Any] = {"model": model, "criterion": criterion, "optimiser": optimiser, "scaler": scaler}
    if averaged is not None:
        parts["averaged"] = averaged
    done = _restore(checkpoints, parts)

    per_epoch = batches.steps_per_epoch
    stream = batches.stream(done * per_epoch, settings.epochs * per_epoch, settings.workers)
    for epoch in range(done, settings.epochs):
        model.train()
        meter, started = Meter(), time.perf_counter()
        for step in range(epoch * per_epoch, (epoch + 1) * per_epoch):
            batch = next(stream)
            images = batch.images.to(device, memory_format=memory_format, non_blocking=True)
            labels, attributes = batch.labels.to(device), batch.attributes.to(device)
            torch.manual_seed(randomness.derive(seed, "dropout", step))
            set_learning_rate(optimiser, settings, step, per_epoch)
            with autocast(settings):
                output: Output = model(images)
            losses: Losses = criterion(output, labels, attributes)
            optimiser.zero_grad(set_to_none=True)
            scaler.scale(losses.total).backward()
            scaler.step(optimiser)
            scaler.update()
            if averaged is not None:
                averaged.update_parameters(model)
            meter.add(output, losses, labels)
        metrics = meter.epoch(epoch)
        metrics["train/learning_rate"] = optimiser.param_groups[0]["lr"]
        metrics["train/images_per_second"] = per_epoch * batches.batch_size / (time.perf_counter() - started)
        tested = model if averaged is None else averaged.module
        if validate is not None and settings.validate_every and (epoch + 1) % settings.validate_every == 0:
            metrics |= validate(tested)
        if checkpoints is not None and ((epoch + 1) % settings.checkpoint_every == 0 or epoch + 1 == settings.epochs):
            checkpoints.save(epoch + 1, {name: part.state_dict() for name, part in parts.items()})
        if report is not None:
            report(epoch + 1, metrics)
    return model if averaged is None else averaged.module


def _restore(checkpoints: "Checkpoints | None", parts: dict[str, Any]) -> int:
    """Load the newest checkpoint into the parts of the training -> epochs done."""
    found = checkpoints.latest() if checkpoints is not None else None
    if found is None:
        return 0
    done, state = found
    for name, part in parts.items():
        part.load_state_dict(state[name])
    return done


def autocast(settings: "Train") -> AbstractContextManager[None]:
    """Mixed precision where train.precision asks for it."""
    if settings.precision == "float32":
        return nullcontext()
    return torch.autocast(torch.device(settings.device).type, dtype=PRECISIONS[settings.precision])


# --- optimiser and schedule ---------------------------------------------------------------------------------------------


def make_optimiser(model: nn.Module, settings: "Train", criterion: nn.Module | None = None) -> torch.optim.Optimizer:
    """SGD or AdamW over groups: the new layers; the backbone at `backbone_factor` times their learning rate; what the criterion
    holds itself, such as proxies, at its own `learning_rate_factor` (1 where it names none).
    """
    backbone = [p for name, p in model.named_parameters() if name.startswith("backbone.")]
    new = [p for name, p in model.named_parameters() if not name.startswith("backbone.")]
    groups: list[dict[str, Any]] = [
        {"params": new, "factor": 1.0},
        {"params": backbone, "factor": settings.backbone_factor},
    ]
    if criterion is not None and any(True for _ in criterion.parameters()):
        factor = float(getattr(criterion, "learning_rate_factor", 1.0))
        groups.append({"params": list(criterion.parameters()), "factor": factor})
    rate = (
        settings.stages[0] if settings.schedule == "stages" else settings.learning_rate
    )  # `set_learning_rate` sets it anyway
    if settings.optimiser == "adamw":
        return torch.optim.AdamW(groups, lr=rate, weight_decay=settings.weight_decay)
    return torch.optim.SGD(
        groups,
        lr=rate,
        momentum=settings.momentum,
        nesterov=settings.nesterov,
        weight_decay=settings.weight_decay,
    )


def set_learning_rate(optimiser: torch.optim.Optimizer, settings: "Train", step: int, per_epoch: int) -> None:
    """Set the learning rate of a step; a stage of the released code's schedule also begins with a fresh optimiser state."""
    if settings.schedule == "stages" and step % stage_steps(settings, per_epoch) == 0:
        optimiser.state.clear()
    rate = learning_rate(settings, step, per_epoch)
    for group in optimiser.param_groups:
        group["lr"] = rate * group["factor"]


def learning_rate(settings: "Train", step: int, per_epoch: int) -> float:
    """The common learning rate at a step: a pure function, so that nothing of the schedule needs to be kept.

    step: a tenth in the last `last_epochs` epochs (the paper). cosine: linear warm-up, then half a cosine to zero.
    stages: equally long stages with 1 / (1 + update_decay * updates of the stage) (the released code).
    """
    total_steps = settings.epochs * per_epoch
    if settings.schedule == "step":
        late = step >= (settings.epochs - settings.last_epochs) * per_epoch and settings.epochs > settings.last_epochs
        return settings.learning_rate * (0.1 if late else 1.0)
    if settings.schedule == "stages":
        stage, update = divmod(step, stage_steps(settings, per_epoch))
        return settings.stages[min(stage, len(settings.stages) - 1)] / (1 + settings.update_decay * update)
    warmup = min(settings.warmup_epochs * per_epoch, total_steps - 1)
    if step < warmup:
        return settings.learning_rate * (step + 1) / warmup
    return settings.learning_rate * 0.5 * (1 + math.cos(math.pi * (step - warmup) / (total_steps - warmup)))


def stage_steps(settings: "Train", per_epoch: int) -> int:
    """Steps in one of the equally long stages."""
    return max(1, settings.epochs * per_epoch // len(settings.stages))


# --- what is said of an epoch -------------------------------------------------------------------------------------------


class Meter:
    """Means over the steps of an epoch, kept on the device until its end so that no step waits for a number."""

    def __init__(self) -> None:
        self.rows: list[Tensor] = []
        self.names: list[str] = []

    def add(self, output: Output, losses: Losses, labels: Tensor) -> None:
        """Note one step: losses, accuracy, mean and second moment of the attention weights (so that saturation is seen)."""
        values = {
            "loss": losses.total,
            "final_loss": losses.final,
            "category_loss": losses.category,
            "attribute_loss": losses.attribute,
        }
        if output.logits is not None:
            values["accuracy"] = (output.logits.argmax(1) == labels).float().mean()
        if output.attention is not None:
            for name, weights in (("region", output.attention.region), ("attribute", output.attention.attribute)):
                values[f"{name}_mean"] = weights.float().mean()
                values[f"{name}_std"] = weights.float().square().mean()
        self.names = list(values)
        self.rows.append(torch.stack([value.detach().float() for value in values.values()]))

    def epoch(self, epoch: int) -> dict[str, float]:
        """The means, named `train/...`. Raises TrainingError when a step's loss was not a number."""
        table = torch.stack(self.rows).double().cpu()
        bad = (~torch.isfinite(table[:, 0])).nonzero()
        if len(bad):
            raise TrainingError(
                f"the loss is {float(table[bad[0], 0])} in epoch {epoch + 1}, step {int(bad[0]) + 1} of {len(table)}: "
                "a lower train.learning_rate or train.precision=float32 may help"
            )
        means = dict(zip(self.names, table.mean(0).tolist(), strict=True))
        for name in ("region", "attribute"):
            if f"{name}_std" in means:
                means[f"{name}_std"] = math.sqrt(max(means[f"{name}_std"] - means[f"{name}_mean"] ** 2, 0.0))
        return {f"train/{name}": value for name, value in means.items()}
