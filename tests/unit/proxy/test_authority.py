from __future__ import annotations

import datetime
import pathlib
import ssl
import stat

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from devenv import errors
from devenv.proxy import authority


def shake(trusted: authority.Authority, server: ssl.SSLContext, host: str) -> x509.Certificate:
    """The certificate that who trusts the authority accepts for the host."""
    client = ssl.create_default_context(
        cadata=trusted.certificate.public_bytes(serialization.Encoding.PEM).decode("ascii")
    )
    return talk(client.wrap_bio, server, host)


def talk(wrap, server: ssl.SSLContext, host: str) -> x509.Certificate:  # type: ignore[no-untyped-def]
    up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
    one, other = wrap(down, up, server_hostname=host), server.wrap_bio(up, down, server_side=True)
    for _ in range(4):
        for each in (one, other):
            try:
                each.do_handshake()
            except ssl.SSLWantReadError:
                continue
    return x509.load_der_x509_certificate(one.getpeercert(binary_form=True))


def test_it_is_made_once_and_kept(tmp_path: pathlib.Path) -> None:
    folder = str(tmp_path / "proxy")
    assert authority.load(folder) is None
    made, is_new = authority.ensure(folder)
    assert is_new
    again, is_new = authority.ensure(folder)
    assert not is_new
    assert again.fingerprint == made.fingerprint
    assert stat.S_IMODE((tmp_path / "proxy/ca.key").stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "proxy").stat().st_mode) == 0o700
    (tmp_path / "proxy/ca.key").write_text("no key")
    with pytest.raises(errors.HostError, match="holds no certificate authority"):
        authority.load(folder)


def test_one_that_ends_is_replaced(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made, _ = authority.ensure(str(tmp_path))
    late = made.certificate.not_valid_after_utc - datetime.timedelta(days=20)
    monkeypatch.setattr(authority, "_now", lambda: late)
    later, is_new = authority.ensure(str(tmp_path))
    assert is_new
    assert later.name != made.name


def test_certificates_by_name() -> None:
    made = authority.make()
    contexts = authority.Contexts(made)
    server = contexts.server()
    for host in ("localhost", "web.shop.localhost", "a.web.shop.localhost"):
        seen = shake(made, server, host)
        names = seen.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        assert host in names.get_values_for_type(x509.DNSName)
        assert seen.not_valid_after_utc - seen.not_valid_before_utc <= datetime.timedelta(days=398)
    assert contexts.of("web.shop.localhost") is contexts.of("web.shop.localhost")
    with pytest.raises(ssl.SSLError):
        shake(made, server, "example.com")
    # Somebody else's authority is none of ours.
    with pytest.raises(ssl.SSLCertVerificationError):
        shake(authority.make(), server, "localhost")


def test_a_certificate_is_made_again_before_it_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    contexts = authority.Contexts(authority.make())
    first = contexts.of("web.shop.localhost")
    soon = datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=authority.RENEW_DAYS + 1)
    monkeypatch.setattr(authority, "_now", lambda: soon)
    assert contexts.of("web.shop.localhost") is not first


def test_there_are_not_more_and_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(authority, "MOST", 2)
    contexts = authority.Contexts(authority.make())
    made = [contexts.of(f"{name}.localhost") for name in "abc"]
    assert contexts.of("c.localhost") is made[2]
    assert contexts.of("a.localhost") is not made[0]


@pytest.mark.parametrize("host", ["example.com", "localhost.example.com"])
def test_who_steals_the_key_passes_for_no_other_site(host: str) -> None:
    made = authority.make()
    key = ec.generate_private_key(ec.SECP256R1())
    server = authority.Contexts(made)
    forged = authority.leaf(made, host, key)
    assert forged.issuer == made.certificate.subject
    context = server.of(host)
    with pytest.raises(ssl.SSLCertVerificationError, match="subtree"):
        shake(made, context, host)
