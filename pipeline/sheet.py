"""A contact sheet: what the network sees of a dataset, drawn from the batches themselves."""

import io
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont

from alexnet import atomic
from alexnet.views import centre_mean, five_places, ten_views
from pipeline.batches import Decoding, train_batches, whole_batches
from pipeline.dataset import Dataset
from pipeline.order import Shard, epoch_order

IMAGES, DRAWS = 6, 7
CELL, GAP, HEAD = 160, 8, 30
INK, PAPER = "#222222", "white"
VIEW_COLOURS = ("#d62728", "#1f77b4", "#2ca02c", "#ff7f0e", "#9467bd")
ALONE = Shard(0, 1, None)


def draw_sheet(dataset: Dataset, crop: int, path: Path) -> None:
    """Write a PNG: some training images with the crops, mirrors and colours that the first
    epochs draw for them, and the ten views that are averaged when an image is classified."""
    width = (DRAWS + 1) * (CELL + GAP) + GAP
    height = 3 * HEAD + (IMAGES + 2) * (CELL + GAP) + GAP
    sheet = Image.new("RGB", (width, height), PAPER)
    _write(
        sheet,
        0,
        f"as packed, then as cropped to {crop}, mirrored and recoloured in {DRAWS} epochs",
    )
    samples = _samples(dataset)
    for row, sample in enumerate(samples):
        _place(sheet, _whole(dataset, sample), 0, row, HEAD)
        for epoch in range(DRAWS):
            _place(sheet, _draw(dataset, sample, epoch, crop), 1 + epoch, row, HEAD)
    top = 2 * HEAD + IMAGES * (CELL + GAP)
    _write(
        sheet,
        top - HEAD + GAP,
        "ten views: the four corners and the centre, and their mirror images",
    )
    _views(sheet, _whole(dataset, samples[0]), crop, top + GAP)
    file = io.BytesIO()
    sheet.save(file, "PNG")
    atomic.write(path, file.getvalue())


def _samples(dataset: Dataset) -> list[int]:
    """Training samples of different classes, as far as there are."""
    some_N = np.arange(min(len(dataset.train), 1000))
    _, first = np.unique(dataset.train.label(some_N), return_index=True)
    rest = np.setdiff1d(some_N, first)
    return [int(sample) for sample in (*first, *rest)][:IMAGES]


def _whole(dataset: Dataset, sample: int) -> np.ndarray:
    """(size, size, 3) uint8."""
    batches = whole_batches(dataset, "train", ALONE, Decoding(threads=1), batch=1, start=sample)
    return next(batches).image_NCHW[0].permute(1, 2, 0).numpy()


def _draw(dataset: Dataset, sample: int, epoch: int, crop: int) -> np.ndarray:
    """What the network gets of a sample, the mean added again: (crop, crop, 3) uint8."""
    (position,) = np.flatnonzero(epoch_order(len(dataset.train), 0, epoch) == sample)
    batches = train_batches(
        dataset, ALONE, Decoding(threads=1),
        seed=0, epoch=epoch, start=int(position), batch=1, crop=crop,
    )  # fmt: skip
    image_3HW = next(batches).image_NCHW[0] + centre_mean(dataset.mean_SS3, crop)
    return image_3HW.permute(1, 2, 0).round().clamp(0, 255).byte().numpy()


def _views(sheet: Image.Image, image_SS3: np.ndarray, crop: int, top: int) -> None:
    """The image with the five places marked on it, and beside it the ten views."""
    size = len(image_SS3)
    places = five_places(size, crop)
    side = 2 * CELL + GAP
    marked = Image.fromarray(image_SS3).resize((side, side))
    for (y, x), colour in zip(places, VIEW_COLOURS, strict=True):
        box = [side / size * edge for edge in (x, y, x + crop - 1, y + crop - 1)]
        ImageDraw.Draw(marked).rectangle(box, outline=colour, width=3)
    sheet.paste(marked, (GAP, top + GAP))
    (view_V3HW,) = ten_views(torch.from_numpy(image_SS3).permute(2, 0, 1)[None], crop)
    for number, view_3HW in enumerate(view_V3HW):
        row, column = divmod(number, len(places))
        framed = Image.fromarray(view_3HW.permute(1, 2, 0).numpy()).resize((CELL, CELL))
        edge = (0, 0, CELL - 1, CELL - 1)
        ImageDraw.Draw(framed).rectangle(edge, outline=VIEW_COLOURS[column], width=4)
        _place(sheet, np.asarray(framed), 2 + column, row, top)


def _place(sheet: Image.Image, image: np.ndarray, column: int, row: int, top: int) -> None:
    place = GAP + column * (CELL + GAP), top + GAP + row * (CELL + GAP)
    sheet.paste(Image.fromarray(image).resize((CELL, CELL)), place)


def _write(sheet: Image.Image, top: int, text: str) -> None:
    font = ImageFont.load_default(size=16)
    ImageDraw.Draw(sheet).text((GAP, top + GAP), text, fill=INK, font=font)
