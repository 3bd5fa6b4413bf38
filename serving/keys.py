"""API keys: who may ask."""

import hmac
import shlex
import stat
from hashlib import sha256
from pathlib import Path

from alexnet.command import UserError
from alexnet.text import read_lines

SHORTEST = 16
"""Characters of a key; shorter ones can be guessed."""
REMEDY = "`openssl rand -hex 32` makes a new key"


class Keys:
    """The digests of a file's keys, one a line; empty lines and lines with # are left out.

    Raises UserError where the file cannot be read, may be written by anyone, has no key, or one
    that is too short or has characters that headers do not carry.
    """

    def __init__(self, path: Path) -> None:
        lines = [line.strip() for line in read_lines(path, "API keys", "one key a line")]
        keys = [line for line in lines if line and not line.startswith("#")]
        if not keys:
            raise UserError(f"{path}: the file has no API key; write one on each line: {REMEDY}")
        if short := [number for number, key in enumerate(keys, 1) if len(key) < SHORTEST]:
            raise UserError(
                f"{path}: key number {short[0]} is shorter than {SHORTEST} characters; "
                f"replace it: {REMEDY}"
            )
        if strange := [number for number, key in enumerate(keys, 1) if not is_sendable(key)]:
            raise UserError(
                f"{path}: key number {strange[0]} has characters other than ASCII, which HTTP "
                f"headers do not carry; replace it: {REMEDY}"
            )
        if path.stat().st_mode & stat.S_IWOTH:
            raise UserError(
                f"{path}: any user of this machine may write the file of API keys; run "
                f"`chmod o-w {shlex.quote(str(path))}`"
            )
        self._digests = [_digest(key) for key in keys]

    def __contains__(self, key: str) -> bool:
        """Whether it is a known key, in a time that says nothing about where keys differ."""
        digest = _digest(key)
        return sum(hmac.compare_digest(digest, known) for known in self._digests) > 0


def is_sendable(key: str) -> bool:
    """Whether every client sends it in a header as the same bytes."""
    return key.isascii() and key.isprintable()


def _digest(key: str) -> bytes:
    return sha256(key.encode("utf-8", "surrogatepass")).digest()
