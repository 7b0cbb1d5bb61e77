"""Keys to the venues, read from the environment, as values that nothing shows by accident."""
import re
from base64 import b64decode
from collections.abc import Callable, Mapping
from hmac import compare_digest
from types import MappingProxyType
from typing import Never, SupportsIndex

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePrivateKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key
from msgspec import Struct, json

from onetape.errors import UsageError

HIDDEN = "***"
SHORTEST = 4  # characters: less would be found in any text
MAX_LENGTH = 10_000  # characters; a PEM file of what the venues take has a few hundred

PrivateKey = EllipticCurvePrivateKey | Ed25519PrivateKey


class Secret:
    """Text that is to be seen only where it is used: ``reveal()`` is the one way to it."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        return self._text

    def __repr__(self) -> str:
        return f"Secret({HIDDEN})"

    def __str__(self) -> str:
        return HIDDEN

    def __format__(self, spec: str) -> str:
        return HIDDEN

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Secret):
            return NotImplemented
        return compare_digest(self._text.encode(), other._text.encode())

    def __hash__(self) -> int:
        return hash(self._text)

    def __copy__(self) -> "Secret":
        return self

    def __deepcopy__(self, memo: object) -> "Secret":
        return self

    def __reduce_ex__(self, protocol: SupportsIndex) -> Never:
        raise TypeError("a secret is not to be stored")


class Credentials(Struct, frozen=True):
    """Of one venue. Names of headers and fields say what each is there."""

    venue: str
    key: Secret
    """The name under which the venue knows it, no secret by itself."""
    secret: Secret
    """Text, base64, or a private key (see ``private_key``): as the venue gave it."""
    passphrase: Secret = Secret("")

    def hide(self, said: bytes) -> bytes:
        """Words of the venue's, in which it may repeat what we sent."""
        for it in (self.secret, self.passphrase, self.key):
            form = it.reveal()
            for _ in range(3) if len(form) >= SHORTEST else ():  # as it is, in JSON, and in JSON within JSON
                said = said.replace(form.encode(), HIDDEN.encode())
                form = json.encode(form)[1:-1].decode()
        return said

    def __repr__(self) -> str:
        return f"Credentials({self.venue!r})"

    def __rich_repr__(self) -> list[str]:  # type: ignore[override]  # what rich takes too
        return [self.venue]


# --- what a secret may look like ------------------------------------------------------------------------------------


def is_pem(text: str) -> bool:
    return text.lstrip().startswith("-----BEGIN ")


def private_key(text: str) -> PrivateKey:
    """EC P-256 or Ed25519 in PEM (``\\n`` may stand for the ends of lines), or Ed25519 as Coinbase gives it: the base64
    of seed and public key. Raises ValueError, which does not repeat what was given."""
    if not is_pem(text):
        return _seeded(_base64(text))
    try:
        key = load_pem_private_key(text.replace("\\n", "\n").encode(), password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):  # TypeError: it is encrypted
        raise ValueError("is no private key in PEM, or an encrypted one") from None
    if isinstance(key, Ed25519PrivateKey):
        return key
    if isinstance(key, EllipticCurvePrivateKey) and isinstance(key.curve, SECP256R1):
        return key
    raise ValueError("is a private key of another kind than EC P-256 or Ed25519")


def _seeded(both: bytes) -> Ed25519PrivateKey:
    key = Ed25519PrivateKey.from_private_bytes(both[:32]) if len(both) == 64 else None
    if key is None or key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw) != both[32:]:
        raise ValueError("is no private key: neither PEM nor the base64 of an Ed25519 key with its public key")
    return key


def _base64(text: str) -> bytes:
    try:
        return b64decode(text, validate=True)
    except ValueError:
        raise ValueError("is not base64") from None


def _ed25519(text: str) -> None:
    if not is_pem(text) or not isinstance(private_key(text), Ed25519PrivateKey):
        raise ValueError("is no Ed25519 private key in PEM")


def _line(text: str) -> None:
    if not (text.isascii() and text.isprintable()) or " " in text:
        raise ValueError("has characters that no such text has: blanks, control characters, or others beyond ASCII")


def _phrase(text: str) -> None:
    if not (text.isascii() and text.isprintable()):
        raise ValueError("has characters that no passphrase has: control characters, or others beyond ASCII")


# --- where they stand -----------------------------------------------------------------------------------------------

_Check = Callable[[str], object]


class _Names(Struct, frozen=True):
    """Variables of one venue."""

    key: str
    secrets: Mapping[str, _Check]
    """One of these, and what it has to be."""
    passphrase: str = ""

    def all(self) -> tuple[str, ...]:
        return (self.key, *self.secrets, *([self.passphrase] if self.passphrase else ()))


def _of_binance(prefix: str) -> _Names:
    return _Names(f"{prefix}_API_KEY", {f"{prefix}_API_SECRET": _line, f"{prefix}_PRIVATE_KEY": _ed25519})


_NAMES: Mapping[str, _Names] = MappingProxyType({
    "binance": _of_binance("ONETAPE_BINANCE"),
    "binance-usdm": _of_binance("ONETAPE_BINANCE_USDM"),
    "coinbase": _Names("ONETAPE_COINBASE_API_KEY", {"ONETAPE_COINBASE_PRIVATE_KEY": private_key}),
    "coinbase-exchange": _Names(
        "ONETAPE_COINBASE_EXCHANGE_API_KEY", {"ONETAPE_COINBASE_EXCHANGE_API_SECRET": _base64},
        "ONETAPE_COINBASE_EXCHANGE_PASSPHRASE",
    ),
    "kraken": _Names("ONETAPE_KRAKEN_API_KEY", {"ONETAPE_KRAKEN_API_SECRET": _base64}),
    "okx": _Names("ONETAPE_OKX_API_KEY", {"ONETAPE_OKX_API_SECRET": _line}, "ONETAPE_OKX_PASSPHRASE"),
    "bybit": _Names("ONETAPE_BYBIT_API_KEY", {"ONETAPE_BYBIT_API_SECRET": _line}),
})

_PASSWORDS = (re.compile(r"(://[^/@:?]*:).*@"), re.compile(r"(password=)[^&\s]*"))


def without_keys(environment: Mapping[str, str]) -> dict[str, str]:
    """For processes that have no use for the keys to the venues."""
    return {name: it for name, it in environment.items() if name not in VARIABLES}


def without_password(url: str) -> str:
    """An address, fit to be shown. Greedy: in a password that is not escaped may be anything."""
    return _PASSWORDS[1].sub(r"\1***", _PASSWORDS[0].sub(r"\1***@", url))


VARIABLES = frozenset(name for names in _NAMES.values() for name in names.all())
"""Every variable that may hold one."""


def load(environment: Mapping[str, str]) -> dict[str, Credentials]:
    """By venue. Raises UsageError that names every variable with which something is wrong, and never a value."""
    problems: list[str] = []
    found: dict[str, Credentials] = {}
    for venue, names in _NAMES.items():
        given = {name: text for name in names.all() if (text := environment.get(name, "").strip())}
        if not given:
            continue
        wrong = [*_incomplete(venue, names, given), *_unreadable(names, given)]
        problems += wrong
        if not wrong:
            secret = next(given[name] for name in names.secrets if name in given)
            phrase = given.get(names.passphrase, "")
            found[venue] = Credentials(venue, Secret(given[names.key]), Secret(secret), Secret(phrase))
    if problems:
        count = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
        raise UsageError(f"{count} with credentials in the environment:\n" + "\n".join(f"  {it}" for it in problems))
    return found


def _incomplete(venue: str, names: _Names, given: Mapping[str, str]) -> list[str]:
    there = " and ".join(given)
    secrets = [name for name in names.secrets if name in given]
    missing = [name for name in (names.key, names.passphrase) if name and name not in given]
    if not secrets:
        missing.append(" or ".join(names.secrets))
    verb = "is" if len(missing) == 1 else "are"
    out = [f"{' and '.join(missing)} {verb} missing beside {there}: no login to {venue}"] if missing else []
    if len(secrets) > 1:
        out.append(f"{' and '.join(secrets)} are both there: take one away")
    return out


def _unreadable(names: _Names, given: Mapping[str, str]) -> list[str]:
    out = []
    checks = {names.key: _line, names.passphrase: _phrase, **names.secrets}
    for name, text in given.items():
        try:
            if len(text) > MAX_LENGTH:
                raise ValueError("is too long")
            checks[name](text)
        except ValueError as error:
            out.append(f"{name} {error}")
    return out
