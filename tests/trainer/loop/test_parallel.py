"""Workers that share each batch learn what one alone would: real processes, real batches."""

import socket
from pathlib import Path

import pytest
import torch
from torch import distributed, multiprocessing, nn

from alexnet.dropout import Draw
from alexnet.model import AlexNet, AlexNetConfig
from pipeline.batches import Decoding, train_batches
from pipeline.dataset import Dataset
from pipeline.order import Shard, share
from trainer.loop.optimizer import SGD2012
from trainer.loop.parallel import Data, freeze
from trainer.loop.step import StepPosition, train_step

STEPS, BATCH = 20, 15
NETWORK = AlexNetConfig(classes=3, width=0.1, crop=64)


def learn(shard: Shard, directory: Path, compress: bool) -> tuple[list[float], dict]:
    """Mean loss of each of 20 steps over two and a half epochs, and the weights after them, in
    float64, where no rounding grows to a difference. conv1 is frozen from the second epoch on."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    dataset, losses = Dataset(directory), []
    network = AlexNet(NETWORK).double()
    parallel = Data(network, shard.index, shard.count, compress=compress)
    optimizer = SGD2012(network, 0.002)
    samples = len(dataset.train)
    for epoch in range(3):
        if epoch == 1:
            parallel.freeze("conv1")
        batches = train_batches(
            dataset, shard, Decoding(1), seed=1, epoch=epoch, start=0, batch=BATCH, crop=64
        )
        for position, batch in zip(range(0, samples, BATCH), batches, strict=True):
            batch = batch._replace(image_NCHW=batch.image_NCHW.double())
            real = min(BATCH, samples - position)
            place = StepPosition(
                1, epoch, position, real, share(samples, position, BATCH, shard)[0] - position
            )
            counts_3 = train_step(
                parallel.model, optimizer, batch, place, world=shard.count, precision="fp32"
            )
            if shard.count > 1:
                distributed.all_reduce(counts_3)
            loss, _, seen = counts_3.tolist()
            assert seen == real
            losses.append(loss / seen)
            if len(losses) == STEPS:
                return losses, {n: t.clone() for n, t in network.state_dict().items()}
    raise AssertionError("too few steps")


def worker(rank: int, port: int, directory: Path, folder: Path) -> None:
    place = f"tcp://127.0.0.1:{port}"
    distributed.init_process_group("gloo", place, rank=rank, world_size=2)
    shard = Shard(rank, 2, None)
    results = [learn(shard, directory, compress) for compress in (False, True)]
    torch.save(results, folder / f"{rank}.pt")
    distributed.destroy_process_group()


def test_two_workers_learn_what_one_does(dataset: Path, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    multiprocessing.spawn(worker, (port, dataset, tmp_path), nprocs=2)
    (plain, compressed), others = (torch.load(tmp_path / f"{rank}.pt") for rank in (0, 1))
    losses, weights = learn(Shard(0, 1, None), dataset, compress=False)
    assert plain[0] == pytest.approx(losses, rel=1e-5)
    torch.testing.assert_close(plain[1], weights, rtol=1e-4, atol=1e-6)
    assert compressed[0] == pytest.approx(losses, rel=2e-2)
    assert compressed[0] != plain[0]
    for ours, theirs in zip((plain, compressed), others, strict=True):
        torch.testing.assert_close(ours[1], theirs[1], rtol=0, atol=0)
    assert min(losses) < 0.8 * losses[0]


def test_a_layer_is_frozen_once() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    assert freeze(model, "0")
    assert not freeze(model, "0")
    assert [p.requires_grad for p in model.parameters()] == [False, False, True, True]
    assert freeze(model, "0", "1")
    assert not freeze(model)


@pytest.mark.parametrize(
    ("frozen", "layers", "kernels"),
    [
        (("conv1", "conv2", "conv3", "conv4", "conv5"), ["fc6", "fc7", "fc8"], 0),
        (("conv1", "conv2"), ["conv3", "conv4", "conv5", "fc6", "fc7", "fc8"], 3),
        (("fc6",), ["conv1", "conv2", "conv3", "conv4", "conv5", "fc7", "fc8"], 5),
        ((), ["conv1", "conv2", "conv3", "conv4", "conv5", "fc6", "fc7", "fc8"], 5),
    ],
)
def test_below_the_first_layer_that_learns_nothing_goes_backward(
    frozen: tuple[str, ...], layers: list[str], kernels: int
) -> None:
    """By the graph that autograd keeps: what it would multiply, and whose gradients it would
    have. The masks of dropout are the same."""
    torch.manual_seed(0)
    network = AlexNet(NETWORK)
    image_NCHW = torch.randn(2, 3, 64, 64)
    expected_NK = network(image_NCHW, Draw(1, 0))
    freeze(network, *frozen)
    logit_NK = network(image_NCHW, Draw(1, 0))
    assert torch.equal(logit_NK, expected_NK)
    nodes, waiting = set(), [logit_NK.grad_fn]
    while waiting:
        if (node := waiting.pop()) is not None and node not in nodes:
            nodes.add(node)
            waiting += [before for before, _ in node.next_functions]
    names = [node.name() for node in nodes]
    assert sum("Convol" in name for name in names) == kernels
    assert sum("LocalResponseNorm" in name for name in names) == (2 if kernels == 5 else 0)
    logit_NK.sum().backward()
    learning = {n.partition(".")[0] for n, p in network.named_parameters() if p.grad is not None}
    assert sorted(learning) == layers
