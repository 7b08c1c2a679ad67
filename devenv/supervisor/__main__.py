"""``python -m devenv.supervisor ID NAME FOLDER DATA RUN``: how the monitor brings a dead supervisor back."""

from __future__ import annotations

import os
import sys

from devenv.linux import sealed
from devenv.supervisor import engine
from devenv.util import identity, paths


def main() -> None:
    sealed.ensure()
    project = identity.Project(*sys.argv[1:4])
    where = paths.Paths(*sys.argv[4:6])
    os.environ["DEVENV_DATA_HOME"], os.environ["DEVENV_RUNTIME_DIR"] = where
    null = os.open("/dev/null", os.O_RDONLY)
    engine.detach(f"{where.project_run(project.id)}/supervisor.log", keep=null)
    from devenv.supervisor import zygote

    zygote.main(project, where, ready=None)


if __name__ == "__main__":
    main()
