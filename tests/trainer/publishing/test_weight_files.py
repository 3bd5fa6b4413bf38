"""Files that people call weights: what is read of them, or the line that says what they are."""

import argparse
import functools
import gzip
import json
import os
import pickle
import subprocess
import tarfile
import zipfile
from collections import OrderedDict, defaultdict
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from enum import Enum
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from tests.trainer.publishing.caffe_files import ARRAY, NORM_FIRST, blob, caffemodel
from trainer.publishing.weight_files import ForeignError, read

STATE = {"a.weight": torch.arange(3.0), "a.bias": torch.ones(2)}
BOTH = pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])


class Attributes(dict):
    """As Lightning's AttributeDict."""


class Kind(Enum):
    ONE = 1


class Runs:
    """What pickle would do: run a command."""

    def __init__(self, function: Callable, *arguments: Any) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> tuple:
        return self.call


def assert_state(found: Any) -> None:
    assert found.keys() >= STATE.keys()
    for name, tensor in STATE.items():
        assert torch.equal(found[name].float(), tensor)


@BOTH
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.float64])
def test_torch_in_any_precision(tmp_path: Path, zipped: bool, dtype: torch.dtype) -> None:
    state = OrderedDict((name, tensor.to(dtype)) for name, tensor in STATE.items())
    torch.save(state, tmp_path / "a", _use_new_zipfile_serialization=zipped)
    assert_state(read(tmp_path / "a"))


@BOTH
@pytest.mark.parametrize(
    "beside",
    [
        argparse.Namespace(lr=0.1, path=Path("x"), names=["a"]),
        np.float64(3),
        np.arange(3),
        Attributes(lr=0.1),
        defaultdict(list, a=[1]),
        Kind.ONE,
        datetime(2012, 9, 30, tzinfo=UTC),
        {1, 2},
        {"state": {0: {"momentum_buffer": torch.zeros(2)}}, "param_groups": [{"lr": 0.1}]},
        None,
    ],
    ids=lambda value: type(value).__name__,
)
def test_whatever_lies_beside_them(tmp_path: Path, zipped: bool, beside: Any) -> None:
    content = {"state_dict": STATE, "beside": beside, "epoch": 3}
    torch.save(content, tmp_path / "a.ckpt", _use_new_zipfile_serialization=zipped)
    found = read(tmp_path / "a.ckpt")
    assert_state(found["state_dict"])
    assert (found["epoch"], "beside" in found) == (3, True)


def test_safetensors_numpy_and_caffe(tmp_path: Path) -> None:
    save_file(STATE, tmp_path / "a")
    assert_state(read(tmp_path / "a"))
    np.savez(tmp_path / "a.npz", **{k: v.numpy() for k, v in STATE.items()})  # type: ignore[arg-type]
    assert_state(read(tmp_path / "a.npz"))
    np.savez_compressed(tmp_path / "b.npz", x=np.arange(3, dtype=">f4"))
    assert read(tmp_path / "b.npz")["x"].tolist() == [0, 1, 2]
    np.save(tmp_path / "mean.npy", ARRAY)
    assert torch.equal(read(tmp_path / "mean.npy")["mean"], torch.from_numpy(ARRAY))
    (tmp_path / "mean.binaryproto").write_bytes(blob(ARRAY[:1], "four"))
    assert torch.equal(read(tmp_path / "mean.binaryproto")["mean"], torch.from_numpy(ARRAY[0]))
    (tmp_path / "a.caffemodel").write_bytes(caffemodel(NORM_FIRST, {"conv1": (ARRAY,)}))
    assert torch.equal(read(tmp_path / "a.caffemodel").tensors["conv1.0"], torch.from_numpy(ARRAY))


@BOTH
@pytest.mark.parametrize(
    "function", [eval, exec, os.system, os.popen, subprocess.check_call, getattr, Path.touch]
)
def test_nothing_in_a_file_is_run(tmp_path: Path, zipped: bool, function: Callable) -> None:
    mark = tmp_path / "ran"
    words = {
        eval: f"open('{mark}', 'w')", exec: f"open('{mark}', 'w')", Path.touch: mark,
        subprocess.check_call: ["touch", str(mark)],
    }.get(function, f"touch {mark}")  # fmt: skip
    content = {**STATE, "x": Runs(function, words)}
    torch.save(content, tmp_path / "a.pth", _use_new_zipfile_serialization=zipped)
    with suppress(ForeignError):
        assert_state(read(tmp_path / "a.pth"))
    assert not mark.exists()


def test_a_file_that_would_run_programs_is_called_that(tmp_path: Path) -> None:
    torch.save({**STATE, "x": Runs(os.system, "true")}, tmp_path / "a.pth")
    with pytest.raises(ForeignError, match="this is a file that runs programs when it is read"):
        read(tmp_path / "a.pth")


def cut(data: bytes) -> bytes:
    return data[: len(data) * 2 // 3]


def holed(data: bytes) -> bytes:
    """As a download that leaves a hole does."""
    middle = len(data) // 2
    return data[:middle] + bytes(4096) + data[middle + 4096 :]


def written(make: Callable[[Path], object]) -> Callable[[Path], bytes]:
    def made(folder: Path) -> bytes:
        make(folder / "made")
        return (folder / "made").read_bytes()

    return made


def tarred(file: Path) -> None:
    with tarfile.open(file, "w") as archive:
        archive.add(__file__, "alexnet.pth")


def zipped_(file: Path, *names: str) -> None:
    with zipfile.ZipFile(file, "w") as archive:
        for name in names:
            archive.writestr(name, b"x")


def saved_onnx(file: Path) -> None:
    graph = onnx.helper.make_graph([], "g", [], [])
    onnx.save(onnx.helper.make_model(graph, producer_name="pytorch"), str(file))


def objects(file: Path) -> None:
    with file.open("wb") as stream:
        np.save(stream, np.array({"conv1": [1]}, dtype=object), allow_pickle=True)


CUT = r"the file is cut off or damaged \([\d,]+ bytes\); download or copy it again"
MODEL = nn.Sequential(nn.Linear(2, 2))
OLD = {"_use_new_zipfile_serialization": False}


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (lambda _: b"", r"the file is empty \(0 bytes\); download"),
        (lambda _: b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7\nsize 1\n",
         "this is a Git LFS pointer, not the file itself; fetch that with `git lfs pull`"),
        (lambda _: b"/annex/objects/SHA256E-s1--4d7.pth\n", "this is a git-annex pointer"),
        (lambda _: b"\n<!DOCTYPE html>\n<html>", "this is a web page, or a server's answer"),
        (lambda _: b"<html><title>Google Drive", "this is a web page"),
        (lambda _: "\ufeff<HTML lang='de'>für".encode(), "this is a web page"),
        (lambda _: b"<?xml version='1.0'?><Error>", "this is a web page, or a server's answer"),
        (lambda _: json.dumps({"weight_map": {}}).encode(), "this is a JSON file"),
        (lambda _: b"Not Found", "this is a text file, which begins with 'Not Found'"),
        (lambda _: b'name: "AlexNet"\nlayer {\n  name: "data"\n}',
         "this is a network's description in Caffe's format; give its weights, the .caffemodel"),
        (lambda _: gzip.compress(b"x"), "this is a gzip archive; unpack it"),
        (written(tarred), "this is a tar archive; unpack it"),
        (written(lambda f: zipped_(f, "alexnet.pth")),
         "this is a zip archive that holds alexnet.pth; unpack it"),
        (written(lambda f: zipped_(f, "config.json", "model.weights.h5")), "this is a Keras model"),
        (lambda _: b"\x89HDF\r\n\x1a\n" + bytes(20), "this is an HDF5 file, of Keras or Caffe"),
        (lambda _: b"MATLAB 5.0 MAT-file, Platform" + bytes(99), "this is a MATLAB file"),
        (written(saved_onnx), "this is an ONNX model; where it was made, save it with torch.save"),
        (lambda _: b"\x1c\0\0\0TFL3" + bytes(20), "this is a TensorFlow Lite model"),
        (lambda _: b"\xff\xd8\xff\xe0" + bytes(20), "this is an image"),
        (lambda _: pickle.dumps(STATE), "this is a plain pickle, which is not read"),
        (lambda _: pickle.dumps({"a": 1}, 2), "this is a plain pickle, which is not read"),
        (written(objects), "this is a NumPy file of Python objects, which is not read"),
        (written(lambda f: torch.save(MODEL, f)),
         r"this is a whole pickled model \(torch.nn.modules.container.Sequential\), which is not "
         r"read, as that would run its code; where it was made, save it with torch.save\(model.st"),
        (written(lambda f: torch.save({"model": MODEL, "epoch": 3}, f)), "a whole pickled model"),
        (written(lambda f: torch.save(MODEL, f, **OLD)), "a whole pickled model"),
        (written(lambda f: torch.jit.save(torch.jit.trace(MODEL, torch.zeros(1, 2)), str(f))),
         "this is a TorchScript program"),
        (written(lambda f: torch.save({"d": Attributes(a=1)}, f, pickle_protocol=4)),
         "this is a pickle in another protocol than torch.save's own, or with more"),
        (lambda f: cut(written(lambda g: torch.save(STATE, g))(f)), CUT),
        (lambda f: cut(written(lambda g: torch.save(STATE, g, **OLD))(f)), CUT),
        (lambda f: written(lambda g: torch.save(STATE, g, **OLD))(f)[:-9], CUT),
        (lambda f: holed(written(lambda g: torch.save({"a": torch.ones(9999)}, g))(f)), CUT),
        (written(lambda f: torch.save({"a": STATE, "b": functools.partial(int)}, f)),
         r"this is a checkpoint that also holds objects that are not read \(builtins.int, functo"),
        (written(lambda f: np.savez(f.open("wb"), **{"a": np.zeros(9, np.longdouble)})),
         "a should hold numbers, but holds float128"),
        (lambda f: cut(written(lambda g: save_file(STATE, g))(f)), CUT),
        (lambda f: cut(written(lambda g: np.savez(g.open("wb"), **{"a": np.zeros(9)}))(f)), CUT),
        (lambda f: cut(written(lambda g: np.save(g.open("wb"), np.zeros(99)))(f)), CUT),
        (lambda _: cut(caffemodel(NORM_FIRST, {"conv1": (ARRAY,)})),
         r"the file is cut off, damaged or of a format that is not read \(it begins with 0a 13"),
        (lambda _: bytes(range(130, 250)), r"of a format that is not read \(it begins with 82 83"),
        (written(lambda f: np.savez(f.open("wb"), **{"c": np.array(["a"])})),
         "c should hold numbers, but holds <U1"),
    ],
)  # fmt: skip
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::FutureWarning")
def test_other_files_are_called_by_their_name(
    tmp_path: Path, content: Callable[[Path], bytes], text: str
) -> None:
    """Whatever a file is called."""
    for name in ("alexnet.pth", "alexnet.safetensors", "alexnet.npz", "alexnet"):
        (tmp_path / name).write_bytes(content(tmp_path))
        with pytest.raises(ForeignError, match=f"{name}: .*{text}") as caught:
            read(tmp_path / name)
        assert "\n" not in str(caught.value)


def test_folders(tmp_path: Path) -> None:
    with pytest.raises(ForeignError, match=r"this is a folder; give the file of weights$"):
        read(tmp_path)
    (tmp_path / "b.pth").touch()
    (tmp_path / "a.safetensors").touch()
    with pytest.raises(ForeignError, match=r"such as .*a.safetensors$"):
        read(tmp_path)
    (tmp_path / "saved_model.pb").touch()
    with pytest.raises(ForeignError, match="this is a TensorFlow SavedModel"):
        read(tmp_path)
    (tmp_path / "current.json").touch()
    with pytest.raises(ForeignError, match="this is a model that is published already; give its"):
        read(tmp_path)


def test_what_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read(tmp_path / "none")
    with pytest.raises(ForeignError, match="this is the address of a file; download it, and giv"):
        read(Path("https://download.pytorch.org/models/alexnet-owt-7be5be79.pth"))
    with pytest.raises(ForeignError, match="this is no regular file"):
        read(Path("/dev/null"))
