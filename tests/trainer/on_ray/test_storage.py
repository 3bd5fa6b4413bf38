"""What Ray Train does with a file system, done with a store."""

import pickle
import resource
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pyarrow as pa
import pytest
from pyarrow.fs import FileSelector, FileType, PyFileSystem, copy_files

from alexnet.store.errors import MissingError, StoreError
from alexnet.store.store import Store
from alexnet.store.url import StoreURL
from tests.object_store import Server, environment
from trainer.on_ray.storage import file_system

NUMBER = count()


@pytest.fixture
def url(store_server: Server) -> Iterator[StoreURL]:
    with environment(store_server.environment()):
        yield StoreURL(f"s3://private/storage-{next(NUMBER)}")


@pytest.fixture
def files(url: StoreURL) -> PyFileSystem:
    return file_system(url)


def test_a_checkpoint_goes_up_and_comes_back(
    files: PyFileSystem, url: StoreURL, tmp_path: Path
) -> None:
    (tmp_path / "here" / "sub").mkdir(parents=True)
    content = {"state.pt": bytes(range(256)) * 100_000, "sub/x": b"", "sub/y": b"y"}
    for name, data in content.items():
        (tmp_path / "here" / name).write_bytes(data)
    files.create_dir("r/step_1")
    copy_files(str(tmp_path / "here"), "r/step_1", destination_filesystem=files, chunk_size=2**20)
    assert Store(url).names() == [f"r/step_1/{name}" for name in content]
    copy_files("r/step_1", str(tmp_path / "there"), source_filesystem=files)
    for name, data in content.items():
        assert (tmp_path / "there" / name).read_bytes() == data
    files.delete_dir("r/step_1")
    assert Store(url).names() == []


def test_what_is_there_is_told(files: PyFileSystem, url: StoreURL) -> None:
    for name in ("r/a", "r/s/b", "rest"):
        Store(url).write(name, b"x")
    found = files.get_file_info(["r", "./r/a", "r/s", "r/s/b", "re", "."])
    assert [info.type.name for info in found] == [
        "Directory", "File", "Directory", "File", "NotFound", "Directory",
    ]  # fmt: skip

    def listed(base: str, recursive: bool) -> dict[str, FileType]:
        selector = FileSelector(base, recursive=recursive)
        return {info.path: info.type for info in files.get_file_info(selector)}

    assert listed("r", False) == {"r/a": FileType.File, "r/s": FileType.Directory}
    assert listed("r", True) == listed("r", False) | {"r/s/b": FileType.File}
    assert listed(".", False) == {"r": FileType.Directory, "rest": FileType.File}
    with pytest.raises(FileNotFoundError):
        listed("re", False)
    assert files.get_file_info(FileSelector("re", allow_not_found=True)) == []
    files.delete_file("rest")
    assert Store(url).names() == ["r/a", "r/s/b"]


def test_it_travels_as_a_url(files: PyFileSystem, url: StoreURL) -> None:
    sent = pickle.dumps(files)
    assert b"secret" not in sent
    assert pickle.loads(sent) == files != file_system(url / "other")
    with pickle.loads(sent).open_output_stream("x") as file:
        file.write(b"there")
    with files.open_input_stream("x") as file:
        assert file.read() == b"there"


def test_half_an_object_is_never_there(files: PyFileSystem, url: StoreURL) -> None:
    unfinished = files.open_output_stream("x")
    unfinished.write(b"half")
    assert Store(url).names() == []
    del unfinished  # as where reading the source has failed, or the process dies
    full = files.open_output_stream("x")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000_000, before[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            full.write(bytes(20_000_000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    full.close()
    assert Store(url).names() == []


def test_errors_keep_their_line(files: PyFileSystem, store_server: Server, url: StoreURL) -> None:
    with pytest.raises(MissingError, match=r"/x: there is no such object"):
        files.open_input_stream("x")
    with environment(store_server.environment("reader")):
        denied = file_system(url).open_output_stream("x")
        denied.write(b"x")
        with pytest.raises(StoreError, match="x: access is denied"):
            denied.close()
    assert isinstance(denied, pa.NativeFile)
