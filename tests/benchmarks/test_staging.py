"""One round of the real benchmark, on a small dataset."""

import json
import os
from collections.abc import Callable

import pytest

from tests import object_store
from tests.benchmarks.staging import COLD, DISK, WARM
from tests.conftest import ROOT


@pytest.mark.slow
@pytest.mark.long
def test_one_round(store_server: object_store.Server, run: Callable) -> None:
    done = run(
        "tests.benchmarks.staging", ROOT / "tests/earlier/dataset", "s3://private/benchmark",
        "--rounds", 1, "--batch", 8, "--crop", 64,
        env={**os.environ, **store_server.environment()},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["windows"].keys() == found["first_s"].keys() == {DISK, COLD, WARM}
    assert {own[0]["count"] for own in found["windows"].values()} == {30}
