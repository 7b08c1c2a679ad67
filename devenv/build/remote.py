"""Contexts that are no folder here: a git repository, an archive or a Dockerfile on the web or on standard input."""

from __future__ import annotations

import hashlib
import os
import shutil
from typing import NamedTuple

from devenv import errors
from devenv.build import archives, fetch, git, gitaddress
from devenv.image import source
from devenv.util import tree

DOCKERFILE_LIMIT = 16 << 20


class Context(NamedTuple):
    folder: str  # whose files are read in place; "" where nothing but a Dockerfile came
    dockerfile: str | None  # the text, if that is all that came
    key: str  # the same for the same content


def is_remote(text: str) -> bool:
    """Whether a context's name means something that has to be fetched first. A folder that is there is not."""
    return text == "-" or fetch.is_address(text) or (not os.path.exists(text) and _git_address(text) is not None)


def opened(text: str, *, fetcher: fetch.Fetcher, repositories: git.Repositories, commit_time: bool = False) -> Context:
    """``commit_time``: files of a repository are as old as its commit, as with SOURCE_DATE_EPOCH. Raises
    ``BuildError``."""
    address = _git_address(text)
    if address is not None:
        checkout = repositories.checkout(address, repositories.resolve(address), commit_time=commit_time)
        return Context(checkout.folder, None, checkout.key)
    fetched = fetcher.file(text)
    with open(fetched.path, "rb") as file:
        if archives.is_archive(file.fileno()):
            return Context(_unpacked(fetched), None, fetched.digest)
        return Context("", _text(file.read(DOCKERFILE_LIMIT + 1), fetch.shown(text)), fetched.digest)


def received(file: int, folder: str) -> Context:
    """From standard input, or a pipe. ``folder`` is there, empty, and the caller's to remove. Raises ``BuildError``."""
    spool = f"{folder}/spool"
    try:
        with open(spool, "w+b", opener=_private) as kept:
            os.unlink(spool)
            shutil.copyfileobj(open(file, "rb", buffering=0, closefd=False), kept)  # noqa: SIM115  it stays the caller's
            kept.flush()
            kept.seek(0)
            digest = f"sha256:{hashlib.file_digest(kept, 'sha256').hexdigest()}"
            if archives.is_archive(kept.fileno()):
                archives.context(source.File(f"/proc/self/fd/{kept.fileno()}"), folder, name="-")
                return Context(folder, None, digest)
            kept.seek(0)
            return Context("", _text(kept.read(DOCKERFILE_LIMIT + 1), "-"), digest)
    except OSError as exc:
        raise errors.BuildError(f"the context on standard input can't be kept: {exc.strerror}") from exc


def _git_address(text: str) -> gitaddress.Address | None:
    return gitaddress.parse_context(text)


def _unpacked(fetched: fetch.Fetched) -> str:
    folder = f"{fetched.folder}/.tree"
    if os.path.isdir(folder):
        return folder
    stage = f"{fetched.folder}/.stage.{os.urandom(6).hex()}"
    try:
        os.mkdir(stage, 0o755)
        archives.context(source.File(fetched.path), stage, name=fetched.name)
        try:
            os.rename(stage, folder)
        except OSError:
            if not os.path.isdir(folder):  # somebody else was faster
                raise
    except OSError as exc:
        raise errors.BuildError(f"the context `{fetched.name}` can't be unpacked: {exc.strerror}") from exc
    finally:
        tree.remove(stage)
    return folder


def _text(data: bytes, name: str) -> str:
    if len(data) > DOCKERFILE_LIMIT or b"\0" in data:
        raise errors.BuildError(f"the context `{name}` is neither an archive nor a Dockerfile")
    return data.decode("utf-8", "surrogateescape")


def _private(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_EXCL | os.O_CLOEXEC, 0o600)
