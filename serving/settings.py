"""What a server can be told, by option or by environment variable SERVING_*."""

from pathlib import Path

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict


class Settings(BaseSettings):
    model_config = SettingsConfigDict(frozen=True, extra="forbid", env_prefix="SERVING_")

    model: Path
    """models/NAME, or models/NAME/STEP."""
    host: str = "127.0.0.1"
    port: int = Field(8000, ge=0, le=65535)
    """0 takes a free one; the first line of output says which."""
    max_upload_bytes: int = Field(20_000_000, ge=1024)
    formats: tuple[str, ...] = ("JPEG", "PNG", "WEBP")
    """Picture formats that are decoded, as Pillow names them."""
    drain_s: int = Field(20, ge=0)
    """How long requests under way may take after SIGTERM."""
