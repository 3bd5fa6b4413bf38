"""Archives of ImageNet's challenges are evaluated as the same images in class folders."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from alexnet import console
from alexnet.checkpoint import About, load
from pipeline.order import Shard
from pipeline.sources.devkit import YEARS
from tests.pipeline.sources.archives import Archive
from trainer.arguments import COMMANDS
from trainer.evaluation.originals import list_originals
from trainer.evaluation.results import Results


@pytest.fixture
def model(archive: Archive, publish: Callable) -> Path:
    """Its classes in another order than that of the WNIDs, and than the devkit's."""
    return publish(f"of-{archive.year.name}", tuple(archive.wnids[::-1]), crop=64, size=72)


def about(model: Path) -> About:
    return load(model).about


def test_images_and_labels_are_those_of_class_folders(
    archive: Archive, model: Path, tmp_path: Path
) -> None:
    folders = archive.in_class_folders(tmp_path / "folders")
    for path, split in ((archive.test_tar, "test"), (archive.folder / archive.year.val, "val")):
        found = list_originals(path, about(model), None)
        expected = list_originals(folders / split, about(model), None)
        assert np.array_equal(found.label_N, expected.label_N)
        (ours,), (theirs,) = (
            each.originals.batches(Shard(0, 1, None), 20, 1) for each in (found, expected)
        )
        assert np.array_equal(ours.sample_N, theirs.sample_N)
        assert ours.image_N3SS.equal(theirs.image_N3SS)


@pytest.mark.slow
def test_the_accuracy_is_that_of_class_folders(
    archive: Archive, model: Path, tmp_path: Path, run_on_cluster: Callable
) -> None:
    folders = archive.in_class_folders(tmp_path / "folders")
    found = []
    for place in (archive.test_tar, folders / "test"):
        words = (model, "--originals", place, "--json", tmp_path / "found.json")
        done = run_on_cluster("trainer", "evaluate", *words)
        assert done.returncode == 0, done.stderr
        results = Results.model_validate_json((tmp_path / "found.json").read_bytes())
        found.append(results.sections[0])
    assert found[0].pictures == 15
    assert (found[0].refused, found[0].rows) == (found[1].refused, found[1].rows)


@pytest.mark.parametrize("archive", YEARS[:1], indirect=True)
def test_a_mistake_is_said_before_ray_starts(
    archive: Archive, model: Path, small_models: tuple[Path, Path], capsys: pytest.CaptureFixture
) -> None:
    def said(asked: Path) -> str:
        words = ["evaluate", str(asked), "--originals", str(archive.test_tar)]
        assert console.run("alexnet", COMMANDS, arguments=words) == 2
        text = capsys.readouterr().err
        assert text.count("\n") == 1
        return text

    assert f"{archive.wnids[0]} is no class of the models" in said(small_models[0])
    (archive.folder / archive.year.ground_truth("test")).unlink()
    assert "the file is missing; put the labels of the test images there" in said(model)
