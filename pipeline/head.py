"""The head of a Ray cluster that somebody else started: whether it answers.

Ray itself waits for one that is gone for minutes, and then ends the process.
"""

import os
import re
import socket
from contextlib import suppress

from alexnet.command import UserError

VARIABLE = "RAY_ADDRESS"
"""Ray's own: where the head is."""
HERE = ("", "local")
"""Values of it that mean a cluster of one's own, as no value does."""
ADDRESS = re.compile(
    r"(?:ray://)?(?:\[(?P<v6>[0-9a-fA-F:.]+)\]|(?P<host>[^\s/:\[\]]+)):(?P<port>[0-9]{1,5})"
)
TIMEOUT_S = 9
"""For each of: a connection, and the first bytes over it. A busy head takes seconds."""
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])
"""How a client begins HTTP/2 (RFC 9113 §3.4), with an empty SETTINGS frame; Ray speaks gRPC."""
SETTINGS = 4
"""The type of the frame that a server begins with."""
REMEDY = f"start it, correct {VARIABLE}, or unset it for a cluster of this command's own"


class ClusterError(UserError):
    """A cluster that cannot be started, or reached."""


def check(address: str) -> None:
    """Raises ClusterError where `address`, which RAY_ADDRESS stands for, is not one, or where no
    Ray head answers there within 2 x TIMEOUT_S."""
    given = os.environ[VARIABLE]
    place = f"{VARIABLE} is {given}" if given == address else f"{VARIABLE} is {given} ({address})"
    found = ADDRESS.fullmatch(address)
    if not found or int(found["port"]) > 65535:
        raise ClusterError(
            f"{place}: write it as HOST:6379, the port of the Ray head itself and "
            "not of its dashboard, or unset it for a cluster of this command's own"
        )
    try:
        answer = _first_bytes(found["v6"] or found["host"], int(found["port"]))
    except OSError as error:
        reason = error.strerror or str(error)
        raise ClusterError(
            f"{place}: no Ray head can be reached there ({reason}); {REMEDY}"
        ) from None
    if answer is None:
        return
    if not answer:
        reason = f"nothing within {TIMEOUT_S} s"
    elif answer[3:4] == bytes([SETTINGS]):
        return
    else:
        reason = "another protocol than Ray's"
    raise ClusterError(f"{place}: what listens there answers {reason}; {REMEDY}")


def _first_bytes(host: str, port: int) -> bytes | None:
    """What a server says first, at least one frame's header of it; less where it says no more. None
    where it wants TLS, whose certificates are Ray's to know. Raises OSError where there is none."""
    with socket.create_connection((host, port), TIMEOUT_S) as connection:
        if os.environ.get("RAY_USE_TLS", "0").lower() not in ("0", "false"):
            return None
        said = b""
        with suppress(OSError):  # silence, or the end of it
            connection.sendall(PREFACE)
            while len(said) < 9 and (more := connection.recv(9 - len(said))):
                said += more
        return said
