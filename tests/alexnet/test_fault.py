"""Every kind of fault reads as a clause, and none in pydantic's own words."""

from typing import Annotated, Any, Literal

import pytest
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from alexnet.fault import LONGEST, fault


class Disc(BaseModel):
    kind: Literal["disc"]
    radius: float


class Ring(BaseModel):
    kind: Literal["ring"]


class Settings(BaseModel):
    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    count: int = Field(1, ge=1, le=9)
    share: float = Field(0.5, gt=0, lt=1)
    name: str = "a"
    exact: bool = False
    colour: Literal["red", "blue"] = "red"
    shape: Annotated[Disc | Ring, Field(discriminator="kind")] = Ring(kind="ring")
    disc: Disc | None = None
    sizes: tuple[int, ...] = ()

    @model_validator(mode="after")
    def _fits(self) -> "Settings":
        if self.count == 7:
            raise ValueError("count {7} does not fit")
        return self


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ({"count": 0}, "count is 0: expected at least 1"),
        ({"count": 10}, "count is 10: expected at most 9"),
        ({"count": "x y"}, "count is 'x y': expected a whole number"),
        ({"count": ""}, "count is '': expected a whole number"),
        ({"count": 1.5}, "count is 1.5: expected a whole number"),
        ({"count": None}, "count is None: expected a whole number"),
        ({"share": 0}, "share is 0: expected more than 0.0"),
        ({"share": 1}, "share is 1: expected less than 1.0"),
        ({"share": "half"}, "share is half: expected a number"),
        ({"share": [1]}, "share is [1]: expected a number"),
        ({"share": float("nan")}, "share is nan: expected a finite number"),
        ({"name": 3}, "name is 3: expected text"),
        ({"exact": "perhaps"}, "exact is perhaps: expected true or false"),
        ({"colour": "green"}, "colour is green: expected 'red' or 'blue'"),
        ({"shape": {"kind": "cube"}}, "expected a 'kind' among 'disc', 'ring'"),
        ({"shape": "disc"}, "shape is disc: expected a group of fields"),
        ({"disc": "disc"}, "disc is disc: expected a group of fields"),
        ({"disc": {"kind": "disc"}}, "disc.radius is missing"),
        ({"sizes": [1, "two"]}, "sizes.1 is two: expected a whole number"),
        ({"sort": 1}, "there is no field sort"),
        ({"count": 7}, "count {7} does not fit"),
        ({"count": "9" * 999 + "x"}, f"count is {'9' * LONGEST}…: expected a whole number"),
    ],
)
def test_a_fault_is_one_clause(values: dict[str, Any], text: str) -> None:
    with pytest.raises(ValidationError) as refused:
        Settings.model_validate(values)
    assert text in str(fault(refused.value))


def test_the_user_has_another_name_for_the_field() -> None:
    with pytest.raises(ValidationError) as refused:
        Settings(count=0)
    assert fault(refused.value).named("--count") == "--count is 0: expected at least 1"
