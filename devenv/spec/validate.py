"""Whether the parts of a spec agree: what is referred to exists, and settings don't contradict each other.

Works on the canonical form. ``structure`` holds for every file; ``consistency`` looks at the services that are enabled.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from devenv.spec import diagnostic, fronting, once, portforms, readiness, taskforms

Names = Mapping[str, Any]
_RESOURCE = re.compile("[a-zA-Z0-9][a-zA-Z0-9_.-]*")


def structure(spec: Mapping[str, Any], report: diagnostic.Report) -> None:
    """What a long form must and mustn't have; before paths are resolved."""
    for name, volume in (spec.get("volumes") or {}).items():
        if isinstance(volume, dict) and volume.get("external") in {True, "true"}:
            for other in volume:
                if other not in {"name", "external"} and not other.startswith("x-"):
                    path = ("volumes", name, other)
                    report.add(path, f"the volume `{name}` is external, so it can't have `{other}`", hint="remove one")
    _file_objects(spec, "configs", ("file", "environment", "content"), report)
    _file_objects(spec, "secrets", ("file", "environment"), report)
    for name, service in (spec.get("services") or {}).items():
        if isinstance(service, dict):
            _service_structure(service, ("services", name), report)


def _file_objects(spec: Names, section: str, sources: tuple[str, ...], report: diagnostic.Report) -> None:
    for name, item in (spec.get(section) or {}).items():
        if not isinstance(item, dict):
            continue
        given = [source for source in sources if source in item]
        if isinstance(item.get("x-devenv"), dict) and item["x-devenv"].get("command"):
            given.append("x-devenv.command")
        shown = " and ".join(f"`{source}`" for source in given)
        if len(given) > 1:
            report.add((section, name), f"`{section}.{name}` has {shown}; it can have one of them", hint="keep one")
        elif not given and "driver" not in item and "external" not in item:
            wanted = ", ".join(f"`{source}`" for source in sources)
            report.add((section, name), f"`{section}.{name}` says not where it comes from", hint=f"add one of {wanted}")


def _service_structure(service: Names, path: diagnostic.Path, report: diagnostic.Report) -> None:
    for index, port in enumerate(service.get("ports") or []):
        if not isinstance(port, dict):
            continue
        where = (*path, "ports", index)
        address = port.get("host_ip")
        if address and "$" not in address and not portforms.is_address(address):
            report.add((*where, "host_ip"), f"`{address}` is no address", hint="write it like 127.0.0.1", value=address)
        if "target" not in port:
            report.add(
                where, f"`{diagnostic.dotted(where)}` lacks `target`", hint="add `target:`, the container's port"
            )
    for index, mount in enumerate(service.get("volumes") or []):
        if isinstance(mount, dict):
            _mount(mount, (*path, "volumes", index), report)
    for index, rule in enumerate((service.get("develop") or {}).get("watch") or []):
        if rule.get("path") == "":
            report.add((*path, "develop", "watch", index, "path"), "the `path` to watch is empty")
    reservations = ((service.get("deploy") or {}).get("resources") or {}).get("reservations") or {}
    requests = [("deploy", i, item) for i, item in enumerate(reservations.get("devices") or [])]
    requests += [("gpus", i, item) for i, item in enumerate(service.get("gpus") or []) if isinstance(item, dict)]
    for name, _, item in requests:
        if "count" in item and "device_ids" in item:
            report.add((*path, name), "`count` and `device_ids` exclude each other", hint="keep one")


def _mount(mount: Names, where: diagnostic.Path, report: diagnostic.Report) -> None:
    name = diagnostic.dotted(where)
    if not mount.get("target"):
        report.add(where, f"`{name}` lacks `target`", hint="add `target:`, the place in the container")
    if mount.get("type") == "bind" and not mount.get("source"):
        report.add(where, f"`{name}` is a bind mount and lacks `source`", hint="add `source:`, the place on the host")


def consistency(
    spec: Mapping[str, Any], disabled: Mapping[str, Any], all_names: Names, report: diagnostic.Report
) -> None:
    """``spec`` is canonical, ``disabled`` are services out of their profiles, ``all_names`` what sections define."""
    services = spec.get("services") or {}
    for name in sorted(services):
        _service(name, services, disabled, all_names, report)
    _container_names(services, report)
    _tasks(spec, disabled, report)
    for section in ("networks", "volumes"):
        for name, item in (all_names.get(section) or {}).items():
            if not item.get("external") and not _RESOURCE.fullmatch(item.get("name", name)):
                hint = "use letters, digits, `_`, `.` and `-`, and begin with a letter or a digit"
                message = f"`{item['name']}` can't be the name of a {section[:-1]}"
                report.add((section, name, "name"), message, hint=hint, value=item["name"])
    for name, secret in (all_names.get("secrets") or {}).items():
        if not secret.get("external") and not any(
            secret.get(source) for source in ("file", "environment", "driver", "x-devenv")
        ):
            report.add(("secrets", name), f"the secret `{name}` needs `file` or `environment`")
    cycle = find_cycle({name: sorted(service.get("depends_on") or {}) for name, service in services.items()})
    if cycle:
        path = ("services", cycle[-2], "depends_on", cycle[-1])
        report.add(path, f"dependency cycle: {' -> '.join(cycle)}", hint="one of them has to start without the other")


def _tasks(spec: Names, disabled: Names, report: diagnostic.Report) -> None:
    sections = {("tasks",): spec.get("tasks"), ("x-devenv", "tasks"): (spec.get("x-devenv") or {}).get("tasks")}
    tasks: dict[str, taskforms.Task] = {}
    places: dict[str, diagnostic.Path] = {}
    for section, given in sections.items():
        for name, value in (given or {}).items():
            places[name] = (*section, name)
            try:
                tasks[name] = taskforms.parse(name, value)
            except ValueError as exc:
                report.add(places[name], str(exc))
    services = {**disabled, **(spec.get("services") or {})}
    for name, task in tasks.items():
        for other in task.tasks:
            if other not in tasks:
                hint = f"write `{taskforms.SERVICE}{other}` for the service" if other in services else None
                message = f"task `{name}` depends on the undefined task `{other}`"
                report.add(places[name], message, hint=hint or diagnostic.did_you_mean(other, tasks), value=other)
        for other in (*task.services, *((task.service,) if task.service else ())):
            if other not in services:
                _undefined(
                    places[name], f"task `{name}` names the undefined service `{other}`", other, services, report
                )
    cycle = find_cycle({name: sorted(set(task.tasks) & set(tasks)) for name, task in tasks.items()})
    if cycle:
        report.add(places[cycle[-2]], f"tasks depend on each other in a cycle: {' -> '.join(cycle)}")


def runtimes(spec: Mapping[str, Any], has: Callable[[str], bool], report: diagnostic.Report, *, hint: str) -> None:
    """``has`` looks at the machine, which nothing else here does."""
    for name, service in sorted((spec.get("services") or {}).items()):
        runtime = service.get("runtime")
        if runtime and not has(runtime):
            message = f"service `{name}` wants the runtime `{runtime}`, which is not on this machine"
            report.add(("services", name, "runtime"), message, hint=hint, value=runtime)


def _service(name: str, services: Names, disabled: Names, all_names: Names, report: diagnostic.Report) -> None:
    service = services[name]
    path: diagnostic.Path = ("services", name)
    if not service.get("build") and not service.get("image") and not service.get("provider"):
        hint = "add `image:` (`image: host:` needs no download) or `build:`"
        report.add(path, f"service `{name}` has neither an image nor a build", hint=hint)
    _build(name, service, services, disabled, report)
    _own(name, service, report)
    _references(name, service, all_names, report)
    _dependencies(name, service, services, disabled, report)
    test = (service.get("healthcheck") or {}).get("test")
    if test and test[0] not in {"CMD", "CMD-SHELL", "NONE"}:
        report.add(
            (*path, "healthcheck", "test"),
            f"the health check of `{name}` begins with `{test[0]}`: a list begins with CMD, CMD-SHELL or NONE",
            hint=f'write `test: ["CMD", "{test[0]}", …]`',
        )
    _scale(name, service, report)
    _limits(name, service, report)
    for index, rule in enumerate((service.get("develop") or {}).get("watch") or []):
        if not rule.get("target") and rule.get("action") not in {"rebuild", "restart"}:
            report.add((*path, "develop", "watch", index), f"`{rule.get('action')}` needs a `target`")
    _targets(name, service, report)


def _build(name: str, service: Names, services: Names, disabled: Names, report: diagnostic.Report) -> None:
    build = service.get("build")
    if not build:
        return
    path = ("services", name, "build")
    if build.get("dockerfile_inline") and build.get("dockerfile"):
        message = f"the build of `{name}` has `dockerfile` and `dockerfile_inline`"
        report.add((*path, "dockerfile"), message, hint="keep one")
    for context, value in (build.get("additional_contexts") or {}).items():
        if not value.startswith("service:"):
            continue
        target = value.removeprefix("service:")
        where = (*path, "additional_contexts", context)
        if target not in services:
            _undefined(where, f"the build of `{name}` uses the undefined service `{target}`", target, services, report)
        elif not services[target].get("build"):
            report.add(where, f"the build of `{name}` uses the service `{target}`, which has no build")
    platforms = build.get("platforms")
    if platforms and service.get("platform") and service["platform"] not in platforms:
        message = f"the `platform` {service['platform']} of `{name}` is not among its `build.platforms`"
        report.add((*path, "platforms"), message, hint="add it there")


def _own(name: str, service: Names, report: diagnostic.Report) -> None:
    """devenv's own attributes, in both places that they may be in."""
    for attribute, parse in (("ready", readiness.parse), ("proxy", fronting.parse), ("once", once.parse)):
        for path, given in (
            ((attribute,), service.get(attribute)),
            (("x-devenv", attribute), (service.get("x-devenv") or {}).get(attribute)),
        ):
            if given is not None:
                try:
                    parse(given)
                except ValueError as exc:
                    report.add(("services", name, *path), str(exc))


def _undefined(
    path: diagnostic.Path, message: str, name: str, known: Iterable[str], report: diagnostic.Report, *, what: str = ""
) -> None:
    hint = diagnostic.did_you_mean(name, known)
    if hint is None and what:
        hint = f"define it below `{what}:`"
    report.add(path, message, hint=hint, value=name)


def _references(name: str, service: Names, all_names: Names, report: diagnostic.Report) -> None:
    path: diagnostic.Path = ("services", name)
    if service.get("network_mode") and service.get("networks"):
        message = f"service `{name}` has `network_mode` and `networks`, which exclude each other"
        report.add((*path, "network_mode"), message, hint="keep one")
    used: list[tuple[str, str, diagnostic.Path]] = [
        ("networks", key, (*path, "networks", key)) for key in service.get("networks") or {}
    ]
    for index, mount in enumerate(service.get("volumes") or []):
        if mount.get("type") == "volume" and mount.get("source"):
            used.append(("volumes", mount["source"], (*path, "volumes", index)))
    for index, mount in enumerate((service.get("build") or {}).get("secrets") or []):
        used.append(("secrets", mount.get("source", ""), (*path, "build", "secrets", index)))
    for section in ("configs", "secrets"):
        for index, mount in enumerate(service.get(section) or []):
            used.append((section, mount.get("source", ""), (*path, section, index)))
    used += [("models", key, (*path, "models", key)) for key in service.get("models") or {}]
    for section, key, where in used:
        known = all_names.get(section) or {}
        if key not in known:
            message = f"service `{name}` refers to the undefined {section[:-1]} `{key}`"
            _undefined(where, message, key, known, report, what=section)


def _dependencies(name: str, service: Names, services: Names, disabled: Names, report: diagnostic.Report) -> None:
    path: diagnostic.Path = ("services", name)
    for target, how in (service.get("depends_on") or {}).items():
        if target in services:
            continue
        if target in disabled:
            if how.get("required"):
                profiles = ", ".join(disabled[target].get("profiles") or [])
                message = f"service `{name}` depends on `{target}`, which is only there in a profile: {profiles}"
                hint = f"enable it with `--profile {profiles.split(', ')[0]}`, or say `required: false`"
                report.add((*path, "depends_on", target), message, hint=hint, value=target)
        else:
            message = f"service `{name}` depends on the undefined service `{target}`"
            _undefined(_origin(path, target, service), message, target, {**services, **disabled}, report)


def _origin(path: diagnostic.Path, target: str, service: Names) -> diagnostic.Path:
    """The attribute that the dependency comes from."""
    for attribute in ("network_mode", "ipc", "pid", "uts", "cgroup"):
        if service.get(attribute) == f"service:{target}":
            return (*path, attribute)
    for attribute in ("links", "volumes_from"):
        for index, entry in enumerate(service.get(attribute) or []):
            if entry.partition(":")[0] == target:
                return (*path, attribute, index)
    return (*path, "depends_on", target)


def _scale(name: str, service: Names, report: diagnostic.Report) -> None:
    scale = service.get("scale")
    replicas = (service.get("deploy") or {}).get("replicas")
    path: diagnostic.Path = ("services", name)
    if scale is not None and replicas is not None and scale != replicas:
        report.add((*path, "scale"), f"service `{name}` has `scale: {scale}` and `deploy.replicas: {replicas}`")
    for attribute, value in ((("scale",), scale), (("deploy", "replicas"), replicas)):
        if value is not None and value < 0:
            where = (*path, *attribute)
            report.add(where, f"`{diagnostic.dotted(where)}` must be 0 or more, not {value}", value=value)
    count = scale if scale is not None else replicas if replicas is not None else 1
    if count > 1 and service.get("container_name"):
        message = f"service `{name}` has a `container_name`, so there can't be {count} of it"
        report.add((*path, "container_name"), message, hint="remove `container_name`, or scale to 1")


def _limits(name: str, service: Names, report: diagnostic.Report) -> None:
    resources = (service.get("deploy") or {}).get("resources") or {}
    for short, group, long in (
        ("cpus", "limits", "cpus"),
        ("mem_limit", "limits", "memory"),
        ("mem_reservation", "reservations", "memory"),
        ("pids_limit", "limits", "pids"),
    ):
        if service.get(short) and group in resources and resources[group].get(long) != service[short]:
            message = f"service `{name}` has a `{short}` and another `deploy.resources.{group}.{long}`"
            report.add(("services", name, short), message, hint="keep one of them")


def _targets(name: str, service: Names, report: diagnostic.Report) -> None:
    """Two mounts at one place hide each other."""
    seen: dict[str, str] = {}
    places: list[tuple[str, diagnostic.Path]] = [
        (entry.partition(":")[0], ("services", name, "tmpfs", index))
        for index, entry in enumerate(service.get("tmpfs") or [])
    ]
    places += [
        (mount.get("target", ""), ("services", name, "volumes", index))
        for index, mount in enumerate(service.get("volumes") or [])
    ]
    for target, where in places:
        if target in seen:
            report.add(where, f"service `{name}` mounts two things at `{target}`", hint="remove one of them")
        seen[target] = diagnostic.dotted(where)


def _container_names(services: Names, report: diagnostic.Report) -> None:
    taken: dict[str, str] = {}
    for name in sorted(services):
        wanted = services[name].get("container_name")
        if not wanted:
            continue
        if wanted in taken:
            message = f"services `{taken[wanted]}` and `{name}` have one `container_name`: `{wanted}`"
            report.add(("services", name, "container_name"), message, hint="names are unique", value=wanted)
        taken[wanted] = name


def find_cycle(edges: Mapping[str, Iterable[str]]) -> list[str] | None:
    """The first cycle in the order of names, like ``[a, b, a]``."""
    done: set[str] = set()
    for start in sorted(edges):
        trail: list[str] = []
        on_trail: set[str] = set()
        # Iterative: a chain of 10,000 services is legal.
        if start in done:
            continue
        stack: list[tuple[str, Any]] = [(start, iter(sorted(edges[start])))]
        trail.append(start)
        on_trail.add(start)
        while stack:
            node, children = stack[-1]
            child = next(children, None)
            if child is None:
                stack.pop()
                done.add(node)
                on_trail.discard(trail.pop())
            elif child in on_trail:
                return [*trail[trail.index(child) :], child]
            elif child not in done and child in edges:
                stack.append((child, iter(sorted(edges[child]))))
                trail.append(child)
                on_trail.add(child)
    return None


def name_problem(name: str) -> str | None:
    """Why a name given on the command line can't be a project's."""
    if not name or name != normalise_name(name):
        return "use lower-case letters, digits, `-` and `_`, and begin with a letter or a digit"
    return None


def normalise_name(name: str) -> str:
    kept = "".join(character for character in name.lower() if character in "abcdefghijklmnopqrstuvwxyz0123456789_-")
    return kept.lstrip("_-")


def folder_name(path: str) -> str:
    return normalise_name(posixpath.basename(path.rstrip("/")))
