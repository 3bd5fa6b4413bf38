"""torch.hub.load of this folder, from another one."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import alexnet
from tests.conftest import ROOT
from tests.serving.conftest import publish


def hub(folder: Path, code: str) -> subprocess.CompletedProcess[str]:
    """Run `code` in `folder`, with HUB as torch.hub.load of this project."""
    head = f"""
import functools, sys, torch
HUB = functools.partial(torch.hub.load, {str(ROOT)!r}, source="local")
"""
    return subprocess.run(
        [sys.executable, "-c", head + code], cwd=folder, text=True, capture_output=True,
        env=os.environ | {"TORCH_HOME": str(folder)}, check=False,
    )  # fmt: skip


def test_without_weights_it_is_the_network_of_2012(tmp_path: Path) -> None:
    done = hub(tmp_path, """
network = HUB("alexnet")
print(sum(p.numel() for p in network.parameters()), network.training)
print(tuple(HUB("alexnet", classes=10, width=0.25, crop=64)(torch.zeros(2, 3, 64, 64)).shape))
""")  # fmt: skip
    assert done.stdout.splitlines() == ["60965224 True", "(2, 10)"], done.stderr


def test_with_weights_it_is_the_published_network(tmp_path: Path) -> None:
    model = publish(tmp_path)
    done = hub(tmp_path, """
network = HUB("alexnet", weights="tiny")
assert not network.training
torch.save(network(torch.full((1, 3, 64, 64), 9.0)), "logits")
""")  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = torch.load(tmp_path / "logits")
    expected = alexnet.load(model).network(torch.full((1, 3, 64, 64), 9.0))
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"weights": "tiny"}, "tiny: there is no published model"),
        ({"weights": "tiny", "classes": 10},
         "tiny is a network that is complete; give it without classes"),
        ({"widht": 0.5}, "widht"),
    ],
)  # fmt: skip
def test_mistakes_are_named(options: dict[str, object], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        torch.hub.load(str(ROOT), "alexnet", source="local", **options)
