"""What needs another machine than this one: cgroup v2 alone, a stock kernel, a power cut."""

from __future__ import annotations

import shutil
import sys
import textwrap
import threading
from collections.abc import Iterator

import pytest

from tests.guest import boot, kernel
from tests.support import machine

# Emulation makes a second out of a tenth of one, two minutes in all; and then there may be others on the machine.
PATIENCE = 900.0

pytestmark = [
    pytest.mark.skipif(shutil.which(boot.QEMU) is None, reason=f"needs qemu: `{boot.QEMU}` is not there"),
    machine.needs_binary("busybox"),
    pytest.mark.timeout(2 * PATIENCE),
]

# Of what there is about cgroups: the few that together touch all of `cgroup.py`.
ON_CGROUP_V2 = (
    "tests/integration/runtime/test_limits.py",
    "tests/integration/runtime/test_monitor.py::test_pause_and_resume_and_kill_of_a_paused_one",
    "tests/integration/runtime/test_monitor.py::test_out_of_memory_is_recorded",
    "tests/integration/faults/test_cgroups.py",
    "tests/e2e/test_delegated.py",
    "tests/integration/oci/test_fields.py::test_cgroup_mount",
    "tests/integration/oci/test_fields.py::test_a_device_that_is_not_allowed_cant_be_opened",
    "tests/integration/oci/test_fields.py::test_limits",
    "tests/integration/oci/test_fields.py::test_a_frozen_cgroup_is_not_joined",
)

# What a kernel built for virtual machines, as this one, may lack; and what an older one is told in other words.
ON_A_STOCK_KERNEL = (
    "tests/integration/runtime/test_quota.py",
    "tests/e2e/test_snapshots.py::test_many_layers_become_one",
)


@pytest.fixture(scope="module")
def stock_kernel() -> kernel.Kernel:
    found = kernel.find()
    if found is None:
        pytest.skip("needs qemu and a kernel for it: `./dev guest true` fetches one")
    return found


@pytest.fixture
def guest(stock_kernel: kernel.Kernel) -> Iterator[boot.Guest]:
    with boot.guest(stock_kernel) as made:
        yield made


def test_cgroup_v2(guest: boot.Guest) -> None:
    options = ["-q", "--color=no", "-p", "no:cacheprovider", "-o", "timeout=400", "-rf"]
    outcome = guest.run([sys.executable, "-m", "pytest", *options, *ON_CGROUP_V2, *ON_A_STOCK_KERNEL], timeout=PATIENCE)
    assert outcome.code == 0, outcome.output[-12_000:]
    assert " passed" in outcome.output


FIRST = """
    set -e
    mkdir /tmp/p
    cd /tmp/p
    cat >devenv.yaml <<EOF
    x-service: &service {image: "host:", command: sleep 9999, stop_signal: SIGKILL}
    services:
      always: {<<: *service, restart: always}
      plain: *service
      never:
        <<: *service
        healthcheck: {test: test -e /run/healthy, interval: 1s, retries: 9999}
      last:
        <<: *service
        depends_on: {never: {condition: service_healthy}}
    EOF
    devenv up -d &
    while ! devenv ps | grep never.*starting; do sleep 1; done
    echo 'the moment has come'
    sleep 9999
"""

# The power came back: nothing runs, nobody claims so, and `up` goes on where it was cut off.
SECOND = """
    set -e
    cd /tmp/p
    devenv ps --all
    test -z "$(devenv ps --quiet)"
    sed -i s:/run/healthy:/: devenv.yaml
    devenv up -d
    devenv ps
    test "$(devenv ps --status running --services | sort | tr '\\n' ' ')" = 'always last never plain '
    devenv down
    test -z "$(ls /tmp/data/containers)"
    ! find /sys/fs/cgroup -name 'devenv' | grep .
"""


def test_power_cut_during_up(guest: boot.Guest) -> None:
    settings = f"export DEVENV_DATA_HOME=/tmp/data PATH={sys.prefix}/bin:$PATH\n"
    first, second = (settings + textwrap.dedent(part) for part in (FIRST, SECOND))
    with guest.start(["sh", "-c", first], **boot.CONSOLE) as qemu:
        # A boot that hangs must end, too: reading its console knows no patience.
        patience = threading.Timer(PATIENCE, qemu.kill)
        patience.start()
        said: list[str] = []
        assert qemu.stdout is not None
        for line in qemu.stdout:
            said.append(line)
            if "the moment has come" in line:
                break
        patience.cancel()
        qemu.kill()
    assert said
    assert "the moment has come" in said[-1], "".join(said)[-6000:]
    outcome = guest.run(["sh", "-c", second], timeout=PATIENCE)
    assert outcome.code == 0, outcome.output[-8000:]
