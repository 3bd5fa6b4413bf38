"""What is wrong with a value that a pydantic model refuses, in words for whoever wrote it."""

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from pydantic import ValidationError

WHOLE, NUMBER = "expected a whole number", "expected a number"
REASONS = {
    "bool_parsing": "expected true or false",
    "bytes_type": "expected text",
    "dict_type": "expected a group of fields",
    "finite_number": "expected a finite number",
    "float_parsing": NUMBER,
    "float_type": NUMBER,
    "greater_than": "expected more than {gt}",
    "greater_than_equal": "expected at least {ge}",
    "int_from_float": WHOLE,
    "int_parsing": WHOLE,
    "int_type": WHOLE,
    "less_than": "expected less than {lt}",
    "less_than_equal": "expected at most {le}",
    "literal_error": "expected {expected}",
    "model_attributes_type": "expected a group of fields",
    "model_type": "expected a group of fields",
    "string_type": "expected text",
    "union_tag_invalid": "expected a {discriminator} among {expected_tags}",
}
"""Our text for those of pydantic's types of errors whose own text speaks of parsers and inputs."""

LONGEST = 80
"""Characters of a value that are repeated to the user."""


class Fault(NamedTuple):
    """The first thing that is wrong."""

    place: tuple[str | int, ...]
    """Names of fields, and positions in lists, from the outside in; empty where several fields do
    not go together."""
    kind: str
    """pydantic's type of the error."""
    value: Any
    reason: str

    @property
    def field(self) -> str:
        return ".".join(map(str, self.place))

    def named(self, name: str) -> str:
        """The fault in one clause; `name` is what the user calls the field."""
        if not self.place:
            return self.reason
        if self.kind == "missing":
            return f"{name} is missing"
        if self.kind == "extra_forbidden":
            return f"there is no field {name}"
        if self.kind == "value_error" and isinstance(self.value, dict):
            return f"{name}: {self.reason}"  # of fields that do not go together
        value = str(self.value)
        if isinstance(self.value, str) and not re.fullmatch(r"\S+", value):
            value = repr(value)
        shown = value if len(value) <= LONGEST else value[:LONGEST] + "…"
        return f"{name} is {shown}: {self.reason}"

    def __str__(self) -> str:
        return self.named(self.field)


def fault(error: ValidationError) -> Fault:
    """The first of the faults that pydantic found."""
    return described(error.errors(include_url=False)[0])


def described(first: Mapping[str, Any]) -> Fault:
    """What is wrong, from one of the errors that pydantic, or FastAPI, lists."""
    context = first.get("ctx", {})
    if first["type"] in REASONS:
        reason = REASONS[first["type"]].format_map(context)
    elif first["type"] == "value_error":  # one of our own validators
        reason = str(context["error"])
    else:
        reason = first["msg"]
    return Fault(tuple(first["loc"]), first["type"], first["input"], reason)
