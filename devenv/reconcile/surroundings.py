"""More that ``doctor`` looks at: what stands around environments on this machine, and does not belong to devenv."""

from __future__ import annotations

import datetime
import errno
import os
from collections.abc import Iterator

from devenv.network import resolv
from devenv.reconcile import facts, trials

_DROPPING = "drops what is forwarded; services are let pass"
_UNTOUCHED = "of iptables-legacy can't be seen or passed from here: where they drop, services can't reach the outside"


def system_calls(machine: facts.Machine) -> facts.Check:
    """An old container engine's filter answers EPERM to what is newer than itself, whatever the kernel has."""
    problem = machine.attempt(trials.system_calls)
    if problem is None:
        return facts.Check("system calls", facts.Status.OK, "openat2 and pidfd_open")
    if problem.errno == errno.ENOSYS:
        fix = "boot Linux 5.6 or newer; in a container, update the engine that started it"
    else:
        fix = "in a container, give it `security_opt: [seccomp:unconfined]`, or update the engine that started it"
    return facts.Check("system calls", facts.Status.FAIL, facts.words(problem), fix)


def clock(machine: facts.Machine) -> facts.Check:
    """A clock that is behind makes every certificate of a registry one of the future."""
    now, least = machine.now(), os.stat(__file__).st_mtime
    text = datetime.datetime.fromtimestamp(now, datetime.UTC).strftime("%Y-%m-%d %H:%M UTC")
    if now >= least - 86400.0:
        return facts.Check("clock", facts.Status.OK, text)
    fix = f"{'sudo ' * machine.rootless}timedatectl set-ntp true"
    return facts.Check(
        "clock", facts.Status.WARN, f"{text}, which is before devenv was installed: registries' TLS fails", fix
    )


def name_servers(machine: facts.Machine) -> facts.Check:
    text = machine.read(resolv.PATH)
    found = resolv.parse(text or "").nameservers
    if found:
        return facts.Check("name servers", facts.Status.OK, ", ".join(found))
    lack = f"{resolv.PATH} can't be read" if text is None else f"no nameserver in {resolv.PATH}"
    fix = f"write `nameserver ADDRESS` into {resolv.PATH}, or have systemd-resolved or NetworkManager do so"
    return facts.Check("name servers", facts.Status.WARN, f"{lack}: names of the outside can't be resolved", fix)


def firewalls(machine: facts.Machine) -> Iterator[facts.Check]:
    """Those of others. An ordinary user's services don't pass through them."""
    if machine.rootless:
        return
    others = []
    if machine.chain_policy("ip", "filter", "DOCKER-USER") is not None:
        others.append(f"Docker {_DROPPING}")
    elif machine.chain_policy("ip", "filter", "FORWARD") == "drop":
        others.append(f"iptables (ufw or a script) {_DROPPING}")
    if others:
        yield facts.Check("other firewalls", facts.Status.OK, others[0])
    if machine.chain_policy("inet", "firewalld", "filter_FORWARD") is not None:
        fix = "run the line that `devenv up` prints: firewall-cmd --zone=trusted --add-interface=BRIDGE"
        yield facts.Check("firewalld", facts.Status.WARN, "rejects what comes from bridges that it does not know", fix)
    if "filter" in (machine.read("/proc/net/ip_tables_names") or "").split():
        fix = "iptables-legacy -S FORWARD shows them; `update-alternatives --config iptables` chooses iptables-nft"
        yield facts.Check("iptables-legacy", facts.Status.WARN, f"rules {_UNTOUCHED}", fix)


def emulators(machine: facts.Machine) -> Iterator[facts.Check]:
    """Whether `platform:` may name another processor. Nothing is wrong if not."""
    name = "other processors"
    registered = machine.emulators()
    for qemu in sorted(each for each, stays in registered.items() if not stays):
        fix = facts.install(machine, apt="qemu-user-static", dnf="qemu-user-static", pacman="qemu-user-static-binfmt")
        yield facts.Check(name, facts.Status.WARN, f"{qemu} lacks flag F: it is not there in containers", fix)
        return
    if registered:
        yield facts.Check(name, facts.Status.OK, f"programs run by {', '.join(sorted(registered))}")
        return
    package = facts.install(machine, apt="qemu-user-static", dnf="qemu-user-static", pacman="qemu-user-static-binfmt")
    yield facts.Check(name, facts.Status.OK, f"images of this one only; for others: {package}")
