"""Finding how a GPU's images are decoded fastest, and remembering it. Here on the CPU, where the
share changes nothing."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from alexnet.cache import cache_folder
from pipeline.batches import Batch, Decoding, train_batches
from pipeline.dataset import Dataset
from pipeline.hw_load import FIRST, HW_LOADS, TRIAL, fastest, remembered, training_rate
from pipeline.order import Shard

HERE: dict[str, str | int] = {"machine": "a", "gpu": "X", "threads": 8}


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path


def never() -> float:
    raise AssertionError("searched again")


@pytest.mark.parametrize("best", [None, *HW_LOADS])
def test_the_fastest_is_taken_and_remembered(best: float | None) -> None:
    speed: dict[float | None, float] = {
        load: 1000 - 100 * abs(load - (best or 0)) for load in HW_LOADS
    }
    speed[None] = 1000 + (1 if best is None else -1)
    assert remembered(HERE, lambda: fastest(speed.__getitem__)) == best
    assert remembered(dict(HERE), never) == best


@given(
    rises=st.lists(st.integers(1, 100), min_size=len(HW_LOADS), max_size=len(HW_LOADS)),
    peak=st.sampled_from(HW_LOADS),
    cpu=st.integers(-700, 700),
)
def test_any_curve_with_one_peak_takes_at_most_one_trial_a_load(
    rises: list[int], peak: float, cpu: int
) -> None:
    top = HW_LOADS.index(peak)
    speed: dict[float | None, float] = {None: cpu}
    for place, load in enumerate(HW_LOADS):
        speed[load] = -sum(rises[min(place, top) : max(place, top)])
    tried: list[float | None] = []

    def rate(load: float | None) -> float:
        tried.append(load)
        return speed[load]

    assert fastest(rate) == (peak if cpu < 0 else None)
    assert len(tried) == len(set(tried)) < 1 + len(HW_LOADS)


@pytest.mark.parametrize(
    ("cpu", "of_gpu", "best"),
    [
        (7445, (11157, 14442, 24907, 23241), 0.65),
        (11547, (18541, 23107, 26136, 23763), 0.65),
        (15377, (20532, 19481, 23494, 20164), 0.65),
        (25000, (20532, 19481, 23494, 20164), None),
    ],
)
def test_few_trials_find_the_best_on_an_h100(
    cpu: int, of_gpu: tuple[int, ...], best: float | None
) -> None:
    """Rates measured there by 4, 8 and 14 threads, and straight lines between them; at last a
    faster CPU."""
    tried = []

    def rate(load: float | None) -> float:
        tried.append(load)
        return cpu if load is None else float(np.interp(load, (0, 0.3, 0.65, 1), of_gpu))

    assert fastest(rate) == best
    assert tried == [None, *FIRST, 0.5, 0.8]


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
