"""The network on a GPU beside float64 on a CPU: logits, gradients, norm, masks, losses.

Shapes: N images, C channels, H rows, W columns, K classes.
"""

from collections.abc import Iterator
from statistics import median

import torch
import torch.nn.functional as F
from torch import Tensor

from alexnet.dropout import Dropout2012
from alexnet.model import AlexNet, AlexNetConfig
from alexnet.norm import LocalResponseNorm
from pipeline.batches import Batch, Decoding, train_batches
from pipeline.dataset import Dataset
from pipeline.order import Shard
from tests.gpu.check import Finding, Setup
from trainer.loop.optimizer import SGD2012
from trainer.loop.precision import autocast
from trainer.loop.step import StepPosition, draw, train_step

CPU = torch.device("cpu")


def logits_and_gradients(setup: Setup) -> Iterator[Finding]:
    """By each way of multiplying, relative to the norm of float64's."""
    width = 1.0 if setup.gpu else 0.25
    reference = network(width=width, dropout=0.0)
    for parameter in reference.parameters():
        if parameter.dim() > 1:  # of a trained network's size, so that the answers differ
            parameter.data.mul_(1.5)
    torch.manual_seed(1)
    image_NCHW, label_N = 60 * torch.randn(16, 3, 224, 224), torch.arange(16) % 10
    state = {name: tensor.clone() for name, tensor in reference.state_dict().items()}
    exact_NK = reference.double()(image_NCHW.double())
    F.cross_entropy(exact_NK, label_N).backward()
    exact = dict(reference.named_parameters())
    image_NCHW = image_NCHW.to(setup.device).to(memory_format=torch.channels_last)
    bounds = {"fp32": (1e-5, 1e-4), "tf32": (2e-3, 2e-2), "bf16": (3e-2, 1e-1)}
    for precision, (logits, gradients) in bounds.items():
        torch.backends.cudnn.allow_tf32 = precision == "tf32"
        model = on_device(network(width=width, dropout=0.0), setup)
        model.load_state_dict(state)
        with autocast(precision, setup.torch_device):
            logit_NK = model(image_NCHW)
        F.cross_entropy(logit_NK.float(), label_N.to(setup.device)).backward()
        yield Finding(f"{precision}: logits", relative(logit_NK, exact_NK), logits)
        errors = [relative(p.grad, exact[n].grad) for n, p in model.named_parameters()]
        yield Finding(f"{precision}: gradients, median of layers", median(errors), gradients)
        # Where two values of a pooling window nearly tie, rounding decides which of them learns.
        yield Finding(f"{precision}: gradients, worst layer", max(errors))


def norm(setup: Setup) -> Iterator[Finding]:
    """Local response normalisation where activations are large, in each type of number."""
    torch.manual_seed(2)
    x_NCHW = 13 * torch.randn(4, 96, 27, 27)
    bounds = {torch.float32: 1e-6, torch.float16: 1e-3, torch.bfloat16: 6e-3}
    for dtype, bound in bounds.items():
        rounded = x_NCHW.to(setup.device, dtype).contiguous(memory_format=torch.channels_last)
        exact = rounded.double().cpu().requires_grad_()
        ours = rounded.requires_grad_()
        result, expected = LocalResponseNorm.apply(ours, 2), _by_definition(exact, 2)
        gradient = torch.randn_like(expected)
        expected.backward(gradient)
        result.backward(gradient.to(setup.device, dtype))
        yield Finding(f"{dtype}: result", relative(result, expected), bound)
        yield Finding(f"{dtype}: gradient", relative(ours.grad, exact.grad), bound)


def _by_definition(x_NCHW: Tensor, towers: int) -> Tensor:
    split = x_NCHW.reshape(len(x_NCHW) * towers, -1, *x_NCHW.shape[2:])
    return F.local_response_norm(split, 5, alpha=1e-4, beta=0.75, k=2.0).reshape(x_NCHW.shape)


def dropout_masks(setup: Setup) -> Iterator[Finding]:
    """A GPU drops the units that a CPU drops, however the rows are shared."""
    x_NH = torch.ones(128, 4096)
    place = StepPosition(seed=3, epoch=1, position=640, real=128, first=0)

    def kept(device: torch.device, first: int, rows: int, at: StepPosition = place) -> Tensor:
        dropout = Dropout2012(0.5).train()
        masks = dropout.masks(x_NH[:rows].to(device), draw(at, first))
        return torch.stack([dropout(x_NH[:rows].to(device), mask) for mask in masks]).cpu()

    whole_2NH = kept(setup.torch_device, 0, 128)
    yield Finding("differ on the CPU", _unequal(whole_2NH, kept(CPU, 0, 128)), 0)
    half_2NH = kept(setup.torch_device, 64, 64)
    yield Finding("differ when shared", _unequal(whole_2NH[:, 64:], half_2NH), 0)
    yield Finding("kept, away from one half", abs(whole_2NH.mean().item() - 0.5), 0.01)
    later_2NH = kept(setup.torch_device, 0, 128, place._replace(position=768))
    for case, other in (("position", later_2NH), ("layer", whole_2NH.flip(0))):
        same = (whole_2NH == other).float().mean().item()
        yield Finding(f"same in another {case}, away from one half", abs(same - 0.5), 0.01)


def _unequal(one: Tensor, other: Tensor) -> int:
    return int((one != other).sum())


def losses(setup: Setup) -> Iterator[Finding]:
    """The first losses of a run, without dropout, beside a CPU's in float32. Small differences grow
    from step to step: one of a millionth in conv1's weights moved a CPU's tenth loss by 0.2 % and
    its thirtieth by 2 %. So the first ten are bounded closely."""
    data = Dataset(setup.dataset)
    steps, batch = (30, 64) if setup.gpu else (4, 16)
    reference = _losses(data, CPU, "fp32", None, steps, batch)
    yield Finding("first loss", reference[0])
    yield Finding("last loss", reference[-1])
    for precision, bound in (("fp32", 0.01), ("bf16", 0.03)):
        for load in (None, 0.65):
            ours = _losses(data, setup.torch_device, precision, load, steps, batch)
            differences = [abs(a - b) / b for a, b in zip(ours, reference, strict=True)]
            case = f"{precision}, decoded by the {'CPU' if load is None else 'GPU'}"
            yield Finding(f"{case}: first ten", max(differences[:10]), bound)
            yield Finding(f"{case}: all", max(differences), 0.1)


def _losses(
    data: Dataset,
    device: torch.device,
    precision: str,
    hw_load: float | None,
    steps: int,
    batch: int,
) -> list[float]:
    crop = data.manifest.size * 7 // 8
    model = network(dropout=0.0, width=0.5, crop=crop, classes=len(data.manifest.classes))
    model = model.to(device, memory_format=torch.channels_last).train()  # type: ignore[call-overload]
    optimizer = SGD2012(model, 0.001)
    found: list[float] = []
    for part in train_batches(
        data, Shard(0, 1, device.index), Decoding(8, hw_load=hw_load), seed=0, epoch=0, start=0,
        batch=batch, crop=crop, epochs=steps,
    ):  # fmt: skip
        place = StepPosition(0, 0, len(found) * batch, int(part.real_N.sum()), 0)
        total, _, samples = train_step(
            model, optimizer, part, place, world=1, precision=precision
        ).tolist()
        found.append(total / samples)
        if len(found) == steps:
            break
    return found


def network(**changes: object) -> AlexNet:
    """Of ten classes, with the same weights each time."""
    torch.manual_seed(0)
    return AlexNet(AlexNetConfig.model_validate({"classes": 10} | changes))


def on_device(model: AlexNet, setup: Setup) -> AlexNet:
    return model.to(setup.device, memory_format=torch.channels_last)  # type: ignore[call-overload]


def noise(setup: Setup, batch: int, crop: int, precision: str) -> Batch:
    """A batch as the loader gives it."""
    torch.manual_seed(5)
    dtype = torch.float16 if setup.gpu and precision == "bf16" else torch.float32
    image_NCHW = (60 * torch.randn(batch, 3, crop, crop)).to(
        setup.device, dtype, memory_format=torch.channels_last
    )
    label_N = torch.arange(batch, device=setup.device) % 10
    return Batch(image_NCHW, label_N, label_N >= 0, torch.arange(batch, device=setup.device))


def relative(one: Tensor | None, other: Tensor | None) -> float:
    """The norm of the difference over that of `other`."""
    assert one is not None
    assert other is not None
    difference = one.detach().double().cpu() - other.detach().double().cpu()
    return (difference.norm() / other.detach().double().norm().cpu()).item()
