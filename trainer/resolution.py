"""A recipe by its name or its file, with what the environment and the command line change in it."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from alexnet.fault import LONGEST, Fault, fault
from trainer.recipe import Recipe, RecipeError, Start, fields_of
from trainer.recipes import RECIPES

VARIABLE = "ALEXNET_RECIPE_"
"""Environment variables that start so override a recipe: ALEXNET_RECIPE_NETWORK__WIDTH=0.5."""


def resolve(
    recipe: str,
    environment: Mapping[str, str],
    changes: Sequence[tuple[str, Any]],
    start: Start | None = None,
) -> Recipe:
    """The recipe of that name, or of that YAML file, with what the environment and then `changes`
    (dotted field, value) say. Where the batch changes and the learning rate is not given, the
    learning rate goes with it. Epochs that are given are kept to, however few steps
    they make. The network and the size of the images are those of `start`, where there is one.
    Raises RecipeError, also where a network is asked for that is not that of `start`.
    """
    base, overrides = (RECIPES[recipe](), {}) if recipe in RECIPES else _from_file(recipe)
    if start:
        base = base.model_copy(update={"network": start.network, "size": start.size})
    sources = {}
    for variable, text in environment.items():
        if variable.startswith(VARIABLE):
            field = variable.removeprefix(VARIABLE).lower().replace("__", ".")
            overrides = _with(overrides, field, parse(text, variable), variable)
            sources[field] = variable
    for field, value in changes:
        overrides = _with(overrides, field, value, f"--set {field}")
        sources[field] = f"--set {field}"
    try:
        if "batch" in overrides and "rate" not in overrides:
            # The author's runs at twice the batch matched at twice the learning rate.
            batch = Recipe.model_validate(base.model_dump() | {"batch": overrides["batch"]}).batch
            overrides["rate"] = base.rate * batch / base.batch
        if "epochs" in overrides:
            overrides = {"least_steps": 0} | overrides
        inherited = {"folded": start.folded} if start else {}
        resolved = Recipe.model_validate(_merged(base.model_dump() | inherited, overrides))
    except ValidationError as error:
        raise RecipeError(_line(_reason(fault(error), sources, recipe))) from None
    if start and (fields := list(start.differences(resolved.network))):
        asked, own = fields_of(resolved.network), fields_of(start.network)
        said = [
            f"{_source(f'network.{field}', sources, recipe)} is {asked[field]}, the model's "
            f"{own[field]}"
            for field in fields
        ]
        raise RecipeError(
            f"{start.model}: a run that starts from this model has its network, but another is "
            f"asked for ({'; '.join(said)}); leave that out"
        )
    return resolved


def _reason(found: Fault, sources: Mapping[str, str], recipe: str) -> str:
    """What is wrong, after the option, variable or file that says so."""
    place = [str(part) for part in found.place]
    if len(place) > 1 and place[0] == "schedule":
        del place[1]  # pydantic puts the kind of the schedule there
    field = ".".join(place)
    source = _source(field, sources, recipe)
    if found.kind == "extra_forbidden":
        return f"{source}: a recipe has no field {field}; `alexnet recipe` prints those there are"
    if place[-1:] == ["[key]"]:
        return f"{source}: {found.reason}"
    return found.named(source)


def _source(field: str, sources: Mapping[str, str], recipe: str) -> str:
    """The option or variable that says what the dotted field is, or the recipe that does."""
    given = [
        name
        for name in sources
        if f"{field}.".startswith(f"{name}.") or f"{name}.".startswith(f"{field}.")
    ]
    return sources[max(given, key=len)] if given else f"{recipe}: {field}"


def parse(text: str, place: str) -> Any:
    """A value as in YAML: 3, 0.5, true, {kind: plateau}. Raises RecipeError."""
    if not text.strip():
        raise RecipeError(f"{place} is empty; give it a value, or leave it out")
    try:
        return _loaded(text)
    except ValueError as error:
        shown = text if len(text) <= LONGEST else text[:LONGEST] + "…"
        raise RecipeError(f"{place}: {shown!r} is not valid YAML ({_line(error)})") from None


def _loaded(text: str) -> Any:
    """What YAML makes of the text. Raises ValueError."""
    try:
        value = yaml.safe_load(text)
        str(value)  # Python refuses to write out a number of thousands of digits
    except Exception as error:  # almost anything, such as KeyError for `!!bool x`
        raise ValueError(str(error)) from None
    return value


def _from_file(name: str) -> tuple[Recipe, dict[str, Any]]:
    """A YAML file of a recipe's fields; `recipe` in it names the one it starts from."""
    path = Path(name)
    if path.suffix not in (".yaml", ".yml"):
        known = ", ".join(RECIPES)
        raise RecipeError(
            f"there is no recipe {name!r}; give {known}, or a file that ends in .yaml"
        )
    try:
        fields = _loaded(path.read_text())
    except OSError as error:
        raise RecipeError(f"{path}: {error.strerror}; check the path") from None
    except ValueError as error:
        raise RecipeError(f"{path}: this is not a valid YAML file ({_line(error)})") from None
    start = fields.pop("recipe", None) if isinstance(fields, dict) else None
    if not isinstance(start, str) or start not in RECIPES:
        known = ", ".join(RECIPES)
        said = "" if start is None else f"there is no recipe {start!r}; "
        raise RecipeError(
            f"{path}: {said}add a line `recipe: NAME` with the recipe it changes, {known}"
        )
    return RECIPES[start](), {"name": path.stem} | fields


def _with(fields: dict[str, Any], dotted: str, value: Any, source: str) -> dict[str, Any]:
    """`fields` where the dotted one has this value. Raises RecipeError."""
    groups = dotted.split(".")
    group: Any = fields
    for name in groups[:-1]:
        group = group.get(name, {})
        if not isinstance(group, dict):
            raise RecipeError(f"{source}: {name} has no fields, its value is {group} already")
    for name in reversed(groups):
        value = {name: value}
    return _merged(fields, value)


def _merged(fields: dict[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """`fields` with `changes`; groups are merged, but a schedule of another kind is taken whole."""
    merged = dict(fields)
    for name, value in changes.items():
        old = merged.get(name)
        if isinstance(value, dict) and isinstance(old, dict):
            others = "kind" in old and "kind" in value and old["kind"] != value["kind"]
            value = value if others else _merged(old, value)
        merged[name] = value
    return merged


def _line(text: object) -> str:
    return " ".join(str(text).split())
