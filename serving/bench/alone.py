"""python -m serving.bench.alone: our predictor in a loop, without a server, its pictures ready, in
as many threads as a server would run batches at once.

Prints JSON: pictures done, seconds by the clock, CPU time of all threads, and what making one
picture ready takes, which is measured apart.
"""

import argparse
import json
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import count, repeat
from math import ceil, floor
from pathlib import Path

import torch

from alexnet.checkpoint import load
from alexnet.command import Parser, run
from alexnet.pixels import whole_picture
from alexnet.predictor import Predictor
from serving.bench import trial
from serving.memory import keep_freed
from serving.settings import Settings


def main(arguments: list[str] | None = None) -> int:
    return run(_parser(), arguments)


def _run(options: argparse.Namespace) -> int:
    settings = Settings(model=(options.model,))
    keep_freed()
    torch.set_num_threads(settings.pass_threads)
    predictor = Predictor([load(options.model)])
    about, jpegs = predictor.about, trial.photographs()
    decode_s = time.thread_time()
    pictures = [whole_picture(jpeg, about.size, rule=about.rule) for jpeg in jpegs]
    decode_s = (time.thread_time() - decode_s) / len(jpegs)
    picture_N3SS = torch.stack([torch.from_numpy(p).permute(2, 0, 1) for p in pictures])
    picture_N3SS = picture_N3SS.repeat(ceil(options.batch / len(jpegs)), 1, 1, 1)

    def asked(_: int, seconds: float) -> int:
        """Pictures answered by one thread in `seconds`, in batches of that mean size."""
        done, end = 0, time.perf_counter() + seconds
        for number in count(1):
            size = floor(options.batch * number) - done
            predictor.classify(picture_N3SS[:size], views=10)
            done += size
            if time.perf_counter() > end:
                break
        return done

    with ThreadPoolExecutor(
        settings.lanes, initializer=torch.set_num_threads, initargs=(settings.pass_threads,)
    ) as lanes:
        list(lanes.map(asked, range(settings.lanes), repeat(0.0)))  # warm
        wall_s, cpu_s = time.perf_counter(), time.process_time()
        done = sum(lanes.map(asked, range(settings.lanes), repeat(options.seconds)))
        wall_s, cpu_s = time.perf_counter() - wall_s, time.process_time() - cpu_s
    print(json.dumps({"requests": done, "wall_s": wall_s, "cpu_s": cpu_s, "decode_s": decode_s}))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = Parser(prog="python -m serving.bench.alone", description=__doc__)
    parser.set_defaults(run=_run)
    parser.add_argument("--model", type=Path, required=True, help="models/NAME")
    parser.add_argument("--batch", type=float, required=True, help="pictures, in the mean")
    parser.add_argument("--seconds", type=float, required=True, help="at least")
    return parser


if __name__ == "__main__":
    sys.exit(main())
