"""By the cases of BuildKit's dfgitutil."""

from __future__ import annotations

import pytest

from devenv import errors
from devenv.build import gitaddress
from devenv.build.gitaddress import Address


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("https://example.com/", None),
        ("https://example.com/foo", None),
        ("https://example.com/foo.tar.gz", None),
        ("https://example.com/foo.git", Address("https://example.com/foo.git")),
        ("https://example.com/foo.git#deadbeef", Address("https://example.com/foo.git", "deadbeef")),
        ("https://example.com/foo.git#release/1.2", Address("https://example.com/foo.git", "release/1.2")),
        ("https://example.com/foo.git#v1:/a//b/", Address("https://example.com/foo.git", "v1", "a/b")),
        ("https://example.com/foo.git#:../../etc", Address("https://example.com/foo.git", "", "etc")),
        ("https://u:p@example.com:444/foo.git", Address("https://u:p@example.com:444/foo.git")),
        ("git://example.com/foo", Address("git://example.com/foo")),
        ("ssh://git@example.com/foo#main", Address("ssh://git@example.com/foo", "main")),
        ("git@example.com:foo/bar.git#v1:sub", Address("git@example.com:foo/bar.git", "v1", "sub")),
        ("git@example.com:bar.git?tag=v1", Address("git@example.com:bar.git", "refs/tags/v1")),
        ("https://a.b/c.git?branch=x&subdir=s", Address("https://a.b/c.git", "refs/heads/x", "s")),
        ("https://a.b/c.git?ref=x#x", Address("https://a.b/c.git", "x")),
        ("https://a.b/c.git?checksum=abc", Address("https://a.b/c.git", checksum="abc")),
        (
            "https://a.b/c.git?keep-git-dir=1&submodules=false",
            Address("https://a.b/c.git", keep_git_dir=True, submodules=False),
        ),
        (
            "https://a.b/c.git?keep-git-dir&mtime=commit",
            Address("https://a.b/c.git", keep_git_dir=True, commit_time=True),
        ),
        ("./git@host:x", None),
        ("folder", None),
        ("/abs/foo.git", None),
        ("ftp://a.b/c.git", None),
        ("github.com/foo/bar", None),
    ],
)
def test_parse(text: str, address: Address | None) -> None:
    assert gitaddress.parse(text) == address


@pytest.mark.parametrize(
    ("text", "remote"),
    [
        ("github.com/foo/bar", "https://github.com/foo/bar"),
        ("github.com/foo/bar.git#x", "https://github.com/foo/bar.git"),
        ("git@a.b:c.git", "git@a.b:c.git"),
    ],
)
def test_a_context_may_lack_its_scheme(text: str, remote: str) -> None:
    address = gitaddress.parse_context(text)
    assert address is not None
    assert address.remote == remote


@pytest.mark.parametrize(
    "text",
    [
        "https://a.b/c.git?what=x",
        "https://a.b/c.git?ref=",
        "https://a.b/c.git?ref=a&ref=b",
        "https://a.b/c.git?ref=a#b",
        "https://a.b/c.git?submodules=perhaps",
        "https://a.b/c.git#--upload-pack=evil",
        "https://a.b/c.git#a b",
        "git@a.b:c.git?mtime=now",
    ],
)
def test_refused(text: str) -> None:
    with pytest.raises(errors.BuildError):
        gitaddress.parse(text)
