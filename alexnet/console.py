"""The console command `alexnet`, made of the typed options that each room declares.

A command is a pydantic model and the function that takes it. The model's fields are the options,
its docstrings their help. Typer turns it into a parser, a help page and the shell's completion; the
values are checked by the model alone.
"""

import inspect
import sys
from collections.abc import Callable, Mapping, Sequence
from copy import copy
from importlib.metadata import version
from inspect import Parameter, Signature
from pathlib import Path
from pkgutil import resolve_name
from types import NoneType
from typing import Annotated, Any, Literal, NamedTuple, get_args, get_origin

import typer
from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic.fields import FieldInfo
from typer.models import OptionInfo, ParameterInfo

from alexnet.command import UserError
from alexnet.fault import fault
from alexnet.store.url import Place

ROOMS = ("pipeline", "trainer", "serving")
"""Each declares its commands in ROOM.arguments.COMMANDS. They are named here, not imported: they
know this room, and this room does not know them."""


class Options(BaseModel):
    """What a command can be told. The docstring of a field is its help."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class Command(NamedTuple):
    options: type[BaseModel]
    """The command's options; the docstring of this class is the description of the command."""
    function: str
    """module:name of the function that takes the options and returns the exit status. It is
    imported when it is called, so that a help page needs neither torch nor Ray."""
    example: str
    wraps: bool = False
    """Whether the last argument is another command, with options of its own."""


class Commands(NamedTuple):
    """The commands of one room."""

    extra: str
    """The optional dependencies, in pyproject.toml, that they need."""
    by_name: Mapping[str, Command]


class _Call(NamedTuple):
    program: str
    command: Command
    extra: str
    options: BaseModel


def main() -> int:
    """The commands of all rooms, with the arguments of this process."""
    return run("alexnet", *(resolve_name(f"{room}.arguments:COMMANDS") for room in ROOMS))


def run(program: str, *rooms: Commands, arguments: Sequence[str] | None = None) -> int:
    """Call the command that `arguments` (by default, this process's) name; returns its status.

    A mistake of the user's is one line on stderr, and status 2.
    """
    app = _app()
    see = f"`{program} COMMAND --help` lists the options of a command, and gives an example."
    app.callback(epilog=see)(_root)
    for room in rooms:
        for name, command in room.by_name.items():
            _add(app, name, command, room)
    arguments = sys.argv[1:] if arguments is None else arguments
    return _run(app, program, arguments or ["--help"])


def run_one(program: str, name: str, room: Commands, arguments: Sequence[str]) -> int:
    """Call the command `name`, where a program has no other; returns its status, as `run` does."""
    app = _app(add_completion=False)
    _add(app, name, room.by_name[name], room)
    return _run(app, program, arguments)


def parsed(name: str, room: Commands, arguments: Sequence[str]) -> BaseModel | None:
    """The options that `arguments` mean for a command of a room; None where they ask for its help,
    which is printed. Raises UserError."""
    app = _app(add_completion=False)
    _add(app, name, room.by_name[name], room)
    call = _call(app, f"alexnet {name}", arguments)
    return None if isinstance(call, int) else call.options


def _app(**settings: Any) -> typer.Typer:
    return typer.Typer(
        rich_markup_mode=None, context_settings={"help_option_names": ["--help", "-h"]}, **settings
    )


def _print_version(asked: bool) -> None:
    if asked:
        print(f"alexnet {version('alexnet')}")
        raise typer.Exit


def _root(
    version: Annotated[
        bool,
        typer.Option(
            "--version", help="Print the version and exit.", callback=_print_version, is_eager=True
        ),
    ] = False,
) -> None:
    """AlexNet of 2012: photographs in, a trained network out, answers over HTTP."""


def _run(app: typer.Typer, program: str, arguments: Sequence[str]) -> int:
    try:
        call = _call(app, program, arguments)
        if isinstance(call, int):
            return call
        program = call.program
        return _function(call)(call.options)
    except ValidationError as error:
        text = str(fault(error))
    except UserError as error:
        text = str(error)
    except OSError as error:
        text = f"{error.filename}: {error.strerror}" if error.filename else str(error)
    except KeyboardInterrupt:
        print(f"{program}: interrupted", file=sys.stderr)
        return 130
    print(f"{program}: {text}", file=sys.stderr)
    return 2


def _call(app: typer.Typer, program: str, arguments: Sequence[str]) -> _Call | int:
    """What `arguments` ask for; an exit status where that is done, as help is. Raises UserError."""
    if "" in arguments:
        raise UserError(
            f"an argument is empty; give it a value, or leave it out; see {program} --help"
        )
    try:
        return app(arguments, prog_name=program, standalone_mode=False)
    except typer.TyperException as error:
        context = getattr(error, "ctx", None)
        place = context.command_path if context else program
        text = " ".join(error.format_message().replace("Value error, ", "").split()).rstrip(".")
        see = f" See {place} --help" if text.endswith("?") else f"; see {place} --help"
        raise UserError(text + see) from None


def _function(call: _Call) -> Callable[[BaseModel], int]:
    try:
        return resolve_name(call.command.function)
    except ModuleNotFoundError as error:
        raise UserError(
            f"the package {error.name} is not installed; in the project's folder: "
            f"pip install -e '.[{call.extra}]'"
        ) from None


def _add(app: typer.Typer, name: str, command: Command, room: Commands) -> None:
    """Give the app a command whose parameters are the fields of `command.options`."""
    # Settings read the environment themselves, so that no option of theirs has to be given.
    variables = command.options.model_config.get("env_prefix")

    def reason(error: ValidationError) -> str:
        found = fault(error)
        if not found.place:
            return found.reason
        field = str(found.place[0])
        option = _option(field)
        return found.named(f"{option} or {variables}{field.upper()}" if variables else option)

    def call(context: typer.Context, **values: Any) -> _Call:
        given = {name: value for name, value in values.items() if value not in (None, [], False)}
        try:
            options = command.options(**given)
        except ValidationError as error:
            raise UserError(f"{reason(error)}; see {context.command_path} --help") from None
        return _Call(context.command_path, command, room.extra, options)

    parameters = [
        Parameter("context", Parameter.POSITIONAL_OR_KEYWORD, annotation=typer.Context),
        *sorted(
            (
                _parameter(name, field, field.is_required() and not variables)
                for name, field in command.options.model_fields.items()
            ),
            key=lambda parameter: parameter.default is None,  # what has to be given comes first
        ),
    ]
    call.__signature__ = Signature(parameters)  # type: ignore[attr-defined]
    app.command(
        name,
        help=inspect.getdoc(command.options),
        epilog=f"Example: {command.example}",
        context_settings={"allow_interspersed_args": not command.wraps},
    )(call)


def _parameter(name: str, field: FieldInfo, required: bool) -> Parameter:
    """What Typer reads for a field: an option, unless the field is marked typer.Argument(). It has
    no default, so that the model learns what was given and what was not."""
    marks = [mark for mark in field.metadata if isinstance(mark, ParameterInfo)]
    info = copy(marks[0]) if marks else typer.Option()
    info.help = _help(field)
    info.show_default = False  # it has none of its own
    if isinstance(info, OptionInfo):
        info.param_decls = (_option(name),)
        info.metavar = info.metavar or _metavar(field.annotation)
    else:
        info.metavar = info.metavar or name.upper()
    annotation = _readable(field.annotation)
    return Parameter(
        name,
        Parameter.KEYWORD_ONLY,
        default=Parameter.empty if required else None,
        annotation=Annotated[annotation if required else annotation | None, info],
    )


def _plain(annotation: Any) -> Any:
    """`X` of `X | None`, of `Annotated[X, ...]`, and of both."""
    if get_origin(annotation) is Annotated:
        return _plain(get_args(annotation)[0])
    if NoneType in get_args(annotation):
        return _plain(get_args(annotation)[0])
    return annotation


def _readable(annotation: Any) -> Any:
    """What Typer is to read for a field: what a shell can complete or a help offer, else text."""
    annotation = _plain(annotation)
    if get_args(annotation)[1:] == (Ellipsis,):
        return list[Path] if get_args(annotation)[0] is Path else list[str]
    if annotation in (bool, Path) or get_origin(annotation) is Literal:
        return annotation
    return str


def _metavar(annotation: Any) -> str | None:
    annotation = _plain(annotation)
    if get_args(annotation)[1:] == (Ellipsis,):
        annotation = _plain(get_args(annotation)[0])
    shown = {bool: "", int: "N", float: "X", Path: "PATH", _plain(Place): "PATH", str: "TEXT"}
    return shown.get(annotation)


def _help(field: FieldInfo) -> str:
    """The field's docstring with its default."""
    default = field.default
    if field.is_required() or default is None or default is False or default == ():
        return field.description or ""
    shown = ", ".join(map(str, default)) if isinstance(default, tuple) else default
    return f"{field.description} (default: {shown})"


def _option(field: str) -> str:
    return "--" + field.rstrip("_").replace("_", "-")
