"""ILSVRC-2010 and ILSVRC-2012 as distributed, in small: real photographs and file names, the real
structure.

The devkit numbers its classes in an order of its own. Here it is scrambled so that no class has
the same place in both numberings: one taken for the other shows in every image.
"""

import io
import tarfile
from pathlib import Path

import numpy as np
from scipy.io import savemat

from pipeline.sources.devkit import META, Year

DEVKIT_ORDER = (3, 0, 4, 1, 2)  # place among the sorted WNIDs of devkit ids 1, 2, ...


def tar(files: dict[str, bytes], mode: str = "w", form: int = tarfile.GNU_FORMAT) -> bytes:
    """A tar archive of these files."""
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode=mode, format=form) as writer:  # type: ignore
        for name, data in files.items():
            header = tarfile.TarInfo(name)
            header.size = len(data)
            writer.addfile(header, io.BytesIO(data))
    return archive.getvalue()


class Archive:
    """A small challenge of `year` in `folder`, and what is true of it."""

    def __init__(self, folder: Path, imagenette: Path, year: Year) -> None:
        self.folder, self.year = folder, year
        self.wnids = sorted(path.name for path in (imagenette / "train").iterdir())[:5]
        self.train = {w: sorted((imagenette / "train" / w).glob("n*"))[:6] for w in self.wnids}
        self.val = self._held_out(imagenette, slice(0, 4))
        self.test = self._held_out(imagenette, slice(4, 7))
        self.number, self.test_number = self._numbered("val"), self._numbered("test")

    def _held_out(self, imagenette: Path, which: slice) -> dict[Path, str]:
        return {
            image: wnid
            for wnid in self.wnids
            for image in sorted((imagenette / "val" / wnid).iterdir())[which]
        }

    def _numbered(self, split: str) -> dict[str, Path]:
        """{name without ending: image}: the real numbers are up to 150,000; here they count, in an
        order mixed over the classes."""
        numbered = enumerate(sorted(getattr(self, split), key=lambda path: path.name[::-1]), 1)
        return {f"{self.year.name}_{split}_{n:08d}": path for n, path in numbered}

    @property
    def test_tar(self) -> Path:
        return self.folder / self.year.val.replace("val", "test")

    @property
    def in_folders(self) -> bool:
        """Whether images lie in val/ and test/ of their archives."""
        return self.year.name == "ILSVRC2010"

    def write(self, backwards: bool = False) -> Path:
        """`backwards` writes the members of every archive in the other order."""
        step = -1 if backwards else 1
        inner = {
            f"{wnid}.tar": tar({path.name: path.read_bytes() for path in images[::step]})
            for wnid, images in self.train.items()
        }
        (self.folder / self.year.train).write_bytes(tar(dict([*inner.items()][::step])))
        for path, split, numbered in (
            (self.folder / self.year.val, "val", self.number),
            (self.test_tar, "test", self.test_number),
        ):
            within = f"{split}/" if self.in_folders else ""
            images = {f"{within}{n}.JPEG": image.read_bytes() for n, image in numbered.items()}
            path.write_bytes(tar(dict([*images.items()][::step])))
        (self.folder / META).write_bytes(self.meta())
        for split in ("val", "test"):
            (self.folder / self.year.ground_truth(split)).write_bytes(self.ground_truth(split))
        return self.folder

    def in_class_folders(self, folder: Path) -> Path:
        """The same images as train/, val/ and test/ of class folders."""
        for split, images in (("val", self.number), ("test", self.test_number)):
            for name, image in images.items():
                wnid = getattr(self, split)[image]
                (folder / split / wnid).mkdir(parents=True, exist_ok=True)
                (folder / split / wnid / f"{name}.JPEG").write_bytes(image.read_bytes())
        for wnid, images_of in self.train.items():
            (folder / "train" / wnid).mkdir(parents=True)
            for image in images_of:
                (folder / "train" / wnid / image.name).write_bytes(image.read_bytes())
        return folder

    @property
    def devkit_id(self) -> dict[str, int]:
        return {self.wnids[place]: i for i, place in enumerate(DEVKIT_ORDER, 1)}

    def ground_truth(self, split: str = "val") -> bytes:
        wnid, numbered = (
            (self.val, self.number) if split == "val" else (self.test, self.test_number)
        )
        return "".join(f"{self.devkit_id[wnid[p]]}\n" for p in numbered.values()).encode()

    def meta(self) -> bytes:
        leaves = [(self.wnids[place], 0) for place in DEVKIT_ORDER]
        inner = [("n00001740", 2), ("n02084071", 3)]
        synsets = [(i, wnid, n) for i, (wnid, n) in enumerate(leaves + inner, 1)]
        return meta(synsets, self.year.name)

    def pack_devkit(self, root: str, archive: str) -> Path:
        """Put the kit's files into an archive, below `root`."""
        names = (META, self.year.ground_truth("val"))
        content = {f"{root}data/{name}": (self.folder / name).read_bytes() for name in names}
        for name in names:
            (self.folder / name).unlink()
        (self.folder / archive).write_bytes(tar(content, mode="w:gz"))
        return self.folder / archive


def meta(synsets: list[tuple[int, str, int]], year: str = "ILSVRC2012") -> bytes:
    """MATLAB struct array of (devkit id, WNID, number of children), as in the devkit."""
    fields = (
        f"{year}_ID", "WNID", "words", "gloss",
        "num_children", "children", "wordnet_height", "num_train_images",
    )  # fmt: skip
    rows = np.zeros((len(synsets), 1), [(field, object) for field in fields])
    for row, (i, wnid, children) in zip(rows[:, 0], synsets, strict=True):
        children_ids = np.arange(children, dtype=np.uint8)
        values = (i, wnid, f"word of {wnid}, other", "gloss", children, children_ids, 0, 1300)
        for field, value in zip(fields, values, strict=True):
            row[field] = float(value) if isinstance(value, int) else value
    file = io.BytesIO()
    savemat(file, {"synsets": rows, "cost_matrix": np.zeros((5, 5), np.uint8)})
    return file.getvalue()
