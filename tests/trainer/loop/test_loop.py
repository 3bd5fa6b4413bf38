"""Whole runs without Ray: a worker in this process, and two as processes that gloo joins."""

import shutil
import socket
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor, distributed, multiprocessing

from alexnet.store.url import Place
from pipeline.dataset import Dataset
from pipeline.order import balanced_order, epoch_order
from pipeline.photographs import index_photographs
from pipeline.sources.folder import folder_source
from pipeline.sources.source import VAL_FRACTION
from trainer.balance import class_weights
from trainer.loop import loop, state
from trainer.loop.loop import Loop, Worker
from trainer.loop.state import Progress
from trainer.resolution import resolve
from trainer.run import Run, RunError, events, open_run, trained_epochs

CPU = torch.device("cpu")
EPOCHS, BATCH, TRAIN, VAL = 2, 12, 108, 12
FROZEN = [("freeze", "conv,fc6"), ("epochs", 1)]
STEPS = TRAIN // BATCH
"""Of an epoch. Each is one exchange between the workers."""


class Folder:
    """A host that keeps every checkpoint; it asks to stop, and gives notice, after given steps."""

    def __init__(self, run: Run, stop: int | None = None, notice: int | None = None) -> None:
        self._run, self._stop, self._notice = run, stop, notice
        self._asked = self._looked = 0

    def restore(self) -> state.Saved | None:
        return last(self._run) if steps(self._run) else None

    def save(self, saved: state.Saved | None, step: int, top1: float) -> None:
        if saved:
            directory = self._run.directory / f"step_{step:08d}"
            directory.mkdir()
            saved.write(directory)

    def preempted(self) -> bool:
        self._looked += 1
        return self._looked == self._notice

    def asked_to_stop(self) -> bool:
        self._asked += 1
        return self._asked == self._stop


def steps(run: Run) -> list[int]:
    """Those after which a checkpoint was kept."""
    return sorted(int(path.name.removeprefix("step_")) for path in run.directory.glob("step_*"))


def last(run: Run) -> state.Saved:
    return state.read(max(run.directory.glob("step_*")))


def a_run(
    data: Place, runs: Path, name: str, *changes: tuple[str, object], **fields: object
) -> Run:
    recipe = resolve(
        "small",
        {},
        [
            ("size", 72), ("network.crop", 64), ("network.width", 0.1), ("network.classes", 3),
            ("epochs", EPOCHS), ("batch", BATCH), ("rate", 0.0003), ("precision", "fp32"), *changes,
        ],
    )  # fmt: skip
    run = Run.model_validate(
        {
            "name": name, "recipe": recipe, "data": data, "dataset": Dataset(data).digest,
            "runs": runs, "workers": (1, 1), "gpu": False, "save_every": 1000,
        } | fields
    )  # fmt: skip
    return open_run(run, resume="if-any")


class Seen(NamedTuple):
    finished: bool
    samples: dict[int, Counter[int]]
    """Epoch -> how often this worker learnt from each sample."""


def train(run: Run, rank: int = 0, world: int = 1, **host: int) -> Seen:
    """One worker's part of a run, with an exchange after every step."""
    samples: dict[int, Counter[int]] = {}
    step = loop.train_step

    def recorded(model, optimizer, batch, place, **options) -> Tensor:  # type: ignore[no-untyped-def]
        real = batch.sample_N[batch.real_N].tolist()
        samples.setdefault(place.epoch, Counter()).update(real)
        return step(model, optimizer, batch, place, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "INTERVAL_S", 0.0)
        patch.setattr(loop, "train_step", recorded)
        return Seen(Loop(run, Worker(rank, world, CPU), Folder(run, **host)).train(), samples)


def assert_same_bits(one: Run, other: Run) -> None:
    first, second = last(one), last(other)
    assert first.progress == second.progress
    for ours, theirs in ((first.weights, second.weights), (first.velocity, second.velocity)):
        assert ours.keys() == theirs.keys()
        for name, tensor in ours.items():
            assert torch.equal(tensor, theirs[name]), name


@pytest.fixture(scope="module")
def data(photographs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    source = folder_source(photographs, VAL_FRACTION, {})
    return index_photographs(source, tmp_path_factory.mktemp("listed"), 72).folder


@pytest.fixture(scope="module")
def whole(data: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Run, Seen]:
    """A run that nothing disturbed."""
    run = a_run(data, tmp_path_factory.mktemp("runs"), "whole")
    return run, train(run)


def test_each_epoch_learns_from_every_sample_once(whole: tuple[Run, Seen]) -> None:
    assert whole[1].samples == {epoch: Counter(range(TRAIN)) for epoch in range(EPOCHS)}


def test_each_epoch_is_validated_and_saved(whole: tuple[Run, Seen]) -> None:
    run, (finished, _) = whole
    validated = [event for event in events(run.metrics) if event["kind"] == "val"]
    assert [(event["epoch"], event["views"]) for event in validated] == [(1, 1), (2, 1), (2, 10)]
    assert finished
    assert all(event["top1"] <= event["top5"] <= event["pictures"] == VAL for event in validated)
    assert steps(run) == [STEPS, 2 * STEPS]
    assert last(run).progress.model_dump() == {
        "epoch": EPOCHS, "position": 0, "step": 2 * STEPS,
        "errors": [1 - event["top1"] / VAL for event in validated[:2]],
    }  # fmt: skip


def test_each_exchange_is_written_down(whole: tuple[Run, Seen]) -> None:
    train = [event for event in events(whole[0].metrics) if event["kind"] == "train"]
    assert [event["step"] for event in train] == list(range(1, 2 * STEPS + 1))
    assert all(event["samples"] == BATCH and event["workers"] == 1 for event in train)
    assert [event["epoch"] for event in train][STEPS - 1 :: STEPS] == [1, 2]
    assert all(event["gradient_norm"] > 0 and 0 <= event["wait"] <= 1 for event in train)
    assert all(event["replaced"] == 0 for event in train)
    rates = [event["rate"] for event in train]
    assert rates == sorted(rates, reverse=True)  # half a cosine
    assert train[-1]["loss"] < train[0]["loss"]


def test_stopped_within_an_epoch_and_restored_it_ends_bit_for_bit_the_same(
    data: Path, tmp_path: Path, whole: tuple[Run, Seen]
) -> None:
    run = a_run(data, tmp_path, "parted")
    finished, before = train(run, stop=STEPS + 4)
    assert not finished
    assert steps(run) == [STEPS, STEPS + 4]
    assert (last(run).progress.epoch, last(run).progress.position) == (1, 4 * BATCH)
    finished, after = train(run)
    assert finished
    assert before[1] + after[1] == Counter(range(TRAIN))
    assert_same_bits(run, whole[0])


def test_a_finished_run_with_more_epochs_ends_as_one_that_had_them_from_the_start(
    data: Path, tmp_path: Path
) -> None:
    plateau = [("schedule.kind", "plateau"), ("colour_until", 1), ("conv1_until", 1)]
    whole = a_run(data, tmp_path, "whole", *plateau)
    train(whole)
    train(a_run(data, tmp_path, "longer", *plateau, ("epochs", 1)))
    longer = a_run(data, tmp_path, "longer", *plateau)
    assert train(longer).samples.keys() == {1}
    assert_same_bits(longer, whole)


def test_what_was_frozen_stays_so_with_more_epochs(data: Path, tmp_path: Path) -> None:
    changes = [("schedule.kind", "plateau"), ("colour_until", 1), ("conv1_until", 0.5)]
    run = a_run(data, tmp_path, "r", *changes)
    train(run)
    frozen = last(run)
    longer = a_run(data, tmp_path, "r", *changes, ("epochs", 5))
    train(longer, stop=STEPS)
    assert last(longer).progress.epoch == 3
    for name, tensor in last(longer).weights.items():
        assert torch.equal(tensor, frozen.weights[name]) == name.startswith("conv1")


def test_frozen_layers_stay_bit_for_bit_through_stop_and_resume(data: Path, tmp_path: Path) -> None:
    changes = [("freeze", "conv,fc6")]
    run = a_run(data, tmp_path, "r", *changes)
    train(run, stop=3)
    started = state.begin(run, torch.zeros(3, 64, 64)).state_dict()
    train(run)
    saved = last(run)
    assert saved.progress.step == 2 * STEPS
    for name, tensor in saved.weights.items():
        assert torch.equal(tensor, started[name]) == name.startswith(("conv", "fc6")), name
    assert sorted(saved.velocity) == ["fc7.bias", "fc7.weight", "fc8.bias", "fc8.weight"]
    whole = a_run(data, tmp_path, "whole", *changes)
    train(whole)
    assert_same_bits(run, whole)


def test_asked_to_stop_at_its_last_step_it_finishes(data: Path, tmp_path: Path) -> None:
    run = a_run(data, tmp_path, "r", ("epochs", 1))
    assert train(run, stop=STEPS).finished
    assert train(run) == (True, {})  # there is nothing left to learn
    validated = [e["views"] for e in events(run.metrics) if e["kind"] == "val"]
    assert validated == [1, 10, 1, 10]


def stopping_early(data: Path, runs: Path, name: str, errors: list[float]) -> Run:
    """A run of eight epochs at a learning rate that changes nothing, which went so far already."""
    run = a_run(data, runs, name, ("epochs", 8), ("stop_after", 2), ("rate", 1e-12))
    if not steps(run):
        train(run, stop=1)
        saved, step = last(run), STEPS * len(errors)
        saved.progress = Progress(epoch=len(errors), step=step, errors=errors)
        (run.directory / f"step_{step:08d}").mkdir()
        saved.write(run.directory / f"step_{step:08d}")
    return run


def test_a_run_ends_when_the_validation_error_no_longer_falls(data: Path, tmp_path: Path) -> None:
    """The error of a network that learns nothing is lower than the best so far at first, and then
    the same, which is no lower."""
    run = stopping_early(data, tmp_path, "whole", [1.0])
    assert train(run).finished
    errors = last(run).progress.errors
    assert len(errors) == 4
    assert errors[1] == errors[2] == errors[3] < errors[0]
    assert trained_epochs(run) == 4
    assert [e["views"] for e in events(run.metrics) if e["kind"] == "val"] == [1, 1, 1, 10]
    assert train(run) == (True, {})  # resumed, it is over
    with pytest.raises(RunError, match=r"began with stop_after = 2, but now it is None"):
        a_run(data, tmp_path, "whole", ("epochs", 8), ("rate", 1e-12))
    assert max(steps(run), key=lambda step: score(run, step)) == 2 * STEPS

    parted = stopping_early(data, tmp_path, "parted", [1.0])
    assert not train(parted, stop=STEPS + 3).finished
    assert last(parted).progress.epochs_since_best == 0
    assert train(parted).finished
    assert_same_bits(parted, run)
    over = stopping_early(data, tmp_path, "over", [0.0, 0.0])
    assert not train(over, stop=2).finished  # within the third epoch
    assert train(over, stop=STEPS - 2).finished  # asked at the very step at which it ends


def score(run: Run, step: int) -> float:
    return state.read(run.directory / f"step_{step:08d}").progress.score


def test_the_best_of_equal_epochs_is_the_first() -> None:
    told = [Progress(epoch=n, errors=[0.5, 0.25, 0.25, 0.3, 0.25][:n]) for n in range(1, 6)]
    assert max(told, key=lambda progress: progress.score).epoch == 2
    assert [progress.epochs_since_best for progress in told] == [0, 0, 1, 2, 3]
    assert sorted(told, key=lambda progress: progress.score)[-3:] == [told[4], told[2], told[1]]
    fewest_wrong = [Progress(epoch=n, errors=[0.5] * (n - 1) + [e / 10**7]) for n, e in
                    ((1, 3), (20_000, 2))]  # fmt: skip
    assert fewest_wrong[1].score > fewest_wrong[0].score
    assert Progress(epoch=1, position=5, errors=[0.1]).score == 0


def test_checkpoints_within_an_epoch(data: Path, tmp_path: Path) -> None:
    """Each time that it is due; or where the machine is about to be taken away."""
    run = a_run(data, tmp_path, "often", ("epochs", 1), save_every=0)
    train(run)
    assert steps(run) == list(range(1, STEPS + 1))
    run = a_run(data, tmp_path, "warned", ("epochs", 1))
    train(run, notice=5)
    assert steps(run) == [5, STEPS]


@pytest.fixture(scope="module")
def uneven(photographs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Classes of 40, 20 and 4 images, of which 36, 18 and 3 are for training."""
    folder = tmp_path_factory.mktemp("uneven")
    for source, count in zip(sorted(photographs.iterdir()), (40, 20, 4), strict=True):
        (folder / source.name).mkdir()
        for path in sorted(source.iterdir())[:count]:
            shutil.copy(path, folder / source.name)
    source = folder_source(folder, VAL_FRACTION, {})
    return index_photographs(source, tmp_path_factory.mktemp("listed"), 72).folder


@pytest.mark.parametrize("balance", ["loss", "sampling"])
def test_balanced_runs_resume_bit_for_bit(uneven: Path, tmp_path: Path, balance: str) -> None:
    whole, parted, plain = (
        a_run(uneven, tmp_path, name, ("balance", kind))
        for name, kind in (("whole", balance), ("parted", balance), ("plain", "none"))
    )
    seen = train(whole).samples
    assert not train(parted, stop=7).finished
    with pytest.raises(RunError, match=f"began with balance = {balance}, but now it is none"):
        a_run(uneven, tmp_path, "parted")
    assert train(parted).finished
    assert_same_bits(parted, whole)
    label_N = Dataset(uneven).train.label(np.arange(57))
    for epoch in range(EPOCHS):
        assert seen[epoch].total() == 57
        per_class = Counter[int]()
        for sample, times in seen[epoch].items():
            per_class[int(label_N[sample])] += times
        expected = [36, 18, 3] if balance == "loss" else [19, 19, 19]
        assert [per_class[label] for label in range(3)] == expected
    train(plain, stop=1)
    train(whole_again := a_run(uneven, tmp_path, "again", ("balance", balance)), stop=1)
    assert not torch.equal(last(plain).weights["fc8.bias"], last(whole_again).weights["fc8.bias"])


@pytest.mark.parametrize(
    "changes",
    [
        [("order", "fixed")],
        [("crops", "centre"), ("mirrors", False)],
        [("network.ablation.removed", "conv4"), ("network.ablation.inverted_dropout", True)],
        [("network.ablation.links", False), ("freeze", "conv1,conv3")],
    ],
)
def test_what_an_experiment_changes_resumes_bit_for_bit(
    data: Path, tmp_path: Path, whole: tuple[Run, Seen], changes: list
) -> None:
    run, parted = (a_run(data, tmp_path, name, *changes) for name in ("run", "parted"))
    orders = [list(samples) for samples in train(run).samples.values()]
    first, second = (epoch_order(TRAIN, 0, epoch).tolist() for epoch in range(EPOCHS))
    assert orders == [first, first if ("order", "fixed") in changes else second]
    assert not train(parted, stop=STEPS + 2).finished
    assert train(parted).finished
    assert_same_bits(parted, run)
    assert not torch.equal(last(run).weights["fc8.bias"], last(whole[0]).weights["fc8.bias"])


def test_class_weights_are_inverse_to_the_sizes_and_1_in_the_mean(uneven: Path) -> None:
    dataset = Dataset(uneven)
    weight_K = class_weights(dataset)
    assert weight_K * [36, 18, 3] == pytest.approx(19)
    assert weight_K[dataset.train.label(np.arange(57))].mean() == pytest.approx(1)


def test_a_run_that_diverges_ends(data: Path, tmp_path: Path) -> None:
    run = a_run(data, tmp_path, "wild", ("rate", 30))
    text = r"the loss is nan at step \d: the run has diverged \(last good checkpoint: none\); start"
    with pytest.raises(RunError, match=text):
        train(run)
    run = a_run(data, tmp_path, "good", ("epochs", 1), save_every=0)
    train(run, stop=3)
    saved = last(run)
    saved.weights["fc8.bias"].fill_(float("nan"))
    saved.write(run.directory / "step_00000003")
    with pytest.raises(RunError, match=r"nan at step 4: .* \(last good checkpoint: step 3\)"):
        train(run)


def test_damaged_images_are_replaced_and_counted(photographs: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(photographs, tmp_path / "copy"))
    data = index_photographs(folder_source(copy, VAL_FRACTION, {}), tmp_path / "listed", 72)
    damaged = Path(data.train.place(7))
    damaged.write_bytes(bytes(damaged.stat().st_size))
    run = a_run(data.folder, tmp_path, "patched", ("epochs", 1), damage="replace")
    train(run)
    replaced = [e["replaced"] for e in events(run.metrics) if e["kind"] == "train"]
    assert replaced[-1] == 1
    assert replaced == sorted(replaced)


def two_workers(rank: int, port: int, data: Path, uneven: Path, runs: Path) -> None:
    """A run as it is; one that rank 0 is asked to stop, after rank 1 had notice; one in towers; two
    of an epoch with frozen layers, sharing batches and in towers; and one of uneven classes."""
    torch.set_num_threads(1)
    place = f"tcp://127.0.0.1:{port}"
    distributed.init_process_group("gloo", place, rank=rank, world_size=2)
    seen = train(a_run(data, runs, "whole"), rank, 2)
    parted = a_run(data, runs, "parted")
    assert not train(parted, rank, 2, stop=STEPS + 4, notice=3 if rank else 0).finished
    distributed.barrier()
    assert train(parted, rank, 2).finished
    towers = train(a_run(data, runs, "towers", parallelism="towers"), rank, 2)
    for name, parallelism in (("frozen", "data"), ("still", "towers")):
        train(a_run(data, runs, name, *FROZEN, parallelism=parallelism), rank, 2)
    balanced = train(a_run(uneven, runs, "balanced", ("balance", "sampling")), rank, 2)
    assert train(stopping_early(data, runs, "early", [1.0]), rank, 2).finished
    torch.save([seen.samples, towers.samples, balanced.samples], runs / f"{rank}.pt")
    distributed.destroy_process_group()


def test_two_workers(data: Path, uneven: Path, tmp_path: Path, whole: tuple[Run, Seen]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    for name in ("whole", "parted", "towers"):
        a_run(data, tmp_path, name, parallelism="towers" if name == "towers" else "data")
    frozen, still = (
        a_run(data, tmp_path, name, *FROZEN, parallelism=parallelism)
        for name, parallelism in (("frozen", "data"), ("still", "towers"))
    )
    a_run(uneven, tmp_path, "balanced", ("balance", "sampling"))
    stopping_early(data, tmp_path, "early", [1.0])
    multiprocessing.spawn(two_workers, (port, data, uneven, tmp_path), nprocs=2)
    shares = [torch.load(tmp_path / f"{rank}.pt", weights_only=False) for rank in (0, 1)]
    every = Counter(range(TRAIN))
    for epoch in range(EPOCHS):
        assert shares[0][0][epoch] + shares[1][0][epoch] == every
        assert shares[0][1][epoch] == shares[1][1][epoch] == every  # a pair sees the same images

        order = balanced_order(Dataset(uneven).train.label(np.arange(57)), 0, epoch)
        assert shares[0][2][epoch] + shares[1][2][epoch] == Counter(order.tolist())

    early = last(stopping_early(data, tmp_path, "early", [1.0])).progress
    assert (early.epoch, early.step) == (4, 4 * STEPS)

    alike = a_run(data, tmp_path, "alike", *FROZEN)
    train(alike)
    for run in (frozen, still):
        for name, tensor in last(alike).weights.items():
            found = last(run).weights[name]
            torch.testing.assert_close(found, tensor, rtol=1e-3, atol=1e-4)
            assert torch.equal(found, tensor) or not name.startswith(("conv", "fc6")), name

    joint, parted, towers = (a_run(data, tmp_path, name) for name in ("whole", "parted", "towers"))
    assert steps(parted) == [3, STEPS, STEPS + 4, 2 * STEPS]
    assert_same_bits(joint, parted)
    alone = [e for e in events(whole[0].metrics) if e["kind"] == "train"]
    for run in (joint, towers):
        assert last(run).progress.step == 2 * STEPS
        for name, tensor in last(whole[0]).weights.items():
            torch.testing.assert_close(last(run).weights[name], tensor, rtol=1e-3, atol=1e-4)
        told = [e for e in events(run.metrics) if e["kind"] == "train"]
        assert [(e["step"], e["samples"], e["workers"]) for e in told] == [
            (step, BATCH, 2) for step in range(1, 2 * STEPS + 1)
        ]
        for field in ("loss", "gradient_norm", "rate"):
            assert [e[field] for e in told] == pytest.approx([e[field] for e in alone], rel=1e-2)
