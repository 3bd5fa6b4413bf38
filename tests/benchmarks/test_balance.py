"""How the benchmark of uneven classes thins them out."""

from pathlib import Path

from tests.benchmarks.balance import thin


def test_classes_shrink_by_equal_factors(tmp_path: Path) -> None:
    source, out = tmp_path / "source", tmp_path / "out"
    for split in ("train", "val"):
        for name in "abc":
            folder = source / split / name
            folder.mkdir(parents=True)
            for number in range(100):
                (folder / f"{number:02}.jpg").touch()
    for _ in range(2):  # an interrupted command begins again
        thin(source, out, 25)
    kept = {name: sorted(path.name for path in (out / "train" / name).iterdir()) for name in "abc"}
    assert [len(files) for files in kept.values()] == [100, 20, 4]
    assert kept["c"] == ["00.jpg", "01.jpg", "02.jpg", "03.jpg"]
    assert len([*(out / "val").glob("*/*")]) == 300
