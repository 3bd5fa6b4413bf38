"""A copy in the cache of a model below a URL, which is read as any published model is.

models/NAME.DIGEST/STEP-SHA256/    what the store's models/NAME/STEP holds; about.json comes last
models/NAME.DIGEST/current.json    which of them to serve; replaced last

DIGEST is of the URL of models/NAME, SHA256 of the weights, both cut short: a step's folder never
has other weights.
"""

import fcntl
import hashlib
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from alexnet import atomic, checkpoint, similar
from alexnet.cache import cache_folder
from alexnet.checkpoint import ABOUT, POINTER, WEIGHTS, About
from alexnet.command import UserError
from alexnet.store.errors import MissingError, StoreError, UnreachableError
from alexnet.store.store import PATIENCE_S, Store, Tag
from alexnet.store.url import StoreURL

INDEX_ABOUT = f"{similar.FOLDER}/{ABOUT}"
KEPT_S = 3600.0
"""A step that is not the current one is removed so long after somebody last asked for it: who does
opens its files at once, and what is open stays."""
OTHERS_S = 120.0
"""How long another process that fetches the same model is waited for."""


class Look(NamedTuple):
    """What tells the model that a URL means from those it meant before, by few short requests."""

    step: str
    """The folder of the step, below the URL; empty where the URL is a step's."""
    tags: tuple[Tag | None, ...]


class Mirror:
    """The model at models/NAME or models/NAME/STEP below a URL, and its copy. Opens the store,
    which has `patience_s` to answer."""

    def __init__(self, url: StoreURL, patience_s: float = PATIENCE_S) -> None:
        self.url = url
        self._store = Store(url, patience_s)
        self._look: Look | None = None
        self._copy = Path()
        self._refused: tuple[Look, StoreError] | None = None

    def refresh(self) -> Path:
        """The copy of the step that the URL means now, as a folder; fetched where it is not there.

        Raises UnreachableError where the store does not answer, StoreError where what it holds is
        damaged, which is not fetched again until it changes, CheckpointError where that is no
        model, and UserError where it finds no room.
        """
        while True:
            look = self.look()
            if look == self._look and (self._copy / ABOUT).exists():
                with suppress(OSError):
                    os.utime(self._copy)
                return self._copy
            if self._refused and self._refused[0] == look:
                raise self._refused[1]
            try:
                self._copy = self._fetched(look)
            except UnreachableError:
                raise
            except StoreError as error:
                if self.look() == look:  # else it was replaced or removed meanwhile
                    self._refused = look, error
                    raise
            else:
                self._look = look
                return self._copy

    def look(self) -> Look:
        """Raises StoreError, and CheckpointError for a pointer that cannot be followed."""
        step, tags = "", list[Tag | None]()
        with suppress(MissingError):
            pointer = self._store.read_tagged(POINTER, checkpoint.MAX_POINTER_BYTES)
            step = checkpoint.pointed(pointer.data, self._store.place(POINTER))
            tags.append(pointer.tag)
        names = [_in(step, name) for name in (ABOUT, WEIGHTS, INDEX_ABOUT)]
        return Look(step, (*tags, *map(self._store.tag, names)))

    def about(self) -> About:
        """What is known of the model; its weights are not fetched. Raises UserError."""
        return self._about(self.look())[0]

    def copy(self) -> Path | None:
        """The copy that was made last, whatever the store says now; None where there is none."""
        with suppress(UserError):
            return checkpoint.current(_home(self.url))
        steps = _home(self.url.parent).glob(f"{self.url.name}-*/{ABOUT}")
        return max((about.parent for about in steps), key=_used_at, default=None)

    def _about(self, look: Look) -> tuple[About, bytes]:
        name = _in(look.step, ABOUT)
        try:
            data = self._store.read(name, checkpoint.MAX_ABOUT_BYTES)
        except MissingError:
            if look.step:
                raise
            self._store.names()  # which says if there is no bucket
            raise checkpoint.unpublished(self.url) from None
        return checkpoint.parsed_about(data, self._store.place(name)), data

    def _fetched(self, look: Look) -> Path:
        about, data = self._about(look)
        home = _home(self.url if look.step else self.url.parent)
        copy = home / f"{look.step or self.url.name}-{about.weights_sha256[:16]}"
        try:
            with _alone(home, self.url):
                copy.mkdir(exist_ok=True)
                for left in copy.glob(f".*{atomic.PARTIAL}"):
                    left.unlink()  # of a process that was killed
                self._fetch(
                    _in(look.step, WEIGHTS), copy / WEIGHTS, about.weights_sha256, _most(about)
                )
                self._fetch_index(look, copy)
                if not (copy / ABOUT).exists() or (copy / ABOUT).read_bytes() != data:
                    atomic.write(copy / ABOUT, data)
                os.utime(copy)
                if look.step:
                    atomic.write(home / POINTER, checkpoint.pointer(about, copy.name))
                _tidy(home, copy)
        except OSError as error:
            raise UserError(
                f"{error.filename or home}: {error.strerror}; free some disk space, or set "
                "ALEXNET_CACHE to a folder that can be written"
            ) from None
        return copy

    def _fetch_index(self, look: Look, copy: Path) -> None:
        """Bring the index of similar images, in place of an earlier one; as where it is built, a
        reader finds the old one, none or the new one."""
        folder, partial = copy / similar.FOLDER, copy / f".{similar.FOLDER}"
        try:
            name = _in(look.step, INDEX_ABOUT)
            data = self._store.read(name, similar.MAX_ABOUT_BYTES)
        except MissingError:
            shutil.rmtree(folder, ignore_errors=True)
            return
        if (folder / ABOUT).exists() and (folder / ABOUT).read_bytes() == data:
            return
        digests = similar.parsed_about(data, self._store.place(name)).sha256
        partial.mkdir(exist_ok=True)
        for file, sha256 in digests.items():
            self._fetch(_in(look.step, f"{similar.FOLDER}/{file}"), partial / file, sha256)
        atomic.write(partial / ABOUT, data)
        shutil.rmtree(folder, ignore_errors=True)
        partial.rename(folder)

    def _fetch(self, name: str, path: Path, sha256: str, most: float = float("inf")) -> None:
        """Have the object at `path`, if it is not there whole."""
        if path.exists():
            with path.open("rb") as file:
                if hashlib.file_digest(file, "sha256").hexdigest() == sha256:
                    return
        self._store.fetch(name, path, sha256, most)


def _in(step: str, name: str) -> str:
    return f"{step}/{name}" if step else name


def _home(url: StoreURL) -> Path:
    digest = hashlib.sha256(url.encode()).hexdigest()[:16]
    return cache_folder() / "models" / f"{url.name or url.bucket}.{digest}"


def _used_at(path: Path) -> float:
    return path.stat().st_mtime


def _most(about: About) -> int:
    """Bytes of its weights at most."""
    means = 3 * (about.network.crop**2 + about.size**2)
    numbers = checkpoint.parameters(about.network) + means
    return 4 * numbers + checkpoint.MAX_HEADER_BYTES


@contextmanager
def _alone(home: Path, url: StoreURL) -> Iterator[None]:
    """One process fetches, and the others of this machine find what it has fetched."""
    home.mkdir(parents=True, exist_ok=True)
    until = time.monotonic() + OTHERS_S
    with (home / ".lock").open("w") as lock:
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > until:
                    raise UnreachableError(
                        f"{url}: another process has been fetching this model for {OTHERS_S:.0f} "
                        "s; wait until it ends"
                    ) from None
                time.sleep(0.05)
        yield


def _tidy(home: Path, copy: Path) -> None:
    """Remove the steps that are neither the current one nor in use."""
    kept = {copy}
    with suppress(UserError):
        kept.add(checkpoint.current(home))
    for path in home.iterdir():
        if path.is_dir() and path not in kept and _used_at(path) < time.time() - KEPT_S:
            shutil.rmtree(path, ignore_errors=True)
