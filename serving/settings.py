"""What a server can be told, by option or by environment variable SERVING_*."""

import json
import os
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any, Self

from PIL import Image
from pydantic import Field, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from alexnet.pixels import MAX_PIXELS, Limits

CPU_QUOTA = Path("/sys/fs/cgroup/cpu.max")


def granted_cores(quota: Path = CPU_QUOTA) -> int:
    """Of this process. A container's limit is a share of time, and all cores stay in sight."""
    cores = len(os.sched_getaffinity(0))
    with suppress(FileNotFoundError):
        granted, period = quota.read_text().split()
        if granted != "max":
            cores = min(cores, max(1, int(granted) // int(period)))
    return cores


class Settings(BaseSettings):
    model_config = SettingsConfigDict(
        frozen=True, extra="forbid", env_prefix="SERVING_", env_ignore_empty=True
    )

    model: Annotated[tuple[Path, ...], NoDecode, Field(min_length=1)]
    """models/NAME, or models/NAME/STEP; of several (a,b,c) the mean of their probabilities."""
    wait_for_model: bool = False
    """Start without a published model, and take the first that appears."""
    reload_s: float = Field(2, gt=0)
    """How often to look for a newly published model."""

    host: str = "127.0.0.1"
    port: int = Field(8000, ge=0, le=65535)
    """0 takes a free one; the first line of output says which."""
    workers: int = Field(1, ge=1)
    """Server processes that share the port, each with the model in its memory."""
    threads: int = Field(0, ge=0)
    """Of one forward pass on a CPU; 0: half the cores of the process. As many batches run at once
    as there are cores for: where one has work for a single thread, another keeps the cores busy.
    All cores for each pass make single answers faster, and fewer of them a second."""
    decoders: int = Field(0, ge=0)
    """Decoder processes of each server process; 0: as many as it has cores."""
    keys: Path | None = None
    """File of API keys, one a line; without one everybody may ask."""

    queue_pictures: int = Field(64, ge=1)
    """Pictures of ten views that may wait for an answer, in each process; beyond that: 429."""
    max_files: int = Field(32, ge=1)
    """Pictures in one request."""
    max_upload_bytes: int = Field(20_000_000, ge=1024)
    """Of a whole request."""
    max_pixels: int = Field(MAX_PIXELS, ge=1, le=MAX_PIXELS)
    """Of one picture, width x height."""
    max_aspect: float = Field(30, ge=1)
    """Long side of a picture by its short side."""
    max_frames: int = Field(100, ge=1)
    """Of an animation, whose first frame is looked at."""
    formats: tuple[str, ...] = ("JPEG", "PNG", "WEBP")
    """Picture formats that are decoded, as Pillow names them."""
    decode_s: float = Field(10, gt=0)
    """How long decoding one picture may take."""

    read_s: float = Field(10, gt=0)
    """How long a client may take to send a request."""
    deadline_s: float = Field(30, gt=0)
    """How long an answer may take once the request is read."""
    drain_s: int = Field(20, ge=0)
    """How long requests under way may take after SIGTERM."""

    @field_validator("model", mode="before")
    @classmethod
    def _split(cls, value: Any) -> Any:
        return value.split(",") if isinstance(value, str) else value

    @field_validator("formats")
    @classmethod
    def _known(cls, formats: tuple[str, ...]) -> tuple[str, ...]:
        Image.init()
        if unknown := set(formats) - set(Image.OPEN):
            raise ValueError(f"{', '.join(unknown)}: not among {', '.join(sorted(Image.OPEN))}")
        return formats

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.max_files > self.queue_pictures:
            raise ValueError(
                f"max_files ({self.max_files}) exceeds queue_pictures ({self.queue_pictures}): "
                "the largest requests could never be taken"
            )
        return self

    @property
    def limits(self) -> Limits:
        return Limits(pixels=self.max_pixels, aspect=self.max_aspect, frames=self.max_frames)

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
        """Of one server process."""
        return max(1, granted_cores() // self.workers)

    def environment(self) -> dict[str, str]:
        """The variables that make the same settings in another process."""
        values = self.model_dump(mode="json", exclude_none=True)
        values["model"] = ",".join(map(str, self.model))
        return {
            f"SERVING_{name.upper()}": value if isinstance(value, str) else json.dumps(value)
            for name, value in values.items()
        }
