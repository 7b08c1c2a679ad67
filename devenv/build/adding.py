"""ADD's sources that have to be fetched: told apart, known by their content, and selected like others.

https://host/file         a file, unpacked only with ``--unpack``
https://host/app.git#v1   what is in a repository, without `.git` unless it is to be kept
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from devenv import errors
from devenv.build import context, fetch, git, gitaddress, selection


class Source(Protocol):
    def key(self) -> str:
        """By content, and no more than has to be fetched for that. Raises ``BuildError``."""

    def selection(self, *, excludes: Sequence[str] = ()) -> selection.Selection:
        """The caller closes its tree. Raises ``BuildError``."""


class Sources(NamedTuple):
    """Of one instruction, each kind in the order they were written."""

    local: tuple[str, ...]
    remote: tuple[Source, ...]


class _File(NamedTuple):
    fetcher: fetch.Fetcher
    url: str
    checksum: str

    def key(self) -> str:
        fetched = self._fetched()
        return f"{fetched.name} {fetched.digest}"

    def selection(self, *, excludes: Sequence[str] = ()) -> selection.Selection:
        del excludes  # they are relative to a folder
        return self._fetched().selection()

    def _fetched(self) -> fetch.Fetched:
        return self.fetcher.file(self.url, checksum=self.checksum)


class _Repository:
    def __init__(self, repositories: git.Repositories, address: gitaddress.Address, *, keep: bool) -> None:
        self._repositories = repositories
        self._address = address
        self._keep = keep
        self._resolved: git.Resolved | None = None

    def key(self) -> str:
        return git.key(self._address, self._resolve(), keep_git_dir=self._keep)

    def selection(self, *, excludes: Sequence[str] = ()) -> selection.Selection:
        checkout = self._repositories.checkout(self._address, self._resolve(), keep_git_dir=self._keep)
        return selection.select(context.folder(checkout.folder), ["."], excludes=excludes)

    def _resolve(self) -> git.Resolved:
        """Once: what the key was made of is what comes."""
        if self._resolved is None:
            self._resolved = self._repositories.resolve(self._address)
        return self._resolved


def is_remote(source: str) -> bool:
    """Raises ``BuildError`` for a repository's address that makes no sense."""
    return gitaddress.parse(source) is not None or fetch.is_address(source)


def sources(
    words: Sequence[str],
    *,
    fetcher: fetch.Fetcher,
    repositories: git.Repositories,
    checksum: str = "",
    keep_git_dir: bool = False,
) -> Sources:
    """Nothing is asked or fetched. Raises ``BuildError``."""
    if checksum and (len(words) != 1 or not is_remote(words[0])):
        raise errors.BuildError("`--checksum` is for one source that is fetched", hint="ADD --checksum=… URL TARGET")
    remote: list[Source] = []
    for word in words:
        address = gitaddress.parse(word)
        if address is not None:
            address = address._replace(checksum=_agreed(address.checksum, checksum.removeprefix("sha1:")))
            remote.append(_Repository(repositories, address, keep=keep_git_dir))
        elif fetch.is_address(word):
            remote.append(_File(fetcher, word, checksum))
    return Sources(tuple(word for word in words if not is_remote(word)), tuple(remote))


def _agreed(one: str, other: str) -> str:
    if one and other and one != other:
        raise errors.BuildError(f"the address asks for the commit {one}, and `--checksum` for {other}")
    return one or other
