"""Answers come once each, whoever gives them, and are those that the trainer counts."""

from pathlib import Path

import numpy as np
import pytest
import torch

from alexnet.checkpoint import load, save
from alexnet.views import view_probabilities
from pipeline.batches import Decoding
from pipeline.dataset import Dataset
from pipeline.order import Shard
from pipeline.photographs import index_photographs
from pipeline.sources.folder import folder_source
from trainer.evaluation.probabilities import (
    Answers,
    Network,
    Part,
    Refused,
    Validation,
    answers,
    assemble,
)
from trainer.evaluation.scores import ranks
from trainer.evaluation.validation import Validator
from trainer.on_ray.resources import Machine, Resources
from trainer.on_ray.workers import Workers
from trainer.run import RunError

ALONE = Shard(0, 1, None)


def of_workers(
    count: int, data: Path, models: tuple[Path, ...], views: tuple[int, ...]
) -> tuple[list[Part], Answers]:
    images = Validation(data)
    parts = [
        part
        for index in range(count)
        for part in answers(images, models, views, Shard(index, count, None), threads=2)
    ]
    return parts, assemble(parts, len(images), classes=3, models=len(models), views=len(views))


@pytest.fixture(scope="module")
def listed(tmp_path_factory: pytest.TempPathFactory, photographs: Path) -> Path:
    """`photographs` with ten of each class held out: several batches, the last one shorter."""
    source = folder_source(photographs, 0.25, {})
    return index_photographs(source, tmp_path_factory.mktemp("listed"), 72).folder


def test_any_number_of_workers_gives_the_same_bits(
    listed: Path, small_models: tuple[Path, Path]
) -> None:
    parts, (one_MVNK, _) = of_workers(1, listed, small_models, (1, 10))
    assert one_MVNK.shape == (2, 2, 30, 3)
    assert [len(part.sample_N) for part in parts] == [12, 12, 6]
    torch.testing.assert_close(one_MVNK.sum(3), torch.ones(2, 2, 30))
    assert len(one_MVNK[0, 1].argmax(1).unique()) > 1
    for count in (2, 3):
        assert torch.equal(of_workers(count, listed, small_models, (1, 10))[1][0], one_MVNK)


@pytest.mark.parametrize("views", [1, 10])
def test_counts_are_the_trainers(listed: Path, small_models: tuple[Path, Path], views: int) -> None:
    """Whether the centre is one of ten views, or the only one asked for."""
    photographs = Dataset(listed)
    label_N = torch.from_numpy(photographs.val.label(np.arange(len(photographs.val))))
    both = of_workers(1, listed, small_models, (1, 10))[1].probability_MVNK[:, (1, 10).index(views)]
    alone = of_workers(1, listed, small_models, (views,))[1].probability_MVNK[:, 0]
    torch.testing.assert_close(both, alone)
    validator = Validator(photographs, ALONE, Decoding(threads=1))
    for model, probability_NK in zip(small_models, both, strict=True):
        network, mean_3HW, _, _ = load(model)
        expected = validator(network, mean_3HW, views=views, precision="fp32")
        assert int((ranks(probability_NK, label_N) == 0).sum()) == expected.top1


def test_a_mean_that_depends_on_the_place_is_subtracted_there(
    small_models: tuple[Path, Path], tmp_path: Path
) -> None:
    network, mean_3HW, about, _ = load(small_models[0])
    torch.manual_seed(0)
    whole_3SS = 255 * torch.rand(3, 72, 72)
    directory = save(network, mean_3HW, about, tmp_path, whole_3SS)
    image_N3SS = torch.randint(0, 256, (2, 3, 72, 72), dtype=torch.uint8)
    found_VNK = Network(directory, torch.device("cpu"), served=True)(image_N3SS, (1, 10))
    for found_NK, views in zip(found_VNK, (1, 10), strict=True):
        expected_NVK = view_probabilities(network, image_N3SS, mean_3HW, views, whole_3SS)
        np.testing.assert_allclose(found_NK, expected_NVK.mean(1).numpy(), rtol=0, atol=1e-6)


def part(samples: list[int], refused: tuple[int, ...] = ()) -> Part:
    probability_MVNK = np.zeros((1, 1, len(samples), 2), np.float32)
    probability_MVNK[..., 0] = samples
    return Part(
        probability_MVNK, np.array(samples, np.int64), tuple(Refused(n, "x", "y") for n in refused)
    )


def test_parts_find_their_places() -> None:
    found, refused = assemble([part([3, 0]), part([], (4,)), part([1], (2,))], 5, 2, 1, 1)
    assert found[0, 0, [0, 1, 3], 0].tolist() == [0, 1, 3]
    assert found[0, 0, [2, 4]].isnan().all()
    assert [row.sample for row in refused] == [2, 4]


@pytest.mark.parametrize(
    ("parts", "text"),
    [
        ([part([0, 1])], "sample 2 came 0 times"),
        ([part([0, 1, 2]), part([1])], "sample 1 came 2 times"),
        ([part([0, 1, 2], (2,))], "sample 2 came 2 times"),
    ],
)
def test_a_sample_lost_or_doubled_is_an_error(parts: list[Part], text: str) -> None:
    with pytest.raises(RuntimeError, match=text):
        assemble(parts, 3, 2, 1, 1)


def test_workers_share_what_the_cluster_has() -> None:
    plain, gpus = Resources((Machine(8, 0),)), Resources((Machine(8, 2), Machine(0, 1)))
    assert Workers.of(plain, None, "auto") == Workers(8, 1, gpu=False)
    assert Workers.of(plain, 3, "auto") == Workers(3, 2, gpu=False)
    assert Workers.of(gpus, None, "auto") == Workers(2, 4, gpu=True)
    assert Workers.of(gpus, None, "cpu") == Workers(8, 1, gpu=False)
    with pytest.raises(RunError, match=r"1 worker\(s\) with a GPU and .* room for 0; .* cpu"):
        Workers.of(plain, None, "gpu")
    with pytest.raises(RunError, match=r"9 worker\(s\) with a CPU each, .* room for 8; lower"):
        Workers.of(plain, 9, "auto")
