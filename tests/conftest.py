"""Images, datasets and processes that tests share. Real ones: small, drawn, on disk."""

import io
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from PIL import Image

from pipeline.sources import builtin
from pipeline.sources.devkit import YEARS
from tests import object_store
from tests.browser import MISSING
from tests.nodes import ray_nodes
from tests.pipeline.sources.archives import Archive

ROOT = Path(__file__).parent.parent

# A shell that runs the tests in the background has them ignore it, and so all that they start.
signal.signal(signal.SIGINT, signal.default_int_handler)
if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:  # of nohup: ours alone is to outlive it
    signal.signal(signal.SIGHUP, lambda *_: None)
# Threads that wait for work would spin, on the processors that the other tests need.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
# Ray asks its workers this often whether they are done.
os.environ.setdefault("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", "0.2")

# How long an example takes says how busy the machine is.
settings.register_profile(
    "any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("any machine")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Whole runs first: of two processes neither is to have a long file left at the end."""
    items.sort(key=lambda item: item.path.parent.name != "trainer")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    skipped = terminalreporter.stats.get("skipped", ())
    if any(MISSING in str(report.longrepr) for report in skipped):
        terminalreporter.write_line(f"The tests of the web page were skipped: {MISSING}.")


@pytest.fixture(scope="session")
def run() -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run `python -m ...` from the root of the project, as a user would."""

    def command(*words: object, **options: object) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", *map(str, words)],
            cwd=ROOT,
            text=True,
            capture_output=True,
            timeout=500,
            **options,  # type: ignore[call-overload]
        )

    return command


@pytest.fixture(scope="session")
def run_on_cluster(run: Callable) -> Iterator[Callable[..., subprocess.CompletedProcess[str]]]:
    """`run` on a Ray cluster that is there already: for most commands its start takes longest."""
    with ray_nodes() as cluster:
        cluster.start(cpus=2)
        yield partial(run, env=cluster.environment)


@pytest.fixture(scope="session")
def store_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[object_store.Server]:
    """An object store that runs; `tests.object_store.environment` leads this process to it."""
    with object_store.serving(tmp_path_factory.mktemp("object-store") / "data") as server:
        yield server


def in_own_mounts(script: str, *words: object) -> subprocess.CompletedProcess[str]:
    """Run a shell script that may mount, visible to itself alone."""
    unshare = shutil.which("unshare")
    if not unshare or subprocess.run([unshare, "-rm", "true"], check=False).returncode:
        pytest.skip("this machine allows no user namespaces, so nothing can be mounted")
    return subprocess.run(
        [unshare, "-rm", "bash", "-euc", script, "bash", sys.executable, *map(str, words)],
        cwd=ROOT, text=True, capture_output=True, timeout=500, check=False,
    )  # fmt: skip


@pytest.fixture(scope="session")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of three class folders, forty drawn images each."""
    folder = tmp_path_factory.mktemp("photographs")
    for label, name in enumerate(builtin.CLASSES[:3]):
        (folder / name).mkdir()
        for number in range(40):
            image = builtin.draw(str(10 * number + label), seed=1)
            (folder / name / f"{number:03d}.jpg").write_bytes(image)
    return folder


@pytest.fixture(scope="session")
def dataset(
    photographs: Path, tmp_path_factory: pytest.TempPathFactory, run_on_cluster: Callable
) -> Path:
    """`photographs`, packed at 128 x 128."""
    directory = tmp_path_factory.mktemp("dataset") / "packed"
    done = run_on_cluster("pipeline", "pack", photographs, directory, "--size", 128)
    assert done.returncode == 0, done.stderr
    return directory


@pytest.fixture(scope="session")
def indexed(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The step's directory of an untrained network for `dataset`, its training images indexed."""
    # Loaded here, so that their libraries find the variables set above.
    import torch

    from alexnet.checkpoint import About, save
    from alexnet.model import AlexNet, AlexNetConfig
    from pipeline.dataset import Dataset
    from trainer.publishing.similar_index import build

    torch.manual_seed(0)
    packed = Dataset(dataset)
    network = AlexNetConfig(classes=len(packed.manifest.classes), width=0.1, crop=64)
    about = About(
        name="tiny", step=1, network=network, size=packed.manifest.size, dataset=packed.digest,
        recipe={}, versions={}, classes=packed.manifest.classes, trained_at=None,
    )  # fmt: skip
    models = tmp_path_factory.mktemp("models")
    step = save(AlexNet(network), torch.full((3, 64, 64), 110.0), about, models)
    build(step.parent, dataset)
    return step


@pytest.fixture(scope="session")
def test_data() -> Path:
    """Photographs that are not part of the project; its tests pass without them."""
    if "ALEXNET_TEST_DATA" not in os.environ:
        pytest.skip("ALEXNET_TEST_DATA names no folder of photographs")
    return Path(os.environ["ALEXNET_TEST_DATA"])


@pytest.fixture(params=YEARS, ids=lambda year: year.name)
def archive(request: pytest.FixtureRequest, tmp_path: Path, test_data: Path) -> Archive:
    """ImageNet's challenge of a year as it is distributed, in small."""
    made = Archive(tmp_path / "ilsvrc", test_data / "imagenette", request.param)
    made.folder.mkdir()
    made.write()
    return made


@pytest.fixture
def jpeg() -> bytes:
    """Noise and a slope, 300 x 200: no two pixels alike, so that every shift shows."""
    random = np.random.default_rng(0)
    slope = np.linspace(0, 200, 300)[None, :, None] + np.zeros((200, 1, 3))
    pixels = (slope + random.integers(0, 56, (200, 300, 3))).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=92)
    return file.getvalue()
