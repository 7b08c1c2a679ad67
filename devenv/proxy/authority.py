"""The local certificate authority, and certificates by name.

<data>/proxy/ca.crt     what browsers are to trust; for names below `localhost` alone, so that who steals the key
<data>/proxy/ca.key     can't pass for any other site
"""

from __future__ import annotations

import datetime
import getpass
import ipaddress
import os
import socket
import ssl
import weakref
from typing import NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from devenv import errors
from devenv.proxy import routes
from devenv.util import fs, lock

CA_DAYS = 3650
# Browsers take at most 398. They live in memory, so a short life costs nothing.
LEAF_DAYS = 30
RENEW_DAYS = 15
MOST = 512  # names that have a certificate at one time
_EARLIER = datetime.timedelta(hours=1)  # for clocks that were set back


class Authority(NamedTuple):
    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    @property
    def name(self) -> str:
        """What lists of certificates call it."""
        return str(self.certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value)

    @property
    def fingerprint(self) -> str:
        return self.certificate.fingerprint(hashes.SHA256()).hex(":").upper()


def path(folder: str) -> str:
    return f"{folder}/ca.crt"


def load(folder: str) -> Authority | None:
    """None when there is none. Raises ``HostError`` for files that are no authority."""
    try:
        with open(path(folder), "rb") as file:
            certificate = x509.load_pem_x509_certificate(file.read())
        with open(f"{folder}/ca.key", "rb") as file:
            key = serialization.load_pem_private_key(file.read(), None)
    except FileNotFoundError:
        return None
    except ValueError as exc:
        raise errors.HostError(
            f"`{folder}` holds no certificate authority: {exc}", hint=f"`rm {folder}/ca.*` has a new one made"
        ) from exc
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    return Authority(certificate, key)


def ensure(folder: str) -> tuple[Authority, bool]:
    """The one that is there, or a new one when it ends within a month; and whether it is new."""
    os.makedirs(folder, mode=0o700, exist_ok=True)
    with lock.held(f"{folder}/lock"):
        found = load(folder)
        if found is not None and found.certificate.not_valid_after_utc > _now() + datetime.timedelta(days=30):
            return found, False
        made = make()
        encoded = made.key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        fs.write_whole(f"{folder}/ca.key", encoded, durable=True)
        fs.write_whole(path(folder), made.certificate.public_bytes(serialization.Encoding.PEM), durable=True)
        return made, True


def make() -> Authority:
    key = ec.generate_private_key(ec.SECP256R1())
    serial = x509.random_serial_number()
    subject = x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "devenv"),
            # Two of one user's are told apart, also in a browser's list.
            x509.NameAttribute(NameOID.COMMON_NAME, f"devenv {_owner()} {serial % 0xFFFF_FFFF:08x}"[:64]),
        ]
    )
    everywhere = [ipaddress.ip_network("0.0.0.0/0"), ipaddress.ip_network("::/0")]
    constraints = x509.NameConstraints([x509.DNSName(routes.DOMAIN)], [x509.IPAddress(each) for each in everywhere])
    public = key.public_key()
    builder = _builder(subject, subject, public, CA_DAYS, serial)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    builder = builder.add_extension(_usage(signs_certificates=True), critical=True)
    builder = builder.add_extension(constraints, critical=True)
    builder = builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
    return Authority(builder.sign(key, hashes.SHA256()), key)


def _owner() -> str:
    try:
        return f"{getpass.getuser()}@{socket.gethostname()}"
    except (KeyError, OSError):  # who has no name: KeyError until Python 3.13
        return f"{os.getuid()}@{socket.gethostname()}"


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, days: int, serial: int
) -> x509.CertificateBuilder:
    now = _now()
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(serial)
        .not_valid_before(now - _EARLIER)
        .not_valid_after(now + datetime.timedelta(days=days))
    )


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _now() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC)


def leaf(authority: Authority, host: str, key: ec.EllipticCurvePrivateKey) -> x509.Certificate:
    """For the name, and for what stands right before it."""
    names = [x509.DNSName(host)]
    if host != routes.DOMAIN:
        names.append(x509.DNSName(f"*.{host}"))
    # A common name has at most 64 characters, and nobody reads it.
    subject = x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, "devenv")])
    public = key.public_key()
    builder = _builder(subject, authority.certificate.subject, public, LEAF_DAYS, x509.random_serial_number())
    issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(authority.key.public_key())
    for extension, critical in (
        (x509.BasicConstraints(ca=False, path_length=None), True),
        (_usage(signs_certificates=False), True),
        (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), False),
        (x509.SubjectAlternativeName(names), False),
        (issuer, False),
    ):
        builder = builder.add_extension(extension, critical=critical)
    return builder.sign(authority.key, hashes.SHA256())


class Contexts:
    """TLS as a server, with a certificate made when a name is first asked for, and again before it ends."""

    def __init__(self, authority: Authority) -> None:
        self._authority = authority
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._made: dict[str, tuple[ssl.SSLContext, datetime.datetime]] = {}
        self._hosts: weakref.WeakKeyDictionary[ssl.SSLContext, str] = weakref.WeakKeyDictionary()

    def server(self) -> ssl.SSLContext:
        """For a listener; who names no host gets a certificate for `localhost`."""
        context = self._context(routes.DOMAIN)
        context.sni_callback = self._choose
        return context

    def _choose(self, connection: ssl.SSLObject, host: str | None, _context: ssl.SSLContext) -> int | None:
        host = (host or routes.DOMAIN).lower()
        if not routes.is_ours(host) or len(host) > 253:
            return ssl.ALERT_DESCRIPTION_UNRECOGNIZED_NAME
        try:
            connection.context = self.of(host)
        except (ValueError, UnicodeError):
            return ssl.ALERT_DESCRIPTION_UNRECOGNIZED_NAME
        return None

    def host(self, context: ssl.SSLContext) -> str:
        """Whose certificate it has; "" for nobody's."""
        return self._hosts.get(context, "")

    def of(self, host: str) -> ssl.SSLContext:
        context, until = self._made.get(host, (None, _now()))
        if context is None or until < _now():
            while len(self._made) >= MOST:
                del self._made[next(iter(self._made))]
            context = self._context(host)
            self._made[host] = context, _now() + datetime.timedelta(days=RENEW_DAYS)
        return context

    def _context(self, host: str) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        # In this order: HTTP/2 is for who speaks nothing else (see ``tunnel``).
        context.set_alpn_protocols(["http/1.1", "h2"])
        certificate = leaf(self._authority, host, self._key).public_bytes(serialization.Encoding.PEM)
        key = self._key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        # ssl reads files alone; this one has no name and is never on a disk.
        descriptor = os.memfd_create("devenv-certificate", os.MFD_CLOEXEC)
        with open(descriptor, "wb") as file:
            file.write(certificate + key)
            file.flush()
            context.load_cert_chain(f"/proc/self/fd/{descriptor}")
        self._hosts[context] = host
        return context
