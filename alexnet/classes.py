"""What a label means."""

from pydantic import BaseModel, ConfigDict


class ClassLabel(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str
    """The folder's name, a WordNet id in ImageNet."""
    name: str
    """What people read."""
