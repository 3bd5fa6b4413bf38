"""Workers that share a step over NCCL, and whether a step repeats to the bit."""

import os
from collections.abc import Iterator

import torch
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel

from tests.gpu.check import Finding, Setup
from tests.gpu.network import network, noise, on_device, relative
from trainer.loop.optimizer import SGD2012
from trainer.loop.parallel import _in_16_bits
from trainer.loop.precision import algorithms
from trainer.loop.step import StepPosition, train_step

STEPS = 3


def averaged_gradients(setup: Setup) -> Iterator[Finding]:
    """DistributedDataParallel, and its gradients on the way as bfloat16, on one worker: NCCL lets
    no two share a GPU."""
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29511"}
    distributed.init_process_group("nccl" if setup.gpu else "gloo", rank=0, world_size=1)
    try:
        plain = _weights(setup, "fp32")
        yield Finding("averaged", relative(_weights(setup, "fp32", averaged=True), plain), 1e-6)
        half = _weights(setup, "fp32", averaged=True, compress=True)
        yield Finding("averaged in 16 bits", relative(half, plain), 1e-3)
    finally:
        distributed.destroy_process_group()


def repeated_bits(setup: Setup) -> Iterator[Finding]:
    """The same steps twice; as `--deterministic` they end with the same bits."""
    for wanted in (False, True):
        with algorithms(repeatable=wanted):
            one, other = (_weights(setup, "bf16") for _ in range(2))
        case = f"weights that differ, {'with' if wanted else 'without'} --deterministic"
        yield Finding(case, int((one != other).sum()), 0 if wanted or not setup.gpu else None)


def _weights(
    setup: Setup, precision: str, averaged: bool = False, compress: bool = False
) -> Tensor:
    """Of all layers, after a few steps."""
    crop, batch = (224, 32) if setup.gpu else (64, 4)
    module = on_device(network(crop=crop, width=0.5), setup).train()
    optimizer = SGD2012(module, 0.001)
    # As `trainer.loop.parallel.averaged`, which does nothing for a single worker.
    model: nn.Module = module
    if averaged:
        ids = [setup.torch_device] if setup.gpu else None
        model = ddp = DistributedDataParallel(module, device_ids=ids, gradient_as_bucket_view=True)
        if compress:
            ddp.register_comm_hook(None, _in_16_bits)
    part = noise(setup, batch, crop, precision)
    for step in range(STEPS):
        place = StepPosition(0, 0, step * batch, batch, 0)
        train_step(model, optimizer, part, place, world=1, precision=precision)
    return torch.cat([p.detach().flatten() for p in module.parameters()])
