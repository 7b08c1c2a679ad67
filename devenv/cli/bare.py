"""Commands that are given nothing but names, and so need no parser: importing one takes longer than they do.

``devenv image pull NAME`` of what is here is over in some 80 ms, where typer alone takes 40. What has an option, or
less or more than the names, goes the usual way (``app``), which also knows how to complain.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from devenv.cli import report, settings


def find(argv: Sequence[str]) -> Callable[[], int] | None:
    """What carries ``argv`` out and returns the exit code, as ``app.main`` would."""
    if list(argv[:2]) == ["image", "pull"] and len(argv) == 3 and not argv[2].startswith("-"):
        return lambda: report.run(lambda: _pull(argv[2]), argv)
    return None


def _pull(image: str) -> int:
    from devenv.cli import transfers

    report.settings = settings.Globals(progress=settings.progress(), ansi=settings.ansi())
    transfers.pull_image(report.settings, image)
    return 0
