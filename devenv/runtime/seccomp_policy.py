"""What a container may ask of the kernel unless its service says otherwise: Docker's default, in words of our own.

An allow list: everything else is EPERM, and what is newer than everything named here is ENOSYS. Names that a processor
doesn't have do no harm, so one list serves all. Where this is stricter than Docker's stands at the rule.

What is left out, and why: whatever changes the whole machine (clock, kernel modules, swap, reboot), reaches around
namespaces (keyrings, `userfaultfd`, `io_uring`, NUMA placement of other processes), has been a way out of containers
before (`bpf`, `perf_event_open`, `open_by_handle_at`), or makes namespaces and mounts. Most of that comes back with the
capability that is needed for it anyway.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from devenv.runtime import seccomp_profile

# Files and folders by path or descriptor, their owners, modes, times and attributes.
_FILES = """
access cachestat chdir chmod chown chown32 close close_range creat faccessat faccessat2 fadvise64 fadvise64_64
fallocate fanotify_mark fchdir fchmod fchmodat fchmodat2 fchown fchown32 fchownat fdatasync fgetxattr flistxattr
flock fremovexattr fsetxattr fstat fstat64 fstatat64 fstatfs fstatfs64 fsync ftruncate ftruncate64 futimesat getcwd
getdents getdents64 getxattr getxattrat inotify_add_watch inotify_init inotify_init1 inotify_rm_watch
landlock_add_rule landlock_create_ruleset landlock_restrict_self lchown lchown32 lgetxattr link linkat listmount
listxattr listxattrat llistxattr lremovexattr lsetxattr lstat lstat64 mkdir mkdirat mknod mknodat name_to_handle_at
newfstatat open openat openat2 readahead readlink readlinkat removexattr removexattrat rename renameat renameat2
rmdir setxattr setxattrat stat stat64 statfs statfs64 statmount statx symlink symlinkat sync sync_file_range syncfs
truncate truncate64 umask unlink unlinkat utime utimensat utimensat_time64 utimes
"""

# Reading, writing and waiting on descriptors.
_DESCRIPTORS = """
copy_file_range dup dup2 dup3 epoll_create epoll_create1 epoll_ctl epoll_ctl_old epoll_pwait epoll_pwait2 epoll_wait
epoll_wait_old eventfd eventfd2 fcntl fcntl64 io_cancel io_destroy io_getevents io_pgetevents io_pgetevents_time64
io_setup io_submit ioctl _llseek lseek _newselect pipe pipe2 poll ppoll ppoll_time64 pread64 preadv preadv2 pselect6
pselect6_time64 pwrite64 pwritev pwritev2 read readv select sendfile sendfile64 signalfd signalfd4 splice tee
timerfd_create timerfd_gettime timerfd_gettime64 timerfd_settime timerfd_settime64 vmsplice write writev
"""

# Memory of the process, and shared between processes.
_MEMORY = """
brk ipc madvise map_shadow_stack membarrier memfd_create memfd_secret mincore mlock mlock2 mlockall mmap mmap2
mprotect mq_getsetattr mq_notify mq_open mq_timedreceive mq_timedreceive_time64 mq_timedsend mq_timedsend_time64
mq_unlink mremap mseal msgctl msgget msgrcv msgsnd msync munlock munlockall munmap pkey_alloc pkey_free
pkey_mprotect process_mrelease remap_file_pages semctl semget semop semtimedop semtimedop_time64 shmat shmctl shmdt
shmget
"""

# Signals.
_SIGNALS = """
kill pause restart_syscall rt_sigaction rt_sigpending rt_sigprocmask rt_sigqueueinfo rt_sigreturn rt_sigsuspend
rt_sigtimedwait rt_sigtimedwait_time64 rt_tgsigqueueinfo sigaltstack sigprocmask sigreturn tgkill tkill
"""

# Processes, threads, their scheduling and locks. How they are made: see `_entries`.
_PROCESSES = """
execve execveat exit exit_group fork futex futex_requeue futex_time64 futex_wait futex_waitv futex_wake
get_robust_list get_thread_area getcpu getpgid getpgrp getpid getppid getpriority getrlimit getrusage getsid gettid
ioprio_get ioprio_set pidfd_open pidfd_send_signal prctl prlimit64 riscv_hwprobe rseq sched_get_priority_max
sched_get_priority_min sched_getaffinity sched_getattr sched_getparam sched_getscheduler sched_rr_get_interval
sched_rr_get_interval_time64 sched_setaffinity sched_setattr sched_setparam sched_setscheduler sched_yield seccomp
set_robust_list set_thread_area set_tid_address setpgid setpriority setrlimit setsid times ugetrlimit uretprobe
vfork wait4 waitid waitpid
"""

# User and group ids, capabilities.
_IDENTITY = """
capget capset getegid getegid32 geteuid geteuid32 getgid getgid32 getgroups getgroups32 getresgid getresgid32
getresuid getresuid32 getuid getuid32 setfsgid setfsgid32 setfsuid setfsuid32 setgid setgid32 setgroups setgroups32
setregid setregid32 setresgid setresgid32 setresuid setresuid32 setreuid setreuid32 setuid setuid32
"""

# Clocks and timers; the machine's own clock is set only with CAP_SYS_TIME, which the kernel asks for.
_TIME = """
adjtimex alarm clock_adjtime clock_adjtime64 clock_getres clock_getres_time64 clock_gettime clock_gettime64
clock_nanosleep clock_nanosleep_time64 getitimer gettimeofday nanosleep setitimer time timer_create timer_delete
timer_getoverrun timer_gettime timer_gettime64 timer_settime timer_settime64
"""

# Sockets; which families: see `_entries`.
_NETWORK = """
accept accept4 bind connect getpeername getsockname getsockopt listen recv recvfrom recvmmsg recvmmsg_time64 recvmsg
send sendmmsg sendmsg sendto setsockopt shutdown socketcall socketpair
"""

# What the machine tells of itself.
_SYSTEM = """
getrandom sysinfo uname
"""

_ALLOWED = " ".join((_FILES, _DESCRIPTORS, _MEMORY, _SIGNALS, _PROCESSES, _IDENTITY, _TIME, _NETWORK, _SYSTEM))

# What each capability (capabilities(7)) brings back; capability -> calls.
_WITH_CAPABILITY = {
    "CAP_BPF": "bpf",
    "CAP_DAC_READ_SEARCH": "open_by_handle_at",
    "CAP_PERFMON": "perf_event_open",
    "CAP_SYS_ADMIN": "bpf clone clone3 fanotify_init fsconfig fsmount fsopen fspick lookup_dcookie lsm_get_self_attr "
    "lsm_list_modules lsm_set_self_attr mount mount_setattr move_mount open_tree perf_event_open quotactl quotactl_fd "
    "setdomainname sethostname setns syslog umount umount2 unshare",
    "CAP_SYS_BOOT": "reboot",
    "CAP_SYS_CHROOT": "chroot",
    "CAP_SYS_MODULE": "delete_module finit_module init_module",
    "CAP_SYS_NICE": "get_mempolicy mbind set_mempolicy set_mempolicy_home_node",
    "CAP_SYS_PACCT": "acct",
    "CAP_SYS_PTRACE": "kcmp pidfd_getfd process_madvise process_vm_readv process_vm_writev ptrace",
    "CAP_SYS_RAWIO": "ioperm iopl",
    "CAP_SYS_TIME": "clock_settime clock_settime64 settimeofday stime",
    "CAP_SYS_TTY_CONFIG": "vhangup",
    "CAP_SYSLOG": "syslog",
}

# Calls of one family of processors; Docker's names for them -> calls.
_ON_PROCESSOR = {
    ("amd64",): "arch_prctl modify_ldt",
    ("x86",): "modify_ldt",
    ("arm", "arm64"): "arm_fadvise64_64 arm_sync_file_range breakpoint cacheflush set_tls sync_file_range2",
}

_ENOSYS, _EAFNOSUPPORT = 38, 97
_AF_ALG, _AF_QIPCRTR, _AF_VSOCK = 38, 39, 40
# sched.h: CLONE_NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID and NEWNET.
_NEW_NAMESPACES = 0x00020000 | 0x02000000 | 0x04000000 | 0x08000000 | 0x10000000 | 0x20000000 | 0x40000000
# personality.h: PER_LINUX, PER_LINUX32, UNAME26 with either, and the question which one it is.
_PERSONALITIES = (0x0, 0x8, 0x20000, 0x20008, 0xFFFFFFFF)


def _allow(names: str, *conditions: tuple[int, str, int, int]) -> dict[str, Any]:
    return _rule(names, "ALLOW", conditions)


def _deny(names: str, errno: int, *conditions: tuple[int, str, int, int]) -> dict[str, Any]:
    return {**_rule(names, "ERRNO", conditions), "errnoRet": errno}


def _rule(names: str, action: str, conditions: Iterable[tuple[int, str, int, int]]) -> dict[str, Any]:
    args = [
        {"index": index, "value": value, "valueTwo": other, "op": f"SCMP_CMP_{operator}"}
        for index, operator, value, other in conditions
    ]
    return {"names": names.split(), "action": f"SCMP_ACT_{action}", **({"args": args} if args else {})}


def _entries() -> Iterable[seccomp_profile.Entry]:
    entry, when = seccomp_profile.Entry, seccomp_profile.When
    administrator = when(caps=frozenset({"CAP_SYS_ADMIN"}))
    yield entry(_allow(_ALLOWED))
    # Before 4.8 a tracer could change the number of a call after the filter had seen it.
    yield entry(_allow("process_vm_readv process_vm_writev ptrace"), includes=when(min_kernel=(4, 8)))

    # Stricter than Docker's: the kernel reads only the lower half of the family, so that 1 << 32 | AF_ALG would be a
    # way around the next rules. No family is that large.
    yield entry(_deny("socket", _EAFNOSUPPORT, (0, "GT", 0xFFFFFFFF, 0)))
    # AF_ALG is the kernel's cryptography, with a long list of holes; AF_VSOCK leads past the container's network
    # namespace to the hypervisor and its other guests.
    yield entry(_allow("socket", (0, "LT", _AF_ALG, 0)))
    yield entry(_allow("socket", (0, "EQ", _AF_QIPCRTR, 0)))
    yield entry(_allow("socket", (0, "GT", _AF_VSOCK, 0)))

    # Others make memory executable or addresses predictable.
    for persona in _PERSONALITIES:
        yield entry(_allow("personality", (0, "EQ", persona, 0)))

    # Threads and processes, but no namespaces. clone3(2) takes its flags from memory, where no filter can look; C
    # libraries fall back to clone(2) when it is not there.
    yield entry(_allow("clone", (0, "MASKED_EQ", _NEW_NAMESPACES, 0)), excludes=administrator)
    yield entry(_deny("clone3", _ENOSYS), excludes=administrator)

    for arches, names in _ON_PROCESSOR.items():
        yield entry(_allow(names), includes=when(arches=frozenset(arches)))
    for capability, names in _WITH_CAPABILITY.items():
        yield entry(_allow(names), includes=when(caps=frozenset({capability})))


DEFAULT = seccomp_profile.Profile(
    head={"defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 1},
    arch_map={
        "SCMP_ARCH_X86_64": ("SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"),
        "SCMP_ARCH_AARCH64": ("SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM"),
    },
    entries=tuple(_entries()),
)
