"""A row that trains a network by the product's own loop."""

import json
from pathlib import Path

import pytest
import torch

from alexnet.checkpoint import current, load
from pipeline.dataset import Dataset
from trainer.paper.colour import colourfulness
from trainer.paper.experiment import Place
from trainer.paper.network_trial import BASE, Folder, network_row, train_network
from trainer.recipe import Recipe
from trainer.resolution import resolve
from trainer.run import RunError

SMALL = {
    "size": 128, "network.crop": 64, "network.width": 0.1, "epochs": 2, "batch": 32,
}  # fmt: skip


def test_a_row_is_named_after_its_whole_recipe(dataset: Path) -> None:
    changes = {**SMALL, "network.ablation.removed": "conv3", "schedule.kind": "plateau"}
    row = network_row("without conv3", changes, 3, Dataset(dataset))
    stored = json.loads(json.dumps(row.settings))["recipe"]
    assert Recipe.model_validate(stored) == resolve(BASE, {}, [*changes.items(), ("seed", 3)])
    assert stored["colour_until"] == resolve(BASE, {}, []).colour_until  # not among the changes


def test_stopped_and_run_again_it_ends_with_what_it_would_have(
    dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = network_row("as in the paper", SMALL, 1, Dataset(dataset))
    threads = torch.get_num_threads()
    first, second = (Place(row.data, tmp_path / name, threads, gpu=False) for name in "ab")
    whole = train_network(row.settings, first)
    monkeypatch.setattr(Folder, "asked_to_stop", lambda self: True)
    with pytest.raises(RunError, match="asked to stop"):
        train_network(row.settings, second)
    monkeypatch.undo()
    assert list(tmp_path.glob("b/runs/*/checkpoint/*"))
    assert train_network(row.settings, second) == whole
    assert not list(tmp_path.glob("*/runs/*"))
    models = [load(current(place.work / "models" / whole["model"])) for place in (first, second)]
    assert [score["views"] for score in whole["accuracy"]] == [1, 10]
    weights = [loaded.model.state_dict() for loaded in models]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    kernels = weights[0]["conv1.weight"].numpy()
    assert whole["colourfulness"] == colourfulness(kernels).tolist()
