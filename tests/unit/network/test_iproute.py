from __future__ import annotations

import subprocess
import sys

CODE = """
import sys
from devenv.network import iproute
made = iproute.load()
assert iproute.load() is made
with made() as ip:
    assert "lo" in [link.get_attr("IFLA_IFNAME") for link in ip.get_links()]
print(*sys.modules)
"""


def test_it_is_had_without_the_rest_of_pyroute2() -> None:
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=True)
    modules = done.stdout.split()
    assert "pyroute2.iproute.linux" in modules
    assert not {"pyroute2.ndb.main", "pyroute2.plan9", "pyroute2.nl80211", "sqlite3"} & set(modules)
