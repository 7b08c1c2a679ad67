"""Run a command in the guest: ``./dev guest [--cgroup v2|hybrid] [COMMAND …]``; a shell without one."""

from __future__ import annotations

import argparse
import shutil
import sys

from tests.guest import boot, kernel


def main() -> int:
    parser = argparse.ArgumentParser(prog="./dev guest", description="Run a command in a virtual machine.")
    parser.add_argument("--cgroup", choices=("v2", "hybrid"), default="v2", help="what is mounted at /sys/fs/cgroup")
    parser.add_argument("command", nargs=argparse.REMAINDER, help="a shell by default")
    given = parser.parse_args()
    if shutil.which(boot.QEMU) is None:
        print(f"dev: `{boot.QEMU}` is not there: sudo apt-get install qemu-system-x86", file=sys.stderr)
        return 1
    try:
        chosen = kernel.find() or kernel.fetch()
    except RuntimeError as exc:
        print(f"dev: no kernel for the guest: {exc}", file=sys.stderr)
        return 1
    with boot.guest(chosen, cgroup=given.cgroup) as machine:
        process = machine.start(given.command or ["bash"])
        try:
            process.wait()
        except KeyboardInterrupt:
            process.kill()
            process.wait()
        code = machine.code()
    return 1 if code is None else code


if __name__ == "__main__":
    sys.exit(main())
