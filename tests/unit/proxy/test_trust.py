from __future__ import annotations

import pathlib

import pytest

from devenv.proxy import trust

NAME = "devenv me@here 0badcafe"


@pytest.fixture
def machine(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> pathlib.Path:
    """A store with a program that writes down how it was called, in place of this machine's."""
    (tmp_path / "anchors").mkdir()
    (tmp_path / "bin").mkdir()
    (tmp_path / "ca.crt").write_text("the certificate")
    for name in ("update-ca-certificates", "certutil"):
        program = tmp_path / "bin" / name
        program.write_text(f'#!/bin/sh\necho "{name} $*" >> {tmp_path}/calls\n')
        program.chmod(0o755)
    store = trust.Store(str(tmp_path / "anchors"), ("update-ca-certificates",))
    monkeypatch.setattr(trust, "STORES", (store,))
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:/usr/bin:/bin")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("SUDO_USER", raising=False)
    return tmp_path


def calls(machine: pathlib.Path) -> list[str]:
    path = machine / "calls"
    return path.read_text().splitlines() if path.exists() else []


def browser(machine: pathlib.Path) -> pathlib.Path:
    made = machine / "home/.mozilla/firefox/abc.default"
    made.mkdir(parents=True)
    (made / "cert9.db").write_text("")
    return made


def test_as_root(machine: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 0)
    profile = browser(machine)
    outcome = trust.trust(NAME, str(machine / "ca.crt"))
    target = machine / "anchors/devenv-me-here-0badcafe.crt"
    assert target.read_text() == "the certificate"
    assert outcome.left == outcome.failed == []
    assert calls(machine) == [
        "update-ca-certificates ",
        f"certutil -d sql:{profile} -A -t C,, -n {NAME} -i {machine}/ca.crt",
    ]
    assert str(target) in trust.trusted_by(NAME)
    assert trust.untrust(NAME).failed == []
    assert not target.exists()
    assert "update-ca-certificates --fresh" in calls(machine)
    assert f"certutil -d sql:{profile} -D -n {NAME}" in calls(machine)


def test_as_a_user_the_lines_to_run(machine: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    profile = browser(machine)
    target = machine / "anchors/devenv-me-here-0badcafe.crt"
    outcome = trust.trust(NAME, str(machine / "ca.crt"))
    assert outcome.left == [
        f"sudo install -m 0644 {machine}/ca.crt {target}",
        "sudo update-ca-certificates",
    ]
    assert outcome.done == [str(profile)]
    target.write_text("by hand")
    assert trust.untrust(NAME).left == [f"sudo rm {target}", "sudo update-ca-certificates --fresh"]


def test_without_certutil(machine: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    monkeypatch.setenv("PATH", str(machine / "anchors"))
    profile = browser(machine)
    outcome = trust.trust(NAME, str(machine / "ca.crt"))
    assert trust.CERTUTIL in outcome.left
    assert f"certutil -d sql:{profile} -A -t C,, -n '{NAME}' -i {machine}/ca.crt" in outcome.left


def test_what_fails_is_told(machine: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 0)
    (machine / "bin/update-ca-certificates").write_text("#!/bin/sh\necho first; echo broken >&2; exit 1\n")
    assert trust.trust(NAME, str(machine / "ca.crt")).failed == ["`update-ca-certificates` failed: broken"]
