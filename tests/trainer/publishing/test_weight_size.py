"""Files of weights that are, or claim to be, larger than any memory: one line, by the command."""

import io
import os
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from alexnet.command import UserError
from trainer.publishing.weight_size import MAX_BYTES, bounded


def npy(shape: str) -> bytes:
    """An .npy file without data whose header says that it has this shape."""
    header = f"{{'descr': '<f8', 'fortran_order': False, 'shape': {shape}, }}\n".encode()
    return b"\x93NUMPY\x01\0" + struct.pack("<H", len(header)) + header


def zipped(content: bytes, times: int = 1) -> bytes:
    file = io.BytesIO()
    with (
        zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open("mean.npy", "w", force_zip64=True) as member,
    ):
        for _ in range(times):
            member.write(content)
    return file.getvalue()


FILES = {
    "torchvision": ("w.pth", "w.safetensors", "w.pt"),
    "caffe": ("w.npz", "w.npy"),
}


@pytest.mark.parametrize("family", FILES)
def test_a_file_that_is_mostly_a_hole(tmp_path: Path, run: Callable, family: str) -> None:
    for name in FILES[family]:
        (tmp_path / name).touch()
        os.truncate(tmp_path / name, 10**11)
        text = f"{name}: it has 100,000,000,000 bytes; the limit is 4,000,000,000"
        with pytest.raises(UserError, match=text), bounded(None, tmp_path / name):
            pass
    words = ("--from", family, "--name", "x", "--models", tmp_path / "models")
    done = run("alexnet", "import", tmp_path / name, *words)
    assert done.returncode == 2
    assert text in done.stderr


def test_an_archive_that_unpacks_to_too_much(tmp_path: Path) -> None:
    path = tmp_path / "mean.npz"
    data = bytearray(zipped(bytes(1000)))
    at = data.index(b"PK\x01\x02") + 24
    data[at : at + 4] = struct.pack("<I", MAX_BYTES + 1)
    path.write_bytes(data)
    with pytest.raises(UserError, match=r"mean\.npz: it has 4,000,000,001 bytes"), bounded(path):
        pass


@pytest.mark.parametrize("content", [npy("(2147483648, 3, 1000)"), zipped(npy("(2147483648, 3)"))])
def test_a_header_that_claims_too_much(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "mean.npz"
    path.write_bytes(content)

    def read() -> None:
        with bounded(path):
            loaded = np.load(path)
            if isinstance(loaded, np.lib.npyio.NpzFile):
                with loaded:
                    dict(loaded)

    with pytest.raises(UserError, match=r"mean\.npz: what it says that it holds"):
        read()


def test_what_is_read_without_a_limit_is_as_before(tmp_path: Path) -> None:
    path = tmp_path / "mean.npz"
    np.savez(path, mean=np.ones(3))
    with bounded(path, None, tmp_path / "absent"):
        assert np.load(path)["mean"].tolist() == [1, 1, 1]
