"""One container, decided: the record to keep, the bundle to run and the files to lay beside it."""

from __future__ import annotations

import dataclasses
import os
import stat
import time
from collections.abc import Mapping
from typing import Any, NamedTuple

from devenv import errors
from devenv.image import store as image_store
from devenv.linux import namespace
from devenv.network import ports
from devenv.reconcile import (
    cdidevices,
    confinement,
    convert,
    convert_health,
    convert_logging,
    convert_network,
    desired,
    mounts,
    record,
    usernamespace,
)
from devenv.runtime import bundle, cgroup, offered, programs, quota, resources
from devenv.util import identity, paths


class Made(NamedTuple):
    record: record.Record
    options: bundle.Options
    files: dict[str, tuple[bytes, int, int, int]]


class Wish(NamedTuple):
    """Which container of a service: its number, or a one-off with its own name."""

    service: str
    number: int
    name: str
    oneoff: bool = False
    auto_remove: bool = False  # once it has ended and no policy brings it back
    labels: Mapping[str, str] = {}
    inherited: Mapping[str, str] = {}  # target -> anonymous volume of the container it replaces


def container_name(environment: desired.Environment, project: identity.Project, service: str, number: int) -> str:
    """``shop-web-1``, or the `container_name` that the spec fixes."""
    return str(environment.services[service].get("container_name") or f"{project.name}-{service}-{number}")


def make(
    environment: desired.Environment,
    project: identity.Project,
    where: paths.Paths,
    *,
    wish: Wish,
    image: image_store.Image,
    builder: mounts.Builder,
) -> Made:
    """Raises what is wrong with the service on this machine: a bind source that isn't there, a bad device."""
    service = environment.services[wish.service]
    container_id = identity.new_container_id()
    folder = where.container(container_id)
    hostname = str(service.get("hostname") or container_id[:12])
    process = convert.process(service, image.config, hostname=hostname)
    laid = builder.build(service, image, files=where.container_files(container_id), inherited=wish.inherited)
    mode = str(service.get("network_mode") or "")
    found = desired.sections(environment, wish.service, image.digest)
    made = record.Record(
        id=container_id,
        name=wish.name,
        project=project.name,
        project_id=project.id,
        project_dir=project.directory,
        config_files=environment.config_files,
        service=wish.service,
        number=wish.number,
        oneoff=wish.oneoff,
        auto_remove=wish.auto_remove,
        image=str(service.get("image") or f"{project.name}-{wish.service}"),
        image_id=image.digest,
        config_digest=desired.config_digest(found),
        sections=found,
        created=time.time(),
        command=process.args,
        labels={**image.config.labels, **(service.get("labels") or {}), **wish.labels},
        depends_on={name: dict(options) for name, options in (service.get("depends_on") or {}).items()},
        restart=convert.restart_policy(service).to_json(),
        network_mode=mode,
        shares=convert.shares(service),
        networks={} if mode else convert_network.endpoints(service, environment.definitions("networks")),
        ports=tuple(dict(entry) for entry in convert.ports(service)),
        exposed=convert.exposed(service, image.config),
        mounts=tuple(laid.summary),
        volumes=tuple(laid.volumes),
        anonymous_volumes=tuple(sorted(laid.anonymous.values())),
        storage_size=_storage_size(service, where),
        stop_signal=convert.stop_signal(service, image.config),
        stop_grace_period=convert.grace_period(service),
        healthcheck=convert_health.check(service, image.config),
        user=process.user,
        working_dir=process.cwd,
        tty=bool(service.get("tty")),
        stdin_open=bool(service.get("stdin_open")),
        hostname=hostname,
        domainname=str(service.get("domainname") or ""),
        extra_hosts=convert.extra_hosts(service),
        links=convert_network.links(service),
        dns={
            "servers": _listed(service.get("dns")),
            "search": _listed(service.get("dns_search")),
            "options": _listed(service.get("dns_opt")),
        },
        logging=convert_logging.options(service),
        hooks={
            kind: [dict(hook) for hook in service.get(kind) or []] for kind in ("pre_start", "post_start", "pre_stop")
        },
    )
    # A port range that doesn't fit is said now, before anything is made.
    ports.expand(made.ports)
    options = _options(
        service, image, made=made, process=process, laid=laid, folder=folder, directory=environment.directory
    )._replace(
        user_namespace=usernamespace.choose(service, project, where),
        runtime=_runtime(service, where.other_runtime(container_id)),
    )
    return Made(made, cdidevices.applied(options, service), laid.files)


def _listed(value: Any) -> list[str]:
    if not value:
        return []
    return [value] if isinstance(value, str) else [str(item) for item in value]


def _options(
    service: convert.Service,
    image: image_store.Image,
    *,
    made: record.Record,
    process: convert.Process,
    laid: mounts.Mounts,
    folder: str,
    directory: str,
) -> bundle.Options:
    security = convert.security(service)
    return bundle.Options(
        args=process.args,
        env=process.env,
        cwd=process.cwd,
        user=process.user,
        additional_groups=tuple(str(group) for group in service.get("group_add") or []),
        terminal=made.tty,
        hostname="" if service.get("uts") == "host" else made.hostname,
        domainname=made.domainname,
        rootfs=_rootfs(image, folder),
        mounts=(*_own_files(made, folder, laid), *laid.mounts),
        readonly=bool(service.get("read_only")),
        cap_add=tuple(service.get("cap_add") or []),
        cap_drop=tuple(service.get("cap_drop") or []),
        privileged=bool(service.get("privileged")),
        no_new_privileges=security.no_new_privileges,
        unmask=security.unmask,
        seccomp=confinement.profile(service, directory),
        rlimits=convert.rlimits(service),
        sysctls={name: str(value) for name, value in (service.get("sysctls") or {}).items()},
        network=_namespace(service.get("network_mode"), "net"),
        pid=_namespace(service.get("pid"), "pid"),
        ipc=_namespace(service.get("ipc"), "ipc"),
        uts=_namespace(service.get("uts"), "uts"),
        cgroup=_namespace(service.get("cgroup"), "cgroup"),
        resources=limits(service),
        oom_score_adj=convert.whole(service.get("oom_score_adj")),
        devices=tuple(convert.device_list(service)),
        device_rules=convert.device_rules(service),
        init=bool(service.get("init")),
        cgroup_path=_cgroup_path(service, made),
        shm_size=convert.size(service.get("shm_size")) or convert.DEFAULT_SHM,
        annotations={name: str(value) for name, value in (service.get("annotations") or {}).items()},
    )


def updated(
    environment: desired.Environment, made: record.Record, image: image_store.Image
) -> tuple[record.Record, resources.Resources]:
    """A record, and the limits of its container, as its service is now: of what needs no other container."""
    service = environment.services[made.service]
    found = desired.sections(environment, made.service, image.digest)
    again = dataclasses.replace(
        made,
        config_files=environment.config_files,
        config_digest=desired.config_digest(found),
        sections=found,
        restart=convert.restart_policy(service).to_json(),
    )
    return again, limits(service)


def limits(service: convert.Service) -> resources.Resources:
    """As far as this machine can set them."""
    wanted = convert.resources(service)
    if wanted.block_io:
        wanted = wanted._replace(block_io=convert.block_io(service, _device_number))
    if wanted.pids is None:
        wanted = wanted._replace(pids=convert.DEFAULT_PIDS)
    wanted = _controlled(wanted)
    return offered.without(wanted, offered.lacking(wanted))


def _storage_size(service: convert.Service, where: paths.Paths) -> int:
    wanted = convert.storage_size(service)
    return 0 if not wanted or quota.missing(where.data) else wanted


def _controlled(wanted: resources.Resources) -> resources.Resources:
    return resources.without(wanted, (name for name, reason in cgroup.limits_available().items() if reason))


def _cgroup_path(service: convert.Service, made: record.Record) -> str:
    """Beneath `cgroup_parent`: from the root, or, for an ordinary user, from the cgroup that was delegated."""
    parent = convert.cgroup_parent(service)
    if not parent or service.get("runtime"):
        return f"devenv/{made.project_id}/{made.id}"
    start = "/" if namespace.in_initial_user_namespace() else ""
    return f"{start}{parent}/{made.id}"


def _device_number(path: str) -> tuple[int, int]:
    try:
        found = os.stat(path)
    except OSError as exc:
        raise errors.ContainerError(f"`blkio_config` names `{path}`: {exc.strerror}") from exc
    if not stat.S_ISBLK(found.st_mode):
        raise errors.ContainerError(f"`blkio_config` names `{path}`, which is no block device")
    return os.major(found.st_rdev), os.minor(found.st_rdev)


def _runtime(service: convert.Service, state: str) -> bundle.Runtime | None:
    name = str(service.get("runtime") or "")
    if not name:
        return None
    program = programs.find(name)
    if program is None:
        raise errors.HostError(f"there is no runtime `{name}` on this machine", hint=programs.HINT)
    return bundle.Runtime(program, state)


def unset_limits(service: convert.Service, where: paths.Paths) -> list[str]:
    """What this machine can't do, limits above all, and why: the container runs without."""
    available = cgroup.limits_available()
    wanted = convert.resources(service)
    unset = [
        f"its {name} limits are not set: {available[name]}" for name in resources.needed(wanted) if available[name]
    ]
    lacking = offered.lacking(_controlled(wanted))
    unset += [f"`{limit.attribute}` has no effect {why}" for limit, why in lacking.items()]
    if convert.cgroup_parent(service) and cgroup.place().version == 0:
        unset.append(f"its `cgroup_parent` has no effect: {cgroup.place().reason}")
    if convert.storage_size(service) and (reason := quota.missing(where.data)):
        unset.append(f"`storage_opt: size` has no effect: {reason}")
    return unset + convert_logging.missing(service)


def _namespace(mode: Any, kind: str) -> str:
    """`host`, "" for one of its own, or a path: another container's, whose pid is only known when that runs."""
    if mode == "host":
        return "host"
    return f"/proc/0/ns/{kind}" if convert.names_another(mode) else ""


def _rootfs(image: image_store.Image, folder: str) -> bundle.Rootfs:
    """The image's layers under a writable one of the container's own, one for each tree the image is made of."""
    root = bundle.Overlay(target="/", lower=image.lower, upper=f"{folder}/upper", work=f"{folder}/work")
    others = [
        bundle.Overlay(target=target, lower=lower, upper=f"{folder}/upper.{number}", work=f"{folder}/work.{number}")
        for number, (target, lower) in enumerate(image.overlays, 1)
    ]
    return bundle.Rootfs(overlays=(root, *others), binds=tuple(image.binds))


def _own_files(made: record.Record, folder: str, laid: mounts.Mounts) -> list[bundle.Mount]:
    """hosts, hostname and resolv.conf, each unless the service mounts its own there."""
    return [
        bundle.Mount(type="bind", source=f"{folder}/{name}", target=f"/etc/{name}", options=("bind", "rprivate"))
        for name in ("hosts", "hostname", "resolv.conf")
        if not laid.has(f"/etc/{name}") and not (made.network_mode == "host" and name == "hosts")
    ]
