"""Which room may load what, seen in fresh interpreters; which folders are installed."""

import subprocess
import sys
import tomllib

import pytest

from tests.conftest import ROOT


@pytest.mark.parametrize(
    ("module", "absent"),
    [
        ("serving.app", ("ray", "nvidia", "pipeline", "trainer")),
        ("serving.client", ("torch", "fastapi")),  # the client starts at once
        ("trainer.commands", ("serving", "fastapi", "faiss")),
        ("trainer.index", ("torch",)),  # which reads a variable that this command sets
        ("alexnet.similar", ("faiss",)),
        ("pipeline.commands", ("serving", "trainer", "nvidia", "ray")),
        ("pipeline.pack", ("torch", "nvidia", "ray")),  # tasks start at once and stay small
        ("alexnet", ("torch", "PIL", "numpy")),  # all rooms import it
        ("alexnet.classifier", ("ray", "nvidia", "fastapi", "pipeline", "trainer", "serving")),
    ],
)
def test_importing_loads_no_more_than_it_may(module: str, absent: tuple[str, ...]) -> None:
    code = f"import {module}, sys; print([n for n in {absent!r} if n in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], text=True, capture_output=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_rooms_are_installed_whole_and_nothing_else() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    rooms = ("alexnet", "pipeline", "trainer", "serving")
    found = [path.parent for room in rooms for path in (ROOT / room).rglob("__init__.py")]
    assert set(settings["packages"]) == {".".join(path.relative_to(ROOT).parts) for path in found}
