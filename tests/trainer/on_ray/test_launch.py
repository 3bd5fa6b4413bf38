"""What `launch` expects of Ray's insides."""

import pytest

from trainer.on_ray.launch import _trainer


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
