"""The one account that the simulated venues know: no secret, since it opens nothing."""
from base64 import b64encode

from cryptography.hazmat.primitives.asymmetric import ec

KEY = "onetape-simulated-key"
SECRET = "onetape-simulated-secret"  # noqa: S105 - see above
SECRET_BASE64 = b64encode(SECRET.encode()).decode()
PASSPHRASE = "onetape-simulated-passphrase"  # noqa: S105


def private_key() -> ec.EllipticCurvePrivateKey:
    """P-256, for those that want tokens signed by ES256."""
    return ec.derive_private_key(int.from_bytes(SECRET.encode()), ec.SECP256R1())


def public_key() -> ec.EllipticCurvePublicKey:
    return private_key().public_key()
