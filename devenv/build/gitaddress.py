"""Git repositories' addresses, as BuildKit reads them: ``https://host/a.git#ref:folder``, ``git@host:a.git?tag=v1``."""

from __future__ import annotations

import posixpath
import re
import urllib.parse
from typing import NamedTuple

from devenv import errors
from devenv.build import globs

_SCP = re.compile(r"([a-zA-Z0-9_-]+)@([a-zA-Z0-9.-]+):(.*?)(?:\?(.*?))?(?:#(.*))?")
_SCHEME = re.compile(r"([a-zA-Z0-9]+)://")
_SCHEMES = {"http", "https", "ssh", "git"}
_COMMIT = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_TRUE = {"", "1", "t", "T", "TRUE", "true", "True"}
_FALSE = {"0", "f", "F", "FALSE", "false", "False"}


class Address(NamedTuple):
    remote: str  # for git
    ref: str = ""  # a branch, a tag or a whole commit; "" for the remote's own
    folder: str = ""  # within the repository
    checksum: str = ""  # the beginning of the commit it has to be
    keep_git_dir: bool | None = None
    submodules: bool = True
    commit_time: bool = False  # files are as old as the commit
    by_commit: bool = False  # `checksum` is trusted, the ref isn't asked for


def parse(text: str) -> Address | None:
    """None if it is no git address. ``github.com/a/b`` is one for a context alone: see ``parse_context``.

    Raises ``BuildError`` for one that makes no sense.
    """
    found = _SCHEME.match(text)
    if found is None:
        return _scp(text)
    if found[1].lower() not in _SCHEMES:
        return None
    parts = urllib.parse.urlsplit(text)
    if parts.scheme in {"http", "https"} and not parts.path.endswith(".git"):
        return None
    remote = parts._replace(query="", fragment="").geturl()
    return _with_query(remote, urllib.parse.unquote(parts.fragment), parts.query, text)


def parse_context(text: str) -> Address | None:
    return parse(f"https://{text}") or _bare(text) if text.startswith("github.com/") else parse(text)


def is_commit(text: str) -> bool:
    return _COMMIT.fullmatch(text) is not None


def _bare(text: str) -> Address | None:
    """Without a scheme it may also lack `.git`."""
    parts = urllib.parse.urlsplit(f"https://{text}")
    remote = parts._replace(query="", fragment="").geturl()
    return _with_query(remote, urllib.parse.unquote(parts.fragment), parts.query, text)


def _scp(text: str) -> Address | None:
    if text.startswith(("./", "../")) or (found := _SCP.fullmatch(text)) is None:
        return None
    user, host, path, query, fragment = found.groups()
    return _with_query(f"{user}@{host}:{path}", fragment or "", query or "", text)


def _with_query(remote: str, fragment: str, query: str, text: str) -> Address:
    ref, _, folder = fragment.partition(":")
    address = Address(remote, ref, folder)
    fields = urllib.parse.parse_qs(query, keep_blank_values=True, strict_parsing=False)
    for name, values in fields.items():
        if len(values) > 1:
            raise errors.BuildError(f"`{text}` says `{name}` twice")
        address = _with_field(address, name, values[0], text)
    folder = globs.clean(posixpath.join("/", address.folder)).removeprefix("/")
    _check_ref(address.ref, text)
    return address._replace(folder=folder)


def _with_field(address: Address, name: str, value: str, text: str) -> Address:
    if name in _SWITCHES:
        if value not in _TRUE | _FALSE:
            raise errors.BuildError(f"`{text}`: `{name}` is true or false")
        return address._replace(**{_SWITCHES[name]: value in _TRUE})  # type: ignore[arg-type]
    if not value:
        raise errors.BuildError(f"`{text}`: `{name}` has no value")
    if name in _REFS:
        wanted = value if value.startswith(_REFS[name]) else _REFS[name] + value
        if address.ref and address.ref != wanted:
            raise errors.BuildError(f"`{text}` asks for both `{address.ref}` and `{wanted}`")
        return address._replace(ref=wanted)
    if name == "subdir":
        if address.folder and address.folder != value:
            raise errors.BuildError(f"`{text}` asks for both `{address.folder}` and `{value}`")
        return address._replace(folder=value)
    if name in {"checksum", "commit"}:
        return address._replace(checksum=value)
    if name == "mtime" and value in {"checkout", "commit"}:
        return address._replace(commit_time=value == "commit")
    raise errors.BuildError(
        f"`{text}`: `{name}` is not known",
        hint="known are ref, tag, branch, subdir, checksum, keep-git-dir, submodules, mtime and fetch-by-commit",
    )


def _check_ref(ref: str, text: str) -> None:
    if ref.startswith("-") or any(character.isspace() or character in "~^:?*[\\" for character in ref) or ".." in ref:
        raise errors.BuildError(f"`{text}`: `{ref}` is no name of a branch, a tag or a commit")


_SWITCHES = {"keep-git-dir": "keep_git_dir", "submodules": "submodules", "fetch-by-commit": "by_commit"}
_REFS = {"ref": "", "tag": "refs/tags/", "branch": "refs/heads/"}
