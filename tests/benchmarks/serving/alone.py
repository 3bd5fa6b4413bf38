"""Our predictor in a loop, without a server, its images ready, in as many threads as a server
would run batches at once."""

import time
from concurrent.futures import ThreadPoolExecutor
from itertools import count, repeat
from math import ceil, floor
from pathlib import Path

import torch

from alexnet.checkpoint import load
from alexnet.pixels import whole_image
from alexnet.predictor import Predictor
from serving.memory import keep_freed
from serving.settings import Settings
from tests.benchmarks.harness import Measurement
from tests.benchmarks.serving import trial


def alone(model: Path, batch: float, seconds: float) -> tuple[Measurement, float]:
    """What it does in at least `seconds`, in batches of that mean size, and the CPU time of making
    one image ready, which is measured apart. The measurement is of this whole process."""
    settings = Settings(model=(model,))
    keep_freed()
    torch.set_num_threads(settings.pass_threads)
    predictor = Predictor([load(model)])
    about, jpegs = predictor.about, trial.photographs()
    decode_s = time.thread_time()
    images = [whole_image(jpeg, about.size, rule=about.rule) for jpeg in jpegs]
    decode_s = (time.thread_time() - decode_s) / len(jpegs)
    image_N3SS = torch.stack([torch.from_numpy(p).permute(2, 0, 1) for p in images])
    image_N3SS = image_N3SS.repeat(ceil(batch / len(jpegs)), 1, 1, 1)

    def asked(_: int, seconds: float) -> int:
        """Images answered by one thread in `seconds`."""
        done, end = 0, time.perf_counter() + seconds
        for number in count(1):
            size = floor(batch * number) - done
            predictor.classify(image_N3SS[:size], views=10)
            done += size
            if time.perf_counter() > end:
                break
        return done

    with ThreadPoolExecutor(
        settings.lanes, initializer=torch.set_num_threads, initargs=(settings.pass_threads,)
    ) as lanes:
        list(lanes.map(asked, range(settings.lanes), repeat(0.0)))  # warm
        wall_s, cpu_s = time.perf_counter(), time.process_time()
        done = sum(lanes.map(asked, range(settings.lanes), repeat(seconds)))
        wall_s, cpu_s = time.perf_counter() - wall_s, time.process_time() - cpu_s
    return Measurement(done, wall_s, cpu_s), decode_s
