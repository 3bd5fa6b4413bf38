"""Ten classes of drawn images, for a first run without a download: shapes and textures in any
colour, turned, lit from one side, noisy, as JPEGs of different sizes. The same seed draws the
same bytes.
"""

import io
from colorsys import hsv_to_rgb
from math import cos, pi, sin

import numpy as np
from PIL import Image

from alexnet.classes import ClassLabel
from pipeline.sources.source import Sample, Source, ordered

CLASSES = (
    "disc", "ring", "square", "triangle", "flower", "cross", "stripes", "checks", "dots", "waves",
)  # fmt: skip


class Drawings:
    """Draws images; a location is a number."""

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def read(self, location: str) -> bytes:
        return draw(location, self.seed)

    def stamp(self, location: str) -> str:
        return str(self.seed)


def builtin_source(count: int = 2000, seed: int = 2012) -> Source:
    """`count` drawn images; one in ten of each class is held out."""
    train: list[Sample] = []
    val: list[Sample] = []
    for number in range(count):
        label = number % len(CLASSES)
        split = train if number // len(CLASSES) % 10 else val
        split.append(Sample(f"{CLASSES[label]}/{number:05d}", label, str(number)))
    classes = tuple(ClassLabel(id=name, name=name) for name in CLASSES)
    return Source(classes, ordered(train, val), Drawings(seed))


def draw(location: str, seed: int) -> bytes:
    """The image of that number as a JPEG; its class is CLASSES[number % 10]."""
    number = int(location)
    random = np.random.Generator(np.random.Philox(key=[seed, number]))
    rows, columns = random.integers(140, 260, size=2)
    v_HW, u_HW = np.mgrid[0:rows, 0:columns].astype(np.float32)
    scale = min(rows, columns) / 2
    u_HW, v_HW = (u_HW - columns / 2) / scale, (v_HW - rows / 2) / scale

    angle = random.uniform(0, 2 * pi)
    zoom = random.uniform(0.7, 1.1)
    right_HW = u_HW - random.uniform(-0.25, 0.25)
    down_HW = v_HW - random.uniform(-0.25, 0.25)
    x_HW = (right_HW * cos(angle) + down_HW * sin(angle)) / zoom
    y_HW = (down_HW * cos(angle) - right_HW * sin(angle)) / zoom
    edge = 1.5 / (scale * zoom)  # one and a half pixels, so that outlines are smooth
    inside_HW = np.clip(0.5 - _distance(CLASSES[number % 10], x_HW, y_HW) / edge, 0, 1)

    ink, paper = _colours(random, number % 10)
    image_HW3 = paper + inside_HW[..., None] * (ink - paper)
    light = random.uniform(0, 2 * pi)
    lit_HW = 1 + random.uniform(0, 0.35) * (u_HW * cos(light) + v_HW * sin(light))
    image_HW3 = image_HW3 * lit_HW[..., None]
    noise_HW3 = random.standard_normal(image_HW3.shape, dtype=np.float32)
    image_HW3 += random.uniform(2, 14) * noise_HW3
    file = io.BytesIO()
    pixels = image_HW3.clip(0, 255).astype(np.uint8)
    Image.fromarray(pixels).save(file, "JPEG", quality=int(random.integers(80, 96)))
    return file.getvalue()


def _colours(random: np.random.Generator, label: int) -> np.ndarray:
    """Ink and paper, (2, 3) float32, 0..255, well apart.

    A class has its usual hue, as tenches are green and fire engines red.
    """
    while True:
        ink = hsv_to_rgb(
            (label / 10 + random.normal(0, 0.02)) % 1,
            random.uniform(0.5, 1),
            random.uniform(0.5, 1),
        )
        paper = hsv_to_rgb(random.uniform(), random.uniform(0, 0.4), random.uniform(0.15, 0.95))
        colours = 255 * np.array([ink, paper], np.float32)
        if np.linalg.norm(colours[0] - colours[1]) > 110:
            return colours


def _distance(name: str, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Signed distance to the outline, below zero inside; shapes reach to about radius 0.7."""
    match name:
        case "disc":
            return np.hypot(x, y) - 0.65
        case "ring":
            return np.abs(np.hypot(x, y) - 0.55) - 0.13
        case "square":
            return np.maximum(np.abs(x), np.abs(y)) - 0.55
        case "triangle":
            return np.maximum(np.abs(x) * 0.866 + y * 0.5, -y) - 0.36
        case "flower":
            return np.hypot(x, y) - (0.45 + 0.27 * np.cos(5 * np.arctan2(y, x)))
        case "cross":
            across, along = np.minimum(np.abs(x), np.abs(y)), np.maximum(np.abs(x), np.abs(y))
            return np.maximum(across - 0.17, along - 0.68)
        case "stripes":
            return np.sin(11 * x) / 11
        case "checks":
            return np.sin(8 * x) * np.sin(8 * y) / 8
        case "dots":
            return np.hypot((3 * x) % 1 - 0.5, (3 * y) % 1 - 0.5) / 3 - 0.1
        case "waves":
            return np.sin(11 * (x + 0.22 * np.sin(6 * y))) / 11
    raise ValueError(f"no class {name!r}; there are {', '.join(CLASSES)}")
