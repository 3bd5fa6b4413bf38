"""How the workers of a run share a step."""

from typing import Protocol

from torch import Tensor, distributed, nn
from torch.distributed import GradBucket, ProcessGroup
from torch.futures import Future
from torch.nn.parallel import DistributedDataParallel

from alexnet.model import AlexNet

Named = dict[str, Tensor]
"""Tensors by the names of a network's parameters."""


class Parallel(Protocol):
    """What a worker holds of the network and of each batch."""

    module: nn.Module
    """The layers that it trains."""
    model: nn.Module
    """The module in the form that is called: its backward pass averages the workers' gradients."""
    index: int
    """Which share of each batch the worker learns from."""
    count: int
    """How many shares a batch has."""

    @property
    def counts(self) -> bool:
        """Whether its logits are the network's, so that what it counts is to be added."""

    def freeze(self, *layers: str) -> None:
        """Train layers no further, from the next step on: no gradient, no weight decay."""

    def own(self, whole: Named) -> Named:
        """The worker's part of the whole network's tensors."""

    def gather(self, own: Named) -> Named:
        """The whole network's tensors; every worker calls it with its part."""


class Data:
    """Each worker holds the whole network, and averages gradients with the others."""

    counts = True

    def __init__(self, network: AlexNet, index: int, count: int, *, compress: bool) -> None:
        self.module: nn.Module = network
        self.index, self.count = index, count
        self._compress = compress
        self.model = averaged(network, count, None, compress=compress)

    def freeze(self, *layers: str) -> None:
        if freeze(self.module, *layers):
            self.model = averaged(self.module, self.count, None, compress=self._compress)

    def own(self, whole: Named) -> Named:
        return whole

    def gather(self, own: Named) -> Named:
        return own


def averaged(
    module: nn.Module, workers: int, group: ProcessGroup | None, *, compress: bool
) -> nn.Module:
    """`module`, its gradients averaged over the `workers` of `group` (None: all), on the way as
    bfloat16 if `compress`."""
    if workers == 1:
        return module
    device = next(module.parameters()).device
    parallel = DistributedDataParallel(
        module,
        device_ids=None if device.type == "cpu" else [device],
        process_group=group,
        gradient_as_bucket_view=True,
    )
    if compress:
        parallel.register_comm_hook(group, _in_16_bits)
    return parallel


def _in_16_bits(group: ProcessGroup | None, bucket: GradBucket) -> Future[Tensor]:
    """torch's own hook of this kind refuses gloo, which has the sum too."""
    gradient = bucket.buffer()
    half = (gradient / distributed.get_world_size(group)).bfloat16()
    summed = distributed.all_reduce(half, group=group, async_op=True).get_future()
    return summed.then(lambda done: gradient.copy_(done.value()[0]))


def freeze(module: nn.Module, *layers: str) -> bool:
    """Take the gradients of layers away: SGD leaves their weights and velocity alone, as a learning
    rate of zero did in 2012 (src/weights.cu), and below the first of the others nothing goes
    backward. Returns False if that has been done already."""
    parameters = [p for layer in layers for p in module.get_submodule(layer).parameters()]
    trained = any(parameter.requires_grad for parameter in parameters)
    for parameter in parameters:
        parameter.requires_grad_(False)
    return trained
