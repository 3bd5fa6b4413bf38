"""What TIFF files say of themselves, and those of which Pillow reads something else."""

from enum import IntEnum

from PIL import Image

SIGNED, UNCOMPRESSED, IN_PLANES = 2, 1, 2
EXPORT = "export it as JPEG, or as TIFF in 8 bits"


class Tag(IntEnum):
    """TIFF 6.0's, and DNG_VERSION of DNG 1.4."""

    SUBFILE = 254
    """Bit 0: a smaller version of another image in the file."""
    BITS = 258
    COMPRESSION = 259
    WHITE = 262
    """0 where 0 is white."""
    PLANES = 284
    COLOURS = 320
    """Of a palette, in 16 bits each; Pillow takes the upper eight."""
    SAMPLE_FORMAT = 339
    DNG_VERSION = 50706


def misread(image: Image.Image) -> str:
    """Why an opened image would be read wrongly, and what to do; empty where it would not be, and
    for other formats."""
    tags = getattr(image, "tag_v2", None)
    if not tags:
        return ""
    bits = max(tags.get(Tag.BITS, (1,)))
    if Tag.DNG_VERSION in tags or tags.get(Tag.SUBFILE, 0) & 1:
        return f"the first image in the file is a preview of another, as in a camera's; {EXPORT}"
    if bits <= 8 and SIGNED in tags.get(Tag.SAMPLE_FORMAT, ()):
        return f"the TIFF has signed numbers of {bits} bits; {EXPORT}"
    if max(tags.get(Tag.COLOURS, (256,))) < 256:
        return f"the TIFF has a palette in 8 bits instead of 16, or a black one; {EXPORT}"
    planes = tags.get(Tag.PLANES) == IN_PLANES
    if bits > 8 and planes and tags.get(Tag.COMPRESSION) == UNCOMPRESSED:
        return f"the TIFF has planes of {bits} bits without compression; {EXPORT}"
    return ""
