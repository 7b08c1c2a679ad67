"""Who trusts the local authority: the system's store, and the NSS databases of Firefox and of Chrome.

The system's store is root's, and what it takes is one of a few pairs of a folder and a command. An NSS database is a
user's, and is changed by certutil(1), where that is installed.
"""

from __future__ import annotations

import glob
import os
import pwd
import shlex
import shutil
import subprocess
from typing import NamedTuple

from devenv import errors
from devenv.util import fs

FILE = "devenv-{name}.crt"


class Store(NamedTuple):
    folder: str
    command: tuple[str, ...]


# Debian and Alpine, Fedora, Arch, openSUSE.
STORES = (
    Store("/usr/local/share/ca-certificates", ("update-ca-certificates",)),
    Store("/etc/pki/ca-trust/source/anchors", ("update-ca-trust", "extract")),
    Store("/etc/ca-certificates/trust-source/anchors", ("trust", "extract-compat")),
    Store("/usr/share/pki/trust/anchors", ("update-ca-certificates",)),
)
_FIREFOX = (".mozilla/firefox", ".config/mozilla/firefox", "snap/firefox/common/.mozilla/firefox")
_FLATPAK = ".var/app/org.mozilla.firefox/.mozilla/firefox"
_CHROME = (".pki/nssdb", "snap/chromium/current/.pki/nssdb")
CERTUTIL = "sudo apt-get install libnss3-tools"


class Outcome(NamedTuple):
    done: list[str]  # where, in words
    left: list[str]  # lines to run
    failed: list[str]


def store() -> Store | None:
    """This machine's."""
    return next((each for each in STORES if os.path.isdir(each.folder) and _program(each.command[0])), None)


def _program(name: str) -> str | None:
    # Not on the PATH of every ordinary user.
    return shutil.which(name) or shutil.which(name, path="/usr/sbin:/sbin")


def home() -> str:
    """Of the person: who runs devenv with sudo has browsers of his own."""
    user = os.environ.get("SUDO_USER") if os.geteuid() == 0 else None
    try:
        return pwd.getpwnam(user).pw_dir if user else os.path.expanduser("~")
    except KeyError:
        return os.path.expanduser("~")


def databases(place: str) -> list[str]:
    """Folders with an NSS database below a home."""
    files = [f"{place}/{each}/cert9.db" for each in _CHROME]
    for each in (*_FIREFOX, _FLATPAK):
        files += sorted(glob.glob(f"{glob.escape(place)}/{each}/*/cert9.db"))
    return [os.path.dirname(path) for path in files if os.path.exists(path)]


def trust(name: str, certificate: str) -> Outcome:
    """``certificate``: its file. ``name``: what lists call it, which no other is called."""
    outcome = Outcome([], [], [])
    found = store()
    if found is None:
        outcome.failed.append("this system's store of certificates is not known: see its documentation")
    else:
        target = f"{found.folder}/{FILE.format(name=_slug(name))}"
        if os.geteuid() == 0:
            with open(certificate, "rb") as file:
                fs.write_whole(target, file.read(), mode=0o644)
            _run(list(found.command), f"the system's store ({target})", outcome)
        else:
            outcome.left.append(f"sudo install -m 0644 {shlex.quote(certificate)} {shlex.quote(target)}")
            outcome.left.append(f"sudo {shlex.join(found.command)}")
    for each in databases(home()):
        _certutil(["-A", "-t", "C,,", "-n", name, "-i", certificate], each, outcome)
    return outcome


def untrust(name: str) -> Outcome:
    outcome = Outcome([], [], [])
    for each in STORES:
        target = f"{each.folder}/{FILE.format(name=_slug(name))}"
        if not os.path.exists(target):
            continue
        # Of Debian's two modes only this one forgets what is gone.
        command = [*each.command, *(["--fresh"] if each.command[0] == "update-ca-certificates" else [])]
        if os.geteuid() == 0:
            os.unlink(target)
            _run(command, f"the system's store ({target})", outcome)
        else:
            outcome.left.extend([f"sudo rm {shlex.quote(target)}", f"sudo {shlex.join(command)}"])
    for database in databases(home()):
        if knows(database, name):
            _certutil(["-D", "-n", name], database, outcome)
    return outcome


def trusted_by(name: str) -> list[str]:
    """Where it is trusted now."""
    targets = [f"{each.folder}/{FILE.format(name=_slug(name))}" for each in STORES]
    return [each for each in targets if os.path.exists(each)] + [
        each for each in databases(home()) if knows(each, name)
    ]


def knows(database: str, name: str) -> bool:
    program = shutil.which("certutil")
    if program is None:
        return False
    command = [program, "-L", "-d", f"sql:{database}", "-n", name]
    return subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=False).returncode == 0


def _certutil(arguments: list[str], database: str, outcome: Outcome) -> None:
    command = ["certutil", "-d", f"sql:{database}", *arguments]
    if shutil.which("certutil") is None:
        if CERTUTIL not in outcome.left:
            outcome.left.append(CERTUTIL)
        outcome.left.append(shlex.join(command))
    else:
        _run(command, database, outcome)


def _run(command: list[str], what: str, outcome: Outcome) -> None:
    program = _program(command[0])
    if program is None:
        raise errors.HostError(f"`{command[0]}` is not there any more")
    done = subprocess.run(
        [program, *command[1:]], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    if done.returncode:
        lines = (done.stderr or done.stdout).strip().splitlines()
        outcome.failed.append(f"`{shlex.join(command)}` failed{': ' + lines[-1] if lines else ''}")
    else:
        outcome.done.append(what)


def _slug(name: str) -> str:
    return "".join(each if each.isalnum() and each.isascii() else "-" for each in name.removeprefix("devenv "))
