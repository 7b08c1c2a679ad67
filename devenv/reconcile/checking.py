"""What the grammar allows and no container could ever be made of: refused before anything is touched.

Docker leaves these to its daemon, which says so in the middle of an `up`. Reads nothing but profiles that are named,
and which processors there are.
"""

from __future__ import annotations

import ipaddress
import posixpath
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from devenv import errors
from devenv.linux import namespace
from devenv.network import hosts, ports
from devenv.reconcile import confinement, convert, convert_logging, convert_network, desired, seeding
from devenv.runtime import capabilities, cgroup, offered, process, resources, signals, sysctl

# What a service shares: the words that are no service or container.
_MODES = {
    "network_mode": {"none", "host"},
    "pid": {"host"},
    "ipc": {"host", "private", "shareable", "none"},
    "uts": {"host"},
    "userns_mode": {"auto", "host"},
}
_NOT_SHARED = {"uts", "userns_mode"}  # no service's is another's: the Compose Specification has no word for it
_LIMITS = sorted(name.removeprefix("RLIMIT_").lower() for name in process.RLIMITS)
# Mounting over these takes away what the runtime itself relies on.
_RESERVED = {"/", "/proc", "/sys", "/dev"}
_LEAST_MEMORY = 6 << 20  # Docker's: below it a container's own setting up runs out of memory
_NO_WORD = re.compile(r"[\s\x00-\x1f\x7f]")
_HOSTNAME = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_.-]{0,62}[A-Za-z0-9_])?")


def check(environment: desired.Environment, services: Sequence[str], scale: Mapping[str, int]) -> None:
    """Raises ``SpecError`` for the first of them; for ports that clash ``NetworkError``."""
    for name in sorted(services):
        for problem in _problems(environment, name):
            raise errors.SpecError(f"service `{name}`: {problem}")
    _check_ports(environment, services, scale)
    problem = seeding.problem(environment)
    if problem:
        raise errors.SpecError(problem, hint="`devenv snapshot export NAME -o FILE` writes one")


def _problems(environment: desired.Environment, name: str) -> Iterator[str]:
    service = environment.services[name]
    yield from _modes(service)
    yield from _runtime(service)
    yield from _places(service)
    yield from _limits(service)
    yield from _words(service)
    yield from _names(service)
    yield from _addresses(service)
    yield from _sysctls(service)
    try:
        confinement.check(name, service, environment.directory)
        convert.restart_policy(service)
        convert.grace_period(service)
        yield from _memory(convert.resources(service))
        yield from _processors(convert.resources(service), service)
        yield from _disks(convert.block_io(service, lambda path: (0, 0)))
        convert.size(service.get("shm_size"))
        convert.storage_size(service)
        convert.device_rules(service)
        if not service.get("network_mode"):
            convert_network.endpoints(service, environment.definitions("networks"))
    except ValueError as exc:
        yield str(exc)
    try:
        capabilities.select(service.get("cap_add") or (), service.get("cap_drop") or (), privileged=False)
        if service.get("stop_signal"):
            signals.parse(service["stop_signal"])
    except errors.ContainerError as exc:
        yield exc.message


def _modes(service: convert.Service) -> Iterator[str]:
    for attribute, words in _MODES.items():
        mode = service.get(attribute)
        others = () if attribute in _NOT_SHARED else ("service:NAME", "container:NAME")
        if mode and mode not in words and not (others and convert.names_another(mode)):
            known = ", ".join(f"`{word}`" for word in (*sorted(words), *others))
            yield f"`{attribute}: {mode}` is not one of {known}"


def _runtime(service: convert.Service) -> Iterator[str]:
    """What only the built-in runtime can do."""
    name = service.get("runtime")
    if not name:
        return
    if not namespace.in_initial_user_namespace():
        yield f"`runtime: {name}` needs root: as an ordinary user there is devenv's own runtime only"
    if service.get("userns_mode") == "auto":
        yield f"`userns_mode: auto` doesn't go together with `runtime: {name}`"
    if convert.names_another(service.get("ipc")):
        yield f"`ipc: {service['ipc']}` doesn't go together with `runtime: {name}`"


def _places(service: convert.Service) -> Iterator[str]:
    for entry in service.get("volumes") or []:
        target = str(entry["target"])
        if not target.startswith("/"):
            drive = " (a name of one letter reads as a drive of Windows)" if re.match("[A-Za-z]:", target) else ""
            yield f"the mount's target `{target}` is not an absolute path{drive}"
        elif posixpath.normpath(target) in _RESERVED:
            yield f"a volume can't take the place of `{posixpath.normpath(target)}`"
    for text in service.get("tmpfs") or []:
        if not text.startswith("/"):
            yield f"`tmpfs: {text}` is not an absolute path"


def _limits(service: convert.Service) -> Iterator[str]:
    for name, (soft, hard) in convert.rlimits(service).items():
        if name not in _LIMITS:
            yield f"`{name}` is no limit: `ulimits` knows {', '.join(_LIMITS)}"
        elif hard != -1 and (soft > hard or soft == -1):
            yield f"`ulimits: {name}`: the soft limit {soft} is above the hard one, {hard}"
    parts = str(service.get("cgroup_parent") or "").strip("/").split("/")
    if parts != [""] and {"", ".", ".."} & set(parts):
        yield f"`cgroup_parent: {service['cgroup_parent']}` is no cgroup below the root"
    if float(service.get("cpus") or 0) < 0:
        yield f"`cpus: {service['cpus']}` is negative"
    yield from convert_logging.problems(service)


def _memory(limits: resources.Resources) -> Iterator[str]:
    if limits.memory is not None and 0 < limits.memory < _LEAST_MEMORY:
        yield f"a memory limit of {limits.memory} bytes is too small: 6m is the least"
    if limits.memory and limits.memory_swap and 0 < limits.memory_swap < limits.memory:
        yield "its `memswap_limit`, memory and swap together, is below its memory limit"
    if not limits.memory and limits.memory_swap and limits.memory_swap > 0:
        yield "its `memswap_limit`, memory and swap together, needs a memory limit: `mem_limit`"
    if limits.memory and limits.memory_reservation and 0 < limits.memory < limits.memory_reservation:
        yield "its `mem_reservation` is above its memory limit"
    if limits.memory_swappiness is not None and not -1 <= limits.memory_swappiness <= 100:
        yield f"`mem_swappiness: {limits.memory_swappiness}` is not between 0 and 100"


def _processors(limits: resources.Resources, service: convert.Service) -> Iterator[str]:
    """The kernel's own bounds (Documentation/scheduler/sched-bwc.rst), and what there is on this machine."""
    period, quota = limits.cpu_period, limits.cpu_quota
    if limits.nano_cpus and quota:
        yield "`cpus` and `cpu_quota` say the same thing twice: one of them is enough"
    if period and not 1000 <= period <= 1_000_000:
        yield f"`cpu_period: {period}` is not between 1000 and 1000000 microseconds"
    if quota and 0 < quota < 1000:
        yield f"`cpu_quota: {quota}` is below 1000 microseconds, the least there is"
    try:
        wanted = resources.numbers(limits.cpuset_cpus)
    except ValueError as exc:
        yield f"`cpuset`: {exc}"
        return
    if wanted and not cgroup.limits_available()["cpuset"] and not wanted <= (there := offered.processors()):
        known = ", ".join(map(str, sorted(there)))
        yield f"`cpuset: {service['cpuset']}` names processors that this machine doesn't have: there are {known}"


def _disks(block: Mapping[str, Any]) -> Iterator[str]:
    """Docker's and cgroup v1's bounds."""
    for weight in (block.get("weight"), *(each["weight"] for each in block.get("weightDevice") or [])):
        if weight and not 10 <= weight <= 1000:
            yield f"`blkio_config`: the weight {weight} is not between 10 and 1000"


def _words(service: convert.Service) -> Iterator[str]:
    """What execve(2) and sethostname(2) can't be given."""
    for name, value in (service.get("environment") or {}).items():
        if not name:
            yield f"a variable in `environment` has no name: `={value}`"
        if "\0" in f"{name}{value}":
            yield f"the variable `{name}` has a NUL in it"
    for attribute in ("entrypoint", "command"):
        words = service.get(attribute) or []
        if any("\0" in word for word in words):
            yield f"`{attribute}` has a NUL in it"
        if words and not words[0] and (attribute == "entrypoint" or service.get("entrypoint") == []):
            yield f"`{attribute}` begins with an empty word, which is no program"
    hostname = str(service.get("hostname") or "")
    if hostname and not _HOSTNAME.fullmatch(hostname):
        yield f"`hostname: {hostname}` is no name of a host: letters, digits, `-` and `.`, at most 64"
    test = (service.get("healthcheck") or {}).get("test") or []
    if len(test) == 1 and test[0] in {"CMD", "CMD-SHELL"}:
        yield "its health check names no command"


def _names(service: convert.Service) -> Iterator[str]:
    """What becomes a word of a line in a hosts file or a resolv.conf, and must not become a line of its own."""
    networks = service.get("networks") or {}
    named = {
        "container_name": [service.get("container_name")],
        "domainname": [service.get("domainname")],
        "extra_hosts": convert.extra_hosts(service),
        "links": convert_network.links(service),
        "aliases": [alias for use in networks.values() for alias in (use or {}).get("aliases") or []],
        "dns_search": _listed(service.get("dns_search")),
        "dns_opt": _listed(service.get("dns_opt")),
    }
    for attribute, names in named.items():
        for name in names:
            if name and _NO_WORD.search(name):
                yield f"`{attribute}`: `{name}` has a blank or a control character in it"


def _listed(value: Any) -> list[str]:
    return [value] if isinstance(value, str) else list(value or ())


def _sysctls(service: convert.Service) -> Iterator[str]:
    modes = {"network": "network_mode", "ipc": "ipc", "uts": "uts"}
    own = {kind for kind, attribute in modes.items() if service.get(attribute) != "host"}
    for name, value in (service.get("sysctls") or {}).items():
        problem = sysctl.refusal(name, value, own)
        if problem:
            yield f"`sysctls`: {problem}"


def _addresses(service: convert.Service) -> Iterator[str]:
    for name, addresses in convert.extra_hosts(service).items():
        for address in addresses:
            if address != hosts.HOST_GATEWAY and not _is_address(address):
                yield f"`extra_hosts`: `{address}` is no address for `{name}`"
    for use in (service.get("networks") or {}).values():
        for address in (use or {}).get("link_local_ips") or []:
            if not _is_address(address) or not ipaddress.ip_address(address).is_link_local:
                yield f"`link_local_ips`: `{address}` is none of 169.254.0.0/16 or fe80::/10"
    for server in service.get("dns") or []:
        if not _is_address(server):
            yield f"`dns: {server}` is not an address"


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def _check_ports(environment: desired.Environment, services: Sequence[str], scale: Mapping[str, int]) -> None:
    wanted: list[tuple[str, Any]] = []
    for name in sorted(services):
        for publication in ports.expand(convert.ports(environment.services[name])):
            wanted += [(name, publication)] * scale.get(name, environment.replicas(name))
    for one, other, publication in ports.clashes(wanted):
        what = ports.describe(publication)
        if one == other:
            raise errors.NetworkError(
                f"the replicas of `{one}` can't all publish port `{what}`",
                hint=f"publish a range, as `8000-8010:{publication.target}`, or leave the host's port out",
            )
        raise errors.NetworkError(
            f"services `{one}` and `{other}` both publish port `{what}`", hint="give one of them another port"
        )
