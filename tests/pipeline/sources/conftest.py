"""What the tests of sources share."""

import io
import tarfile
from collections.abc import Callable

import pytest


@pytest.fixture(scope="session")
def tar() -> Callable[..., bytes]:
    """{name: content} -> a tar archive of these files."""

    def make(files: dict[str, bytes], mode: str = "w", form: int = tarfile.GNU_FORMAT) -> bytes:
        archive = io.BytesIO()
        with tarfile.open(fileobj=archive, mode=mode, format=form) as writer:  # type: ignore
            for name, data in files.items():
                header = tarfile.TarInfo(name)
                header.size = len(data)
                writer.addfile(header, io.BytesIO(data))
        return archive.getvalue()

    return make
