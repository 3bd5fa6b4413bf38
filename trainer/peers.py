"""The network and the step as others would write them, to be measured beside ours.

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
from trainer.loop.optimizer import BIAS_RATE, SGD2012
from trainer.loop.precision import autocast, resolve_precision
from trainer.loop.step import Place, train_step

CPU = torch.device("cpu")
RATE, MOMENTUM, DECAY = 1e-4, 0.9, 0.0005
MATRIX = 2048
"""Rows and columns of the products that say what the machine can do."""


@dataclass(frozen=True)
class Task:
    """The same for every contender."""

    network: AlexNetConfig
    batch: int
    threads: int
    step: bool
    """A training step, else a forward pass."""

    def begin(self) -> Batch:
        """Noise with labels, the same each time; also sets this process's threads and seed."""
        torch.set_num_threads(self.threads)
        torch.manual_seed(0)
        return noise(self.network, self.batch)


class Typical(AlexNet):
    """The same network with the same parameters, from what torch.nn has.

    `nn.LocalResponseNorm` sees the towers as images of their own: a view, if the memory is NCHW.
    """

    def __init__(self, config: AlexNetConfig) -> None:
        super().__init__(config)
        self.norm = nn.LocalResponseNorm(5, 1e-4, 0.75, 2.0)
        self.dropout = nn.Dropout(config.dropout)  # type: ignore[assignment]
        for name, layer in self.named_children():
            if isinstance(layer, nn.Conv2d):
                setattr(self, name, plain_convolution(layer))

    def _norm(self, x_NCHW: Tensor) -> Tensor:
        maps, *sides = x_NCHW.shape[1:]
        x_MCHW = x_NCHW.reshape(-1, maps // self.config.towers, *sides)
        return self.norm(x_MCHW).reshape(x_NCHW.shape)

    def optimizer(self) -> torch.optim.SGD:
        """The recipe's rates and decay in torch's own SGD, as it comes."""
        groups = {
            bias: [p for name, p in self.named_parameters() if name.endswith("bias") == bias]
            for bias in (False, True)
        }
        return torch.optim.SGD(
            [
                {"params": groups[False], "weight_decay": DECAY},
                {"params": groups[True], "lr": BIAS_RATE * RATE},
            ],
            lr=RATE,
            momentum=MOMENTUM,
        )


def plain_convolution(layer: nn.Conv2d) -> nn.Conv2d:
    """torch's own with the same numbers."""
    plain = nn.Conv2d(
        layer.in_channels, layer.out_channels, layer.kernel_size, layer.stride,  # type: ignore[arg-type]
        layer.padding, groups=layer.groups,  # type: ignore[arg-type]
    )  # fmt: skip
    plain.load_state_dict(layer.state_dict())
    return plain


def noise(network: AlexNetConfig, batch: int) -> Batch:
    """Images of the size and the spread of a photograph's; memory as the loader gives it."""
    image_NCHW = 70 * torch.randn(batch, 3, network.crop, network.crop)
    return Batch(
        image_NCHW.to(memory_format=torch.channels_last),
        torch.randint(0, network.classes, (batch,)),
        torch.ones(batch, dtype=torch.bool),
        torch.arange(batch),
    )


def ours(task: Task) -> Iterator[Tensor]:
    """Logits (N, K) or, of a step, labels (N,), without end; so are all that follow."""
    batch = task.begin()
    model = AlexNet(task.network).train(task.step)
    model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    precision = resolve_precision("auto", CPU)
    if not task.step:
        yield from _forward(model, batch.image_NCHW, precision)
    optimizer = SGD2012(model, RATE, MOMENTUM, DECAY)
    place = Place(seed=0, epoch=0, position=0, real=task.batch, first=0)
    while True:
        train_step(model, optimizer, batch, place, world=1, precision=precision)
        yield batch.label_N


def eager_float32(task: Task) -> Iterator[Tensor]:
    return _typical(task, "fp32", lambda model: model)


def eager_bfloat16(task: Task) -> Iterator[Tensor]:
    return _typical(task, "bf16", lambda model: model)


def compiled(task: Task) -> Iterator[Tensor]:
    """In this machine's faster precision, like ours; with weights frozen in the forward pass."""
    return _typical(
        task,
        resolve_precision("auto", CPU),
        lambda model: torch.compile(model, options={"freezing": not task.step}),
    )


def products(task: Task) -> Iterator[Tensor]:
    """As many multiplications as the direct method takes for a batch, in matrix products alone."""
    task.begin()
    dtype = torch.bfloat16 if resolve_precision("auto", CPU) == "bf16" else torch.float32
    a, b = (torch.randn(MATRIX, MATRIX).to(dtype) for _ in range(2))
    done, per_batch = 0, task.batch * flops_per_image(task.network, task.step)
    result = torch.empty_like(a)
    while True:
        while done < per_batch:
            torch.mm(a, b, out=result)
            done += 2 * MATRIX**3
        done -= per_batch
        yield torch.empty(task.batch)


def flops_per_image(network: AlexNetConfig, step: bool) -> int:
    """Of convolutions and matrix products by the direct method; multiply and add count as two.

    A step takes three such passes, but for the gradient of the image. (torch's counter errs in the
    backward pass of grouped convolutions.)
    """
    with torch.device("meta"):
        model, image = Typical(network), torch.empty(1, 3, network.crop, network.crop)
    with FlopCounterMode(display=False) as counter:
        model(image)
    total, first = (
        sum(counter.get_flop_counts()[name].values()) for name in ("Global", "Typical.conv1")
    )
    return 3 * total - first if step else total


def _typical(
    task: Task, precision: str, prepare: Callable[[nn.Module], Callable[[Tensor], Tensor]]
) -> Iterator[Tensor]:
    batch = task.begin()
    image_NCHW = batch.image_NCHW.contiguous()
    network = Typical(task.network).train(task.step)
    model = prepare(network)
    if not task.step:
        yield from _forward(model, image_NCHW, precision)
    optimizer = network.optimizer()
    while True:
        typical_step(model, optimizer, image_NCHW, batch.label_N, precision)
        yield batch.label_N


def typical_step(
    model: Callable[[Tensor], Tensor],
    optimizer: torch.optim.Optimizer,
    image_NCHW: Tensor,
    label_N: Tensor,
    precision: str = "fp32",
) -> float:
    """The mean loss before the step."""
    optimizer.zero_grad()
    with autocast(precision, CPU):
        loss = F.cross_entropy(model(image_NCHW), label_N)
    loss.backward()
    optimizer.step()
    return loss.item()


def _forward(
    model: Callable[[Tensor], Tensor], image_NCHW: Tensor, precision: str
) -> Iterator[Tensor]:
    while True:
        with torch.inference_mode(), autocast(precision, CPU):
            yield model(image_NCHW)
