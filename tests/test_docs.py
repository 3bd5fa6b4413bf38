"""What the pages say is true: links lead somewhere, options and settings exist, messages too."""

import ast
import re
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

from serving.settings import Settings
from tests.conftest import ROOT

PAGES = {
    path.relative_to(ROOT).as_posix(): path.read_text()
    for path in (*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"))
}
ROOMS = ("alexnet", "pipeline", "trainer", "serving")
FENCE = re.compile(r"^```[a-z]*\n(.*?)^```", re.MULTILINE | re.DOTALL)
FOREIGN = "## Messages of other programs"


@pytest.mark.parametrize("page", PAGES)
def test_links_and_anchors_exist(page: str) -> None:
    text = FENCE.sub("", PAGES[page])
    for target in re.findall(r"\]\((?!https?:)([^)]+)\)", text):
        name, _, anchor = target.partition("#")
        path = (ROOT / page).parent / name if name else ROOT / page
        assert path.exists(), target
        if anchor:
            assert anchor in _anchors(path), target


@pytest.mark.parametrize("page", PAGES)
def test_commands_and_their_options_exist(page: str) -> None:
    for command, options in _commands(PAGES[page]):
        known = _help(command)
        for option in options:
            assert re.search(rf"(?<![\w-]){option}(?![\w-])", known), f"alexnet {command} {option}"


def test_every_setting_of_the_server_is_listed_with_its_default() -> None:
    rows = PAGES["docs/serving.md"].splitlines()
    for name, field in Settings.model_fields.items():
        variable = f"`SERVING_{name.upper()}`"
        row = next((row for row in rows if row.startswith("|") and variable in row), "")
        assert row, variable
        if type(field.default) is int:
            assert f"| {field.default} |" in row.replace(",", ""), row


def test_messages_are_those_of_the_program() -> None:
    """In the first column of the tables, where `…` stands for what varies."""
    ours = PAGES["docs/troubleshooting.md"].split(FOREIGN)[0]
    said = _said()
    for row in re.findall(r"^\| (.*?) \|", ours, re.MULTILINE):
        for message in re.findall(r"`([^`]+)`", row):
            for part in filter(None, map(str.strip, message.split("…"))):
                assert part in said, part


def test_what_is_said_of_weights_is_what_the_program_says() -> None:
    """In the second column of the table, of files that are refused."""
    table = PAGES["docs/training.md"].split("### Weights")[1].split("\n###")[0]
    said = _said()
    refused = re.findall(r"^\| .* \| refused(.*) \|$", table, re.MULTILINE)
    assert len(refused) == 8
    for message in re.findall(r"`([^`]+)`", "".join(refused)):
        assert message in said, message


def _anchors(path: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", FENCE.sub("", path.read_text()), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def _commands(text: str) -> list[tuple[str, list[str]]]:
    """(Command, its options) of every `alexnet COMMAND ...` in code."""
    code = FENCE.findall(text) + re.findall(r"`([^`]+)`", FENCE.sub("", text))
    lines = [line for part in code for line in part.replace("\\\n", " ").splitlines()]
    found = []
    for line in lines:
        # What is submitted is a command of its own.
        sent = r"alexnet submit (?=train|index)|docker compose run --rm submit "
        line = re.sub(sent, "alexnet ", line)
        for command, rest in re.findall(r"(?<![\w/.-])(?<!-n )alexnet ([a-z]+)\b([^#&|;]*)", line):
            found.append((command, re.findall(r"(?<!\S)--[a-z][a-z-]*", rest)))
    return found


@cache
def _help(command: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "alexnet", command, "--help"],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, f"alexnet {command}: {done.stderr}"
    return done.stdout


def _said() -> str:
    """All texts in the source; … where a value goes, a line each."""
    texts = [(ROOT / "deploy/ray-node").read_text()]
    for path in (path for room in ROOMS for path in (ROOT / room).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.JoinedStr):
                parts = [v.value if isinstance(v, ast.Constant) else "…" for v in node.values]
                texts.append("".join(map(str, parts)))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                texts.append(node.value)
    return "\n".join(texts)
