"""Files that break decoders, to a real server: a right answer or a clear refusal, never 5xx."""

import io
import json
import struct
import zlib
from collections import Counter
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch
from PIL import Image

from alexnet.checkpoint import Checkpoint
from alexnet.pixels import ImageError, Limits, whole_image
from alexnet.views import probabilities
from serving.settings import Settings
from tests.serving.conftest import SIZE, Server, wait_for

MOST_GROWTH = 128 * 2**20
"""Most that a server keeps: less than one large image takes, decoded."""
FORMATS = Settings(model=("unused",)).formats
LIMITS = Limits(aspect=Settings(model=("unused",)).max_aspect)


def expected(checkpoint: Checkpoint, data: bytes) -> np.ndarray | None:
    """Probabilities by the network in this process; None where the image is none."""
    try:
        image = whole_image(data, SIZE, FORMATS, checkpoint.about.rule, LIMITS)
    except ImageError:
        return None
    image_13SS = torch.from_numpy(image).permute(2, 0, 1)[None]
    with torch.no_grad():
        return probabilities(checkpoint.model, image_13SS, checkpoint.mean_3HW, 10)[0].numpy()


def memory(server: Server) -> int:
    """Resident bytes of the server and its decoders."""
    process = psutil.Process(server.process.pid)
    return sum(p.memory_info().rss for p in (process, *process.children(recursive=True)))


def check(server: Server, checkpoint: Checkpoint, data: bytes) -> int:
    response = server.post("/classify", data, params={"top_k": 7})
    wanted = expected(checkpoint, data)
    if wanted is None:
        assert response.status_code in (400, 413, 415), response.text
        assert response.headers["content-type"] == "application/problem+json"
        assert response.json()["detail"]
    else:
        (result,) = response.raise_for_status().json()["results"]
        found = {guess["id"]: guess["probability"] for guess in result["guesses"]}
        for label, probability in enumerate(wanted):
            assert found[f"n{label}"] == pytest.approx(probability, abs=1e-5)
    return response.status_code


def test_nasty_images(server: Server, checkpoint: Checkpoint, test_data: Path) -> None:
    folder = test_data / "nasty-images"
    listed = [json.loads(line) for line in (folder / "manifest.jsonl").read_text().splitlines()]
    assert len(listed) == 623
    seen: Counter[int] = Counter()
    before = memory(server)
    for entry in listed:
        seen[check(server, checkpoint, (folder / entry["file"]).read_bytes())] += 1
    assert seen[200] > 200
    wait_for(lambda: memory(server) - before < MOST_GROWTH)
    assert server.client.get("/readyz").is_success


def test_exif_orientations(server: Server, checkpoint: Checkpoint, test_data: Path) -> None:
    files = sorted((test_data / "exif-orientation").glob("*.jpg"))
    assert len(files) == 18
    assert {check(server, checkpoint, path.read_bytes()) for path in files} == {200}


def png(width: int, height: int, *chunks: bytes) -> bytes:
    """One bit a pixel, all zero."""
    rows = zlib.compressobj(9)
    line = b"\0" * (1 + (width + 7) // 8)
    body = b"".join(rows.compress(line) for _ in range(height)) + rows.flush()
    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    parts = (chunk(b"IHDR", header), *chunks, chunk(b"IDAT", body), chunk(b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def packed(name: bytes, size: int) -> bytes:
    return chunk(name, b"k\0\0" + zlib.compress(b"0" * size))


def saved(image: Image.Image, kind: str, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def frames(count: int) -> bytes:
    first, *others = [Image.new("RGB", (8, 8), (n % 256, n // 256, 0)) for n in range(count)]
    return saved(first, "PNG", save_all=True, append_images=others)


@pytest.mark.parametrize(
    ("data", "status", "setting"),
    [
        (lambda: png(20000, 20000), 413, "SERVING_MAX_WHOLE_PIXELS"),
        (lambda: png(5800, 5800), 413, "SERVING_MAX_WHOLE_PIXELS"),
        (lambda: png(5790, 5790), 200, None),
        (lambda: saved(Image.new("RGB", (8190, 8190)), "JPEG"), 200, None),
        (lambda: saved(Image.new("RGB", (8190, 8190)), "JPEG", progressive=True), 200, None),
        (lambda: saved(Image.new("RGB", (5790, 5790)), "WEBP"), 200, None),
        (lambda: saved(Image.new("RGB", (5800, 5800)), "WEBP"), 413, "SERVING_MAX_WHOLE_PIXELS"),
        (lambda: saved(Image.new("RGB", (8200, 8200)), "JPEG"), 413, "SERVING_MAX_PIXELS"),
        (lambda: png(1, 2000), 413, "SERVING_MAX_ASPECT"),
        (lambda: png(60000, 1), 413, "SERVING_MAX_ASPECT"),
        (lambda: png(3000, 100), 200, None),
        (lambda: frames(1000), 200, None),
        (lambda: png(9, 9, *[packed(b"zTXt", 2**20)] * 80), 200, None),
        (lambda: png(9, 9, packed(b"iCCP", 2**26)), 200, None),
        (lambda: png(9, 9, chunk(b"eXIf", b"MM\0*" + b"\xff" * 2**20)), 200, None),
    ],
    ids=lambda value: value if isinstance(value, int | str) else None,
)  # fmt: skip
def test_bombs(server: Server, data, status: int, setting: str | None) -> None:  # type: ignore[no-untyped-def]
    before = memory(server)
    response = server.post("/classify", data())
    wait_for(lambda: memory(server) - before < MOST_GROWTH)
    assert response.status_code == status, response.text
    if setting:
        problem = response.json()
        assert problem["setting"] == setting
        assert problem["seen"] > problem["limit"]
