"""`devenv ci` and signals."""

from __future__ import annotations

import os
import signal
import subprocess
import time

import pytest

from devenv.cli import ci


def test_a_signal_that_comes_before_the_command_is_known_is_passed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    started = subprocess.Popen

    def and_interrupted(*arguments: object, **more: object) -> object:
        child = started(*arguments, **more)  # type: ignore[call-overload]
        os.kill(os.getpid(), signal.SIGINT)
        return child

    run = object.__new__(ci._Run)
    run._interrupted, run._unheard, run._child = 0, 0, None
    monkeypatch.setattr(subprocess, "Popen", and_interrupted)
    began = time.monotonic()
    with run._passing_signals():
        assert run._child_code(["sleep", "30"]) == 128 + signal.SIGINT
    assert time.monotonic() - began < 20
