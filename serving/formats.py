"""What to do about files in formats that the server does not take."""

from alexnet.formats import readable, recognise
from alexnet.pixels import ImageError


class OtherFormatError(ImageError):
    """An image in a format that can be read, and that the settings do not allow."""


def named(error: ImageError, data: bytes, formats: tuple[str, ...]) -> ImageError:
    """The refusal of a file that is in none of `formats`, with what to do about it, where the
    format that it is in can be told."""
    found = recognise(data)
    if not found or found in formats:
        return error
    setting = f"start the server with SERVING_FORMATS={','.join((*formats, found))}"
    if found in readable():
        return OtherFormatError(error.kind, f"{error}; convert it, or {setting}")
    if found == "HEIF":
        return OtherFormatError(error.kind, f"{error}; convert it, or do so and {setting}")
    return ImageError(error.kind, f"{error}; convert it")
