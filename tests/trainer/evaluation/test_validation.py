"""Counts against a loop over single images."""

import io
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from alexnet.checkpoint import Accuracy
from alexnet.model import AlexNet, AlexNetConfig
from alexnet.views import centre_mean
from pipeline.batches import Decoding
from pipeline.dataset import Dataset
from pipeline.manifest import DatasetError
from pipeline.order import Shard
from trainer.evaluation.validation import IMAGES, Validator, counts


@pytest.mark.parametrize("views", [1, 10])
def test_counts_are_those_of_one_image_after_another(dataset: Path, views: int) -> None:
    packed = Dataset(dataset)
    mean = centre_mean(packed.mean_SS3, 112)
    torch.manual_seed(0)
    model = AlexNet(AlexNetConfig(classes=3, width=0.2, crop=112)).train()
    validator = Validator(packed, Shard(0, 1, None), Decoding(threads=1))
    found = validator(model, mean, views=views, precision="fp32")
    assert model.training

    model.eval()
    right = Counter[int]()
    places = [(0, 0), (0, 16), (8, 8), (16, 0), (16, 16)] if views == 10 else [(8, 8)]
    for sample in range(len(packed.val)):
        pixels = np.asarray(Image.open(io.BytesIO(packed.val.jpeg(sample).tobytes())))
        image = torch.tensor(pixels).permute(2, 0, 1).float()
        crops = [image[:, y : y + 112, x : x + 112] for y, x in places]
        crops += [crop.flip(-1) for crop in crops] if views == 10 else []
        with torch.no_grad():
            each = [model((crop - mean)[None]).softmax(1)[0] for crop in crops]
        label = int(packed.val.label(np.array([sample]))[0])
        right[label] += int(torch.stack(each).mean(0).argmax() == label)
    images, top1 = len(packed.val), right.total()
    assert (found.pictures, found.top1, found.top5) == (images, top1, images)
    assert found.macro_top1 == pytest.approx(sum(right[k] / 4 for k in range(3)) / 3)


def network(seed: int) -> AlexNet:
    torch.manual_seed(seed)
    return AlexNet(AlexNetConfig(classes=3, width=0.1, crop=112))


def passes(validator: Validator, *views: int) -> list[Accuracy]:
    """One pass each, by networks that differ."""
    mean = torch.full((3, 112, 112), 120.0)
    return [
        validator(network(seed), mean, views=count, precision="fp32")
        for seed, count in enumerate(views)
    ]


def test_a_pass_is_the_same_after_others(dataset: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether or not the views share their batches, and a pass ends within a limit."""
    packed, one, views = Dataset(dataset), Shard(0, 1, None), (1, 1, 10, 1, 10, 10)
    alone = [
        passes(Validator(packed, one, Decoding(threads=1)), *views[: n + 1])[n] for n in range(6)
    ]
    for limits in ({1: 12, 10: 12}, {1: 5, 10: 3}, {1: 7, 10: 1}):
        monkeypatch.setitem(IMAGES, "cpu", limits)
        assert passes(Validator(packed, one, Decoding(threads=1)), *views) == alone


@pytest.mark.parametrize(("limit", "rows"), [(128, [12]), (7, [6, 6]), (5, [4, 4, 4])])
def test_batches_are_no_larger_than_the_split(
    dataset: Path, monkeypatch: pytest.MonkeyPatch, limit: int, rows: list[int]
) -> None:
    monkeypatch.setitem(IMAGES, "cpu", {1: limit})
    model, seen = network(0), []
    model.register_forward_pre_hook(lambda _, args: seen.append(len(args[0])))
    validator = Validator(Dataset(dataset), Shard(0, 1, None), Decoding(threads=1))
    for _ in range(2):
        seen.clear()
        validator(model, torch.zeros(3, 112, 112), views=1, precision="fp32")
        assert seen == rows


def test_damage_is_met_in_every_pass(
    dataset: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    copy, one = Dataset(Path(shutil.copytree(dataset, tmp_path / "copy"))), Shard(0, 1, None)
    _, size, offset, _ = copy.val.index[4].tolist()
    with (copy.folder / "val" / "00000.tar").open("r+b") as shard:
        shard.seek(offset)
        shard.write(bytes(size))
    found = passes(Validator(copy, one, Decoding(threads=1, damage="replace")), 1, 1, 1, 10)
    assert [accuracy.pictures for accuracy in found] == [11] * 4
    assert caplog.text.count("cannot be decoded and is left out (1 so far)") == 4
    refusing = Validator(copy, one, Decoding(threads=1))
    for _ in range(2):
        with pytest.raises(DatasetError, match=r"val/00000\.tar"):
            passes(refusing, 1)


def test_padding_is_not_counted() -> None:
    probability = torch.eye(7)[[0, 1, 2, 3]] + torch.linspace(0, 0.1, 7)
    label = torch.tensor([0, 0, 2, 3])
    rows = [1, 0, 1, 1, 0, 0, 0], [1, 0, 1, 1, 0, 0, 0], [2, 0, 1, 1, 0, 0, 0]
    assert counts(probability, label, torch.tensor([True] * 4)).tolist() == list(rows)
    real = torch.tensor([True, True, False, False])
    assert counts(probability, label, real).sum(1).tolist() == [1, 1, 2]
