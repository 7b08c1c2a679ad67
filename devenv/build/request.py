"""What to build, as plain values: where ``build:`` in a spec, the command lines and the solver meet."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import NamedTuple


class Secret(NamedTuple):
    """From a file or from the environment of who asks; read when a step needs it, and kept nowhere."""

    id: str
    path: str = ""
    variable: str = ""
    value: bytes | None = None  # given already


class Agent(NamedTuple):
    """``--ssh``: the socket of an agent, or private keys that one is made of."""

    id: str  # `default` where nothing else is said
    paths: tuple[str, ...]  # none: $SSH_AUTH_SOCK


class Ulimit(NamedTuple):
    name: str
    soft: int
    hard: int


class Exchange(NamedTuple):
    """One ``cache_from`` or ``cache_to``: ``type=local,src=…`` as kind and fields; a bare name has kind registry."""

    kind: str
    fields: Mapping[str, str]


class Output(NamedTuple):
    """``--output``: ``local`` and ``tar`` write the files, ``oci`` and ``docker`` an archive, ``image`` the store."""

    kind: str
    path: str  # "-" for standard output; "" for the store
    fields: Mapping[str, str] = {}


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One image. Paths are absolute; ``environ`` is the asking command's."""

    context: str  # a folder, a git or http(s) address, or "" for none
    dockerfile: str = ""  # a path, or one within a remote context; "" for `Dockerfile` in the context
    inline: str | None = None  # the text itself, in its place
    target: str = ""
    arguments: Mapping[str, str | None] = dataclasses.field(default_factory=dict)  # None: from `environ`
    # By name: a folder, an address, `docker-image://…`, `oci-layout://…`, or `image:` and the digest of an image in the
    # store, which is what a service's is.
    contexts: Mapping[str, str] = dataclasses.field(default_factory=dict)
    platforms: tuple[str, ...] = ()  # none: this machine's
    labels: Mapping[str, str] = dataclasses.field(default_factory=dict)
    tags: tuple[str, ...] = ()  # normalised references
    secrets: tuple[Secret, ...] = ()
    ssh: tuple[Agent, ...] = ()
    extra_hosts: tuple[tuple[str, str], ...] = ()  # name, address
    network: str = ""  # default, none, host
    shm_size: int = 0  # bytes; 0 for the usual
    ulimits: tuple[Ulimit, ...] = ()
    privileged: bool = False
    entitlements: frozenset[str] = frozenset()  # network.host, security.insecure, device
    cache_from: tuple[Exchange, ...] = ()
    cache_to: tuple[Exchange, ...] = ()
    no_cache: bool = False
    no_cache_stages: frozenset[str] = frozenset()
    pull: bool = False  # look in the registry for what FROM names, though it is here
    outputs: tuple[Output, ...] = ()  # none: the store
    push: bool = False
    pinned: Mapping[str, str] = dataclasses.field(default_factory=dict)  # what FROM names, with a lock's digest
    debug: bool = False  # keep the filesystem of a step that fails, to be entered
    service: str = ""  # whose image it is, in messages and events
    environ: Mapping[str, str] = dataclasses.field(default_factory=dict)
