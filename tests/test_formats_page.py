"""docs/formats.md: each row of its tables is tried on files made for it."""

import io
import re
import tarfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms

from alexnet.formats import ENDINGS, FORMATS, readable
from alexnet.pixels import MAX_PIXELS, MOST_PIXELS, ImageError, whole_image
from pipeline.arguments import Pack
from pipeline.batches import Decoding, whole_batches
from pipeline.dataset import Dataset
from pipeline.manifest import DatasetError
from pipeline.order import Shard
from pipeline.photographs import index_photographs
from pipeline.sources import open_source
from pipeline.sources.folder import folder_source
from serving.settings import Settings
from tests.alexnet.test_grey import of, tiff, twelve_bits
from tests.alexnet.test_png import chunk
from tests.conftest import ROOT

SIZE = 64
PAGE = (ROOT / "docs" / "formats.md").read_text()
SLOPE_HW = np.linspace(0, 1, SIZE)[None] + np.zeros((SIZE, 1))
GREY = Image.fromarray((255 * SLOPE_HW).round().astype(np.uint8))
RGB = GREY.convert("RGB")
SIXTEEN_HW = 65535 * SLOPE_HW
DECODING = Decoding(threads=1)


def table(section: str) -> list[list[str]]:
    """The cells of the rows of a section's table."""
    text = PAGE.split(f"\n## {section}\n")[1].split("\n## ")[0]
    rows = [line for line in text.splitlines() if line.startswith("|")][2:]
    return [[cell.strip() for cell in row.strip("|").split(" | ")] for row in rows]


def encoded(image: Image.Image, format: str, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, format, **options)
    return file.getvalue()


def in_place(tmp_path: Path, data: bytes, beside: bytes) -> np.ndarray:
    """What training on a folder sees of a file: (SIZE, SIZE, 3). Raises DatasetError.

    `beside` is what else is in the folder.
    """
    for name in ("a/0", "a/1", "b/0", "b/1"):
        (tmp_path / "photos" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "photos" / name).write_bytes(beside)
    odd = tmp_path / "photos" / "a" / "odd"
    odd.write_bytes(data)
    source = folder_source(tmp_path / "photos", 0.1, {})
    listed = index_photographs(source, tmp_path / "listed", SIZE)
    for split, photographs in (("train", listed.train), ("val", listed.val)):
        (batch,) = whole_batches(listed, split, Shard(0, 1, None), DECODING, batch=len(photographs))  # type: ignore[arg-type]
        for sample, image_CHW in zip(batch.sample_N.tolist(), batch.image_NCHW, strict=True):
            if photographs.place(sample) == str(odd):
                return image_CHW.permute(1, 2, 0).numpy()
    raise AssertionError("it is in neither split")


FORMAT_ROWS = table("Image formats")


def format_of(row: list[str]) -> str:
    return row[0].split(",")[0].split(" ")[0]


def test_the_table_of_formats_is_the_programs_list() -> None:
    assert [format_of(row) for row in FORMAT_ROWS] == list(FORMATS)
    for row, form in zip(FORMAT_ROWS, FORMATS.values(), strict=True):
        assert tuple(re.findall("`([^`]+)`", row[1])) == form.endings


@pytest.mark.parametrize("row", FORMAT_ROWS, ids=format_of)
def test_a_format_is_taken_where_the_page_says(row: list[str], tmp_path: Path) -> None:
    name, (packing, place, server) = format_of(row), row[2:]
    if "pillow-heif" in packing and name not in readable():
        with pytest.raises(ImageError, match="pip install pillow-heif"):
            whole_image(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic")
        pytest.skip("pillow-heif is not installed")
    data = encoded(RGB, name)
    expected = whole_image(RGB, SIZE).astype(int)
    assert np.abs(whole_image(data, SIZE) - expected).mean() < 4
    default = Settings(model=("unused",)).formats
    assert (server == "yes") == (name in default)
    for ending in FORMATS[name].endings:
        allowed = Settings(model=("unused",), formats=(ending,)).formats
        assert allowed == (name,)
        assert np.abs(whole_image(data, SIZE, allowed) - expected).mean() < 4
    if place == "yes":
        found = in_place(tmp_path, data, encoded(RGB, "JPEG"))
        assert np.abs(found - expected).mean() < 4
    else:
        with pytest.raises(DatasetError, match="is of none of the formats that are read in place"):
            in_place(tmp_path, data, encoded(RGB, "JPEG"))


def of_ending(ending: str) -> bytes:
    name = next(name for name, form in FORMATS.items() if ending in form.endings)
    return encoded(RGB, name if name in readable() else "PNG")  # told by how it begins


def test_all_formats_are_packed_from_folders_and_from_shards(
    tmp_path: Path, run_on_cluster: Callable
) -> None:
    shards, folder = tmp_path / "shards", tmp_path / "folder"
    shards.mkdir()
    with tarfile.open(shards / "x.tar", "w") as tar:
        for number, (ending, label) in enumerate((e, n) for e in ENDINGS for n in range(2)):
            (folder / f"{label}").mkdir(parents=True, exist_ok=True)
            (folder / f"{label}" / f"{number}.{ending.upper()}").write_bytes(of_ending(ending))
            for field, content in ((ending, of_ending(ending)), ("cls", b"%d" % label)):
                member = tarfile.TarInfo(f"{number}.{field}")
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
    for source in (shards, folder):
        packed = tmp_path / f"{source.name}-packed"
        done = run_on_cluster("pipeline", "pack", source, packed, "--size", SIZE)
        assert done.returncode == 0, done.stderr
        dataset = Dataset(packed)
        assert dataset.manifest.quarantined == 0
        assert len(dataset.train) + len(dataset.val) == 2 * len(ENDINGS)


def lab() -> bytes:
    srgb, to = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
    image = ImageCms.profileToProfile(RGB, srgb, to, outputMode="LAB")
    assert image is not None
    return encoded(image, "TIFF")


def turned(format: str) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6
    return encoded(RGB.transpose(Image.Transpose.ROTATE_90), format, exif=exif)


def turned_by_xmp() -> bytes:
    data = encoded(RGB.transpose(Image.Transpose.ROTATE_90), "PNG")
    text = chunk(b"iTXt", b'XML:com.adobe.xmp\0\0\0\0\0<x tiff:Orientation="6"/>')
    return data[:33] + text + data[33:]


def clear(format: str) -> bytes:
    """The lower half is."""
    image = RGB.convert("RGBA")
    image.paste((0, 0, 0, 0), (0, SIZE // 2, SIZE, SIZE))
    return encoded(image, format)


def several(format: str) -> bytes:
    red = Image.new("RGB", RGB.size, "red")
    return encoded(RGB, format, save_all=True, append_images=[red])


def large_texts() -> bytes:
    body = zlib.compress(bytes(3 * 2**20))
    data = encoded(RGB, "PNG")
    return data[:33] + chunk(b"iCCP", b"p\0\0" + body) + chunk(b"zTXt", b"k\0\0" + body) + data[33:]


def floats(level_HW: np.ndarray, **kind: int) -> bytes:
    return tiff(level_HW.astype("<f4").tobytes(), 32, 3, **kind)  # type: ignore[arg-type]


def in_colour(level_HW: np.ndarray, dtype: str, bits: int, kind: int = 1) -> bytes:
    pixels = np.stack([level_HW] * 3, -1).astype(dtype).tobytes()
    return tiff(pixels, bits, kind, photometric=2, samples=3)


BILEVEL = GREY.convert("1", dither=Image.Dither.NONE)
AS_IT_IS, SCALED, REFUSED = "as it is", "scaled to 8", "refused"
FILES: dict[str, Callable[[], Iterator[bytes] | list[bytes]]] = {
    "8 bits: grey, colour, palette, CMYK, YCbCr": lambda: [
        encoded(GREY, "PNG"), encoded(RGB, "TIFF"), encoded(RGB.quantize(256), "PNG"),
        encoded(RGB.convert("CMYK"), "TIFF"), encoded(RGB.convert("CMYK"), "JPEG"),
        encoded(RGB.convert("YCbCr"), "TIFF"),
    ],
    "1 bit": lambda: [encoded(BILEVEL, "PNG"), encoded(BILEVEL, "BMP"), encoded(BILEVEL, "TIFF")],
    r"TIFF in L\*a\*b\*": lambda: [lab()],
    "16 bits: grey or colour": lambda: [
        tiff(of(SIXTEEN_HW, "<u2"), 16), tiff(of(SIXTEEN_HW, ">u2"), 16, order=">"),
        in_colour(SIXTEEN_HW, "<u2", 16),
        encoded(Image.fromarray(SIXTEEN_HW.astype(np.uint16)), "PNG"),
        encoded(Image.fromarray(SIXTEEN_HW.astype(np.uint16)), "JPEG2000"),
        encoded(Image.fromarray(SIXTEEN_HW.astype(np.uint16)), "PPM"),
    ],
    "TIFF in 12 bits of grey": lambda: [tiff(twelve_bits(), 12)],
    "TIFF in floats of 32 bits from 0 to 1, grey": lambda: [floats(SLOPE_HW)],
    "the same outside 0 to 1, or no number": lambda: [
        floats(255 * SLOPE_HW), floats(SLOPE_HW - 1), floats(SLOPE_HW * np.nan),
    ],
    "TIFF in integers of 32 bits, the largest from 256 to 65,535": lambda: [
        tiff(of(SIXTEEN_HW, "<u4"), 32)
    ],
    "other integers of 32 bits, signed ones of 16": lambda: [
        tiff(of(255 * SLOPE_HW, "<u4"), 32), tiff(of(65536 * SLOPE_HW, "<u4"), 32),
        tiff(of(SIXTEEN_HW - 1, "<i4"), 32, 2), tiff(of(32767 * SLOPE_HW, "<i2"), 16, 2),
    ],
    "TIFF in 10 or 14 bits, floats of 16 or 64 bits, 32 bits in colour": lambda: [
        tiff(bytes(64 * 80), 10), tiff(bytes(64 * 112), 14), tiff(bytes(64 * 128), 16, 3),
        tiff(bytes(64 * 512), 64, 3), in_colour(SIXTEEN_HW, "<u4", 32),
        in_colour(SLOPE_HW, "<f4", 32, 3),
    ],
    "TIFF in 16 bits or floats, 0 for white": lambda: [
        tiff(of(65535 - SIXTEEN_HW, "<u2"), 16, photometric=0), floats(1 - SLOPE_HW, photometric=0),
    ],
    "transparent": lambda: [clear("PNG"), clear("TIFF")],
    "turned by EXIF, by XMP, or by a box of AVIF or HEIF": lambda: [
        turned("JPEG"), turned("PNG"), turned("TIFF"), turned_by_xmp(), turned("AVIF"),
    ],
    "animated, or of several pages": lambda: [
        several("PNG"), several("WEBP"), several("TIFF"), several("GIF"), several("AVIF"),
    ],
    "with a colour profile, texts or EXIF of any size": lambda: [
        large_texts(), encoded(RGB, "JPEG", icc_profile=bytes(2**21)),
    ],
}  # fmt: skip
"""What the first column of the table stands for."""
DEPTH_ROWS = table("Depth, colour and turning")


def test_the_table_of_depths_has_the_rows_that_are_tried() -> None:
    assert [row[0] for row in DEPTH_ROWS] == list(FILES)


@pytest.mark.parametrize("row", DEPTH_ROWS, ids=lambda row: row[0])
def test_an_image_becomes_what_the_page_says(row: list[str], tmp_path: Path) -> None:
    image, packing, place = row
    expected = whole_image(BILEVEL if image == "1 bit" else RGB, SIZE).astype(int)
    white = expected.copy()
    white[SIZE // 2 :] = 255
    for number, data in enumerate(FILES[image]()):
        if packing == "refused":
            with pytest.raises(ImageError) as refused:
                whole_image(data, SIZE)
            assert refused.value.kind == "unsupported"
        else:
            wanted = white if packing == "on white" else expected
            assert np.abs(whole_image(data, SIZE) - wanted).mean() < 2
        is_tiff = data[:2] in (b"II", b"MM")
        folder = tmp_path / str(number)
        if place == "refused" or (place.endswith("refused as TIFF") and is_tiff):
            with pytest.raises(DatasetError, match=r"odd (is|cannot be used|has)"):
                in_place(folder, data, encoded(RGB, "JPEG"))
        elif data[:4] != b"GIF8" and data[4:8] != b"ftyp" and b"XML:com" not in data:
            if place == "in the colours beneath":
                wanted = expected.copy()
                wanted[SIZE // 2 :] = 0
            else:
                wanted = expected
            found = in_place(folder, data, encoded(RGB, "JPEG"))
            assert np.abs(found - wanted).mean() < 3, number


(LIMIT,) = table("Limits")


def numbers(cell: str) -> list[int]:
    return [int(number.replace(",", "")) for number in re.findall(r"\d[\d,]+", cell)]


def wide(pixels: int) -> bytes:
    """A PNG of one bit a pixel, a little larger than allowed or not."""
    width = 8192
    return encoded(Image.new("1", (width, -(-pixels // width))), "PNG", compress_level=1)


def test_the_limits_are_the_programs() -> None:
    _, packing, place, library, server = LIMIT
    assert numbers(packing) == [MAX_PIXELS, MOST_PIXELS]
    assert numbers(place) == numbers(library) == [MAX_PIXELS]
    assert numbers(server) == [MOST_PIXELS]
    assert Settings(model=("unused",)).max_pixels == MAX_PIXELS
    assert Pack.model_fields["max_pixels"].default == MAX_PIXELS


def test_in_place_and_in_the_library_the_limit_holds(tmp_path: Path) -> None:
    for pixels, fits in ((MAX_PIXELS, True), (MAX_PIXELS + 1, False)):
        data = wide(pixels)
        if fits:
            assert not whole_image(data, SIZE).any()
            continue
        with pytest.raises(ImageError, match="67,117,056 pixels; the limit is 67,108,864"):
            whole_image(data, SIZE)
        text = "odd has 67,117,056 pixels, more than the 67,108,864 .* pack the folder"
        with pytest.raises(DatasetError, match=text):
            in_place(tmp_path, data, encoded(RGB, "JPEG"))


@pytest.mark.slow
def test_packing_takes_as_many_pixels_as_it_is_told(
    tmp_path: Path, run_on_cluster: Callable
) -> None:
    """Also where it goes on with what an earlier try with another limit has left."""
    phones = {"50": (8160, 6144), "64": (9248, 6944), "108": (12000, 9000), "200": (16320, 12240)}
    for name, size in phones.items():
        data = encoded(Image.linear_gradient("L").resize(size, Image.Resampling.NEAREST), "JPEG")
        for label in ("a", "b"):
            (tmp_path / "photos" / label).mkdir(parents=True, exist_ok=True)
            (tmp_path / "photos" / label / f"{name}.jpg").write_bytes(data)
    words = ("pipeline", "pack", tmp_path / "photos", tmp_path / "packed", "--size", SIZE)
    done = run_on_cluster(*words)
    assert (done.returncode, done.stderr.count("4 of 8 files cannot be used (4 too-large)")) == (
        2,
        1,
    )
    rows = (tmp_path / "packed" / "quarantine.jsonl").read_text()
    assert rows.count("the limit is 67,108,864; --max-pixels sets it, up to 268,435,456") == 4
    done = run_on_cluster(*words, "--max-pixels", 200_000_000)
    assert done.returncode == 0, done.stderr
    dataset = Dataset(tmp_path / "packed")
    assert (len(dataset.train) + len(dataset.val), dataset.manifest.quarantined) == (8, 0)
    refused = run_on_cluster(*words, "--max-pixels", MOST_PIXELS + 1)
    assert refused.returncode == 2
    assert "--max-pixels is 268435457" in refused.stderr


LAYOUT_ROWS = table("Layouts")


def test_each_layout_of_the_page_is_opened(
    photographs: Path, dataset: Path, tmp_path: Path
) -> None:
    names = [row[0] for row in LAYOUT_ROWS]
    assert names == [
        "class folders", "class folders with a split", "a table of labels",
        "ILSVRC-2012 as distributed", "ILSVRC-2010 as distributed",
        "ImageNet's releases, such as Fall 2011", "CIFAR-10, binary version",
        "WebDataset shards", "`imagenette`", "`builtin`",
    ]  # fmt: skip
    for split in ("train", "val"):
        (tmp_path / split).symlink_to(photographs)
    for source in (photographs, tmp_path, dataset, Path("builtin")):
        assert set(open_source(str(source), 0.1, None).splits) == {"train", "val"}
    rows = [
        f"{path.parent.name}/{path.name},{path.parent.name}" for path in photographs.glob("*/*")
    ]
    labels = tmp_path / "labels.csv"
    labels.write_text("\n".join(["file,label", *rows]))
    assert len(open_source(str(photographs), 0.1, None, labels).classes) == 3
    # tests/pipeline/sources has archives as distributed, and a download to be unpacked.
