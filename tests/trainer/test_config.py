"""Recipes are checked at birth; a run goes on only as what it began as."""

from pathlib import Path

import pytest
import torch
from pydantic import ValidationError

from trainer.config import RECIPES, Recipe, Run, RunError, open_run, resolve_precision, small


def a_run(runs: Path, **changes: object) -> Run:
    fields = {
        "name": "r", "recipe": small(), "data": Path("/d"), "dataset": "0" * 64,
        "runs": runs, "workers": 1, "gpu": False,
    }  # fmt: skip
    return Run.model_validate(fields | changes)


def recipe(**changes: object) -> Recipe:
    return Recipe.model_validate(small().model_dump() | changes)


@pytest.mark.parametrize("name", RECIPES)
def test_recipes_are_valid_and_named(name: str) -> None:
    assert RECIPES[name]().name == name


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"batch": 0}, "greater than or equal to 1"),
        ({"epoch": 3}, "Extra inputs"),
        ({"rates": ((0.1, 0.01),)}, "they rise from 0"),
        ({"rates": ((0, 0.01), (0.5, 0))}, "must exceed 0"),
        ({"precision": "fp8"}, "Input should be 'auto'"),
    ],
)
def test_bad_recipes_are_refused(changes: dict, text: str) -> None:
    with pytest.raises(ValidationError, match=text):
        recipe(**changes)


def test_a_name_is_refused_until_resumed(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"no run r in .* to resume"):
        open_run(a_run(tmp_path), resume=True)
    assert open_run(a_run(tmp_path), resume=False).directory == tmp_path / "r"
    with pytest.raises(RunError, match=r"run r exists in .*--resume, or name another"):
        open_run(a_run(tmp_path), resume=False)
    open_run(a_run(tmp_path, workers=3), resume=True)
    with pytest.raises(RunError, match="began with epochs 12, now it is 13"):
        open_run(a_run(tmp_path, recipe=recipe(epochs=13)), resume=True)
    with pytest.raises(RunError, match="began with another dataset, /d"):
        open_run(a_run(tmp_path, dataset="1" * 64), resume=True)


@pytest.mark.parametrize("name", ["", "a/b", "../up", ".hidden", "a b", "x" * 65])
def test_names_that_are_no_folder_names(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValidationError, match="name"):
        a_run(tmp_path, name=name)


def test_bfloat16_only_where_the_hardware_has_it() -> None:
    can = torch.cpu.get_capabilities()
    native = can.get("avx512_bf16") or can.get("amx_bf16")
    assert resolve_precision("auto", torch.device("cpu")) == ("bf16" if native else "fp32")
    assert resolve_precision("fp32", torch.device("cpu")) == "fp32"
