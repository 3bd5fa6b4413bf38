"""How much of the decoding a GPU's JPEG engines should do: found by trying."""

import time
from collections.abc import Callable
from itertools import islice

from pipeline.batches import Decoding, whole_batches
from pipeline.dataset import Dataset
from pipeline.order import Shard

HW_LOADS = (0.0, 0.15, 0.3, 0.5, 0.65, 0.8, 1.0)
"""With many processor threads beside the GPU a little is best, with few nearly all."""
WARM_UP, BATCHES, BATCH = 3, 12, 256


def best_hw_load(dataset: Dataset, shard: Shard, threads: int) -> float:
    """The share, 0..1, at which this worker decodes most pictures a second."""
    return fastest(lambda load: decoding_rate(dataset, shard, Decoding(threads, hw_load=load)))


def fastest(rate: Callable[[float], float]) -> float:
    """Of HW_LOADS the one of the highest rate."""
    return max(HW_LOADS, key=rate)


def decoding_rate(dataset: Dataset, shard: Shard, decoding: Decoding) -> float:
    """Pictures a second, decoded whole, after warm-up; from validation pictures, all on `shard`'s
    device."""
    alone = Shard(0, 1, shard.device_id)
    batch = min(BATCH, -(-dataset.manifest.val.samples // (WARM_UP + BATCHES)))
    batches = whole_batches(dataset, "val", alone, decoding, batch=batch)
    for _ in islice(batches, WARM_UP):
        pass
    start = time.perf_counter()
    pictures = sum(int(part.real_N.sum()) for part in islice(batches, BATCHES))
    return pictures / (time.perf_counter() - start)
