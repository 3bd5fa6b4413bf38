"""ImageNet's releases: a tar of the tars of its synsets, or a folder of these."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.manifest import DatasetError
from pipeline.sources import open_source
from pipeline.sources.source import Source
from pipeline.sources.synsets import find_archives

WNIDS = ("n02084071", "n00015388", "n15102894")
WORDS = "n00001740\tentity\nn00015388\tanimal, animate being, beast\nn02084071\tdog, domestic dog\n"


@pytest.fixture
def release(tmp_path: Path, tar: Callable) -> Path:
    """fall11_whole.tar, and the same images in tars/ and in class folders."""
    tars = {}
    for wnid in WNIDS:
        images = {f"{wnid}_{n * n}.JPEG": f"{wnid} {n}".encode() for n in range(2, 33)}
        tars[f"{wnid}.tar"] = tar(images)
        (tmp_path / "folders" / wnid).mkdir(parents=True)
        for name, content in images.items():
            (tmp_path / "folders" / wnid / name).write_bytes(content)
    (tmp_path / "fall11_whole.tar").write_bytes(tar(tars))
    (tmp_path / "tars").mkdir()
    for name, content in tars.items():
        (tmp_path / "tars" / name).write_bytes(content)
    return tmp_path


def opened(path: Path, val_fraction: float = 0.1, names: Path | None = None) -> Source:
    return open_source(str(path), val_fraction, names)


@pytest.mark.parametrize("place", ["fall11_whole.tar", "tars", "whole"])
@pytest.mark.parametrize("val_fraction", [0.1, 0.5])
def test_samples_are_those_of_class_folders(release: Path, place: str, val_fraction: float) -> None:
    (release / "whole").mkdir()
    (release / "whole" / "fall11_whole.tar").symlink_to("../fall11_whole.tar")
    expected = opened(release / "folders", val_fraction)
    found = opened(release / place, val_fraction)
    assert found.classes == expected.classes
    assert found.splits.keys() == expected.splits.keys()
    for split, samples in found.splits.items():
        assert [s[:2] for s in samples] == [s[:2] for s in expected.splits[split]]
        for ours, theirs in zip(samples, expected.splits[split], strict=True):
            assert found.reader.read(ours.location) == Path(theirs.location).read_bytes()
    assert len(found.splits["val"]) == 3 * round(31 * val_fraction)


def test_names_are_those_of_words_txt(release: Path) -> None:
    (release / "words.txt").write_text(WORDS)
    classes = opened(release / "fall11_whole.tar", names=release / "words.txt").classes
    assert [label.name for label in classes] == [
        "animal, animate being, beast", "dog, domestic dog", "n15102894",
    ]  # fmt: skip


def test_synsets_of_one_image_or_none_are_left_out(
    release: Path, tar: Callable, capsys: pytest.CaptureFixture[str]
) -> None:
    (release / "tars" / "n00000001.tar").write_bytes(tar({"n00000001_1.JPEG": b""}))
    (release / "tars" / "n03000000.tar").write_bytes(tar({}))
    found, expected = opened(release / "tars"), opened(release / "fall11_whole.tar")
    for split, samples in found.splits.items():
        assert [s[:2] for s in samples] == [s[:2] for s in expected.splits[split]]
    assert [label.id for label in found.classes] == sorted(WNIDS)
    assert "synsets of less than 2 images (2), such as n00000001\n" in capsys.readouterr().err


def test_other_tars_are_shards(release: Path, tar: Callable) -> None:
    (release / "tars" / "00000.tar").write_bytes(tar({}))
    assert find_archives(release / "tars") == []
    assert find_archives(release / "folders") == []


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ({"n00015388.tar": b"", "words.txt": b""}, "holds words.txt, which is not named WNID.tar"),
        ({"n00015388_1.JPEG": b""}, "holds n00015388_1.JPEG, .*, or unpack the archive, and give"),
        ({"a/n00015388.tar": b"", "n00015388.tar": b""}, "n00015388 is there twice; remove one of"),
        ({"n00015388.tar": b"none"}, "n00015388.tar: this is not a complete tar archive"),
        ({}, "a classifier needs at least two synsets of 2 images or more; add others"),
    ],
)
def test_a_wrong_release_is_refused(
    tmp_path: Path, tar: Callable, content: dict[str, bytes], text: str
) -> None:
    path = tmp_path / "fall11_whole.tar"
    path.write_bytes(tar(content))
    with pytest.raises(DatasetError, match=text):
        opened(path)


def test_a_release_that_is_cut_short_is_refused(release: Path) -> None:
    path = release / "fall11_whole.tar"
    os.truncate(path, path.stat().st_size // 2)
    with pytest.raises(DatasetError, match=r"whole\.tar: this is not a complete tar archive .*ag"):
        opened(path)
    os.truncate(release / "tars" / "n00015388.tar", 2000)
    with pytest.raises(DatasetError, match=r"n00015388\.tar: this is not a complete tar archive"):
        opened(release / "tars")


def test_a_release_in_two_places_is_refused(release: Path) -> None:
    (release / "fall11_whole.tar").rename(release / "tars" / "fall11_whole.tar")
    with pytest.raises(DatasetError, match="is there twice; remove one of the archives with it"):
        opened(release / "tars")
