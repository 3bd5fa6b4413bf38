"""A row that goes on from the network of another."""

from pathlib import Path

import torch

from alexnet.checkpoint import current, load
from pipeline.dataset import Dataset
from pipeline.folds import write_classes
from trainer.paper.experiment import Place
from trainer.paper.finetune_trial import finetune_network, finetune_row
from trainer.paper.network_trial import BASE, network_row, train_network
from trainer.resolution import resolve

SMALL = {
    "size": 128, "network.crop": 64, "network.width": 0.1, "network.sixth_conv": True, "epochs": 1,
    "batch": 32,
}  # fmt: skip


def test_it_has_the_layers_of_the_other_and_classes_of_its_own(
    dataset: Path, tmp_path: Path
) -> None:
    place = Place(dataset, tmp_path, torch.get_num_threads(), gpu=False)
    before = network_row("pre-training", SMALL, 1, Dataset(dataset))
    name = train_network(before.settings, place)["model"]
    task = write_classes(Dataset(dataset), tmp_path / "task", 2)
    recipe = resolve(BASE, {}, [*SMALL.items(), ("seed", 1)])
    row = finetune_row("1 CNN*", recipe, name, network_row("", SMALL, 1, task))
    assert row.settings["recipe"]["layer_rates"]["conv6"] == 2.5
    assert row.settings["recipe"]["epochs"] == 1
    found = finetune_network(row.settings, place._replace(data=row.data))
    assert found["accuracy"][0]["pictures"] == len(task.val)
    old, new = (load(current(tmp_path / "models" / n)) for n in (name, found["model"]))
    assert new.about.network == old.about.network.model_copy(update={"classes": 2})
    weights = (loaded.model.state_dict() for loaded in (old, new))
    for layer, first, last in ((n, w, v) for (n, w), v in zip(
        next(weights).items(), next(weights).values(), strict=True
    )):  # fmt: skip
        if layer.startswith("conv") and layer.endswith("weight"):
            assert not torch.equal(first, last)
            near = torch.nn.functional.cosine_similarity(first.flatten(), last.flatten(), dim=0)
            assert near > 0.95, layer
