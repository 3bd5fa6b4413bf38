"""What a server can be told."""

import json
import os
import re
from contextlib import suppress
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import ByteSize, Field, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict
from typer import Option

from alexnet.formats import FORMATS, HEIF_REMEDY, readable
from alexnet.pixels import MAX_PIXELS, MOST_PIXELS
from alexnet.store.url import Place

CPU_QUOTA = Path("/sys/fs/cgroup/cpu.max")
ORIGIN = re.compile(r"\*|[a-z][a-z0-9+.-]*://[^\sA-Z/?#,]+")
PREFIX = "SERVING_"
"""Of the variables that are settings."""
CLIENTS = {f"{PREFIX}KEY"}
"""Variables that `alexnet classify` reads."""


def granted_cores(quota: Path = CPU_QUOTA) -> int:
    """Cores that this process may use. A container's limit is a share of time, and all cores stay
    in sight."""
    cores = len(os.sched_getaffinity(0))
    with suppress(FileNotFoundError):
        granted, period = quota.read_text().split()
        if granted != "max":
            cores = min(cores, max(1, int(granted) // int(period)))
    return cores


class Settings(BaseSettings):
    """Answer over HTTP with a published model.

    Each option is also an environment variable: SERVING_MAX_FILES for --max-files. Lists are
    written there with commas: SERVING_MODEL=models/a,models/b.
    """

    model_config = SettingsConfigDict(
        frozen=True,
        extra="forbid",
        env_prefix=PREFIX,
        env_ignore_empty=True,
        use_attribute_docstrings=True,
    )

    model: Annotated[tuple[Place, ...], NoDecode, Option(metavar="MODEL")] = Field(min_length=1)
    """models/NAME or models/NAME/STEP, or a URL of it, as s3://bucket/models/NAME. Given several
    times, the models answer together, with the mean of their probabilities."""
    wait_for_model: bool = False
    """Start without a published model, and take the first one that appears."""
    reload_s: float = Field(2, gt=0)
    """Seconds between checks for a newly published model."""

    host: str = "127.0.0.1"
    """The address to listen on; 0.0.0.0 for all of this machine's, :: for those of IPv6 too."""
    port: int = Field(8000, ge=0, le=65535)
    """The port to listen on; 0 takes a free one, which the log names."""
    workers: int = Field(1, ge=1)
    """Server processes that share the port, each with the model in its own memory."""
    threads: int = Field(0, ge=0)
    """Processor threads of one forward pass; 0 takes half the cores of the process, so that two
    batches run at once. All cores answer a single request sooner, but fewer requests a second."""
    decoders: int = Field(0, ge=0)
    """Decoder processes of each server process; 0 takes as many as it has cores, and at least two:
    one is kept from large images."""
    memory: Annotated[ByteSize, Option(metavar="SIZE")] = Field(ByteSize(0), ge=0)
    """The memory for all server processes and their decoders, such as 3GiB; 0 takes what the
    container grants, or the machine has. What is left beside the model bounds the uploads that
    are held and the images that are decoded at once."""
    cors: Annotated[tuple[str, ...], NoDecode, Option(metavar="ORIGIN")] = ()
    """Origins whose web pages may ask this server from the browser (CORS), such as
    https://example.org, or * for all; can be repeated. None by default."""
    keys: Path | None = None
    """A file of API keys, one a line. Without it, no key is needed."""

    queue_pictures: int = Field(0, ge=0)
    """Images that may wait for an answer in each process; 0 takes eight batches of the device: 64
    on a CPU, 512 on a GPU. Beyond them a request gets 429."""
    max_files: int = Field(32, ge=1)
    """The most images in one request."""
    max_upload_bytes: int = Field(20_000_000, ge=1024)
    """The most bytes of one request."""
    max_pixels: int = Field(MAX_PIXELS, ge=1, le=MOST_PIXELS)
    """The most pixels (width x height) of one image."""
    max_whole_pixels: int = Field(0, ge=0, le=MOST_PIXELS)
    """The most pixels of one image in a format that cannot be decoded at a smaller size, which all
    are but JPEG; 0 takes half of --max-pixels. A decoder may take 20 bytes for each."""
    max_request_pixels: int = Field(0, ge=0)
    """The most pixels of all images in one request; 0 takes four times --max-pixels."""
    max_aspect: float = Field(30, ge=1)
    """The long side of an image divided by its short side may not be more than this."""
    formats: Annotated[tuple[str, ...], NoDecode] = ("JPEG", "PNG", "WEBP")
    """Image formats that are decoded, as Pillow names them or as files end; can be repeated."""
    decode_s: float = Field(10, gt=0)
    """The most seconds that decoding one image may take."""

    read_s: float = Field(10, gt=0)
    """The most seconds that a client may take to send a request."""
    write_s: float = Field(30, gt=0)
    """The most seconds that a client may take to receive an answer, once it is slower than the
    server."""
    deadline_s: float = Field(30, gt=0)
    """The most seconds between the end of a request and its answer."""
    keep_alive_s: int = Field(75, gt=0)
    """Seconds that a connection is kept between two requests; longer than a proxy in front keeps
    its own, or it sends requests on connections that have just been closed."""
    max_connections: int = Field(1024, ge=1)
    """The most connections to each process; fewer where the limit on open files is lower. Beyond
    it those without a request are closed for new ones, and then a request gets 503."""
    max_connections_per_address: int = Field(0, ge=0)
    """The most connections of one address; 0 takes half of all. A proxy in front is one
    address."""
    drain_s: int = Field(20, ge=0)
    """The most seconds that requests under way may take after SIGTERM."""

    @model_validator(mode="before")
    @classmethod
    def _no_others(cls, values: Any) -> Any:
        known = {f"{PREFIX}{name.upper()}" for name in cls.model_fields} | CLIENTS
        for variable, value in os.environ.items():
            name = variable.upper()
            if value and name.startswith(PREFIX) and name not in known:
                close = get_close_matches(name, known, n=1)
                meant = f"did you mean {close[0]}?" if close else "unset it"
                raise ValueError(f"{variable} is {value}, but there is no such setting; {meant}")
        return values

    @field_validator("model", "formats", "cors", mode="before")
    @classmethod
    def _split(cls, value: Any) -> Any:
        return value.split(",") if isinstance(value, str) else value

    @field_validator("formats")
    @classmethod
    def _known(cls, formats: tuple[str, ...]) -> tuple[str, ...]:
        of_ending = {ending: name for name, form in FORMATS.items() for ending in form.endings}
        found = []
        for name in (name.strip() for given in formats for name in given.split(",")):
            named = of_ending.get(name.lower(), name.upper())
            if named not in readable():
                remedy = f" ({HEIF_REMEDY} adds it)" if named == "HEIF" else ""
                raise ValueError(f"{name}: not among {', '.join(sorted(readable()))}{remedy}")
            found.append(named)
        return tuple(dict.fromkeys(found))

    @field_validator("cors")
    @classmethod
    def _origins(cls, origins: tuple[str, ...]) -> tuple[str, ...]:
        for origin in origins:
            if not ORIGIN.fullmatch(origin):
                raise ValueError(
                    f"{origin}: expected an origin as browsers send it, in lower case and without "
                    "a path, such as https://example.org or http://localhost:3000, or *"
                )
        return origins

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if 0 < self.queue_pictures < self.max_files:
            raise ValueError(
                f"max_files ({self.max_files}) exceeds queue_pictures ({self.queue_pictures}): "
                "the largest requests could never be taken"
            )
        return self

    def pixels_of(self, form: str) -> int:
        """The most pixels of one image in a format."""
        if form == "JPEG":
            return self.max_pixels
        return min(self.max_pixels, self.max_whole_pixels or self.max_pixels // 2)

    @property
    def pixels_of_request(self) -> int:
        return self.max_request_pixels or 4 * self.max_pixels

    @property
    def decoder_processes(self) -> int:
        return self.decoders or max(2, self.cores)

    @property
    def pass_threads(self) -> int:
        """Processor threads of one forward pass."""
        return self.threads or max(1, self.cores // 2)

    @property
    def lanes(self) -> int:
        """Forward passes that run at once on a CPU."""
        return max(1, self.cores // self.pass_threads)

    @property
    def cores(self) -> int:
        """Cores of one server process."""
        return max(1, granted_cores() // self.workers)

    def environment(self) -> dict[str, str]:
        """The variables that make the same settings in another process."""
        values = self.model_dump(mode="json", exclude_none=True)
        values |= {
            name: ",".join(map(str, getattr(self, name))) for name in ("model", "formats", "cors")
        }
        return {
            f"{PREFIX}{name.upper()}": value if isinstance(value, str) else json.dumps(value)
            for name, value in values.items()
        }
