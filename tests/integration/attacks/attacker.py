"""The first process of a container under test; SIGUSR1 makes it print what it has reached of others, as JSON.

Its arguments: the device and inode of the runtime's interpreter, to tell it when it is met, and what to attack.
"""

import ctypes
import errno
import json
import os
import signal
import sys

WANTED = (int(sys.argv[1]), int(sys.argv[2]))
MOUNT_SETATTR, OPEN_TREE = 442, 428
AT_EMPTY_PATH, PTRACE_SEIZE = 0x1000, 0x4206

libc = ctypes.CDLL(None, use_errno=True)
libc.ptrace.argtypes = (ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p)
found = {"seen": 0, "writable": 0, "joining": 0}
written, changed, reached, refused = set(), set(), set(), set()
held = []


def read(pid, name):
    with open(f"/proc/{pid}/{name}", "rb") as file:
        return file.read()


def try_program(pid):
    program = os.open(f"/proc/{pid}/exe", os.O_PATH)
    info = os.fstat(program)
    if (info.st_dev, info.st_ino) != WANTED:
        os.close(program)
        return
    found["seen"] += 1
    # A file that is being run can't be opened for writing whatever it lies on; this tells what happens afterwards.
    if not os.fstatvfs(program).f_flag & os.ST_RDONLY:
        found["writable"] += 1
    if libc.syscall(OPEN_TREE, program, b"", 1 | AT_EMPTY_PATH) >= 0:
        changed.add("open_tree")
    attributes = (ctypes.c_uint64 * 4)(0, 1, 0, 0)
    if libc.syscall(MOUNT_SETATTR, program, b"", AT_EMPTY_PATH, attributes, 32) == 0:
        changed.add("mount_setattr")
    if libc.mount(b"none", f"/proc/self/fd/{program}".encode(), b"", 32 | 4096, None) == 0:
        changed.add("remount")
    try_to_write(program)
    held.append(program)
    if len(held) > 50:
        os.close(held.pop(0))


def try_to_write(program):
    try:
        os.close(os.open(f"/proc/self/fd/{program}", os.O_WRONLY))
        written.add("opened")
    except OSError as error:
        refused.add(errno.errorcode[error.errno])


def try_process(pid):
    """Count only what was reached while it was still the runtime's: with the runtime's name."""
    comm = read(pid, "comm")
    if not comm.startswith(b"python"):
        return
    found["joining"] += 1
    for what, attempt in ATTEMPTS.items():
        try:
            attempt(pid)
            if read(pid, "comm") == comm and not run_by_script(pid):
                reached.add(what)
        except OSError as error:
            refused.add(errno.errorcode[error.errno])


def run_by_script(pid):
    """`#!/proc/self/exe` has been executed: it is the container's process already."""
    return b"/attack/trap" in read(pid, "cmdline")


def trace(pid):
    if libc.ptrace(PTRACE_SEIZE, pid, None, None) < 0:
        raise OSError(ctypes.get_errno(), "ptrace")
    os.kill(pid, signal.SIGKILL)


ATTEMPTS = {
    "fd": lambda pid: [os.readlink(f"/proc/{pid}/fd/{name}") for name in os.listdir(f"/proc/{pid}/fd")],
    "mem": lambda pid: os.close(os.open(f"/proc/{pid}/mem", os.O_RDWR)),
    "environ": lambda pid: read(pid, "environ"),
    "root": lambda pid: os.listdir(f"/proc/{pid}/root"),
    "cwd": lambda pid: os.listdir(f"/proc/{pid}/cwd"),
    "ptrace": trace,
}


def tell(_number, _frame):
    lists = {"written": written, "changed": changed, "reached": reached, "refused": refused}
    print(json.dumps(found | {name: sorted(values) for name, values in lists.items()}))


attack = {"program": try_program, "process": try_process}[sys.argv[3]]
signal.signal(signal.SIGUSR1, tell)
while True:
    try:
        os.waitpid(-1, os.WNOHANG)
    except ChildProcessError:
        pass
    for name in os.listdir("/proc"):
        if not name.isdigit() or name == "1":
            continue
        try:
            attack(int(name))
        except (OSError, IndexError):
            pass
