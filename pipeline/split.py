"""The files of one split, by number: images in shard files, or photographs where they lie."""

import json
import tarfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Literal, Protocol

import numpy as np

from pipeline.manifest import DatasetError, SplitManifest

FILES = "files.json"
"""The paths of photographs that were not packed, in the order of the index."""

MAX_DAMAGED_SHARE, ALWAYS_REPLACED = 0.01, 5
"""`replace` gives up beyond this share of a split, but not before so many damaged images."""

Damage = Literal["error", "replace"]
"""What to do about a file that cannot be decoded: end, or `replace`: train on another sample in
its place, leave it out of the evaluation."""


class DamageError(DatasetError):
    """An image that cannot be decoded, where that is an error."""


class Split(Protocol):
    """One split of a dataset, packed or not."""

    index: np.ndarray
    """INDEX rows, one a sample."""
    remedy: str
    """What to do about a file that cannot be decoded."""

    def __len__(self) -> int: ...

    def label(self, sample_N: np.ndarray) -> np.ndarray:
        """Labels of some samples, (N,) int64."""

    def jpeg(self, sample: int) -> np.ndarray:
        """File bytes of one sample, (size,) uint8. Raises DatasetError."""

    def jpegs(self, sample_N: np.ndarray) -> list[np.ndarray]:
        """File bytes of some samples, each as from `jpeg`."""

    def read(self, parts: Iterable[np.ndarray]) -> Iterator[list[np.ndarray]]:
        """`jpegs` of one part after the other; of those to come some may be looked at ahead."""

    def place(self, sample: int) -> str:
        """Where a sample lies, for people."""

    def names(self, sample_N: np.ndarray) -> list[str]:
        """What the source called some samples, for people."""


def too_damaged(split: Split, damaged: int) -> bool:
    """Whether so many damaged images are more than `replace` puts up with."""
    most = max(ALWAYS_REPLACED, MAX_DAMAGED_SHARE * len(split))
    return damaged > most or damaged == len(split)


class PackedSplit:
    """Random access to the JPEGs of one split, by memory map: opening it reads nothing."""

    remedy = "`alexnet verify` lists all damage; copy the dataset again"

    def __init__(self, directory: Path, manifest: SplitManifest) -> None:
        self._directory, self._shards = directory, manifest.shards
        self._maps: dict[int, np.ndarray] = {}
        self.index = _map(directory / "index.npy")
        if len(self.index) != manifest.samples:
            raise DatasetError(
                f"{directory / 'index.npy'}: the file lists {len(self.index):,} images, but the "
                f"manifest says {manifest.samples:,}; copy the dataset again"
            )

    def __len__(self) -> int:
        return len(self.index)

    def label(self, sample_N: np.ndarray) -> np.ndarray:
        return self.index["label"][sample_N].astype(np.int64)

    def jpeg(self, sample: int) -> np.ndarray:
        return self.jpegs(np.array([sample]))[0]

    def jpegs(self, sample_N: np.ndarray) -> list[np.ndarray]:
        """Views of the shard files, without copies. Raises DatasetError where one is missing or has
        another length."""
        row_N = self.index[sample_N]
        shards = row_N["shard"].tolist()
        for shard in set(shards) - self._maps.keys():
            self._maps[shard] = self._open(shard)
        start_N, stop_N = row_N["offset"], row_N["offset"] + row_N["size"]
        place = zip(shards, start_N.tolist(), stop_N.tolist(), strict=True)
        return [self._maps[shard][start:stop] for shard, start, stop in place]

    def read(self, parts: Iterable[np.ndarray]) -> Iterator[list[np.ndarray]]:
        return map(self.jpegs, parts)

    def place(self, sample: int) -> str:
        shard, _, offset, _ = self.index[sample].tolist()
        return f"{self._path(shard)}, at byte {offset}"

    def keys(self) -> list[str]:
        """What the source called each sample, in order; read from the tar files."""
        return self.names(np.arange(len(self)))

    def names(self, sample_N: np.ndarray) -> list[str]:
        """As `keys`, of some samples; read from the tar files that hold these."""
        rows = self.index[sample_N].tolist()
        key = {}
        for number in {shard for shard, *_ in rows}:
            with self._opened(number) as tar:
                key.update({(number, m.offset_data): m.name.removesuffix(".jpg") for m in tar})
        return [key[shard, offset] for shard, _, offset, _ in rows]

    def _path(self, number: int) -> Path:
        return self._directory / self._shards[number].file

    def _opened(self, number: int) -> tarfile.TarFile:
        return tarfile.open(self._path(number))

    def _open(self, number: int) -> np.ndarray:
        path, size = self._path(number), self._shards[number].size
        content = _map(path)
        if len(content) != size:
            raise DatasetError(
                f"{path}: the file has {len(content):,} bytes, but the manifest says "
                f"{size:,}; copy it again"
            )
        return content


class PhotographSplit:
    """Random access to photographs that were not packed (pipeline.photographs)."""

    remedy = "convert or remove it; or pack the folder, which leaves out what is no photograph"

    def __init__(self, directory: Path, manifest: SplitManifest) -> None:
        self._files: list[str] = json.loads((directory / FILES).read_bytes())
        self.index = _map(directory / "index.npy")

    def __len__(self) -> int:
        return len(self.index)

    def label(self, sample_N: np.ndarray) -> np.ndarray:
        return self.index["label"][sample_N].astype(np.int64)

    def jpeg(self, sample: int) -> np.ndarray:
        """The photograph's bytes. Raises DatasetError where it is missing or has another length."""
        size = int(self.index["size"][sample])
        try:
            content = np.fromfile(self._files[sample], np.uint8)
        except OSError as error:
            raise DatasetError(f"{self._files[sample]}: {error.strerror}; restore it") from None
        if len(content) != size:
            raise DatasetError(
                f"{self._files[sample]}: the file has {len(content):,} bytes, but had {size:,} "
                "when the run began; restore it, or start another run"
            )
        return content

    def jpegs(self, sample_N: np.ndarray) -> list[np.ndarray]:
        return [self.jpeg(sample) for sample in sample_N.tolist()]

    def read(self, parts: Iterable[np.ndarray]) -> Iterator[list[np.ndarray]]:
        return map(self.jpegs, parts)

    def place(self, sample: int) -> str:
        return self._files[sample]

    def names(self, sample_N: np.ndarray) -> list[str]:
        return [self._files[sample] for sample in sample_N.tolist()]


def _map(path: Path) -> np.ndarray:
    """A file as an array: of an .npy file its content, else its bytes."""
    try:
        content = (
            np.load(path, mmap_mode="r") if path.suffix == ".npy" else np.memmap(path, mode="r")
        )
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise DatasetError(f"{path}: {reason}; copy the dataset again") from None
    # A plain array over the map: slicing np.memmap itself costs four times as much.
    return np.asarray(content)
