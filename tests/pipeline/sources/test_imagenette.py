"""The word `imagenette`: a small archive of the same structure, from a server of our own."""

import hashlib
import tarfile
import threading
from functools import partial
from http.server import HTTPServer, SimpleHTTPRequestHandler
from pathlib import Path

import pytest

from pipeline.sources import open_source
from pipeline.sources.download import Remote
from pipeline.sources.imagenette import CLASSES, FOLDER, imagenette_source


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


def test_the_archive_becomes_a_source_with_names(
    tmp_path: Path, test_data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = {
        f"{split}/{wnid}/{path.stem}": path
        for split in ("train", "val")
        for wnid in CLASSES
        for path in sorted((test_data / "imagenette" / split / wnid).iterdir())[:2]
    }
    path = tmp_path / f"{FOLDER}.tgz"
    with tarfile.open(path, "w:gz") as tar:
        for key, image in images.items():
            tar.add(image, f"{FOLDER}/{key}.JPEG")
    content = path.read_bytes()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    with HTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(tmp_path))) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        url = f"http://127.0.0.1:{server.server_port}/{FOLDER}.tgz"
        archive = Remote(url, len(content), hashlib.sha256(content).hexdigest())
        source = imagenette_source({}, archive)
        server.shutdown()
        thread.join()
    assert [(c.id, c.name) for c in source.classes] == sorted(CLASSES.items())
    read = {
        f"{split}/{sample.key}": source.reader.read(sample.location)
        for split, samples in source.splits.items()
        for sample in samples
    }
    assert read == {key: image.read_bytes() for key, image in images.items()}
    # Without the server: what was fetched is used again, and given names go before.
    (tmp_path / "names.txt").write_text("n01440764 a fish\n")
    again = open_source("imagenette", 0.1, tmp_path / "names.txt")
    assert again.splits == source.splits
    assert [c.name for c in again.classes][:2] == ["a fish", "English springer"]


def test_its_classes_are_those_of_the_photographs(test_data: Path) -> None:
    assert sorted(path.name for path in (test_data / "imagenette/train").iterdir()) == [*CLASSES]
