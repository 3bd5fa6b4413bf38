"""Where something lies: a folder on disk, or a URL of an object store."""

from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

from pydantic import PlainSerializer, PlainValidator

from alexnet.command import UserError
from alexnet.text import unprintable

SCHEMES = ("s3", "gs", "az")
"""Amazon S3 and all that speaks its protocol, Google Cloud Storage, Azure Blob Storage."""


class StoreURL(str):
    """s3://bucket/path, gs://bucket/path or az://container/path, without a slash at the end."""

    __slots__ = ()

    @property
    def bucket(self) -> str:
        return urlsplit(self).netloc

    @property
    def name(self) -> str:
        """The last part of the path; empty where there is none."""
        return urlsplit(self).path.rpartition("/")[2]

    @property
    def parent(self) -> "StoreURL":
        """The URL without its last part; a bucket's is its own."""
        return StoreURL(self.rpartition("/")[0]) if self.name else self

    def absolute(self) -> "StoreURL":
        """Itself, as a path would be."""
        return self

    def __truediv__(self, name: str) -> "StoreURL":
        return StoreURL(f"{self}/{name}")


def _placed(value: Any) -> Path | StoreURL:
    if isinstance(value, Path | StoreURL):
        return value
    if isinstance(value, str):
        return place(value)
    raise ValueError("expected a path, or a URL of object storage")


Place = Annotated[Path | StoreURL, PlainValidator(_placed), PlainSerializer(str, str)]
"""Also as a field of pydantic's models, which take the text of either."""


def place(text: str) -> Place:
    """The folder or the URL that a user names. Raises UserError for a URL that can be none."""
    return store_url(text) if text.startswith(tuple(f"{s}:/" for s in SCHEMES)) else Path(text)


def store_url(text: str) -> StoreURL:
    """Raises UserError."""
    scheme, _, rest = text.partition("://")
    parts = rest.rstrip("/").split("/")
    if scheme not in SCHEMES or not parts[0]:
        reason = "it names no bucket"
    elif any(mark in text for mark in "?#@\\%") or unprintable(text):
        reason = "it has one of ? # @ \\ % or a control character"
    elif any(part in ("", ".", "..") for part in parts):
        reason = "a part of its path is empty, or dots"
    else:
        return StoreURL(f"{scheme}://{'/'.join(parts)}")
    raise UserError(f"{text}: this is no URL of object storage ({reason}); give s3://BUCKET/PATH")
