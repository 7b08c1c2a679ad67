"""From what the spec says of a service, and what its image says, to what the mechanisms take.

The only place where the words of the Compose Specification meet those of the runtime. Everything here is pure: it
reads the canonical service (plain values, as `devenv config` prints it) and an image's configuration, and answers
with a record, a list of mounts and the options of a bundle.
"""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from devenv import errors
from devenv.image import config as image_config
from devenv.image import platform
from devenv.reconcile import convert_logging, restart, units
from devenv.runtime import bundle, signals
from devenv.runtime import resources as resources_
from devenv.spec import cdi
from devenv.volume import tmpfs

Service = Mapping[str, Any]

DEFAULT_GRACE = 10.0  # seconds, as Compose says of stop_grace_period
DEFAULT_SHM = 64 * 1024 * 1024
# What a fork bomb may take of the machine. Docker sets no limit, podman 2048; `pids_limit: -1` asks for none.
DEFAULT_PIDS = 4096

# Understood, checked and kept, but without effect on a running container: why, and what does instead.
NOT_EFFECTIVE = {
    "cpu_count": "it is for Windows; `cpus` limits processors",
    "cpu_percent": "it is for Windows; `cpus` limits processors",
    "cpu_rt_period": "few kernels have real-time groups, and cgroup v2 has none",
    "cpu_rt_runtime": "few kernels have real-time groups, and cgroup v2 has none",
    "credential_spec": "it is for Windows; `secrets` carry credentials",
    "isolation": "it is for Windows",
    "models": "Docker runs them; a service whose image serves the model does the same, its address in `environment`",
    "provider": "it is a plugin of Docker's; a service or `post_start` can run the same program",
    "use_api_socket": "there is no daemon; bind the socket of one that the service is to speak to",
}


class Process(NamedTuple):
    args: tuple[str, ...]
    env: tuple[str, ...]
    cwd: str
    user: str


def process(service: Service, image: image_config.ImageConfig, *, hostname: str) -> Process:
    """What runs, after the image's own defaults (Compose: `entrypoint` drops the image's `CMD`)."""
    entrypoint = service.get("entrypoint")
    command = service.get("command")
    if entrypoint is None:
        entrypoint = list(image.entrypoint)
        if command is None:
            command = list(image.cmd)
    args = [*entrypoint, *(command or [])]
    if not args:
        raise errors.ContainerError(
            "there is nothing to run: neither the service nor its image names a command",
            hint="add `command:` to the service",
        )
    if not args[0]:
        raise errors.ContainerError("the command begins with an empty word, which is no program")
    # Docker's own, which an image may change: many a web server reads the address to listen on from HOSTNAME.
    env: dict[str, str] = {
        "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "HOSTNAME": hostname,
    }
    for item in image.env:
        name, _, value = item.partition("=")
        env[name] = value
    if service.get("tty"):
        env.setdefault("TERM", "xterm")
    for name, given in (service.get("environment") or {}).items():
        if given is None:
            env.pop(name, None)
        else:
            env[name] = str(given)
    return Process(
        args=tuple(args),
        env=tuple(f"{name}={value}" for name, value in env.items()),
        cwd=service.get("working_dir") or image.working_dir or "/",
        user=str(service.get("user") or image.user or ""),
    )


def command_line(args: Sequence[str]) -> str:
    return shlex.join(args)


def restart_policy(service: Service) -> restart.Policy:
    """`deploy.restart_policy` where there is one, else `restart` (as docker compose decides)."""
    deploy = (service.get("deploy") or {}).get("restart_policy")
    if deploy:
        return restart.Policy.from_deploy(deploy)
    return restart.Policy.parse(str(service.get("restart") or "no"))


def grace_period(service: Service) -> float:
    given = service.get("stop_grace_period")
    return DEFAULT_GRACE if given is None else units.seconds(given)


def stop_signal(service: Service, image: image_config.ImageConfig) -> str:
    name = service.get("stop_signal") or image.stop_signal or "SIGTERM"
    signals.parse(name)
    return str(name)


_THROTTLES = {
    "device_read_bps": "throttleReadBpsDevice",
    "device_write_bps": "throttleWriteBpsDevice",
    "device_read_iops": "throttleReadIOPSDevice",
    "device_write_iops": "throttleWriteIOPSDevice",
}


def block_io(service: Service, number: Callable[[str], tuple[int, int]]) -> dict[str, Any]:
    """`blkio_config` in the runtime specification's words. ``number``: of a device's path, its major and minor."""
    given = service.get("blkio_config") or {}

    def device(entry: Mapping[str, Any], word: str, value: int) -> dict[str, Any]:
        major, minor = number(str(entry["path"]))
        return {"major": major, "minor": minor, word: value}

    found: dict[str, Any] = {"weight": int(given["weight"])} if given.get("weight") else {}
    if given.get("weight_device"):
        found["weightDevice"] = [device(each, "weight", int(each["weight"])) for each in given["weight_device"]]
    for name, field in _THROTTLES.items():
        if given.get(name):
            found[field] = [device(each, "rate", units.size(each["rate"])) for each in given[name]]
    return found


def resources(service: Service) -> resources_.Resources:
    limits = ((service.get("deploy") or {}).get("resources") or {}).get("limits") or {}
    reservations = ((service.get("deploy") or {}).get("resources") or {}).get("reservations") or {}
    cpus = service.get("cpus") or limits.get("cpus")
    memory = service.get("mem_limit") or limits.get("memory")
    pids = service.get("pids_limit") or limits.get("pids")
    return resources_.Resources(
        memory=size(memory),
        memory_swap=size(service.get("memswap_limit")),
        memory_reservation=size(service.get("mem_reservation") or reservations.get("memory")),
        memory_swappiness=whole(service.get("mem_swappiness")),
        oom_kill_disable=bool(service.get("oom_kill_disable")),
        nano_cpus=None if cpus is None else int(float(cpus) * 1e9),
        cpu_quota=whole(service.get("cpu_quota")),
        cpu_period=whole(service.get("cpu_period")),
        cpu_shares=whole(service.get("cpu_shares")),
        cpuset_cpus=str(service.get("cpuset") or ""),
        pids=whole(pids),
        # Only whether there is any: the numbers of devices are the machine's.
        block_io=block_io(service, lambda path: (0, 0)),
    )


def names_another(mode: Any) -> bool:
    """Whether a `network_mode`, `pid` or `ipc` stands for another container's namespace."""
    return str(mode or "").partition(":")[0] in {"service", "container"}


def shares(service: Service) -> dict[str, str]:
    """Kind of namespace, in the runtime's words -> the service or container that it is shared with."""
    kinds = {"network_mode": "network", "pid": "pid", "ipc": "ipc"}
    return {kind: str(service[name]) for name, kind in kinds.items() if names_another(service.get(name))}


def size(value: Any) -> int | None:
    return None if value is None else units.size(value)


def whole(value: Any) -> int | None:
    return None if value is None else int(value)


def rlimits(service: Service) -> dict[str, tuple[int, int]]:
    found = {}
    for name, limit in (service.get("ulimits") or {}).items():
        if isinstance(limit, Mapping):
            # The canonical form leaves zeros out.
            found[name] = (int(limit.get("soft") or 0), int(limit.get("hard") or 0))
        else:
            found[name] = (int(limit), int(limit))
    return found


def cgroup_parent(service: Service) -> str:
    """Without a slash around it. Of a systemd slice, `a-b.slice`, with those that it lies in by its name."""
    given = str(service.get("cgroup_parent") or "").strip("/")
    if "/" in given or not given.endswith(".slice"):
        return given
    words = given.removesuffix(".slice").split("-")
    return "/".join(f"{'-'.join(words[:count])}.slice" for count in range(1, len(words) + 1))


def storage_size(service: Service) -> int:
    """What a container may write of its own, in bytes; 0 for no limit."""
    return size((service.get("storage_opt") or {}).get("size")) or 0


UNCONFINED = "unconfined"


class Security(NamedTuple):
    no_new_privileges: bool
    unmask: bool
    seccomp: str  # a file with a profile, or UNCONFINED; empty for the default
    notes: tuple[str, ...]


def security(service: Service) -> Security:
    """`security_opt`, whose separators are `:` and `=` alike. Stricter than Docker: no_new_privs unless asked off."""
    no_new_privileges, unmask, seccomp, notes = not service.get("privileged"), False, "", []
    for option in service.get("security_opt") or []:
        name, _, value = option.replace("=", ":", 1).partition(":")
        if name == "no-new-privileges":
            no_new_privileges = value != "false"
        elif name == "systempaths" and value == UNCONFINED:
            unmask = True
        elif name == "seccomp" and value:
            seccomp = "" if value == "builtin" else value
        elif (name, value) not in {("apparmor", UNCONFINED), ("label", "disable")}:
            notes.append(f"`security_opt: {option}` is understood but not effective yet")
    return Security(no_new_privileges, unmask, seccomp, tuple(notes))


def tmpfs_mounts(service: Service) -> list[bundle.Mount]:
    """`tmpfs:` in its short form, ``/run`` or ``/tmp:size=64m,mode=1777``."""
    mounts = []
    for entry in service.get("tmpfs") or []:
        target, _, options = entry.partition(":")
        mounts.append(bundle.Mount(type="tmpfs", source="tmpfs", target=target, options=tmpfs.options(options)))
    return mounts


def device_list(service: Service) -> list[bundle.Device]:
    found = []
    for entry in service.get("devices") or []:
        source = entry["source"]
        if cdi.NAME.fullmatch(source):
            continue  # see ``cdidevices``
        if not os.path.isabs(source):
            raise errors.ContainerError(
                f"the device `{source}` is neither a path nor a name",
                hint="a name is one of CDI: vendor.com/class=name",
            )
        found.append(
            bundle.Device(
                source=source,
                target=entry.get("target") or source,
                permissions=entry.get("permissions") or "rwm",
            )
        )
    return found


_DEVICE_RULE = re.compile(r"([abc]) (\d+|\*):(\d+|\*) ([rwm]{1,3})", re.ASCII)


def device_rules(service: Service) -> tuple[dict[str, Any], ...]:
    """`device_cgroup_rules`, such as ``c 13:* rwm``, in the runtime specification's words. Raises ``ValueError``."""
    found = []
    for text in service.get("device_cgroup_rules") or []:
        match = _DEVICE_RULE.fullmatch(text)
        if match is None:
            raise ValueError(f"`device_cgroup_rules: {text}` is not of the form `c 13:* rwm`")
        major, minor = (-1 if value == "*" else int(value) for value in match.group(2, 3))
        found.append({"allow": True, "type": match[1], "major": major, "minor": minor, "access": match[4]})
    return tuple(found)


def extra_hosts(service: Service) -> dict[str, list[str]]:
    """Name -> addresses, from ``["name=address", …]`` or the mapping form."""
    given = service.get("extra_hosts") or []
    if isinstance(given, Mapping):
        return {name: [value] if isinstance(value, str) else list(value) for name, value in given.items()}
    found: dict[str, list[str]] = {}
    for entry in given:
        name, _, address = entry.partition("=") if "=" in entry else entry.partition(":")
        found.setdefault(name, []).append(address.strip("[]"))
    return found


def ports(service: Service) -> list[Mapping[str, Any]]:
    """What is published: nothing of a service on the host's own network, where its ports are the host's already."""
    return [] if service.get("network_mode") == "host" else list(service.get("ports") or [])


def exposed(service: Service, image: image_config.ImageConfig) -> tuple[str, ...]:
    """What is said to listen inside, as `80/tcp`, by the image and by `expose`: for people to see, nothing more."""
    found: dict[str, None] = {}
    if service.get("network_mode") != "host":
        for entry in (*image.exposed_ports, *(service.get("expose") or ())):
            numbers, _, protocol = str(entry).partition("/")
            first, _, last = numbers.partition("-")
            if first.isdecimal() and (not last or last.isdecimal()):
                for number in range(int(first), min(int(last or first), 65535) + 1):
                    found[f"{number}/{protocol or 'tcp'}"] = None
    return tuple(found)


def _is_foreign(reference: str) -> bool:
    """Whether a `platform` such as ``linux/arm64/v8`` is not this machine's."""
    system, _, rest = reference.partition("/")
    architecture = rest.partition("/")[0]
    return system != "linux" or (bool(architecture) and architecture != platform.architecture()[0])


def warnings(name: str, service: Service) -> list[str]:
    """One line for each attribute that is understood but changes nothing yet."""
    found = [
        f"service `{name}`: `{attribute}` has no effect ({what})"
        for attribute, what in NOT_EFFECTIVE.items()
        if service.get(attribute)
    ]
    found += [
        f"service `{name}`: `storage_opt: {option}` has no effect (`size` has)"
        for option in service.get("storage_opt") or {}
        if option != "size"
    ]
    reservations = ((service.get("deploy") or {}).get("resources") or {}).get("reservations") or {}
    if reservations.get("generic_resources"):
        found.append(f"service `{name}`: `generic_resources` are for a swarm, and have no effect")
    if service.get("network_mode") == "host" and service.get("ports"):
        found.append(f"service `{name}`: its `ports` are not published: with `network_mode: host` they are the host's")
    if service.get("runtime") and cgroup_parent(service):
        found.append(f"service `{name}`: `cgroup_parent` has no effect with `runtime: {service['runtime']}`")
    if service.get("runtime") and service.get("init"):
        found.append(f"service `{name}`: `init` has no effect with `runtime: {service['runtime']}`")
    if service.get("platform") and _is_foreign(str(service["platform"])):
        foreign = (
            f"`platform: {service['platform']}` is not this machine's: its programs need an emulator (binfmt_misc)"
        )
        found.append(f"service `{name}`: {foreign}")
    found += [f"service `{name}`: {note}" for note in (*security(service).notes, *convert_logging.notes(service))]
    return found
