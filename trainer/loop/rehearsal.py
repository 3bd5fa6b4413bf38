"""Which decoding a run trains fastest with: tried by steps of training that change nothing."""

import platform
from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace

import torch
from torch import Tensor

from alexnet.model import AlexNet
from pipeline.batches import Batch, Batches, Decoding
from pipeline.graph import VERSION
from pipeline.hw_load import fastest, remembered, training_rate
from pipeline.order import Shard
from trainer.loop.optimizer import SGD2012
from trainer.loop.step import StepPosition, train_step
from trainer.run import Run


def fastest_decoding(
    run: Run,
    network: AlexNet,
    precision: str,
    shard: Shard,
    decoding: Decoding,
    batches: Callable[[Decoding], Batches],
) -> Decoding:
    """`decoding` with the `hw_load` by which `network`, on `shard`'s GPU, trains on most images a
    second; as found before under the same circumstances. Each worker tries by itself, on what
    `batches` opens: TRIAL batches at least."""
    circumstances: dict[str, str | int] = {
        "machine": platform.node(),
        "gpu": torch.cuda.get_device_name(shard.device_id),
        "threads": decoding.threads,
        "dali": VERSION,
        "dataset": run.dataset,
        "network": run.recipe.network.model_dump_json(),
        "precision": precision,
        "batch": run.recipe.batch,
        "workers": shard.count,
    }

    def search() -> float | None:
        step = rehearsal(run, network, precision)
        return fastest(
            lambda hw_load: training_rate(batches(replace(decoding, hw_load=hw_load)), step)
        )

    return replace(decoding, hw_load=remembered(circumstances, search))


def rehearsal(run: Run, network: AlexNet, precision: str) -> Callable[[Batch], Tensor]:
    """A step of training, but of a copy of the network, and without other workers."""
    copy = deepcopy(network)
    optimizer = SGD2012(copy, run.recipe.rate, run.recipe.momentum, run.recipe.weight_decay)

    def step(batch: Batch) -> Tensor:
        rows = len(batch.label_N)
        return train_step(
            copy,
            optimizer,
            batch,
            StepPosition(run.recipe.seed, epoch=0, position=0, real=rows, first=0),
            world=1,
            precision=precision,
            micro_batch=run.micro_batch,
        )

    return step
