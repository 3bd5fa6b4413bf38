"""A real object store for tests: SeaweedFS, which speaks the protocol of S3."""

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from alexnet.command import UserError
from alexnet.store.store import Store
from alexnet.store.url import StoreURL

KEY, SECRET = "key", "secret"
IDENTITIES = [
    {
        "name": "all",
        "credentials": [{"accessKey": KEY, "secretKey": SECRET}],
        "actions": ["Admin", "Read", "Write", "List"],
    },
    {
        "name": "reader",
        "credentials": [{"accessKey": "reader", "secretKey": SECRET}],
        "actions": ["Read", "List"],
    },
    {"name": "anonymous", "actions": ["Read:public", "List:public"]},
]
"""Who may what: all of it, all but to write, and, without a key, read the bucket `public`."""
START_S = 60.0


class Server(NamedTuple):
    """A store that runs."""

    port: int
    ports: list[int]
    """All that it listens at, so that another can take its place."""
    process: subprocess.Popen[bytes] | None = None

    def kill(self) -> None:
        assert self.process
        self.process.kill()
        self.process.wait()

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def environment(self, key: str = KEY, endpoint: str | None = None) -> dict[str, str]:
        """The variables by which a process finds it; through `endpoint`, where there is a proxy."""
        return {
            "AWS_ENDPOINT_URL": endpoint or self.endpoint,
            "AWS_ACCESS_KEY_ID": key,
            "AWS_SECRET_ACCESS_KEY": SECRET,
            "AWS_REGION": "us-east-1",
        }


@contextmanager
def serving(folder: Path, ports: list[int] | None = None) -> Iterator[Server]:
    """A store whose data lie in `folder`, for the length of a block; at the ports of an earlier
    one, or at free ones."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "s3.json").write_text(json.dumps({"identities": IDENTITIES}))
    ports = ports or _ports()
    master, volume, filer, s3 = ports
    command = [
        str(Path(sys.executable).with_name("weed")), "server", f"-dir={folder}", "-ip=127.0.0.1",
        "-volume.max=200", "-master.volumeSizeLimitMB=64", "-master.telemetry=false", "-filer",
        "-s3",
        "-s3.port.iceberg=0", "-s3.port.lance=0",
        f"-s3.config={folder / 's3.json'}",
    ]  # fmt: skip
    for name, port in (("master", master), ("volume", volume), ("filer", filer), ("s3", s3)):
        command += [f"-{name}.port={port}", f"-{name}.port.grpc={port + 10_000}"]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
    server = Server(s3, ports, process)
    try:
        _wait(process, server, folder / "log")
        yield server
    finally:
        server.kill()
        shutil.rmtree(folder, ignore_errors=True)


def _ports() -> list[int]:
    """Four that are free, and so are those 10,000 above."""
    found: list[int] = []
    while len(found) < 4:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1] - 20_000
        if port > 1024 and all(map(_is_free, (port, port + 10_000))) and port not in found:
            found.append(port)
    return found


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def _wait(process: subprocess.Popen[bytes], server: Server, log: Path) -> None:
    """Until an object can be written, which it says it can some seconds before."""
    until = time.monotonic() + START_S
    with environment(server.environment()):
        while True:
            try:
                Store(StoreURL("s3://private"), patience_s=1).write("started", b"")
                Store(StoreURL("s3://public"), patience_s=1).write("started", b"")
                return
            except UserError:
                if process.poll() is not None or time.monotonic() > until:
                    raise RuntimeError(f"the store does not start: {log.read_text()}") from None
                time.sleep(0.2)


@contextmanager
def environment(variables: Mapping[str, str]) -> Iterator[None]:
    """These variables for the length of a block, and no others that name an account."""
    before = {name: value for name, value in os.environ.items() if name.startswith("AWS_")}
    for name in before:
        del os.environ[name]
    os.environ.update(variables)
    try:
        yield
    finally:
        for name in variables:
            del os.environ[name]
        os.environ.update(before)
