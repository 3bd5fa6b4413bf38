"""A step of training: learns, counts only what is real, and adds up over workers."""

from contextlib import nullcontext
from math import log

import pytest
import torch
import torch.nn.functional as F

from alexnet.model import AlexNet, AlexNetConfig
from pipeline.batches import Batch
from tests.launches import Launches
from trainer.loop.optimizer import SGD2012
from trainer.loop.step import StepPosition, draw, train_step

TINY = AlexNetConfig(classes=4, width=0.1, crop=64)
PLAIN = TINY.model_copy(update={"dropout": 0.0})


def batch(rows: int, real: int, seed: int = 0) -> Batch:
    random = torch.Generator().manual_seed(seed)
    return Batch(
        70 * torch.randn(rows, 3, 64, 64, generator=random),
        torch.randint(0, 4, (rows,), generator=random),
        torch.arange(rows) < real,
        torch.arange(rows),
    )


def fresh(config: AlexNetConfig) -> tuple[AlexNet, SGD2012]:
    torch.manual_seed(1)
    model = AlexNet(config)
    return model, SGD2012(model, 0.01)


def place(real: int, first: int = 0) -> StepPosition:
    return StepPosition(seed=0, epoch=0, position=0, real=real, first=first)


def test_sixteen_images_are_learnt() -> None:
    model, optimizer = fresh(PLAIN)
    data = batch(16, 16)
    losses = []
    for _ in range(100):
        loss, _, seen = train_step(
            model, optimizer, data, place(16), world=1, precision="fp32"
        ).tolist()
        losses.append(loss / seen)
    assert losses[0] == pytest.approx(log(4), rel=0.5)
    assert losses[-1] < 0.05


def test_padding_changes_nothing() -> None:
    """Six real rows and two of padding = six rows."""
    results = []
    for data in (batch(8, 6), Batch(*(field[:6] for field in batch(8, 6)))):
        model, optimizer = fresh(PLAIN)
        counts = train_step(model, optimizer, data, place(6), world=1, precision="fp32")
        results.append((counts, torch.cat([p.flatten() for p in model.parameters()])))
    torch.testing.assert_close(results[0][0], results[1][0])
    torch.testing.assert_close(results[0][1], results[1][1])


@pytest.mark.parametrize("config", [PLAIN, TINY], ids=["plain", "dropout"])
def test_shares_of_two_workers_average_to_the_whole_batch(config: AlexNetConfig) -> None:
    """What DDP does: the mean of the workers' gradients is the gradient of the mean loss; with
    dropout too, whose masks know nothing of the shares."""
    data, parts = batch(10, 10), []
    for rows, world in ((slice(0, 10), 1), (slice(0, 4), 2), (slice(4, 10), 2)):
        model, optimizer = fresh(config)
        part = Batch(*(field[rows] for field in data))
        where = place(10, first=rows.start)
        train_step(model, optimizer, part, where, world=world, precision="fp32")
        parts.append(torch.cat([p.grad.flatten() for p in model.parameters()]))
    torch.testing.assert_close((parts[1] + parts[2]) / 2, parts[0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("micro_batch", [1, 3, 4])
def test_a_batch_in_parts_is_the_batch(micro_batch: int) -> None:
    """Gradient accumulation: ten rows, two of them padding, at most `micro_batch` at a time."""
    results = []
    for most in (None, micro_batch):
        model, optimizer = fresh(TINY)
        counts = train_step(
            model, optimizer, batch(10, 8), place(8), world=1, precision="fp32", micro_batch=most
        )
        results.append((counts, torch.cat([p.flatten() for p in model.parameters()])))
    torch.testing.assert_close(results[0], results[1], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("micro_batch", [None, 3])
def test_weights_of_classes_are_those_of_torch(micro_batch: int | None) -> None:
    """Summed, over the number of images; what is reported stays without them."""
    weight_K, data = torch.tensor([0.1, 1.0, 2.5, 4.0]), batch(9, 7)
    model, optimizer = fresh(PLAIN)
    counts = train_step(
        model, optimizer, data, place(7), world=1, precision="fp32", micro_batch=micro_batch,
        class_weight_K=weight_K,
    )  # fmt: skip
    found = torch.cat([p.grad.flatten() for p in model.parameters()])
    model, optimizer = fresh(PLAIN)
    logit_NK, label_N = model(data.image_NCHW[:7]), data.label_N[:7]
    (F.cross_entropy(logit_NK, label_N, weight=weight_K, reduction="sum") / 7).backward()
    expected = torch.cat([p.grad.flatten() for p in model.parameters()])
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    plain = F.cross_entropy(logit_NK, label_N, reduction="sum").item()
    assert counts[0].item() == pytest.approx(plain, rel=1e-5)


def test_counts_are_those_of_the_real_rows() -> None:
    model, optimizer = fresh(PLAIN)
    data = batch(9, 7)
    with torch.no_grad():
        logit_NK = model(data.image_NCHW)[:7]
    loss, right, seen = train_step(
        model, optimizer, data, place(7), world=1, precision="fp32"
    ).tolist()
    assert seen == 7
    assert right == (logit_NK.argmax(1) == data.label_N[:7]).sum()
    expected = F.cross_entropy(logit_NK, data.label_N[:7], reduction="sum").item()
    assert loss == pytest.approx(expected, rel=1e-5)


def test_masks_depend_on_the_place_alone_and_leave_torchs_generator_as_it_is() -> None:
    """On neither the past nor the other rows, and of two layers they differ."""
    model, _ = fresh(TINY)

    def masks(*words: int, rows: int = 50) -> torch.Tensor:
        *where, first = words
        drawn = draw(StepPosition(*where, real=50, first=0), first)
        return torch.stack(model.dropout.masks(torch.ones(rows, 600), drawn))

    before = torch.get_rng_state()
    whole = masks(0, 1, 128, 0)
    assert torch.equal(torch.get_rng_state(), before)
    torch.rand(1000)
    assert torch.equal(masks(0, 1, 128, 0), whole)
    assert torch.equal(masks(0, 1, 128, 20, rows=10), whole[:, 20:30])
    for other in (*(masks(*p, 0) for p in ((1, 1, 128), (0, 2, 128), (0, 1, 256))), whole.flip(0)):
        assert (other == whole).double().mean().item() == pytest.approx(0.5, abs=0.01)


@pytest.mark.parametrize(("precision", "most"), [("bf16", 145), ("fp32", 108)])
def test_a_step_launches_no_more_than_it_did(
    precision: str, most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Operations of a step whose learning rate has changed, as on a GPU."""
    monkeypatch.setattr("alexnet.norm._few_launches", lambda x: True)
    model, optimizer = fresh(TINY)
    model.to(memory_format=torch.channels_last)
    data = batch(8, 8)
    data = data._replace(
        image_NCHW=data.image_NCHW.to(
            torch.float16 if precision == "bf16" else torch.float32,
            memory_format=torch.channels_last,
        )
    )
    for launches in (nullcontext(), Launches()):
        with launches as counted:
            optimizer.set_learning_rates(
                0.9 * optimizer.learning_rates[0], 0.9 * optimizer.learning_rates[1]
            )
            train_step(model, optimizer, data, place(8), world=1, precision=precision)
    assert counted.counts.total() <= most, counted.counts
