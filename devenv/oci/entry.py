"""The first steps of `devenv-oci` and of `devenv runtime`, with nothing imported but ``sys`` and ``os``.

A command that puts its own process into a container (`create`, `run`, `exec`) first starts its interpreter anew, from a
read-only mount that is no part of any namespace. Else a container could reach the host's interpreter by /proc/PID/exe
and write into it as soon as it runs no more (CVE-2019-5736): by a program `#!/proc/self/exe`, say. Starting anew also
leaves site-packages behind, as ``python -I -S``; nothing but the standard library and devenv can be imported then.
"""

from __future__ import annotations

import os
import sys
from typing import NoReturn

_ENTERING = frozenset({"create", "run", "exec"})
_ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
_PROGRAM = (
    # Nothing that we make is collected before we end; looking for it costs a tenth of the start.
    "import gc; gc.disable(); import sys; sys.path.insert(0, {root!r}); sys.argv[0] = {name!r}; "
    "from devenv.oci import main; main.main(sys.argv[1:])"
)


def main() -> NoReturn:
    """Of `devenv-oci`."""
    begin(sys.argv[1:])


def begin(arguments: list[str]) -> NoReturn:
    _standard_descriptors()
    if not _ENTERING.isdisjoint(arguments) and not {"-h", "--help"} & set(arguments):
        _start_anew(arguments)
    from devenv.oci import main as program

    program.main(arguments)


def _standard_descriptors() -> None:
    """What we open must never become 0, 1 or 2."""
    while (descriptor := os.open("/dev/null", os.O_RDWR)) < 3:
        os.set_inheritable(descriptor, True)
    os.close(descriptor)


def _start_anew(arguments: list[str]) -> None:
    """Returns only where it can't be done: an ordinary user may not make mounts, nor write into the interpreter."""
    from devenv.linux import sealed

    name = sys.argv[0] if os.path.basename(sys.argv[0]) != "devenv" else "devenv"
    words = [sys.executable, "-I", "-S", "-c", _PROGRAM.format(root=_ROOT, name=name), *arguments]
    sealed.execute(words)
