"""A submission has the devkit's ids, in the order of the images' numbers."""

import csv
from collections.abc import Callable
from pathlib import Path

import pytest

from alexnet import console
from pipeline.sources.devkit import META, YEARS
from tests.pipeline.sources.archives import Archive, meta, tar
from trainer.arguments import COMMANDS

OTHER = {year.name: other.name for year, other in zip(YEARS, YEARS[::-1], strict=True)}


@pytest.fixture
def model(archive: Archive, publish: Callable) -> Path:
    return publish(f"for-{archive.year.name}", tuple(archive.wnids[::-1]), crop=64, size=72)


@pytest.mark.slow
def test_lines_are_the_answers_of_the_table(
    archive: Archive, model: Path, tmp_path: Path, run_on_cluster: Callable
) -> None:
    """However the images and the kit are given, and whatever the order of the archive."""
    archive.write(backwards=True)
    folder = archive.in_class_folders(tmp_path / "folders") / "test"

    def predicted(source: Path, name: str, *words: object) -> str:
        out = ("--out", tmp_path / name, "--views", 1, "--top", 3)
        done = run_on_cluster("trainer", "predict", model, source, *out, *words)
        assert done.returncode == 0, done.stderr
        return (tmp_path / name).read_text()

    answers = csv.DictReader(predicted(archive.test_tar, "answers.csv").splitlines())
    ids = {
        row["member"].removeprefix("test/"): [archive.devkit_id[row[f"id{n}"]] for n in (1, 2, 3)]
        for row in answers
    }
    assert [*ids] == [f"{name}.JPEG" for name in reversed(archive.test_number)]
    expected = "".join(" ".join(map(str, ids[name])) + "\n" for name in sorted(ids))
    assert predicted(folder, "1.txt", "--devkit", archive.folder) == expected
    kit = archive.pack_devkit(f"{archive.year.kits[-1]}/", "kit.tar.gz")
    assert predicted(archive.test_tar, "2.txt", "--devkit", kit) == expected


def refused(capsys: pytest.CaptureFixture[str], *words: object) -> str:
    status = console.run("alexnet", COMMANDS, arguments=["predict", *map(str, words)])
    said = capsys.readouterr().err
    assert status == 2
    assert said.count("\n") == 1
    return said


def test_a_mistake_is_said_before_ray_starts(
    archive: Archive, model: Path, small_models: tuple[Path, Path], tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    out, name = ("--out", tmp_path / "a.txt"), archive.year.name
    kit = ("--devkit", archive.folder)
    both = "with the ids of --devkit PATH; give both, or neither"
    assert both in refused(capsys, model, archive.test_tar, *out)
    assert both in refused(capsys, model, archive.test_tar, *kit, "--out", tmp_path / "a.csv")
    assert "at most 5" in refused(capsys, model, archive.test_tar, *kit, *out, "--top", 6)
    assert "disc, a class of the model, is none of the kit's; take a model of the cl" in refused(
        capsys, small_models[0], archive.test_tar, *kit, *out
    )
    assert "meta.mat: the file is missing, and so is" in refused(
        capsys, model, archive.test_tar, "--devkit", tmp_path / "absent", *out
    )
    for names, said in (
        ([f"{name}_test_00000001", f"{name}_val_00000002"], "is not named as the test images of"),
        ([f"{name}_test_00000001", "photograph"], "is not named as the test images of one"),
        ([f"{name}_test_00000001", f"x/{name}_test_00000001"], "is there twice; give the archive"),
        ([f"{name}_test_00000001", f"{name}_test_00000003"], "no image of number 2, but of 3; giv"),
        (
            ["ILSVRC2013_test_00000001"],
            "the images are of ILSVRC2013; give those of ILSVRC2010",
        ),
    ):
        made = tmp_path / "made.tar"
        made.write_bytes(tar({f"{n}.JPEG": b"" for n in names}))
        assert said in refused(capsys, model, made, *kit, *out)
    (archive.folder / META).write_bytes(meta([(1, archive.wnids[0], 0)], OTHER[name]))
    assert f"download the development kit of {name} again" in refused(
        capsys, model, archive.test_tar, *kit, *out
    )


@pytest.mark.parametrize("archive", YEARS[:1], indirect=True)
def test_an_image_without_an_answer_ends_it(
    archive: Archive, model: Path, tmp_path: Path, run_on_cluster: Callable
) -> None:
    archive.test_tar.write_bytes(tar({f"{archive.year.name}_test_00000001.JPEG": b"none"}))
    done = run_on_cluster(
        "trainer", "predict", model, archive.test_tar,
        "--devkit", archive.folder, "--out", tmp_path / "a.txt",
    )  # fmt: skip
    assert done.returncode == 2
    assert "there is no answer about ILSVRC2010_test_00000001.JPEG (" in done.stderr
    assert done.stderr.endswith("has one about each image; download the archive again\n")
    assert not (tmp_path / "a.txt").exists()
