"""Each venue's way to prove an account, as pure functions: times (ns) and nonces are arguments, nothing is sent.

Of the venues' public channels none needs any of it; programs that want more find here what their requests have to
carry. Signatures by EC keys are deterministic (RFC 6979), so that the same arguments give the same result.
"""
from base64 import b64decode, b64encode, urlsafe_b64encode
from collections.abc import Mapping
from hashlib import sha256
from hmac import digest as hmac
from urllib.parse import quote, urlencode

from cryptography.hazmat.primitives.asymmetric.ec import ECDSA
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256
from msgspec import Struct, json

from onetape.clock import MILLISECOND, SECOND, isoformat
from onetape.credentials import Credentials, PrivateKey, Secret, is_pem, private_key
from onetape.errors import BadFrame, UsageError

SELF = "/users/self/verify"
"""The request that a login of OKX and of Coinbase Exchange pretends to sign."""
TOKEN_LASTS = 120  # seconds


# --- OKX ------------------------------------------------------------------------------------------------------------


def okx_signature(secret: Secret, timestamp: str, method: str, path: str, body: str = "") -> str:
    """``path`` with its query. https://www.okx.com/docs-v5/en/#overview-rest-authentication-signature"""
    return _base64(hmac(secret.reveal().encode(), f"{timestamp}{method}{path}{body}".encode(), "sha256"))


def okx_login(it: Credentials, now: int) -> bytes:
    """The frame; good for 30 s. https://www.okx.com/docs-v5/en/#overview-websocket-login"""
    timestamp = str(now // SECOND)
    return json.encode({"op": "login", "args": [{
        "apiKey": it.key.reveal(), "passphrase": it.passphrase.reveal(), "timestamp": timestamp,
        "sign": okx_signature(it.secret, timestamp, "GET", SELF),
    }]})


def okx_headers(it: Credentials, method: str, path: str, now: int, body: str = "") -> dict[str, str]:
    timestamp = f"{isoformat(now)[:23]}Z"
    return {
        "OK-ACCESS-KEY": it.key.reveal(), "OK-ACCESS-SIGN": okx_signature(it.secret, timestamp, method, path, body),
        "OK-ACCESS-TIMESTAMP": timestamp, "OK-ACCESS-PASSPHRASE": it.passphrase.reveal(),
    }


# --- Coinbase -------------------------------------------------------------------------------------------------------


def coinbase_token(it: Credentials, now: int, nonce: str, uri: str = "") -> str:
    """A JWT of Advanced Trade, good for two minutes. For REST ``uri`` is ``GET api.coinbase.com/api/v3/...``, and the
    token goes behind ``Bearer`` in ``Authorization``; for a WebSocket there is none.

    https://docs.cdp.coinbase.com/coinbase-app/authentication-authorization/api-key-authentication
    """
    key, name, begin = private_key(it.secret.reveal()), it.key.reveal(), now // SECOND
    algorithm = "EdDSA" if isinstance(key, Ed25519PrivateKey) else "ES256"
    head = {"alg": algorithm, "typ": "JWT", "kid": name, "nonce": nonce}
    claims = {"sub": name, "iss": "cdp", "nbf": begin, "exp": begin + TOKEN_LASTS}
    signed = b".".join(_url_base64(json.encode(part)) for part in (head, claims | {"uri": uri} if uri else claims))
    return (signed + b"." + _url_base64(raw_signature(key, signed))).decode()


def coinbase_nonce(it: Credentials, now: int, count: int) -> str:
    """Never the same twice as long as ``count`` goes on; whoever has not the key cannot guess it."""
    return hmac(it.secret.reveal().encode(), f"{it.key.reveal()} {now} {count}".encode(), "sha256").hex()[:32]


def raw_signature(key: PrivateKey, message: bytes) -> bytes:
    """As JWS wants it (RFC 7518, RFC 8037): of ECDSA the two numbers, 32 bytes each."""
    if isinstance(key, Ed25519PrivateKey):
        return key.sign(message)
    r, s = decode_dss_signature(key.sign(message, ECDSA(SHA256(), deterministic_signing=True)))
    return r.to_bytes(32) + s.to_bytes(32)


def coinbase_exchange_signature(secret: Secret, timestamp: str, method: str, path: str, body: str = "") -> str:
    """https://docs.cdp.coinbase.com/exchange/rest-api/authentication"""
    return _base64(hmac(b64decode(secret.reveal()), f"{timestamp}{method}{path}{body}".encode(), "sha256"))


def coinbase_exchange_fields(it: Credentials, now: int) -> dict[str, str]:
    """What a subscribe message carries besides, good for 30 s.

    https://docs.cdp.coinbase.com/exchange/websocket-feed/authentication
    """
    timestamp = str(now // SECOND)
    return {
        "signature": coinbase_exchange_signature(it.secret, timestamp, "GET", SELF), "key": it.key.reveal(),
        "passphrase": it.passphrase.reveal(), "timestamp": timestamp,
    }


def coinbase_exchange_headers(it: Credentials, method: str, path: str, now: int, body: str = "") -> dict[str, str]:
    timestamp = str(now // SECOND)
    return {
        "CB-ACCESS-KEY": it.key.reveal(),
        "CB-ACCESS-SIGN": coinbase_exchange_signature(it.secret, timestamp, method, path, body),
        "CB-ACCESS-TIMESTAMP": timestamp, "CB-ACCESS-PASSPHRASE": it.passphrase.reveal(),
    }


# --- Kraken ---------------------------------------------------------------------------------------------------------

KRAKEN_TOKEN = "/0/private/GetWebSocketsToken"  # noqa: S105 - a path


class SignedRequest(Struct, frozen=True):
    """A POST."""

    path: str
    headers: dict[str, str]
    body: str


class Token(Struct, frozen=True):
    token: Secret
    """For ``params.token`` of private subscriptions; a fresh one for each connection."""
    expires_ns: int
    """It has to be used within."""


def kraken_signature(secret: Secret, path: str, nonce: int, body: str) -> str:
    """``body`` holds the nonce too. https://docs.kraken.com/api/docs/guides/spot-rest-auth"""
    message = path.encode() + sha256(f"{nonce}{body}".encode()).digest()
    return _base64(hmac(b64decode(secret.reveal()), message, "sha512"))


def kraken_token_request(it: Credentials, nonce: int) -> SignedRequest:
    """``nonce`` has to rise from request to request of a key: the time in ms or finer."""
    body = f"nonce={nonce}"
    headers = {
        "API-Key": it.key.reveal(), "API-Sign": kraken_signature(it.secret, KRAKEN_TOKEN, nonce, body),
        "Content-Type": "application/x-www-form-urlencoded",
    }
    return SignedRequest(KRAKEN_TOKEN, headers, body)


class _TokenResult(Struct):
    token: str
    expires: int = 900  # seconds


class _TokenBody(Struct):
    error: list[str] = []
    result: _TokenResult | None = None


_read_token = json.Decoder(_TokenBody).decode


def kraken_token(body: bytes) -> Token:
    """What the answer holds. Raises one of UNREADABLE: the answer is none, or Kraken says what is wrong."""
    it = _read_token(body)
    if it.error or it.result is None or not it.result.token:
        raise BadFrame(", ".join(it.error)[:200] or "an answer without a token")
    return Token(Secret(it.result.token), it.result.expires * SECOND)


# --- Bybit ----------------------------------------------------------------------------------------------------------


def bybit_auth(it: Credentials, now: int, id: str = "", valid_ns: int = 10 * SECOND) -> bytes:
    """The frame, good for ``valid_ns``. https://bybit-exchange.github.io/docs/v5/ws/connect#authentication"""
    expires = (now + valid_ns) // MILLISECOND
    sign = hmac(it.secret.reveal().encode(), f"GET/realtime{expires}".encode(), "sha256").hex()
    frame = {"op": "auth", "args": [it.key.reveal(), expires, sign]}
    return json.encode({"req_id": id} | frame if id else frame)


def bybit_headers(it: Credentials, payload: str, now: int, window_ms: int = 5_000) -> dict[str, str]:
    """``payload``: the query of a GET, the JSON body of a POST, to the letter.

    https://bybit-exchange.github.io/docs/v5/guide#authentication
    """
    timestamp, key = str(now // MILLISECOND), it.key.reveal()
    sign = hmac(it.secret.reveal().encode(), f"{timestamp}{key}{window_ms}{payload}".encode(), "sha256").hex()
    return {
        "X-BAPI-API-KEY": key, "X-BAPI-TIMESTAMP": timestamp, "X-BAPI-SIGN": sign,
        "X-BAPI-RECV-WINDOW": str(window_ms),
    }


# --- Binance, spot and USD-M ----------------------------------------------------------------------------------------


def binance_signature(secret: Secret, payload: str) -> str:
    """In hex by HMAC; in base64 where the secret is an Ed25519 key.

    https://developers.binance.com/docs/binance-spot-api-docs/rest-api/request-security
    """
    text = secret.reveal()
    if is_pem(text):
        return _base64(raw_signature(private_key(text), payload.encode()))
    return hmac(text.encode(), payload.encode(), "sha256").hex()


def binance_query(it: Credentials, params: Mapping[str, str | int], now: int, window_ms: int = 5_000) -> str:
    """The query of a REST request; it is percent-encoded first and signed then, or else it is refused (-1022)."""
    payload = urlencode({**params, "recvWindow": window_ms, "timestamp": now // MILLISECOND}, quote_via=quote)
    return f"{payload}&signature={quote(binance_signature(it.secret, payload), safe='')}"


def binance_headers(it: Credentials) -> dict[str, str]:
    return {"X-MBX-APIKEY": it.key.reveal()}


def binance_payload(params: Mapping[str, str | int]) -> str:
    """What is signed of a request of the WebSocket API: its params in alphabetical order."""
    return "&".join(f"{name}={params[name]}" for name in sorted(params))


def binance_logon(it: Credentials, now: int, id: str, window_ms: int = 5_000) -> bytes:
    """The frame that logs a connection of the WebSocket API in. Raises UsageError: that takes an Ed25519 key.

    https://developers.binance.com/docs/binance-spot-api-docs/websocket-api/authentication-requests
    """
    if not is_pem(it.secret.reveal()):
        raise UsageError(f"session.logon of {it.venue} takes an Ed25519 key, not a secret of HMAC")
    params: dict[str, str | int] = {
        "apiKey": it.key.reveal(), "recvWindow": window_ms, "timestamp": now // MILLISECOND,
    }
    signature = binance_signature(it.secret, binance_payload(params))
    return json.encode({"id": id, "method": "session.logon", "params": params | {"signature": signature}})


# --- small things ---------------------------------------------------------------------------------------------------


def _base64(data: bytes) -> str:
    return b64encode(data).decode()


def _url_base64(data: bytes) -> bytes:
    return urlsafe_b64encode(data).rstrip(b"=")
