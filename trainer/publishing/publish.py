"""A run's last checkpoint -> a model that a server takes."""

from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

from alexnet.checkpoint import About, Accuracy, now, save
from alexnet.model import AlexNet
from alexnet.views import centre_mean
from pipeline.dataset import Dataset
from trainer.loop import state
from trainer.run import Run


def publish(run: Run, checkpoint: Path, accuracy: Sequence[Accuracy], models: Path) -> Path:
    """Write models/NAME/STEP from a checkpoint and point NAME at it; returns that directory."""
    dataset = Dataset(run.data)
    saved = state.read(checkpoint)
    model = AlexNet(run.recipe.network)
    model.load_state_dict(saved.weights)
    about = About(
        name=run.name,
        step=saved.progress.step,
        network=run.recipe.network,
        classes=dataset.manifest.classes,
        size=dataset.manifest.size,
        dataset=run.dataset,
        recipe=run.recipe.model_dump(mode="json"),
        accuracy=tuple(accuracy),
        trained_at=now(),
        versions={name: version(name) for name in ("torch", "ray", "nvidia-dali-cuda130")},
    )
    mean_3HW = centre_mean(dataset.mean_picture(run.recipe.mean), run.recipe.network.crop)
    return save(model, mean_3HW, about, models)
