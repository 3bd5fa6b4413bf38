"""Counts against a loop over single pictures."""

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from alexnet.model import AlexNet, AlexNetConfig
from alexnet.views import centre_mean
from pipeline.batches import Decoding
from pipeline.dataset import Dataset
from pipeline.order import Shard
from trainer.evaluation.validation import counts, evaluate


@pytest.mark.parametrize("views", [1, 10])
def test_counts_are_those_of_one_picture_after_another(dataset: Path, views: int) -> None:
    packed = Dataset(dataset)
    mean = centre_mean(packed.mean_SS3, 112)
    torch.manual_seed(0)
    model = AlexNet(AlexNetConfig(classes=3, width=0.2, crop=112)).train()
    found = evaluate(
        model,
        mean,
        packed,
        Shard(0, 1, None),
        views=views,
        precision="fp32",
        decoding=Decoding(threads=1),
    )
    assert model.training

    model.eval()
    top1 = 0
    places = [(0, 0), (0, 16), (8, 8), (16, 0), (16, 16)] if views == 10 else [(8, 8)]
    for sample in range(len(packed.val)):
        pixels = np.asarray(Image.open(io.BytesIO(packed.val.jpeg(sample).tobytes())))
        picture = torch.tensor(pixels).permute(2, 0, 1).float()
        crops = [picture[:, y : y + 112, x : x + 112] for y, x in places]
        crops += [crop.flip(-1) for crop in crops] if views == 10 else []
        with torch.no_grad():
            each = [model((crop - mean)[None]).softmax(1)[0] for crop in crops]
        top1 += int(torch.stack(each).mean(0).argmax() == packed.val.label(sample))
    assert (found.pictures, found.top1, found.top5) == (len(packed.val), top1, len(packed.val))


def test_padding_is_not_counted() -> None:
    probability = torch.eye(7)[[0, 1, 2, 3]] + torch.linspace(0, 0.1, 7)
    label = torch.tensor([0, 0, 2, 3])
    assert counts(probability, label, torch.tensor([True] * 4)).tolist() == [3, 3, 4]
    assert counts(probability, label, torch.tensor([True, True, False, False])).tolist() == [
        1,
        1,
        2,
    ]
