"""The values that ``devenv image build``'s flags take, as buildx reads them."""

from __future__ import annotations

import contextlib
import os
import sys
import tarfile
import tempfile
from collections.abc import Iterator, Sequence

from devenv import errors
from devenv.build import request
from devenv.cli import terminal
from devenv.reconcile import building

ENTITLEMENTS = ("network.host", "security.insecure", "device")
_REMOTE = ("https://", "http://", "git://", "git@", "ssh://", "github.com/")
_KINDS = {"local", "tar", "oci", "docker", "image", "registry", "cacheonly"}
_UNITS = {"": 1, "b": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30}


def is_remote(context: str) -> bool:
    return context.startswith(_REMOTE)


def _fields(text: str, option: str) -> dict[str, str]:
    """``key=value,key=value``; a key alone has ""."""
    import csv

    try:
        [row] = csv.reader([text], strict=True)
    except (csv.Error, ValueError):
        raise errors.UsageError(f"`{option} {text}` is not understood", hint="write key=value,key=value") from None
    return {key.strip().lower(): value for key, _, value in (part.partition("=") for part in row)}


def context(text: str, base: str) -> tuple[str, str]:
    """``--build-context``'s NAME=PATH, or an address."""
    name, sign, value = text.partition("=")
    if not name or not sign or not value:
        raise errors.UsageError(f"`--build-context {text}` is not understood", hint="write NAME=PATH")
    if "://" in value or is_remote(value):
        return name, value
    return name, os.path.normpath(building.absolute(value, base))


def secret(text: str, base: str) -> request.Secret:
    """``--secret``: id=ID,src=FILE, id=ID,env=NAME, or id=ID alone, which is a variable or a file of that name."""
    fields = _fields(text, "--secret")
    key = fields.get("id", "")
    if not key:
        raise errors.UsageError(f"`--secret {text}` has no id", hint="write id=ID,src=FILE or id=ID,env=NAME")
    variable = fields.get("env", "")
    path = fields.get("src") or fields.get("source") or ""
    kind = fields.get("type", "")
    if kind not in {"", "env", "file"}:
        raise errors.UsageError(f"`--secret {text}`: it is of the type env or file")
    if kind == "env" and not variable:
        path, variable = "", path or key
    elif not variable and not path:
        path, variable = ("", key) if kind != "file" and key in os.environ else (key, "")
    return request.Secret(key, path=building.absolute(path, base) if path else "", variable=variable)


def size(text: str, *, option: str) -> int:
    """As docker reads sizes: 64m, 1g, a number of bytes."""
    given = text.lower().removesuffix("b") or "0"
    number, unit = (given[:-1], given[-1]) if given[-1:].isalpha() else (given, "")
    try:
        return int(float(number) * _UNITS[unit])
    except (ValueError, KeyError):
        raise errors.UsageError(f"`{option} {text}` is no size", hint="write for instance 64m") from None


def ulimit(text: str) -> request.Ulimit:
    name, _, limits = text.partition("=")
    soft, _, hard = limits.partition(":")
    try:
        return request.Ulimit(name, int(soft), int(hard or soft))
    except ValueError:
        raise errors.UsageError(
            f"`--ulimit {text}` is not understood", hint="write NAME=SOFT or NAME=SOFT:HARD"
        ) from None


def entitlements(allowed: Sequence[str], network: str) -> frozenset[str]:
    found = {part for text in allowed for part in text.split(",")}
    for each in sorted(found):
        if each not in ENTITLEMENTS:
            raise errors.UsageError(f"`--allow {each}` is not understood; it is {', '.join(ENTITLEMENTS)}")
    # Whoever says so on the command line allows it.
    return frozenset(found | ({"network.host"} if network == "host" else set()))


def outputs(texts: Sequence[str], base: str, *, load: bool) -> tuple[request.Output, ...]:
    """``--output``: a folder, - for a tar archive on stdout, or type=…,dest=…"""
    found = [_output(text, base) for text in texts]
    if any(each.path == "-" for each in found) and terminal.is_terminal(sys.stdout):
        raise errors.UsageError("an archive is nothing for a terminal", hint="use `dest=FILE` or a pipe")
    if load and found:
        found.append(request.Output("image", ""))
    return tuple(found)


def _output(text: str, base: str) -> request.Output:
    if "=" not in text:
        return request.Output("tar", "-") if text == "-" else request.Output("local", building.absolute(text, base))
    fields = _fields(text, "--output")
    kind, path = fields.pop("type", ""), fields.pop("dest", "")
    if kind not in _KINDS:
        raise errors.UsageError(f"`--output {text}`: the type is one of {', '.join(sorted(_KINDS))}")
    if kind == "local" and path in {"", "-"}:
        raise errors.UsageError(f"`--output {text}` needs a folder", hint="write type=local,dest=DIR")
    if kind in {"tar", "oci"} and not path:
        path = "-"
    if kind == "registry" or (kind == "docker" and not path):
        kind = "image"
    return request.Output(kind, path if path in {"", "-"} else building.absolute(path, base), fields)


@contextlib.contextmanager
def from_stdin() -> Iterator[tuple[str, str | None]]:
    """`devenv image build -`: a tar archive as the context, or a Dockerfile alone."""
    if terminal.is_terminal(sys.stdin):
        raise errors.UsageError("there is nothing on stdin but a terminal", hint="use a pipe")
    with tempfile.TemporaryDirectory(prefix="devenv-context-") as folder, tempfile.TemporaryFile() as spooled:
        while piece := sys.stdin.buffer.read(1 << 20):
            spooled.write(piece)
        spooled.seek(0)
        try:
            with tarfile.open(fileobj=spooled, mode="r:*") as archive:
                archive.extractall(folder, filter="tar")
        except tarfile.FilterError as exc:
            raise errors.UsageError(f"the context on stdin can't be unpacked: {exc}") from exc
        except tarfile.ReadError:
            spooled.seek(0)
            yield "", spooled.read().decode(errors="surrogateescape")
            return
        yield folder, None
