"""What `algorithms` changes, for how long."""

import os
from collections.abc import Callable

import pytest
import torch

from trainer.loop.precision import algorithms

VARIABLE = "CUBLAS_WORKSPACE_CONFIG"


def state() -> tuple:
    return (
        torch.backends.cudnn.deterministic,
        torch.backends.cudnn.benchmark,
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
        torch.utils.deterministic.fill_uninitialized_memory,
        os.environ.get(VARIABLE),
    )


def of_a_user(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, ":16:8")
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", True)


@pytest.mark.parametrize("prepare", [lambda patch: patch.delenv(VARIABLE, False), of_a_user])
def test_the_process_is_left_as_it_was(
    prepare: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    prepare(monkeypatch)
    before = state()
    workspace = before[-1] or ":4096:8"
    with algorithms(repeatable=True):
        assert state() == (True, False, True, False, False, workspace)
    assert state() == before
    with algorithms(repeatable=False):
        assert state() == (False, True, *before[2:])
    assert state() == before


def test_who_asked_torch_for_repeatable_algorithms_gets_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch.backends.cudnn, "deterministic", True)
    with algorithms(repeatable=False):
        assert state()[:2] == (True, False)
