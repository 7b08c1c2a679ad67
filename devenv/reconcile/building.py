"""From a service's ``build:`` to what the solver takes, and which service's image another one is built upon. Pure.

An image is called as its service's `image` says, else `<project>-<service>`, as with docker compose. The labels that
docker compose puts on what it builds are not: two services of one Dockerfile have one image.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

from devenv import errors
from devenv.build import request
from devenv.graph import traversal
from devenv.image import reference

Service = Mapping[str, Any]
NETWORKS = ("default", "none", "host")
_SERVICE = "service:"


class Wishes(NamedTuple):
    """What the command line adds to the spec."""

    arguments: Mapping[str, str | None] = {}
    ssh: tuple[str, ...] = ()
    no_cache: bool = False
    pull: bool = False
    push: bool = False
    debug: bool = False
    single_platform: bool = False  # that of the service, not all that it is published for: to be run here
    environ: Mapping[str, str] = {}


def image_name(project: str, name: str, service: Service) -> str:
    # A repository is in lower case, which a service need not be.
    return str(service.get("image") or f"{project}-{name}".lower())


def named(project: Mapping[str, Any]) -> dict[str, Any]:
    """The canonical project with the names of what is built as `image`: for all that starts it."""
    if not any_built(project):
        return dict(project)
    services = {
        name: {**service, "image": image_name(str(project["name"]), name, service)} if is_built(service) else service
        for name, service in project["services"].items()
    }
    return {**project, "services": services}


def any_built(project: Mapping[str, Any]) -> bool:
    return any(is_built(service) for service in (project.get("services") or {}).values())


def is_built(service: Service) -> bool:
    return bool(service.get("build"))


def make(
    project: Mapping[str, Any],
    name: str,
    wishes: Wishes,
    *,
    directory: str,
    images: Mapping[str, str] | None = None,
    pinned: Mapping[str, str] | None = None,
) -> request.Request:
    """``directory``: what relative paths begin at. ``images``: by service, the digests of those that this one is built
    upon. Raises ``BuildError``."""
    service = project["services"][name]
    build = service["build"]
    network = _network(name, build)
    return request.Request(
        context=str(build.get("context") or ""),
        dockerfile=_dockerfile(build),
        inline=build.get("dockerfile_inline"),
        target=str(build.get("target") or ""),
        arguments={**_arguments(build.get("args")), **wishes.arguments},
        contexts={**_contexts(project, build, images or {})},
        platforms=_platforms(service, build, single=wishes.single_platform),
        labels={key: str(value) for key, value in (build.get("labels") or {}).items()},
        tags=_tags(str(project["name"]), name, service),
        secrets=tuple(_secret(project, name, use) for use in build.get("secrets") or ()),
        ssh=_agents((*(build.get("ssh") or ()), *wishes.ssh), directory),
        extra_hosts=tuple(_host(entry) for entry in build.get("extra_hosts") or ()),
        network=network,
        shm_size=int(build.get("shm_size") or 0),
        ulimits=tuple(_ulimit(key, value) for key, value in sorted((build.get("ulimits") or {}).items())),
        privileged=bool(build.get("privileged")),
        entitlements=_entitlements(build, network),
        cache_from=tuple(exchange(str(text), base=directory) for text in build.get("cache_from") or ()),
        cache_to=tuple(exchange(str(text), base=directory) for text in build.get("cache_to") or ()),
        no_cache=wishes.no_cache or bool(build.get("no_cache")),
        no_cache_stages=frozenset(build.get("no_cache_filter") or ()),
        pull=wishes.pull or bool(build.get("pull")),
        push=wishes.push,
        pinned=pinned or {},
        debug=wishes.debug,
        service=name,
        environ=wishes.environ,
    )


def notes(name: str, service: Service) -> list[str]:
    """What of its ``build:`` is understood and has no effect."""
    build = service.get("build") or {}
    found = []
    for key in ("provenance", "sbom"):
        if str(build.get(key) or "false").lower() not in {"false", "0"}:
            found.append(f"service `{name}`: `build.{key}` has no effect: devenv writes no attestations")
    if str(build.get("isolation") or "default") != "default":
        found.append(f"service `{name}`: `build.isolation` has no effect: it is for Windows")
    return found


def _dockerfile(build: Mapping[str, Any]) -> str:
    path = str(build.get("dockerfile") or "")
    if path in {"", "Dockerfile"} or build.get("dockerfile_inline") is not None:
        return ""
    context = str(build.get("context") or "")
    # Within what is fetched, or a web address, it stays as it is written.
    return path if path.startswith("/") or "://" in path or not context.startswith("/") else f"{context}/{path}"


def _arguments(given: Any) -> dict[str, str | None]:
    if isinstance(given, Mapping):
        return {str(key): None if value is None else str(value) for key, value in given.items()}
    return arguments([str(each) for each in given or ()])


def arguments(texts: Sequence[str]) -> dict[str, str | None]:
    """``KEY=VALUE``, or ``KEY`` for what the environment says."""
    pairs = (text.partition("=") for text in texts)
    return {key: value if sign else None for key, sign, value in pairs}


def _contexts(project: Mapping[str, Any], build: Mapping[str, Any], images: Mapping[str, str]) -> dict[str, str]:
    found = {}
    for key, value in (build.get("additional_contexts") or {}).items():
        text = str(value)
        digest = images.get(text.removeprefix(_SERVICE)) if text.startswith(_SERVICE) else None
        found[key] = f"image:{digest}" if digest else text
    # What FROM calls by its name may have been built just now.
    for other, digest in images.items():
        wanted = image_name(str(project["name"]), other, project["services"][other])
        found.setdefault(wanted, f"image:{digest}")
    return found


def _platforms(service: Service, build: Mapping[str, Any], *, single: bool) -> tuple[str, ...]:
    own = str(service.get("platform") or "")
    if single:
        return (own,) if own else ()
    return tuple(build.get("platforms") or ((own,) if own else ()))


def _tags(project: str, name: str, service: Service) -> tuple[str, ...]:
    texts = [image_name(project, name, service), *(service["build"].get("tags") or ())]
    return tuple(dict.fromkeys(tag(str(text)) for text in texts))


def tag(text: str) -> str:
    """A name for what is built, in full. Raises ``BuildError``."""
    wanted = reference.parse(text)
    if wanted.transport is not reference.Transport.REGISTRY or wanted.digest:
        raise errors.BuildError(f"what is built can't be called `{text}`", hint="write NAME or NAME:TAG")
    return str(wanted)


def _secret(project: Mapping[str, Any], name: str, use: Mapping[str, Any]) -> request.Secret:
    source = str(use["source"])
    definition = (project.get("secrets") or {}).get(source) or {}
    key = str(use.get("target") or source)
    if definition.get("content") is not None:
        return request.Secret(key, value=str(definition["content"]).encode())
    if definition.get("environment"):
        return request.Secret(key, variable=str(definition["environment"]))
    if definition.get("file"):
        return request.Secret(key, path=str(definition["file"]))
    if (definition.get("x-devenv") or {}).get("command"):
        return request.Secret(key)  # it is run when something is built, and is `content` by then
    raise errors.BuildError(
        f"the build of `{name}` uses the secret `{source}`, which has neither `file:` nor `environment:`"
    )


def _agents(texts: Sequence[str], base: str) -> tuple[request.Agent, ...]:
    return tuple(agent(str(text), base=base) for text in texts)


def agent(text: str, *, base: str) -> request.Agent:
    """``default``, or ``ID=PATH[,PATH…]``."""
    key, _, paths = text.partition("=")
    return request.Agent(key or "default", tuple(absolute(path, base) for path in paths.split(",") if path))


def absolute(path: str, base: str) -> str:
    return path if path.startswith("/") or not base else f"{base}/{path.removeprefix('./')}"


def _host(entry: Any) -> tuple[str, str]:
    return host(str(entry))


def host(text: str) -> tuple[str, str]:
    """``name=address`` or ``name:address``; an IPv6 address may stand in brackets."""
    sign = "=" if "=" in text else ":"
    name, _, address = text.partition(sign)
    return name, address.removeprefix("[").removesuffix("]")


def _ulimit(name: str, given: Any) -> request.Ulimit:
    if isinstance(given, Mapping):
        return request.Ulimit(name, int(given["soft"]), int(given["hard"]))
    return request.Ulimit(name, int(given), int(given))


def _network(name: str, build: Mapping[str, Any]) -> str:
    network = str(build.get("network") or "")
    if network and network not in NETWORKS:
        raise errors.BuildError(
            f"the build of `{name}` wants the network `{network}`",
            hint="steps of a build have the network `default`, `none` or `host`",
        )
    return network


def _entitlements(build: Mapping[str, Any], network: str) -> frozenset[str]:
    found = {str(each) for each in build.get("entitlements") or ()}
    # Whoever writes it in the spec of a project allows it.
    if network == "host":
        found.add("network.host")
    if build.get("privileged"):
        found.add("security.insecure")
    return frozenset(found)


_PATHS = {"local": ("src", "dest")}


def exchange(text: str, *, base: str) -> request.Exchange:
    """``type=local,src=DIR``, or the name of an image. Raises ``BuildError``."""
    if "=" not in text:
        return request.Exchange("registry", {"ref": text})
    fields = dict(pair.partition("=")[::2] for pair in text.split(","))
    kind = fields.pop("type", "registry")
    if kind not in {"registry", "local", "inline"}:
        raise errors.BuildError(
            f"`{text}`: a cache of type `{kind}` is not known", hint="it is `local`, `registry` or `inline`"
        )
    for key in _PATHS.get(kind, ()):
        if key in fields:
            fields[key] = absolute(fields[key], base)
    return request.Exchange(kind, fields)


def needs(
    project: Mapping[str, Any], names: Collection[str], bases: Mapping[str, Collection[str]]
) -> dict[str, set[str]]:
    """Which of the services ``names`` each is built upon: by ``additional_contexts``, or since its Dockerfile is FROM
    another's image. ``bases``: what each Dockerfile names, in full."""
    services = project["services"]
    called = _called(project, names)
    found: dict[str, set[str]] = {}
    for name in sorted(names):
        contexts = (services[name]["build"].get("additional_contexts") or {}).values()
        wanted = {str(each).removeprefix(_SERVICE) for each in contexts if str(each).startswith(_SERVICE)}
        wanted |= {called[base] for base in bases.get(name, ()) if base in called}
        found[name] = (wanted - {name}) & set(names)
    return found


def _called(project: Mapping[str, Any], names: Collection[str]) -> dict[str, str]:
    """Image in full -> the service that it is of."""
    services = project["services"]
    return {tag(image_name(str(project["name"]), name, services[name])): name for name in sorted(names)}


def named_by(project: Mapping[str, Any], bases: Mapping[str, Collection[str]]) -> set[str]:
    """The services that are built and whose images ``bases`` names."""
    called = _called(project, [name for name, service in project["services"].items() if is_built(service)])
    return {called[base] for named in bases.values() for base in named if base in called}


def with_bases(project: Mapping[str, Any], names: Collection[str]) -> list[str]:
    """The services ``names`` that are built, with those that their ``additional_contexts`` name."""
    services = project["services"]
    built = {name for name, service in services.items() if is_built(service)}
    return sorted(traversal.closure(needs(project, built, {}), set(names) & built))


def waves(needed: Mapping[str, Collection[str]]) -> list[list[str]]:
    """What can be built at once, one after the other. Raises ``BuildError`` for a cycle."""
    left = {name: set(others) for name, others in needed.items()}
    found = []
    while left:
        ready = sorted(name for name, others in left.items() if not others & set(left))
        if not ready:
            circle = " -> ".join(f"`{name}`" for name in sorted(left))
            raise errors.BuildError(f"services are built upon each other in a circle: {circle}")
        found.append(ready)
        for name in ready:
            del left[name]
    return found


def pins(locked: Mapping[str, str]) -> dict[str, str]:
    """``locked``: digests by the name in full. For each way to write such a name, the name with its digest."""
    found = {}
    for name, digest in locked.items():
        wanted = reference.parse(name)
        pinned = wanted._replace(digest=digest).familiar
        for written in (name, wanted.familiar, name.removesuffix(":latest"), wanted.familiar.removesuffix(":latest")):
            found[written] = pinned
    return found
