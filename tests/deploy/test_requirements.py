"""deploy/requirements, which the images install, against what it is made of: `make lock`."""

import re
import tomllib
from itertools import combinations

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.conftest import ROOT

FOLDER = ROOT / "deploy" / "requirements"
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
EXTRAS = PYPROJECT["project"]["optional-dependencies"]
GROUPS = PYPROJECT["dependency-groups"]
PINS = {
    canonicalize_name(name): version
    for name, version in re.findall(
        r"^([^#=]+)==(.+)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE
    )
}
ENTRY = re.compile(r"(\S+)==(\S+)((?: \\\n    --hash=sha256:[0-9a-f]{64})+)\n")


def locked(name: str) -> dict[str, str]:
    """Versions by package. The file has nothing else: no address, no path, and a hash for each."""
    text = (FOLDER / f"{name}.txt").read_text()
    assert ENTRY.sub("", text) == ""
    return {package: version for package, version, _ in ENTRY.findall(text)}


LOCKED = {path.stem: locked(path.stem) for path in sorted(FOLDER.iterdir())}
BASE = LOCKED["cuda"] | LOCKED["base"]


@pytest.mark.parametrize("name", LOCKED)
def test_constraints_pin_the_same_versions(name: str) -> None:
    """Of CUDA's libraries torch itself names the versions, and constraints.txt none."""
    ours = {package: PINS[package] for package in LOCKED[name] if package in PINS}
    if name == "cuda":
        assert ours.keys() == {"torch"}
        ours = LOCKED[name] | ours
    assert LOCKED[name] == ours


@pytest.mark.parametrize(
    ("packages", "wanted"),
    [
        (BASE, PYPROJECT["project"]["dependencies"]),
        (BASE | LOCKED["ray"], EXTRAS["train"] + GROUPS["tensorboard"]),
        (BASE | LOCKED["api"], EXTRAS["serve"]),
        (BASE | LOCKED["weights"], [each for each in EXTRAS["train"] if "protobuf" in each]),
        (LOCKED["sbom"], GROUPS["sbom"]),
    ],
    ids=["base", "ray", "api", "weights", "sbom"],
)
def test_an_image_gets_what_pyproject_asks_for(packages: dict[str, str], wanted: list[str]) -> None:
    for requirement in map(Requirement, wanted):
        assert requirement.specifier.contains(packages[canonicalize_name(requirement.name)])


@pytest.mark.parametrize("image", ["ray", "api", "weights"])
def test_a_package_comes_from_one_file(image: str) -> None:
    for one, other in combinations(("base", "cuda", image), 2):
        assert not LOCKED[one].keys() & LOCKED[other].keys()


def test_the_images_install_by_hash_all_but_torch_for_the_cpu() -> None:
    text = (ROOT / "deploy" / "Dockerfile").read_text()
    installs = re.findall(r"pip install (.*?)(?:;| &&|$)", text, re.MULTILINE)
    by_hash = "--no-deps --only-binary :all: --require-hashes -r /opt/requirements/"
    (other,) = {each for each in installs if not each.startswith(by_hash)}
    assert other == "--no-deps -c /opt/requirements/constraints.txt torch"
    files = {each.removeprefix(by_hash) for each in installs} - {other}
    assert files == {f"{name}.txt" for name in LOCKED}
