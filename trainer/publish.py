"""A run's last checkpoint -> a model that a server takes."""

from importlib.metadata import version
from pathlib import Path
from typing import Any

from alexnet import checkpoint
from alexnet.checkpoint import About, Accuracy
from alexnet.model import AlexNet
from alexnet.views import centre_mean
from pipeline.dataset import Dataset
from trainer import state
from trainer.config import Run


def publish(run: Run, state_directory: Path, accuracy: list[dict[str, Any]], models: Path) -> Path:
    """Write models/NAME/STEP and point NAME at it; returns that directory."""
    dataset = Dataset(run.data)
    saved = state.read(state_directory)
    model = AlexNet(run.recipe.network)
    model.load_state_dict(saved["model"])
    about = About(
        name=run.name,
        step=saved["step"],
        network=run.recipe.network,
        classes=dataset.manifest.classes,
        size=dataset.manifest.size,
        dataset=run.dataset,
        recipe=run.recipe.model_dump(mode="json"),
        accuracy=tuple(Accuracy.model_validate(counts) for counts in accuracy),
        trained_at=checkpoint.now(),
        versions={name: version(name) for name in ("torch", "ray", "nvidia-dali-cuda130")},
    )
    mean_3HW = centre_mean(dataset.mean_picture(run.recipe.mean), run.recipe.network.crop)
    return checkpoint.save(model, mean_3HW, about, models)
