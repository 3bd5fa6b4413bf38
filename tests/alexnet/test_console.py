"""The console command: what its help says is what its options are; mistakes are one line."""

import os
import shlex
import subprocess
import sys
from pkgutil import resolve_name
from types import SimpleNamespace

import pytest

from alexnet import console
from alexnet.console import ROOMS, Command, Commands

OF_ROOMS: list[Commands] = [resolve_name(f"{room}.arguments:COMMANDS") for room in ROOMS]
COMMANDS = [
    pytest.param(room, name, command, id=name)
    for room in OF_ROOMS
    for name, command in room.by_name.items()
]
NAMES = [param.id for param in COMMANDS]


def alexnet(*words: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "alexnet", *words],
        env=os.environ | {"COLUMNS": "300"} | variables,
        capture_output=True,
        text=True,
        check=False,
    )


def help_of(room: Commands, name: str, capsys: pytest.CaptureFixture) -> str:
    assert console.run_one("alexnet", name, room, ["--help"]) == 0
    return capsys.readouterr().out


def test_the_help_lists_every_command_with_a_whole_sentence() -> None:
    listed = alexnet("--help").stdout.split("Commands:\n")[1].splitlines()
    sentences = dict(line.split(maxsplit=1) for line in listed[: len(NAMES)])
    assert list(sentences) == NAMES
    assert all(text.endswith(".") and "..." not in text for text in sentences.values())
    assert alexnet().stdout == alexnet("--help").stdout


@pytest.mark.parametrize(("room", "name", "command"), COMMANDS)
def test_a_help_page_has_each_option_its_default_and_an_example(
    room: Commands, name: str, command: Command, capsys: pytest.CaptureFixture, monkeypatch
) -> None:
    monkeypatch.setenv("COLUMNS", "300")
    page = " ".join(help_of(room, name, capsys).split())
    assert command.example in page
    for field, about in command.options.model_fields.items():
        assert about.description, f"{name}: {field} has no help"
        assert " ".join(about.description.split()) in page
        if isinstance(about.default, int | float) and not isinstance(about.default, bool):
            assert f"(default: {about.default})" in page


@pytest.mark.parametrize(("room", "name", "command"), COMMANDS)
def test_the_example_of_a_command_is_one(room: Commands, name: str, command: Command) -> None:
    start, word, *rest = shlex.split(command.example)
    assert (start, word) == ("alexnet", name)
    assert isinstance(console.parsed(name, room, rest), command.options)
    assert callable(resolve_name(command.function))


@pytest.mark.parametrize(
    ("words", "text"),
    [
        ("trian", "No such command 'trian'. Did you mean 'train'? See alexnet --help"),
        (
            "import f --name x",
            "Missing option '--from'. Choose from: torchvision, caffe, caffenet; see",
        ),
        ("recipe --set ratee=3", "--set ratee: a recipe has no field ratee"),
        ("import nope.pth --from torchvision --name x", "nope.pth: No such file or directory"),
        ("train --data d", "Missing option '--name'; see alexnet train --help"),
        ("train --nam x", "No such option: --nam (Possible options: --damage, --name)"),
        (
            "train --data d --name x --workers 1:x",
            "--workers is 1:x: expected a number of at least 1",
        ),
        ("train --data d --name x --keep few", "--keep is few: expected a whole number"),
        ("train --data d --name x --save-every soon", "--save-every is soon: expected a number"),
        ("classify a.jpg --url localhost:8000", "--url is localhost:8000: write it as http://HO"),
        ("submit train --data d --name x --detach", "alexnet submit --detach train"),
        ("train --data d --name x --keep 0", "--keep is 0: expected more than 0"),
        ("train --data d --name x --device tpu", "'tpu' is not one of 'auto', 'cpu', 'gpu'"),
        ("train --data d --name x --set width", "--set is width: expected FIELD=VALUE"),
        ("train --data d --name x --set a=[", "--set a: '[' is not valid YAML"),
        ("pack a b --val-fraction 1", "--val-fraction is 1: expected less than 1"),
        ("import f --from keras --name x", "'keras' is not one of 'torchvision', 'caffe'"),
        (
            "serve --model m --max-files 65 --queue-pictures 64",
            "max_files (65) exceeds queue_pictures (64)",
        ),
        ("serve --model m --port 99999", "--port or SERVING_PORT is 99999"),
        ("submit train --data d", "Missing option '--name'; see alexnet train --help"),
    ],
)
def test_a_mistake_is_one_line_and_status_2(
    words: str, text: str, capsys: pytest.CaptureFixture
) -> None:
    assert console.run("alexnet", *OF_ROOMS, arguments=words.split()) == 2
    said = capsys.readouterr()
    assert text in said.err
    assert said.err.startswith("alexnet")
    assert (said.out, said.err.count("\n")) == ("", 1)


def test_an_empty_argument_is_no_folder(capsys: pytest.CaptureFixture) -> None:
    assert console.run("alexnet", *OF_ROOMS, arguments=["pack", "builtin", ""]) == 2
    assert "an argument is empty; give it a value" in capsys.readouterr().err


def test_values_are_taken_as_they_are() -> None:
    """Commas, braces and equals signs belong to a path or a value; environment and options mix."""
    training, serving = OF_ROOMS[1], OF_ROOMS[2]
    asked = console.parsed("classify", serving, ["a,b.jpg", "c d.jpg"])
    assert [str(photo) for photo in asked.photos] == ["a,b.jpg", "c d.jpg"]
    asked = console.parsed(
        "train", training,
        ["--data", "x,y", "--name", "n", "--workers", "1:4", "--set", "network={a: 1, b: [2]}",
         "--set", "rate=0.5", "--resume-if-any"],
    )  # fmt: skip
    assert (str(asked.data), asked.workers, asked.resumption) == ("x,y", (1, 4), "if-any")
    assert asked.set == (("network", {"a": 1, "b": [2]}), ("rate", 0.5))
    command = ["train", "--name", "x", "--detach"]
    assert console.parsed("submit", training, command).command == tuple(command)


def test_an_option_goes_before_its_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SERVING_PORT", "1")
    monkeypatch.setenv("SERVING_MAX_FILES", "3")
    told = console.parsed("serve", OF_ROOMS[2], ["--model", "a", "--model", "b", "--port", "2"])
    assert (len(told.model), told.port, told.max_files) == (2, 2, 3)


def test_a_missing_package_is_named_with_its_remedy(capsys: pytest.CaptureFixture) -> None:
    given = SimpleNamespace(options=console.Options, function="absent.place:x", example="", wraps=0)
    room = Commands(extra="train", by_name={"x": given})  # type: ignore[dict-item]
    assert console.run_one("alexnet x", "x", room, []) == 2
    said = "package absent is not installed; in the project's folder: pip install -e '.[train]'"
    assert said in capsys.readouterr().err


def test_asking_for_help_is_no_set_of_options(capsys: pytest.CaptureFixture) -> None:
    assert console.parsed("train", OF_ROOMS[1], ["--help"]) is None
    assert "--data PATH" in capsys.readouterr().out


def test_the_version_and_the_shells_completion() -> None:
    assert alexnet("--version").stdout.startswith("alexnet 0.")
    completed = alexnet(_ALEXNET_COMPLETE="complete_bash", COMP_WORDS="alexnet pac", COMP_CWORD="1")
    assert completed.stdout.split() == ["pack"]


def test_help_needs_neither_torch_nor_ray() -> None:
    code = (
        "import sys; from alexnet.console import main; sys.argv = ['alexnet', '--help']; main();"
        "print([n for n in ('torch', 'ray', 'nvidia', 'fastapi') if n in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], text=True, capture_output=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
