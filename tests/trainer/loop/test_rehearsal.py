"""Steps by which a decoding is tried: real ones, which change nothing of the run."""

import weakref
from pathlib import Path

import pytest
import torch

from alexnet.model import AlexNet
from pipeline import hw_load
from pipeline.batches import Batches, Decoding, train_batches
from pipeline.dataset import Dataset
from pipeline.hw_load import TRIAL, training_rate
from pipeline.order import Shard
from tests.trainer.loop.test_loop import a_run
from trainer.loop.rehearsal import fastest_decoding, rehearsal


def test_the_network_and_the_generator_are_left_as_they_are(dataset: Path, tmp_path: Path) -> None:
    run = a_run(dataset, tmp_path, "tried")
    network = AlexNet(run.recipe.network)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    state = torch.get_rng_state()
    batches = train_batches(
        Dataset(dataset), Shard(0, 1, None), Decoding(threads=1),
        seed=0, epoch=0, start=0, batch=24, crop=64, epochs=TRIAL,
    )  # fmt: skip
    step = rehearsal(run, network, "fp32")
    _, _, rows = step(next(batches)).tolist()
    assert rows == 24
    assert training_rate(batches, step) > 0
    for name, tensor in network.state_dict().items():
        assert torch.equal(tensor, before[name])
    assert all(parameter.grad is None for parameter in network.parameters())
    assert torch.equal(torch.get_rng_state(), state)


def test_a_run_tries_once(dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As beside a GPU, but for the GPU."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "none")
    monkeypatch.setattr(hw_load, "HW_LOADS", (0.5,))
    monkeypatch.setattr(hw_load, "FIRST", (0.5,))
    run, shard, tried = a_run(dataset, tmp_path, "tried"), Shard(0, 1, None), []
    network = AlexNet(run.recipe.network)
    opened: weakref.WeakSet[Batches] = weakref.WeakSet()

    def batches(trial: Decoding) -> Batches:
        assert not opened  # one after the other: a GPU may not have the memory for two
        tried.append(trial)
        found = train_batches(
            Dataset(dataset), shard, trial,
            seed=0, epoch=0, start=0, batch=24, crop=64, epochs=TRIAL,
        )  # fmt: skip
        opened.add(found)
        return found

    decoding = Decoding(threads=1, damage="replace")
    found = fastest_decoding(run, network, "fp32", shard, decoding, batches)
    assert found in tried
    assert [trial.hw_load for trial in tried] == [None, 0.5]
    assert fastest_decoding(run, network, "fp32", shard, decoding, batches) == found
    assert len(tried) == 2
