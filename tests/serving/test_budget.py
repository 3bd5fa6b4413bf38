"""How memory is divided."""

from pathlib import Path

import pytest

from alexnet.checkpoint import Checkpoint
from serving.budget import LEAST_BYTES, Budget
from serving.memory import granted_bytes
from serving.settings import Settings

GIB = 2**30


def budget(**settings: object) -> Budget:
    return Budget(Settings(model=(Path("unused"),), **settings))


def test_all_of_it_is_given_to_something(checkpoint: Checkpoint) -> None:
    abouts = [checkpoint.about]
    for memory in (GIB, 3 * GIB, 64 * GIB):
        of = budget(memory=memory)
        assert of.without_images(abouts) + of.bodies(abouts) + of.decoding(abouts) == memory
        assert of.bodies(abouts) >= Settings(model=(Path("unused"),)).max_upload_bytes


def test_by_default_it_is_what_there_is() -> None:
    assert budget().total == granted_bytes()
    assert budget(workers=2).total == granted_bytes() // 2
    assert budget(memory="3GiB", workers=3).total == GIB


def test_a_model_needs_some_for_images(checkpoint: Checkpoint) -> None:
    abouts = [checkpoint.about]
    needed = budget(memory=GIB).without_images(abouts) + LEAST_BYTES
    assert budget(memory=needed).is_enough(abouts)
    assert not budget(memory=needed - 1).is_enough(abouts)
    assert not budget(memory=needed).is_enough([checkpoint.about] * 50)


@pytest.mark.parametrize(("of", "more"), [("decoders", 9), ("max_upload_bytes", 10**8)])
def test_what_is_always_there_leaves_less(checkpoint: Checkpoint, of: str, more: int) -> None:
    abouts = [checkpoint.about]
    assert budget(memory=4 * GIB, **{of: more}).without_images(abouts) > budget(
        memory=4 * GIB
    ).without_images(abouts)
