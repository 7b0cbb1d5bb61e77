"""The two ways to prove an account to the simulated Coinbase: a token, and a signature (section 10)."""
from base64 import b64decode, b64encode, urlsafe_b64decode
from hmac import compare_digest
from hmac import digest as hmac

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ec import ECDSA
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256
from msgspec import Struct, json

from onetape.clock import SECOND, decimal_seconds
from onetape.sim.credentials import KEY, PASSPHRASE, SECRET_BASE64, public_key

CLOCK = 30 * SECOND  # that a client's clock may be wrong by
PREHASH = "GET/users/self/verify"


class _Header(Struct):
    alg: str
    kid: str
    nonce: str
    typ: str = "JWT"


class _Claims(Struct):
    sub: str
    iss: str
    nbf: int
    exp: int


_header, _claims = json.Decoder(_Header).decode, json.Decoder(_Claims).decode


def token_is_good(token: str, now: int) -> bool:
    """A JWT signed by ES256: the signature is r and s, 32 bytes each."""
    try:
        signed, _, signature = token.encode("ascii").rpartition(b".")
        head, _, body = signed.partition(b".")
        header, claims, both = _header(_bytes(head)), _claims(_bytes(body)), _bytes(signature)
        if header.alg != "ES256" or len(both) != 64:
            return False
        der = encode_dss_signature(int.from_bytes(both[:32]), int.from_bytes(both[32:]))
        public_key().verify(der, signed, ECDSA(SHA256()))
    except (ValueError, msgspec.DecodeError, InvalidSignature):
        return False
    named = header.kid == claims.sub == KEY and claims.iss == "cdp" and bool(header.nonce)
    return named and claims.nbf * SECOND - CLOCK <= now < claims.exp * SECOND


def _bytes(part: bytes) -> bytes:
    return urlsafe_b64decode(part + b"=" * (-len(part) % 4))


def signature_is_good(key: str, passphrase: str, timestamp: str, signature: str, now: int) -> bool:
    """``timestamp`` in seconds, perhaps with a fraction; no more than half a minute away."""
    try:
        time = decimal_seconds(timestamp)
    except ValueError:
        return False
    true = b64encode(hmac(b64decode(SECRET_BASE64), f"{timestamp}{PREHASH}".encode(), "sha256"))
    known = key == KEY and passphrase == PASSPHRASE
    return known and abs(time - now) <= CLOCK and compare_digest(true, signature.encode("utf-8", "replace"))
