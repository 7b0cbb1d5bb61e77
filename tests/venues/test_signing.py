"""Signing: the vectors that venues and RFCs publish, and what the venues' requests are made of."""
import json
from base64 import b64decode, urlsafe_b64decode
from urllib.parse import parse_qs

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import ECDSA, SECP256R1, derive_private_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from onetape.clock import MILLISECOND, SECOND
from onetape.credentials import Credentials, Secret
from onetape.errors import UsageError
from onetape.venues import signing
from onetape.venues.base import UNREADABLE

DEMO = Secret("demo-secret")
NOW = 1_700_000_000 * SECOND
# RFC 6979, A.2.5, and RFC 8037, A.1
EC = derive_private_key(0xC9AFA9D845BA75166B5C215767B1D6934E50C3DB36E89B127B8A622B120F6721, SECP256R1())
ED25519 = Ed25519PrivateKey.from_private_bytes(urlsafe_b64decode("nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A="))


def pem(key):
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


def read(part):
    return json.loads(urlsafe_b64decode(part + "=" * (-len(part) % 4)))


# --- OKX ------------------------------------------------------------------------------------------------------------


def test_okx_logs_in_with_the_signature_of_its_protocol_page():
    mine = Credentials("okx", Secret("k"), DEMO, Secret("p"))
    sign = "Dbj9TeBlK6iGESGeYVhsS/TxSP5cMwR5L9xvZYI1RMo="
    assert json.loads(signing.okx_login(mine, NOW + SECOND - 1)) == {"op": "login", "args": [
        {"apiKey": "k", "passphrase": "p", "timestamp": "1700000000", "sign": sign},
    ]}


def test_okx_signs_rest_requests_with_their_time_to_the_millisecond():
    mine = Credentials("okx", Secret("k"), Secret("chNOOS4KvNXR_Xq4k4c9qsfoKWvnDecLATCRlcBwyKDYnWgO"), Secret("p"))
    now = 1_607_418_537_715 * MILLISECOND + 999_999  # 2020-12-08T09:08:57.715999999Z
    assert signing.okx_headers(mine, "GET", "/api/v5/account/balance", now) == {
        "OK-ACCESS-KEY": "k", "OK-ACCESS-SIGN": "PJ61e1nb2F2Qd7D8SPiaIcx2gjdELc+o0ygzre9z33k=",
        "OK-ACCESS-TIMESTAMP": "2020-12-08T09:08:57.715Z", "OK-ACCESS-PASSPHRASE": "p",
    }
    other = signing.okx_headers(mine, "POST", "/api/v5/account/balance", now, '{"ccy":"BTC"}')["OK-ACCESS-SIGN"]
    stamp = "2020-12-08T09:08:57.715Z"
    assert other == signing.okx_signature(mine.secret, stamp, "POST", '/api/v5/account/balance{"ccy":', '"BTC"}')


# --- Coinbase -------------------------------------------------------------------------------------------------------


def test_ecdsa_is_that_of_rfc_6979():
    assert signing.raw_signature(EC, b"sample").hex() == (
        "efd48b2aacb6a8fd1140dd9cd45e81d69d2c877b56aaf991c34d0ea84eaf3716"
        "f7cb1c942d657c41d436c7a1b6e29f65f3e900dbb9aff4064dc4ab2f843acda8"
    )
    assert signing.raw_signature(EC, b"test").hex() == (
        "f1abb023518351cd71d881567b1ea663ed3efcf6c5132b354f28d3b0b7d38367"
        "019f4113742a2b14bd25926b49c649155f267e60d3814b4c0cc84250e46f0083"
    )


def test_eddsa_is_that_of_rfc_8037():
    signed = b"eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc"
    assert signing.raw_signature(ED25519, signed) == urlsafe_b64decode(
        "hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg=="
    )


def token_of(secret, uri=""):
    mine = Credentials("coinbase", Secret("organizations/o/apiKeys/k"), Secret(secret))
    token = signing.coinbase_token(mine, NOW + SECOND - 1, "ab12", uri)
    assert token == signing.coinbase_token(mine, NOW, "ab12", uri)  # the same arguments, the same token
    head, claims, signature = token.split(".")
    return read(head), read(claims), f"{head}.{claims}".encode(), urlsafe_b64decode(signature + "==")


CLAIMS = {"sub": "organizations/o/apiKeys/k", "iss": "cdp", "nbf": 1_700_000_000, "exp": 1_700_000_120}


@pytest.mark.parametrize("secret", [
    pem(EC), pem(EC).replace("\n", "\\n"),
    EC.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption()).decode(),
], ids=["pem", "escaped", "as Coinbase gives it"])
def test_a_token_of_an_ec_key(secret):
    head, claims, signed, signature = token_of(secret)
    assert head == {"alg": "ES256", "typ": "JWT", "kid": "organizations/o/apiKeys/k", "nonce": "ab12"}
    assert claims == CLAIMS
    assert len(signature) == 64
    der = encode_dss_signature(int.from_bytes(signature[:32]), int.from_bytes(signature[32:]))
    EC.public_key().verify(der, signed, ECDSA(SHA256()))


@pytest.mark.parametrize("secret", [
    pem(ED25519), "nWGxne/9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2DXWpgBgrEKt9VL/tPJZAc6DuFy89qmIyWvAhpo9wdRGg==",
], ids=["pem", "seed and public key"])
def test_a_token_of_an_ed25519_key(secret):
    head, claims, signed, signature = token_of(secret)
    assert head["alg"] == "EdDSA"
    assert claims == CLAIMS
    ED25519.public_key().verify(signature, signed)


def test_a_token_for_rest_names_its_request():
    uri = "GET api.coinbase.com/api/v3/brokerage/accounts"
    _, claims, _, _ = token_of(pem(EC), uri)
    assert claims == CLAIMS | {"uri": uri}


def test_nonces_differ_by_key_time_and_count():
    one, other = (Credentials("coinbase", Secret("k"), Secret(it)) for it in ("a", "b"))
    nonces = [signing.coinbase_nonce(it, now, number) for it in (one, other) for now in (1, 2) for number in (1, 2)]
    assert len(set(nonces)) == 8
    assert all(len(it) == 32 and int(it, 16) for it in nonces)


def test_coinbase_exchange_signs_by_the_formula_of_its_page():
    """No vector is published: HMAC-SHA256 of RFC 4231 shows that what is signed is what it has to be."""
    prehash = "what do ya want for nothing?"
    secret = Secret("SmVmZQ==")  # Jefe
    sign = signing.coinbase_exchange_signature(secret, prehash[:4], prehash[4:8], prehash[8:20], prehash[20:])
    assert b64decode(sign).hex() == "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
    mine = Credentials("coinbase-exchange", Secret("k"), secret, Secret("p"))
    sign = signing.coinbase_exchange_signature(secret, "1700000000", "GET", "/users/self/verify")
    assert signing.coinbase_exchange_fields(mine, NOW + 5) == {
        "signature": sign, "key": "k", "passphrase": "p", "timestamp": "1700000000",
    }
    assert signing.coinbase_exchange_headers(mine, "GET", "/users/self/verify", NOW) == {
        "CB-ACCESS-KEY": "k", "CB-ACCESS-SIGN": sign, "CB-ACCESS-TIMESTAMP": "1700000000", "CB-ACCESS-PASSPHRASE": "p",
    }


# --- Kraken ---------------------------------------------------------------------------------------------------------

KRAKEN = Secret("kQH5HW/8p1uGOVjbgWA7FunAmGO8lsSUXNsu3eow76sz84Q18fWxnyRzBHCd3pd5nE9qa99HAZtuZuj6F1huXg==")


def test_kraken_signs_as_its_documents_show():
    body = "nonce=1616492376594&ordertype=limit&pair=XBTUSD&price=37500&type=buy&volume=1.25"
    assert signing.kraken_signature(KRAKEN, "/0/private/AddOrder", 1_616_492_376_594, body) == (
        "4/dpxb3iT4tp/ZCVEwSnEsLxx0bqyhLpdfOpc6fn7OR8+UClSV5n9E6aSS8MPtnRfp32bAb0nmbRn6H8ndwLUQ=="
    )


def test_kraken_is_asked_for_a_token():
    it = signing.kraken_token_request(Credentials("kraken", Secret("k"), KRAKEN), 42)
    assert (it.path, it.body) == ("/0/private/GetWebSocketsToken", "nonce=42")
    assert it.headers["API-Key"] == "k"
    assert it.headers["API-Sign"] == signing.kraken_signature(KRAKEN, it.path, 42, it.body)


def test_the_token_is_read():
    it = signing.kraken_token(b'{"error":[],"result":{"token":"abc","expires":900}}')
    assert (it.token.reveal(), it.expires_ns) == ("abc", 900 * SECOND)
    assert "abc" not in repr(it)


@pytest.mark.parametrize("body", [
    b'{"error":["EAPI:Invalid key"]}', b'{"error":[],"result":{"token":""}}', b'{"error":[]}', b"<html>", b"",
    b'{"error":["EGeneral:Permission denied"],"result":{"token":"abc","expires":900}}',
])
def test_an_answer_without_a_token(body):
    with pytest.raises(UNREADABLE) as caught:
        signing.kraken_token(body)
    if b"key" in body:
        assert "EAPI:Invalid key" in str(caught.value)


# --- Bybit ----------------------------------------------------------------------------------------------------------


def test_bybit_is_told_who_asks():
    mine = Credentials("bybit", Secret("demo-key"), DEMO)
    frame = json.loads(signing.bybit_auth(mine, NOW))
    sign = "a7492c4a022fc7c7298b22a0a7da21d43088144d0774c4672ad52d94ddae62bb"
    assert frame == {"op": "auth", "args": ["demo-key", 1_700_000_010_000, sign]}
    assert json.loads(signing.bybit_auth(mine, NOW, "7"))["req_id"] == "7"


def test_bybit_signs_rest_requests():
    mine = Credentials("bybit", Secret("demo-key"), DEMO)
    assert signing.bybit_headers(mine, "category=linear&symbol=BTCUSDT", NOW) == {
        "X-BAPI-API-KEY": "demo-key", "X-BAPI-TIMESTAMP": "1700000000000", "X-BAPI-RECV-WINDOW": "5000",
        "X-BAPI-SIGN": "89e7b072681d6cc5d86c4c26c9029d8b9ea5e83be4ef03f93eea8d8ccebf1feb",
    }


# --- Binance --------------------------------------------------------------------------------------------------------


def test_binance_signs_as_its_documents_show():
    params = {
        "symbol": "BTCUSDT", "side": "SELL", "type": "LIMIT", "timeInForce": "GTC", "quantity": "0.01000000",
        "price": "52000.00", "recvWindow": 100, "timestamp": 1_645_423_376_532,
        "apiKey": "vmPUZE6mv9SD5VNHk4HlWFsOr6aKE2zvsw0MuIgwCIPy6utIco14y7Ju91duEh8A",
    }
    secret = Secret("NhqPtmdSJYdKjVHjA7PZj4Mge3R5YNiP1e3UZjInClVN65XAbvqqM6A7H5fATj0j")
    payload = signing.binance_payload(params)
    assert payload.startswith("apiKey=vmPUZE6mv9SD5VNHk4HlWFsOr6aKE2zvsw0MuIgwCIPy6utIco14y7Ju91duEh8A&price=52000.00&")
    assert signing.binance_signature(secret, payload) == (
        "aa1b5712c094bc4e57c05a1a5c1fd8d88dcd628338ea863fec7b88e59fe2db24"
    )


def test_binance_signs_queries():
    mine = Credentials("binance", Secret("k"), DEMO)
    assert signing.binance_query(mine, {"symbol": "BTCUSDT"}, NOW) == (
        "symbol=BTCUSDT&recvWindow=5000&timestamp=1700000000000"
        "&signature=f9e237824a15c31d596c6c0d77cc11e08eb01650b6b82d20c11956b45569db7d"
    )
    assert signing.binance_headers(mine) == {"X-MBX-APIKEY": "k"}


@pytest.mark.parametrize("secret", ["demo-secret", pem(ED25519)], ids=["hmac", "ed25519"])
def test_binance_signs_what_is_percent_encoded(secret):
    mine = Credentials("binance", Secret("k"), Secret(secret))
    query = signing.binance_query(mine, {"symbol": "币安人生USDT"}, NOW)
    assert query.isascii()
    payload, _, _ = query.rpartition("&signature=")
    assert payload.startswith("symbol=%E5%B8%81%E5%AE%89")
    assert parse_qs(query)["signature"] == [signing.binance_signature(mine.secret, payload)]


def test_binance_logs_on_with_an_ed25519_key():
    mine = Credentials("binance", Secret("the-key"), Secret(pem(ED25519).replace("\n", "\\n")))
    frame = json.loads(signing.binance_logon(mine, NOW, "1"))
    params = frame.pop("params")
    assert frame == {"id": "1", "method": "session.logon"}
    signature = b64decode(params.pop("signature"))
    assert params == {"apiKey": "the-key", "recvWindow": 5000, "timestamp": 1_700_000_000_000}
    ED25519.public_key().verify(signature, b"apiKey=the-key&recvWindow=5000&timestamp=1700000000000")


def test_binance_does_not_log_on_with_a_secret_of_hmac():
    with pytest.raises(UsageError) as caught:
        signing.binance_logon(Credentials("binance", Secret("k"), DEMO), NOW, "1")
    assert "demo" not in str(caught.value)


def test_the_key_of_rfc_8037_is_what_it_says():
    public = ED25519.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
    assert public == urlsafe_b64decode("11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo=")
