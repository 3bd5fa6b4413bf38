"""What the tests of sources share."""

from collections.abc import Callable

import pytest

from tests.pipeline.sources import archives


@pytest.fixture(scope="session")
def tar() -> Callable[..., bytes]:
    """{name: content} -> a tar archive of these files."""
    return archives.tar
