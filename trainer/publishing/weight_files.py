"""A file that somebody calls weights -> what it holds, or one line that says what it is instead.

A file is known by its content, whatever its name. Nothing in it is ever run.
"""

import pickletools
import warnings
import zipfile
import zlib
from _compat_pickle import IMPORT_MAPPING, NAME_MAPPING
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from pickle import UnpicklingError
from typing import IO, Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch.serialization import safe_globals

from alexnet.command import UserError
from trainer.publishing.caffemodel import NotCaffeError, mean_image, parse


class ForeignError(UserError):
    """A file that is not what it was called; the text names file, tensor and what was expected."""


SAVE = "where it was made, save it with torch.save(model.state_dict(), FILE), and import that"
ARRAYS = (
    "save its arrays with numpy.savez, named and laid out as torchvision's tensors or Caffe's: "
    "features.0.weight or conv1.0, and so on"
)
AGAIN = "download or copy it again"
UNPACK = "unpack it, and give the file of weights inside"
LEGACY_TORCH = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
"""How torch.save began a file before it wrote zip archives: a pickled magic number."""
HEAD_BYTES = 1024

KNOWN = (
    (0, b"\x1f\x8b", f"a gzip archive; {UNPACK}"),
    (0, b"BZh", f"a bzip2 archive; {UNPACK}"),
    (0, b"\xfd7zXZ\0", f"an xz archive; {UNPACK}"),
    (0, b"\x28\xb5\x2f\xfd", f"a zstd archive; {UNPACK}"),
    (0, b"7z\xbc\xaf\x27\x1c", f"a 7z archive; {UNPACK}"),
    (0, b"Rar!", f"a RAR archive; {UNPACK}"),
    (257, b"ustar", f"a tar archive; {UNPACK}"),
    (0, b"\x89HDF\r\n\x1a\n", f"an HDF5 file, of Keras or Caffe for instance; {ARRAYS}"),
    (512, b"\x89HDF\r\n\x1a\n", f"a MATLAB file; {ARRAYS}"),
    (0, b"MATLAB 5.0 MAT-file", f"a MATLAB file; {ARRAYS}"),
    (4, b"TFL3", f"a TensorFlow Lite model; {ARRAYS}"),
    (0, b"GGUF", "a GGUF file of a language model; give the file of weights"),
    (0, b"\x08\x01\x12", f"a TensorFlow SavedModel; {ARRAYS}"),
    (0, b"\xff\xd8\xff", "an image; give the file of weights"),
    (0, b"\x89PNG", "an image; give the file of weights"),
    (0, b"%PDF", "a PDF document; give the file of weights"),
    *((0, b"\x08%c" % version, f"an ONNX model; {SAVE}") for version in range(3, 16)),
)  # fmt: skip
"""(offset, bytes there, what the file is and what to do)."""

IN_ZIP = (
    ("constants.pkl", f"a TorchScript program; {SAVE}"),
    ("archive_format", f"a program of torch.export; {SAVE}"),
    ("model.weights.h5", f"a Keras model; {ARRAYS}"),
)
"""(name of a member, what the archive then is and what to do)."""

IN_FOLDER = (
    ("current.json", "a model that is published already; give its folder to `alexnet serve`"),
    ("about.json", "a model that is published already; give its folder to `alexnet serve`"),
    ("saved_model.pb", f"a TensorFlow SavedModel; {ARRAYS}"),
)


def read(path: Path) -> Any:
    """What the file holds: nested dictionaries with tensors in them, of torch.save; a dictionary of
    tensors, of safetensors, NumPy (an .npy file's array as `mean`) or a mean image of Caffe; or a
    `Caffemodel`. Raises ForeignError for any other file, and OSError."""
    if path.parts[:1] in (("http:",), ("https:",)):
        raise _is(path, "the address of a file; download it, and give the file")
    if path.is_dir():
        raise _is(path, _folder(path))
    if path.exists() and not path.is_file():
        raise _is(path, "no regular file; give the file of weights")
    with path.open("rb") as stream:
        head = stream.read(HEAD_BYTES)
    if not head:
        raise ForeignError(f"{path}: the file is empty (0 bytes); {AGAIN}")
    if head.startswith(b"PK\x03\x04"):
        return _zip(path)
    if head.startswith(LEGACY_TORCH):
        return _torch(path, legacy=True)
    if head.startswith(b"\x93NUMPY"):
        return _numpy(path)
    if head[8:9] == b"{" and head[4:8] == b"\0\0\0\0":  # eight bytes say how long the header is
        return _safetensors(path)
    if head.startswith(b"\x08\x01\x10"):
        return {"mean": torch.from_numpy(_caffe(path, mean_image))}
    if text := _text(head):
        raise _is(path, text)
    for offset, magic, what in KNOWN:
        if head.startswith(magic, offset):
            raise _is(path, what)
    if head.startswith(b"\x80"):
        raise _is(path, f"a plain pickle, which is not read, as that would run its code; {SAVE}")
    return _caffe(path, parse)


def _is(path: Path, what: str) -> ForeignError:
    return ForeignError(f"{path}: this is {what}")


def _cut(path: Path) -> ForeignError:
    size = f"{path.stat().st_size:,}"
    return ForeignError(f"{path}: the file is cut off or damaged ({size} bytes); {AGAIN}")


def _folder(path: Path) -> str:
    for name, what in IN_FOLDER:
        if (path / name).exists():
            return what
    suffixes = (".pth", ".pt", ".safetensors", ".bin", ".ckpt", ".caffemodel", ".npz")
    found = sorted(file.name for file in path.iterdir() if file.suffix in suffixes)
    return f"a folder; give the file of weights{f', such as {path / found[0]}' if found else ''}"


def _text(head: bytes) -> str | None:
    """What a text file is and what to do; None for bytes that are no text."""
    text = head.removeprefix(b"\xef\xbb\xbf").decode("utf-8", "replace").lstrip()
    if any(not (c.isprintable() or c.isspace()) or c == "\ufffd" for c in text[:-1]):
        return None
    if text.startswith("version https://git-lfs.github.com/"):
        return "a Git LFS pointer, not the file itself; fetch that with `git lfs pull`"
    if "/annex/objects/" in text:
        return "a git-annex pointer, not the file itself; fetch that with `git annex get`"
    if text.startswith("<"):
        return (
            "a web page, or a server's answer, that was saved in the place of the weights; "
            "download the file itself"
        )
    if text.startswith(("{", "[")):
        return "a JSON file; give the file of weights that belongs to it"
    if "layer {" in text or "layers {" in text or "input_dim" in text:
        return "a network's description in Caffe's format; give its weights, the .caffemodel"
    return f"a text file, which begins with {text[:30]!r}; give the file of weights"


def _zip(path: Path) -> Any:
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.namelist()
            damaged = archive.testzip()
    except (zipfile.BadZipFile, zlib.error, EOFError, ValueError):
        raise _cut(path) from None
    if damaged:
        raise _cut(path) from None
    names = {member.rpartition("/")[2] for member in members}
    for name, what in IN_ZIP:
        if name in names:
            raise _is(path, what)
    if "data.pkl" in names:
        return _torch(path, legacy=False)
    if all(name.endswith(".npy") for name in names):
        return _numpy(path)
    raise _is(path, f"a zip archive that holds {', '.join(members)[:60]}; {UNPACK}")


def _safetensors(path: Path) -> dict[str, torch.Tensor]:
    try:
        return load_file(path)
    except SafetensorError:
        raise _cut(path) from None


def _numpy(path: Path) -> dict[str, torch.Tensor]:
    try:
        loaded = np.load(path, allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            arrays = {"mean": loaded}
        else:
            with loaded:
                arrays = dict(loaded)
    except ValueError as error:
        if "allow_pickle" not in str(error):
            raise _cut(path) from None
        raise _is(
            path,
            "a NumPy file of Python objects, which is not read, as that would run their code; "
            + ARRAYS,
        ) from None
    except (EOFError, zipfile.BadZipFile):
        raise _cut(path) from None
    for name, array in arrays.items():
        if array.dtype.kind not in "fiu" or array.dtype.itemsize > 8:
            raise ForeignError(f"{path}: {name} should hold numbers, but holds {array.dtype}")
    return {
        name: torch.from_numpy(np.array(a, a.dtype.newbyteorder("="))) for name, a in arrays.items()
    }


def _caffe(path: Path, parser: Any) -> Any:
    try:
        return parser(path.read_bytes())
    except NotCaffeError:
        with path.open("rb") as stream:
            begins = stream.read(8).hex(" ")
        raise ForeignError(
            f"{path}: the file is cut off, damaged or of a format that is not read (it begins with "
            f"{begins}); {AGAIN}, or give a state dict, .safetensors, .npz or .caffemodel"
        ) from None


class Unread:
    """Stands for an object of a class that is not torch's: created, filled and thrown away."""

    def __init__(self, *_: object) -> None:
        pass

    def __setstate__(self, _: object) -> None:
        pass


def unread_dictionary(name: str) -> type:
    """A class that makes dictionaries instead of objects of the class `name`, which may be filled
    like a dictionary or like an object; `unread` in their attributes says of what class."""

    def make(_: type, *__: object) -> OrderedDict:
        made: OrderedDict = OrderedDict()
        made.__dict__["unread"] = name
        return made

    return type("UnreadDictionary", (), {"__new__": make})


def _torch(path: Path, *, legacy: bool) -> Any:
    """What torch.save wrote. Whatever is no tensor and no plain value is left out: torch's
    unpickler of weights alone, which imports nothing, is given a stand-in for each class."""
    try:
        with path.open("rb") as stream:  # by its path torch.load would look at its name
            names = sorted(set(_classes(stream, legacy)))
            stand_ins = [
                (Unread if name.startswith("numpy") else unread_dictionary(name), name)
                for name in names
            ]
            stream.seek(0)
            with safe_globals(stand_ins), warnings.catch_warnings():  # type: ignore[arg-type]
                warnings.simplefilter("ignore")  # of old formats, which are read all the same
                loaded = torch.load(stream, map_location="cpu", weights_only=True)
    except OSError:
        raise
    except UnpicklingError as error:
        if "persistent_load" in str(error):  # of a class's source: an old way to save a model
            raise _whole(path, "with its source") from None
        if "blocked" in str(error):
            raise _is(path, "a file that runs programs when it is read; do not use it") from None
        raise _is(
            path,
            "a pickle in another protocol than torch.save's own, or with more in it than tensors "
            f"and plain values; {SAVE}",
        ) from None
    except Exception:  # a cut archive raises almost anything
        if legacy:
            raise _cut(path) from None
        shown = ", ".join(name for name in names if not name.startswith(("torch", "collections")))
        raise _is(
            path, f"a checkpoint that also holds objects that are not read ({shown:.80}); {SAVE}"
        ) from None
    if name := _module(loaded):
        raise _whole(path, name)
    return loaded


def _whole(path: Path, name: str) -> ForeignError:
    return _is(
        path,
        f"a whole pickled model ({name}), which is not read, as that would run its code; {SAVE}",
    )


def _module(loaded: Any) -> str | None:
    """The class of a torch.nn.Module that was saved, alone or in a dictionary without weights."""
    values = [loaded, *(loaded.values() if isinstance(loaded, dict) else ())]
    if any(_is_state(value) for value in values):
        return None
    for value in values:
        if "_modules" in (attributes := getattr(value, "__dict__", {})):
            return str(attributes["unread"])
    return None


def _is_state(value: Any) -> bool:
    """Whether a value is a dictionary with tensors by their names, as a state dict is."""
    return isinstance(value, dict) and any(
        isinstance(key, str) and isinstance(tensor, torch.Tensor) for key, tensor in value.items()
    )


def _classes(stream: IO[bytes], legacy: bool) -> Iterator[str]:
    """The classes and functions that the pickled part of the file names, without calling any."""
    if not legacy:
        with zipfile.ZipFile(stream) as archive:
            pickled = next(n for n in archive.namelist() if n.endswith("data.pkl"))
            with archive.open(pickled) as part:
                yield from _globals(part)
        return
    for _ in range(4):  # magic number, protocol, machine, and the object
        yield from _globals(stream)


def _globals(stream: IO[bytes]) -> Iterator[str]:
    for opcode, argument, _ in pickletools.genops(stream):
        if opcode.name == "GLOBAL":
            module, name = str(argument).split(" ", 1)
            if (module, name) in NAME_MAPPING:  # as Python 2 called it, and as pickles still do
                module, name = NAME_MAPPING[module, name]
            yield f"{IMPORT_MAPPING.get(module, module)}.{name}"
