"""What a label means."""

import os

from pydantic import BaseModel, ConfigDict

from alexnet.command import UserError
from alexnet.text import LONGEST_NAME, Name, unprintable


class ClassLabel(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    id: Name
    """The folder's name, a WordNet id in ImageNet."""
    name: Name
    """What people read."""


def class_label(class_id: str, name: str) -> ClassLabel:
    """A label of a class whose ID and name somebody else chose.

    Raises UserError where one cannot be written in UTF-8, as the name of a folder in another
    encoding, has a control character, or is too long: a dataset and a model hold both.
    """
    for text in (class_id, name):
        try:
            text.encode()
        except UnicodeEncodeError:
            shown = os.fsencode(text).decode(errors="backslashreplace")
            raise UserError(
                f"class {shown}: this name is not in UTF-8; rename its folder, "
                "for example with convmv -f latin1 -t utf8"
            ) from None
        if hidden := unprintable(text):
            raise UserError(
                f"class {text!r}: this name contains the control character {hidden}; rename it"
            )
        if len(text) > LONGEST_NAME:
            raise UserError(
                f"class {text[:60]}…: this name has {len(text)} characters; shorten it to "
                f"{LONGEST_NAME}"
            )
    return ClassLabel(id=class_id, name=name)
