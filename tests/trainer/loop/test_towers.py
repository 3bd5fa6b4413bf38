"""Two towers on two and on four workers against one worker with the whole network.

The workers are processes of a run of this file; what they learnt comes back in files.
"""

import multiprocessing
import os
import signal
import subprocess
import sys
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from torch import Tensor, distributed, nn

from alexnet.config import Ablation
from alexnet.model import AlexNet, AlexNetConfig
from pipeline.batches import Batch
from trainer.loop.optimizer import SGD2012
from trainer.loop.step import StepPosition, train_step
from trainer.loop.towers import Towers, check, join, split
from trainer.run import RunError

TINY = AlexNetConfig(classes=5, width=0.06, crop=64)
ROWS, REAL = 12, 10
LEARNING_RATES = (0.01, 0.01, 0.01, 0.001, 0.001)
"""One a step. The state is saved and restored where it drops."""


class Case(NamedTuple):
    pairs: int = 1
    network: AlexNetConfig = TINY
    dtype: torch.dtype = torch.float64
    precision: str = "fp32"
    micro_batch: int | None = None
    memory_format: torch.memory_format = torch.channels_last


CASES = {
    "one pair": Case(),
    "sixth layer": Case(
        network=TINY.model_copy(update={"sixth_conv": True, "activation": "tanh"}),
        memory_format=torch.contiguous_format,
    ),
    "no links": Case(
        network=TINY.model_copy(update={"ablation": Ablation(links=False), "sixth_conv": True})
    ),
    **{
        f"without {name}": Case(network=TINY.model_copy(update={"ablation": ablation}))
        for name, ablation in (
            ("conv3", Ablation(removed="conv3", inverted_dropout=True)),
            ("conv4", Ablation(removed="conv4")),
            ("conv5 and links", Ablation(removed="conv5", links=False)),
        )
    },
    "bf16": Case(dtype=torch.float32, precision="bf16"),
    "two pairs": Case(pairs=2),
    "two pairs, small parts": Case(pairs=2, micro_batch=4),
}
EXACT = [name for name, case in CASES.items() if case.dtype == torch.float64]


class Learnt(NamedTuple):
    counts_S3: Tensor
    """(sum of losses, right, samples) of each step, of the worker's rows."""
    weights: dict[str, Tensor]
    velocity: dict[str, Tensor]
    sent_bytes: Counter[str]


def network(case: Case) -> AlexNet:
    torch.manual_seed(1)
    return AlexNet(case.network).to(dtype=case.dtype, memory_format=case.memory_format)


def batch(case: Case, step: int, pair: int = 0) -> Batch:
    """The rows of `pair` in the step's global batch; the last two of all are padding."""
    random = torch.Generator().manual_seed(step)
    whole = Batch(
        70 * torch.randn(ROWS, 3, 64, 64, generator=random, dtype=case.dtype),
        torch.randint(0, 5, (ROWS,), generator=random),
        torch.arange(ROWS) < REAL,
        torch.arange(ROWS),
    )
    return Batch(*(field.chunk(case.pairs)[pair] for field in whole))


def steps(model: nn.Module, optimizer: SGD2012, case: Case, which: range, pair: int = 0) -> Tensor:
    """The counts of each step, (S, 3)."""
    counts = []
    for step in which:
        optimizer.set_learning_rates(LEARNING_RATES[step], 2 * LEARNING_RATES[step])
        place = StepPosition(0, 0, step * REAL, real=REAL, first=pair * ROWS // case.pairs)
        data = batch(case, step, pair)
        counts.append(
            train_step(
                model,
                optimizer,
                data,
                place,
                world=case.pairs,
                precision=case.precision,
                micro_batch=case.micro_batch,
            )
        )
    return torch.stack(counts)


def learn_whole(case: Case) -> Learnt:
    """One worker, all rows, never interrupted."""
    model, case = network(case), case._replace(pairs=1, micro_batch=None)
    optimizer = SGD2012(model, LEARNING_RATES[0])
    counts_S3 = steps(model, optimizer, case, range(len(LEARNING_RATES)))
    return Learnt(counts_S3, model.state_dict(), optimizer.velocity(), Counter())


def learn_towers(case: Case) -> Learnt:
    """This worker's part, interrupted before the drop: the rest begins from what was gathered."""
    saved, velocity, learning_rates = (
        network(case).state_dict(),
        {},
        (LEARNING_RATES[0], 2 * LEARNING_RATES[0]),
    )
    counts, sent_bytes, drop = [], Counter(), LEARNING_RATES.index(LEARNING_RATES[-1])
    for part in (range(drop), range(drop, len(LEARNING_RATES))):
        whole = network(case)
        whole.load_state_dict(saved)
        towers = Towers(whole, compress=False)
        unchanged = towers.gather(towers.module.state_dict())
        assert list(unchanged) == list(saved)
        assert all(torch.equal(unchanged[name], saved[name]) for name in saved)
        optimizer = SGD2012(towers.module, learning_rates[0])
        optimizer.set_velocity(towers.own(velocity), learning_rates)
        counts.append(steps(towers.model, optimizer, case, part, towers.index) * towers.counts)
        sent_bytes += towers.link.sent_bytes
        saved = towers.gather(towers.module.state_dict())
        velocity, learning_rates = towers.gather(optimizer.velocity()), optimizer.learning_rates
    return Learnt(torch.cat(counts), saved, velocity, sent_bytes)


def work(rank: int, directory: Path) -> None:
    """One of four processes; where a case needs two, the other two wait."""
    for number, (name, case) in enumerate(CASES.items()):
        if rank < 2 * case.pairs:
            distributed.init_process_group(
                "gloo",
                init_method=f"file://{directory}/store{number}",
                rank=rank,
                world_size=2 * case.pairs,
            )
            torch.save(tuple(learn_towers(case)), directory / f"{name}.{rank}")
            distributed.destroy_process_group()


@pytest.fixture(scope="module")
def learnt(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Learnt]]:
    """Case -> what each worker learnt."""
    directory = tmp_path_factory.mktemp("towers")
    workers = subprocess.Popen(
        [sys.executable, "-W", "error", __file__, directory],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        text=True,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    try:
        errors = workers.communicate(timeout=400)[1]
    finally:
        with suppress(ProcessLookupError):
            os.killpg(workers.pid, signal.SIGKILL)
    assert workers.returncode == 0, errors
    return {
        name: [
            Learnt(*torch.load(directory / f"{name}.{rank}", weights_only=False))
            for rank in range(2 * case.pairs)
        ]
        for name, case in CASES.items()
    }


def largest_difference(found: dict[str, Tensor], expected: dict[str, Tensor]) -> float:
    assert found.keys() == expected.keys()
    return max((found[name] - expected[name]).abs().max().item() for name in expected)


@pytest.mark.parametrize("name", EXACT)
def test_towers_learn_what_one_worker_learns(name: str, learnt: dict[str, list[Learnt]]) -> None:
    expected = learn_whole(CASES[name])
    counts_S3 = torch.stack([worker.counts_S3 for worker in learnt[name]]).sum(0)
    torch.testing.assert_close(counts_S3, expected.counts_S3, rtol=0, atol=1e-10)
    for worker in learnt[name]:
        assert largest_difference(worker.weights, expected.weights) < 1e-10
        assert largest_difference(worker.velocity, expected.velocity) < 1e-10


def test_bfloat16_differs_by_its_rounding(learnt: dict[str, list[Learnt]]) -> None:
    expected, (first, second) = learn_whole(CASES["bf16"]), learnt["bf16"]
    torch.testing.assert_close(first.counts_S3[:, 0], expected.counts_S3[:, 0], rtol=0.02, atol=0)
    assert largest_difference(first.weights, expected.weights) < 0.01
    assert largest_difference(first.weights, second.weights) == 0


@pytest.mark.parametrize("name", CASES)
def test_bytes_are_those_of_the_links(name: str, learnt: dict[str, list[Learnt]]) -> None:
    """Each worker sends its half of what the layer sees, and the other's half of its gradient; for
    fc8 tower 1 the one and tower 0 the other."""
    case = CASES[name]
    sizes: dict[str, int] = {}
    model, image_NCHW = network(case), batch(case, 0).image_NCHW
    linked = ("conv3", "conv6", "fc6", "fc7") if case.network.ablation.links else ()
    for layer in (*linked, "fc8"):
        if (module := getattr(model, layer)) is not None:
            module.register_forward_pre_hook(
                lambda _, inputs, layer=layer: sizes.update({layer: inputs[0].numel()})
            )
    model(image_NCHW)
    itemsize = 2 if case.precision == "bf16" else case.dtype.itemsize
    expected = {layer: itemsize * numel * len(LEARNING_RATES) for layer, numel in sizes.items()}
    expected["fc8"] //= 2
    for worker in learnt[name]:
        assert worker.sent_bytes == expected


@pytest.mark.parametrize(
    "network",
    [AlexNetConfig(width=0.05, classes=3), *(case.network for case in CASES.values())],
)
def test_join_is_the_inverse_of_split(network: AlexNetConfig) -> None:
    whole = AlexNet(network).state_dict()
    first, second = split(whole, 0), split(whole, 1)
    assert set(first) - set(second) == {"fc8.weight", "fc8.bias"}
    assert all(len(first[name]) == len(second[name]) for name in second)
    joined = join(first, second)
    assert list(joined) == list(whole)
    assert all(torch.equal(joined[name], whole[name]) for name in whole)
    assert join(split({}, 0), split({}, 1)) == {}


@pytest.mark.parametrize(
    ("towers", "workers", "text"),
    [(2, 1, "workers, not 1;"), (2, 3, "not 3;"), (2, 0, "not 0;"), (1, 2, "this one has 1;")],
)
def test_what_does_not_make_pairs_is_refused(towers: int, workers: int, text: str) -> None:
    with pytest.raises(RunError, match=text):
        check(TINY.model_copy(update={"towers": towers}), workers)


def test_a_normalisation_across_towers_is_refused() -> None:
    with pytest.raises(RunError, match="whose normalisation reads both towers"):
        check(TINY.model_copy(update={"norm_across_towers": True}), 2)


def test_a_lone_worker_holds_no_towers() -> None:
    distributed.init_process_group("gloo", store=distributed.HashStore(), rank=0, world_size=1)
    try:
        with pytest.raises(RunError, match="even number of --workers"):
            Towers(AlexNet(TINY), compress=False)
    finally:
        distributed.destroy_process_group()


if __name__ == "__main__":
    # Forked, so that what takes longest, to load torch, is done once.
    fork = multiprocessing.get_context("fork")
    workers = [fork.Process(target=work, args=(rank, Path(sys.argv[1]))) for rank in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    sys.exit(any(worker.exitcode for worker in workers))
