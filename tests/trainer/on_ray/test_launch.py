"""What `launch` expects of Ray's insides."""

from pathlib import Path

import pytest
import ray

from pipeline.cluster import TOO_SLOW
from trainer.on_ray.jobs import NO_AGENT
from trainer.on_ray.launch import NO_ROOM, _trainer


@pytest.mark.filterwarnings("ignore:.*is deprecated:DeprecationWarning")  # Ray's of itself
@pytest.mark.parametrize("own", [True, False])
def test_the_callbacks_left_out_are_rays(own: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are known by name: renamed, they would come back and cost seconds of every run."""
    from ray.train import ScalingConfig
    from ray.train.torch import TorchTrainer

    def callbacks(kind: type) -> set[str]:
        trainer = kind(lambda: None, scaling_config=ScalingConfig(num_workers=1))
        return {type(each).__name__ for each in trainer._create_default_callbacks()}

    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    if not own:
        monkeypatch.setenv("RAY_ADDRESS", "auto")
    left_out = {"DatasetsCallback"} | ({"PlacementGroupCleanerCallback"} if own else set())
    assert callbacks(TorchTrainer) - callbacks(_trainer()) == left_out


@pytest.mark.parametrize(
    ("text", "file"),
    [
        (TOO_SLOW, "_private/node.py"),
        (NO_AGENT, "dashboard/modules/job/job_head.py"),
        (f"class {NO_ROOM}(", "train/v2/_internal/exceptions.py"),
    ],
)
def test_rays_errors_are_known_by_what_ray_says(text: str, file: str) -> None:
    """Changed, they would no longer be tried again, or be a traceback in place of a line."""
    assert text in (Path(ray.__file__).parent / file).read_text()
