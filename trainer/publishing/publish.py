"""A run's last checkpoint -> a model that a server takes."""

from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any

from alexnet.checkpoint import About, Accuracy
from alexnet.model import AlexNet
from alexnet.store.models import save
from alexnet.store.url import Place
from alexnet.views import centre_mean
from pipeline.dataset import Dataset
from trainer.loop import state
from trainer.run import Run, RunError, events


def publish(run: Run, checkpoint: Place, models: Place) -> Place:
    """Write models/NAME/STEP from a checkpoint and point NAME at it; returns that folder or URL.

    When it was trained and how well is what the run's metrics say of its step. Raises RunError
    where the run's dataset is not there any more.
    """
    dataset = Dataset(run.data)
    if dataset.digest != run.dataset:
        raise RunError(
            f"{run.data}: this is not the dataset that run {run.name} was trained on any more; "
            "resume the run with --data and a copy of that dataset"
        )
    saved = state.read(checkpoint)
    model = AlexNet(run.recipe.network)
    model.load_state_dict(saved.weights)
    step = saved.progress.step
    told = [event for event in events(run.metrics) if event["step"] == step]
    about = About(
        name=run.name,
        step=step,
        network=run.recipe.network,
        classes=dataset.manifest.classes,
        size=dataset.manifest.size,
        dataset=run.dataset,
        recipe=run.recipe.model_dump(mode="json"),
        accuracy=_accuracy(told),
        trained_at=_trained_at(told),
        versions={name: version(name) for name in ("torch", "ray", "nvidia-dali-cuda130")},
    )
    mean_3HW = centre_mean(dataset.mean_image(run.recipe.mean), run.recipe.network.crop)
    return save(model, mean_3HW, about, models)


def _accuracy(told: list[dict[str, Any]]) -> tuple[Accuracy, ...]:
    """What was counted last, with 1 view and with 10."""
    counted = {event["views"]: event for event in told if event["kind"] == "val"}
    return tuple(
        Accuracy(**{name: event[name] for name in Accuracy.model_fields if name in event})
        for _, event in sorted(counted.items())
    )


def _trained_at(told: list[dict[str, Any]]) -> datetime | None:
    times = [event["time"] for event in told if event["kind"] == "train"]
    return datetime.fromtimestamp(times[-1], UTC).replace(microsecond=0) if times else None
