"""A virtual machine with a stock kernel, to show what this machine's own kernel or cgroup version can't.

The guest is this machine once more: qemu lends it the whole root folder read-only (9p), an overlay in the guest's
memory takes what it writes, so the checkout, its `.venv` and every tool are there at the same paths. Nothing is
installed in it and there is nothing to build but an initramfs of busybox and ten kernel modules.

    kernel.py     a kernel and its modules: this machine's, or Debian's package, unpacked and not installed
    boot.py       starts qemu, runs one command in it, gives back the command's exit code
    init          the guest's first program
    __main__.py   ./dev guest
"""
