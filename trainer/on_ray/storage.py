"""A store as pyarrow's file system, which Ray Train writes its checkpoints to: whole objects, and
the patience of `alexnet.store.store`. It travels between processes as its URL."""

import posixpath
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from tempfile import NamedTemporaryFile, TemporaryDirectory
from typing import Any

import pyarrow as pa
from pyarrow.fs import FileInfo, FileSelector, FileSystemHandler, FileType, PyFileSystem

from alexnet.store.store import Store
from alexnet.store.url import StoreURL


def file_system(url: StoreURL) -> PyFileSystem:
    """What lies below `url`, by paths relative to it. A folder is there where an object below it
    is, so that making one does nothing. All of it raises StoreError."""
    return PyFileSystem(_Objects(url))


class _Objects(FileSystemHandler):
    def __init__(self, url: StoreURL) -> None:
        self.url = url

    def __reduce__(self) -> tuple[type, tuple[StoreURL]]:
        return type(self), (self.url,)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Objects) and self.url == other.url

    def __hash__(self) -> int:
        return hash(self.url)

    @cached_property
    def _store(self) -> Store:
        return Store(self.url, answered=True)  # the driver, of which this may be a worker

    def get_type_name(self) -> str:
        return self.url.partition(":")[0]

    def normalize_path(self, path: str) -> str:
        path = posixpath.normpath(path)
        return "" if path == "." else path

    def get_file_info(self, paths: list[str]) -> list[FileInfo]:
        return [self._info(self.normalize_path(path)) for path in paths]

    def _info(self, path: str) -> FileInfo:
        if path and self._store.tag(path):
            return FileInfo(path, FileType.File)
        below = path == "" or any(self._below(path))
        return FileInfo(path, FileType.Directory if below else FileType.NotFound)

    def get_file_info_selector(self, selector: FileSelector) -> list[FileInfo]:
        base = self.normalize_path(selector.base_dir)
        found = {}
        for name in self._below(base):
            parts = name.removeprefix(f"{base}/").split("/")
            for count in range(1, len(parts) + 1):
                if count > 1 and not selector.recursive:
                    break
                path = "/".join([*([base] if base else []), *parts[:count]])
                found[path] = FileType.File if path == name else FileType.Directory
        if not found and not selector.allow_not_found:
            raise FileNotFoundError(self._store.place(base))
        return [FileInfo(path, kind) for path, kind in found.items()]

    def _below(self, path: str) -> Iterator[str]:
        """The names of all objects in a folder."""
        prefix = f"{path}/" if path else ""
        return (name for name in self._store.names(prefix) if name.startswith(prefix))

    def create_dir(self, path: str, recursive: bool) -> None:
        pass

    def delete_dir(self, path: str) -> None:
        self._store.remove([*self._below(path)])

    def delete_dir_contents(self, path: str, missing_dir_ok: bool = False) -> None:
        self.delete_dir(path)

    def delete_file(self, path: str) -> None:
        self._store.remove([path])

    def open_input_stream(self, path: str) -> pa.NativeFile:
        with TemporaryDirectory(prefix="object.") as folder:
            file = Path(folder) / "object"
            self._store.fetch(path, file)
            return pa.OSFile(str(file))  # goes on without its name

    open_input_file = open_input_stream

    def open_output_stream(self, path: str, metadata: object) -> pa.NativeFile:
        return pa.PythonFile(_Upload(self._store, path), mode="w")

    def _refused(self, *_: object) -> Any:
        raise NotImplementedError(f"{self.url}: Ray Train has not asked for this so far")

    move = copy_file = open_append_stream = delete_root_dir_contents = _refused


class _Upload:
    """A file that becomes an object when it is closed; not where a write of it has failed, or the
    process has been killed."""

    def __init__(self, store: Store, name: str) -> None:
        self._store, self._name = store, name
        self._file = NamedTemporaryFile(prefix="object.")  # noqa: SIM115
        self.closed = False
        self._whole = True

    def write(self, data: bytes) -> int:
        try:
            return self._file.write(data)
        except OSError:
            self._whole = False
            raise

    def flush(self) -> None:
        self._file.flush()

    def tell(self) -> int:
        return self._file.tell()

    def close(self) -> None:
        if self.closed:
            return
        self.closed = True
        with self._file:
            self._file.flush()
            if self._whole:
                self._store.write(self._name, Path(self._file.name))
