"""Makes certificates in memory: a certificate authority of one run, and what it signs for the venues' names."""
import ssl
from collections.abc import Iterable, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from tempfile import TemporaryDirectory

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from msgspec import Struct

BEFORE, AFTER = timedelta(days=1), timedelta(days=90)  # of validity: clocks differ; no client takes more than 398 days
ANOTHER_NAME = "another.name.invalid"


class Certificates(Struct, frozen=True):
    """What a server shows, and whom a client has to trust for it."""

    authority: bytes
    """PEM."""
    good: ssl.SSLContext
    another: ssl.SSLContext
    """Of another name."""
    expired: ssl.SSLContext
    """Of the right names, until yesterday."""


class _Authority(Struct, frozen=True):
    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey


def certificates(names: Iterable[str], now: datetime | None = None) -> Certificates:
    """For these host names and addresses, from now on for 90 days; ``now``: the real time, whatever is simulated."""
    now = now or datetime.now(UTC)
    authority, names = _authority(now), list(names)
    return Certificates(
        authority=authority.certificate.public_bytes(Encoding.PEM),
        good=_context(authority, names, now - BEFORE, now + AFTER),
        another=_context(authority, [ANOTHER_NAME], now - BEFORE, now + AFTER),
        expired=_context(authority, names, now - 2 * BEFORE, now - BEFORE),
    )


def _authority(now: datetime) -> _Authority:
    key = ec.generate_private_key(ec.SECP256R1())
    certificate = (
        _begun("OneTape simulator", key.public_key(), now - 2 * BEFORE, now + AFTER)
        .issuer_name(_name("OneTape simulator"))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs_certificates=True), critical=True)
        .sign(key, SHA256())
    )
    return _Authority(certificate, key)


def _context(authority: _Authority, names: Sequence[str], begins: datetime, ends: datetime) -> ssl.SSLContext:
    key = ec.generate_private_key(ec.SECP256R1())
    issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(authority.key.public_key())
    certificate = (
        _begun("OneTape simulated venues", key.public_key(), begins, ends)
        .issuer_name(authority.certificate.subject)
        .add_extension(x509.SubjectAlternativeName([_alternative(it) for it in names]), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(issuer, critical=False)
        .sign(authority.key, SHA256())
    )
    return _loaded(certificate, key)


def _begun(
    name: str, key: ec.EllipticCurvePublicKey, begins: datetime, ends: datetime,
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(_name(name))
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(begins)
        .not_valid_after(ends)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _alternative(name: str) -> x509.GeneralName:
    with suppress(ValueError):
        return x509.IPAddress(ip_address(name))
    return x509.DNSName(name)


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates, key_cert_sign=signs_certificates, crl_sign=signs_certificates,
        content_commitment=False, key_encipherment=False, data_encipherment=False, key_agreement=False,
        encipher_only=False, decipher_only=False,
    )


def _loaded(certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    pem = certificate.public_bytes(Encoding.PEM)
    secret = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    with TemporaryDirectory() as folder:  # the ssl module takes files only; nobody else may enter this folder
        path = Path(folder) / "both.pem"
        path.write_bytes(pem + secret)
        context.load_cert_chain(path)
    return context
