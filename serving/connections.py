"""The connections of a server process: how many there may be, and how long they may take."""

import logging
import resource
import socket
import struct
import time
from asyncio import Transport
from collections import defaultdict
from ipaddress import IPv4Address, IPv6Network, ip_address
from pathlib import Path
from typing import Protocol

from serving.settings import Settings

SPARE = 32
"""Connections beyond the bound, on which only the health of the server is told."""
OTHER_FILES, FILES_OF_DECODER = 64, 4
"""File descriptors for all but connections: pages, models that are loaded; decoder processes."""
PATIENCE_S = 1.0
"""Time that a client has to send its first request, or to read on, before its connection may be
closed for another's."""

log = logging.getLogger("serving")


class Member(Protocol):
    """A connection, as seen from here."""

    address: str
    transport: Transport


class Connections:
    """At most `most` connections, and `most_of_address` of one address, an IPv6 network being one.

    Beyond that one is closed whose client sends no request, or does not read: of the address that
    has the most, the one that has been waited for longest. Where there is none, a few more are kept
    that are not served.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        open_now = sum(1 for _ in Path("/proc/self/fd").iterdir())
        decoders = FILES_OF_DECODER * settings.decoder_processes
        room = files - open_now - decoders - OTHER_FILES - SPARE
        self.most = max(1, min(settings.max_connections, room))
        if self.most < settings.max_connections:
            log.warning(
                "at most %d connections instead of SERVING_MAX_CONNECTIONS=%d: the limit on open "
                "files is %d; raise it (ulimit -n)", self.most, settings.max_connections, files,
            )  # fmt: skip
        given = settings.max_connections_per_address or max(1, self.most // 2)
        self.most_of_address = min(given, self.most)
        self._of: defaultdict[str, set[Member]] = defaultdict(set)
        """Those that are served, by address."""
        self._count = 0
        self._waiting: dict[Member, float] = {}
        """Of them those whose clients are waited for, and when they may be closed for others; the
        first has been waited for longest."""
        self._spare: dict[Member, None] = {}

    def admit(self, new: Member) -> bool:
        """Whether it is to be served; it is a member either way, until it leaves."""
        if self._make_room(new.address):
            self._of[new.address].add(new)
            self._count += 1
            self._waiting[new] = time.monotonic() + PATIENCE_S
            return True
        if len(self._spare) >= SPARE:
            self._end(next(iter(self._spare)))
        self._spare[new] = None
        return False

    def busy(self, member: Member) -> None:
        """A request is under way: it may not be closed for others."""
        self._waiting.pop(member, None)

    def rest(self, member: Member, patience_s: float = 0) -> None:
        """The client is waited for: with no request under way, or for `patience_s` to read."""
        if member not in self._waiting and member in self._of[member.address]:
            self._waiting[member] = time.monotonic() + patience_s

    def leave(self, member: Member) -> None:
        """It has been closed."""
        self._spare.pop(member, None)
        self._waiting.pop(member, None)
        of_address = self._of[member.address]
        if member in of_address:
            of_address.remove(member)
            self._count -= 1
        if not of_address:
            del self._of[member.address]

    def _make_room(self, address: str) -> bool:
        crowded = len(self._of[address]) >= self.most_of_address
        if not crowded and self._count < self.most:
            return True
        now = time.monotonic()
        candidates = [
            member
            for member, since in self._waiting.items()
            if since <= now and (member.address == address or not crowded)
        ]
        if not candidates:
            return False
        self._end(max(candidates, key=lambda member: len(self._of[member.address])))
        return True

    def _end(self, member: Member) -> None:
        self.leave(member)
        cut(member.transport)


def cut(transport: Transport) -> None:
    """End a connection at once, and drop what the system still holds for its client."""
    if connected := transport.get_extra_info("socket"):
        connected.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()


def address_of(host: str) -> str:
    """What counts as one client: an IPv4 address, or the network of an IPv6 address, of which its
    owner has all (RFC 6177)."""
    try:
        address = ip_address(host)
    except ValueError:
        return host
    if isinstance(address, IPv4Address):
        return host
    if address.ipv4_mapped:
        return str(address.ipv4_mapped)
    return str(IPv6Network((int(address), 64), strict=False))
