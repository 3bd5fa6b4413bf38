"""Finding how a GPU's images are decoded fastest, and remembering it. Here on the CPU, where the
share changes nothing."""

from pathlib import Path

import pytest
from torch import Tensor

from pipeline.batches import Batch, Decoding, train_batches
from pipeline.cache import cache_folder
from pipeline.dataset import Dataset
from pipeline.hw_load import HW_LOADS, TRIAL, fastest, remembered, training_rate
from pipeline.order import Shard

HERE: dict[str, str | int] = {"machine": "a", "gpu": "X", "threads": 8}


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path


def never() -> float:
    raise AssertionError("searched again")


@pytest.mark.parametrize("best", HW_LOADS)
def test_the_fastest_is_taken_and_remembered(best: float | None) -> None:
    speed = {load: 1000 + 100 * (load == best) for load in HW_LOADS}
    assert remembered(HERE, lambda: fastest(speed.__getitem__)) == best
    assert remembered(dict(HERE), never) == best


@pytest.mark.parametrize("change", [{"machine": "b"}, {"gpu": "Y"}, {"threads": 4}])
def test_other_circumstances_are_another_search(change: dict[str, str | int]) -> None:
    assert remembered(HERE, lambda: 0.3) == 0.3
    assert remembered(HERE | change, lambda: 0.8) == 0.8
    assert remembered(HERE, never) == 0.3


@pytest.mark.parametrize("damage", [b"", b"{}", b"\xff", b'{"circumstances": {}, "hw_load": 0.5}'])
def test_a_damaged_file_is_written_anew(damage: bytes) -> None:
    remembered(HERE, lambda: 0.3)
    (path,) = (cache_folder() / "hw_load").iterdir()
    path.write_bytes(damage)
    assert remembered(HERE, lambda: 0.8) == 0.8
    assert remembered(HERE, never) == 0.8


def test_a_folder_that_cannot_be_written_is_no_error(home: Path) -> None:
    (home / "alexnet").write_text("a file")
    assert remembered(HERE, lambda: 0.3) == 0.3
    assert remembered(HERE, lambda: None) is None


def test_every_batch_of_a_trial_is_stepped_on(dataset: Path) -> None:
    """Also in few images, and for a worker among others."""
    seen = []

    def step(batch: Batch) -> Tensor:
        seen.append(len(batch.label_N))
        return batch.label_N

    batches = train_batches(
        Dataset(dataset), Shard(1, 2, None), Decoding(threads=1),
        seed=0, epoch=0, start=0, batch=108, crop=64, epochs=TRIAL,
    )  # fmt: skip
    assert training_rate(batches, step) > 0
    assert seen == [54] * TRIAL
