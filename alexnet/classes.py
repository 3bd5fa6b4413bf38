"""What a label means."""

from pydantic import BaseModel, ConfigDict

from alexnet.text import Name


class ClassLabel(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    id: Name
    """The folder's name, a WordNet id in ImageNet."""
    name: Name
    """What people read."""
