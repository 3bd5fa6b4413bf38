"""Our network and step, and what others would write: each yields logits or labels without end.

Shapes: N images, C channels, H rows, W columns, K classes.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from alexnet.model import AlexNet, AlexNetConfig
from pipeline.batches import Batch
from tests.benchmarks.network import plain
from trainer.loop.optimizer import BIAS_FACTOR, SGD2012
from trainer.loop.precision import autocast, resolve_precision
from trainer.loop.step import StepPosition, train_step

CPU = torch.device("cpu")
LEARNING_RATE, MOMENTUM, DECAY = 1e-4, 0.9, 0.0005
MATRIX = 2048
"""Rows and columns of the products that say what the machine can do."""


@dataclass(frozen=True)
class Task:
    """What every contender is to do."""

    network: AlexNetConfig
    batch: int
    threads: int
    step: bool
    """A training step, else a forward pass."""
    device: str = "cpu"
    """Or cuda."""

    @property
    def on(self) -> torch.device:
        return torch.device(self.device)

    def begin(self) -> Batch:
        """Noise with labels, the same each time; also sets this process's threads and seed."""
        torch.set_num_threads(self.threads)
        torch.manual_seed(0)
        return noise(self.network, self.batch, self.on)


def noise(network: AlexNetConfig, batch: int, device: torch.device = CPU) -> Batch:
    """Images of the size and the spread of a photograph's; type and memory as the loader's."""
    image_NCHW = 70 * torch.randn(batch, 3, network.crop, network.crop)
    dtype = torch.float32 if device.type == "cpu" else torch.float16
    return Batch(
        image_NCHW.to(device, dtype, memory_format=torch.channels_last),
        torch.randint(0, network.classes, (batch,)).to(device),
        torch.ones(batch, dtype=torch.bool, device=device),
        torch.arange(batch, device=device),
    )


def our_network(config: AlexNetConfig, device: torch.device = CPU) -> AlexNet:
    """Our network, with its memory in the order that is fastest."""
    model = AlexNet(config)
    return model.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]


def ours(task: Task, compiled: bool = False) -> Iterator[Tensor]:
    """Logits (N, K) or, of a step, labels (N,), without end; so are all that follow."""
    batch = task.begin()
    network = our_network(task.network, task.on).train(task.step)
    model: nn.Module = torch.compile(network) if compiled else network  # type: ignore[assignment]
    precision = resolve_precision("auto", task.on)
    if not task.step:
        yield from _forward(model, batch.image_NCHW, precision)
    optimizer = SGD2012(network, LEARNING_RATE, MOMENTUM, DECAY)
    place = StepPosition(seed=0, epoch=0, position=0, real=task.batch, first=0)
    while True:
        train_step(model, optimizer, batch, place, world=1, precision=precision)
        yield batch.label_N


def eager(
    task: Task, precision: str, compiled: bool = False, channels_last: bool = False
) -> Iterator[Tensor]:
    """torch's own layers and SGD; if compiled, with frozen weights in the forward pass."""
    batch = task.begin()
    form = torch.channels_last if channels_last else torch.contiguous_format
    image_NCHW = batch.image_NCHW.float().contiguous(memory_format=form)
    precision = resolve_precision(precision, task.on)
    network = plain(AlexNet(task.network).train(task.step))
    network = network.to(task.on, memory_format=form)  # type: ignore[call-overload]
    model: Callable[[Tensor], Tensor] = network
    if compiled:
        model = torch.compile(network, options={"freezing": not task.step})
    if not task.step:
        yield from _forward(model, image_NCHW, precision)
    optimizer = plain_sgd(network)
    while True:
        plain_step(model, optimizer, image_NCHW, batch.label_N, precision)
        yield batch.label_N


def products(task: Task) -> Iterator[Tensor]:
    """As many multiplications as the direct method takes for a batch, in matrix products alone."""
    task.begin()
    dtype = torch.bfloat16 if resolve_precision("auto", task.on) == "bf16" else torch.float32
    a, b = (torch.randn(MATRIX, MATRIX).to(task.on, dtype) for _ in range(2))
    done, per_batch = 0, task.batch * flops_per_image(task.network, task.step)
    result = torch.empty_like(a)
    while True:
        while done < per_batch:
            torch.mm(a, b, out=result)
            done += 2 * MATRIX**3
        done -= per_batch
        yield torch.empty(task.batch)


def flops_per_image(network: AlexNetConfig, step: bool) -> int:
    """Operations of convolutions and matrix products by the direct method, multiply and add as two.

    A step takes three such passes, but for the gradient of the image. (torch's counter errs in the
    backward pass of grouped convolutions.)
    """
    with torch.device("meta"):
        model, image = plain(AlexNet(network)), torch.empty(1, 3, network.crop, network.crop)
    with FlopCounterMode(display=False) as counter:
        model(image)
    counts, conv1 = counter.get_flop_counts(), "Sequential.1"
    total, first = (sum(counts[name].values()) for name in ("Global", conv1))
    return 3 * total - first if step else total


def plain_sgd(network: nn.Module) -> torch.optim.SGD:
    """The recipe's learning rates and decay in torch's own SGD, as it comes."""
    named = dict(network.named_parameters())
    weights = [p for name, p in named.items() if not name.endswith("bias")]
    biases = [p for name, p in named.items() if name.endswith("bias")]
    return torch.optim.SGD(
        [
            {"params": weights, "weight_decay": DECAY},
            {"params": biases, "lr": BIAS_FACTOR * LEARNING_RATE},
        ],
        lr=LEARNING_RATE,
        momentum=MOMENTUM,
    )


def plain_step(
    model: Callable[[Tensor], Tensor],
    optimizer: torch.optim.Optimizer,
    image_NCHW: Tensor,
    label_N: Tensor,
    precision: str = "fp32",
) -> float:
    """The mean loss before the step."""
    optimizer.zero_grad()
    with autocast(precision, image_NCHW.device):
        loss = F.cross_entropy(model(image_NCHW), label_N)
    loss.backward()
    optimizer.step()
    return loss.item()


def _forward(
    model: Callable[[Tensor], Tensor], image_NCHW: Tensor, precision: str
) -> Iterator[Tensor]:
    while True:
        with torch.inference_mode(), autocast(precision, image_NCHW.device):
            yield model(image_NCHW)
