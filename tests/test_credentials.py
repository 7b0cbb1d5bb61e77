"""Credentials: nothing shows them, and what is wrong with them is said without them."""
import copy
import io
import json
import pickle
import traceback

import msgspec
import pytest
import rich.console
from cryptography.hazmat.primitives.asymmetric.ec import SECP384R1, generate_private_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, NoEncryption, PrivateFormat

from onetape import config
from onetape.credentials import VARIABLES, Credentials, Secret, load, without_password
from onetape.errors import UsageError
from onetape.sim import credentials as simulated

TEXT = "xyzzy-plugh"
MINE = Credentials("okx", Secret(f"{TEXT}-key"), Secret(TEXT), Secret(f"{TEXT}-phrase"))


def pem(key, password=None):
    how = BestAvailableEncryption(password) if password else NoEncryption()
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, how).decode()


EC = pem(simulated.private_key())
ED25519 = pem(Ed25519PrivateKey.from_private_bytes(bytes(range(32))))
WHOLE = {
    "ONETAPE_OKX_API_KEY": "k", "ONETAPE_OKX_API_SECRET": TEXT, "ONETAPE_OKX_PASSPHRASE": "a phrase!",
    "ONETAPE_COINBASE_API_KEY": "organizations/o/apiKeys/k", "ONETAPE_COINBASE_PRIVATE_KEY": EC.replace("\n", "\\n"),
    "ONETAPE_COINBASE_EXCHANGE_API_KEY": "k", "ONETAPE_COINBASE_EXCHANGE_API_SECRET": "c2VjcmV0",
    "ONETAPE_COINBASE_EXCHANGE_PASSPHRASE": "p", "ONETAPE_KRAKEN_API_KEY": "k", "ONETAPE_KRAKEN_API_SECRET": "c2VjcmV0",
    "ONETAPE_BYBIT_API_KEY": "k", "ONETAPE_BYBIT_API_SECRET": TEXT, "ONETAPE_BINANCE_API_KEY": "k",
    "ONETAPE_BINANCE_API_SECRET": TEXT, "ONETAPE_BINANCE_USDM_API_KEY": "k",
    "ONETAPE_BINANCE_USDM_PRIVATE_KEY": ED25519,
}


# --- what shows nothing ---------------------------------------------------------------------------------------------


def rich_text(it):
    console = rich.console.Console(file=io.StringIO(), width=200)
    console.print(it)
    console.print([it])
    return console.file.getvalue()


@pytest.mark.parametrize("show", [
    repr, str, format, lambda it: f"{it!r:>50}{it}{it!s}", lambda it: repr([it]),
    rich_text, lambda it: repr(copy.copy(it)), lambda it: repr(copy.deepcopy([it])), lambda it: repr(dir(it)),
    lambda it: json.dumps({"it": it}, default=repr),
])
@pytest.mark.parametrize("it", [MINE, MINE.secret])
def test_nothing_shows_a_secret(it, show):
    assert TEXT not in show(it)


@pytest.mark.parametrize("store", [json.dumps, msgspec.json.encode, msgspec.msgpack.encode, pickle.dumps])
@pytest.mark.parametrize("it", [MINE, MINE.secret])
def test_a_secret_cannot_be_stored(it, store):
    with pytest.raises(TypeError) as caught:
        store(it)
    assert TEXT not in "".join(traceback.format_exception(caught.value))


def test_of_credentials_the_venue_is_shown():
    assert repr(MINE) == "Credentials('okx')"


def test_secrets_are_compared_by_what_they_hold():
    assert Secret("a") == Secret("a")
    assert Secret("a") != Secret("b")
    assert Secret("a") != "a"
    assert len({Secret("a"), Secret("a"), copy.deepcopy(Secret("a"))}) == 1
    assert MINE.secret.reveal() == TEXT
    assert copy.deepcopy(MINE) == MINE


def test_what_a_venue_repeats_is_hidden():
    mine = Credentials("okx", Secret("my-key"), Secret("s3cret"), Secret('p"as\\s'))
    request = json.dumps({"op": "login", "args": [{"apiKey": "my-key", "passphrase": mine.passphrase.reveal()}]})
    said = json.dumps({"event": "error", "msg": f"Illegal request: {request}"})
    hidden = json.loads(mine.hide(said.encode()))["msg"].removeprefix("Illegal request: ")
    assert json.loads(hidden)["args"] == [{"apiKey": "***", "passphrase": "***"}]
    assert mine.hide(b'error: s3cret, p"as\\s') == b"error: ***, ***"
    short = Credentials("okx", Secret("1"), Secret(""), Secret("12"))
    assert short.hide(b'{"price":"12"}') == b'{"price":"12"}'


# --- where they come from -------------------------------------------------------------------------------------------


def test_all_venues():
    found = load({**WHOLE, "OTHER": "x", "ONETAPE_DEPTH": "20"})
    assert set(found) == {
        "okx", "coinbase", "coinbase-exchange", "kraken", "bybit", "binance", "binance-usdm",
    }
    assert all(it.venue == venue for venue, it in found.items())
    assert found["okx"].passphrase.reveal() == "a phrase!"
    assert set(WHOLE) | {"ONETAPE_BINANCE_PRIVATE_KEY", "ONETAPE_BINANCE_USDM_API_SECRET"} == VARIABLES
    assert config.load(None, WHOLE) == config.Settings()


def test_none_is_no_problem():
    assert load({}) == {}
    assert load({"ONETAPE_OKX_API_KEY": "", "ONETAPE_OKX_API_SECRET": " \n"}) == {}


def test_blanks_around_it_are_none_of_it():
    found = load({"ONETAPE_BYBIT_API_KEY": " k\n", "ONETAPE_BYBIT_API_SECRET": "s\r\n"})
    assert (found["bybit"].key.reveal(), found["bybit"].secret.reveal()) == ("k", "s")


def problems(**given):
    with pytest.raises(UsageError) as caught:
        load({f"ONETAPE_{name}": text for name, text in given.items()})
    said = str(caught.value)
    for text in given.values():
        assert len(text) < 4 or text not in said
        assert TEXT not in said
    assert caught.value.__cause__ is None
    first, *lines = said.splitlines()
    count = "1 problem" if len(lines) == 1 else f"{len(lines)} problems"
    assert first == f"{count} with credentials in the environment:"
    return [it.strip() for it in lines]


@pytest.mark.parametrize(("given", "told"), [
    ({"OKX_API_KEY": TEXT}, (
        "ONETAPE_OKX_PASSPHRASE and ONETAPE_OKX_API_SECRET are missing beside ONETAPE_OKX_API_KEY: no login to okx"
    )),
    ({"OKX_API_KEY": TEXT, "OKX_API_SECRET": TEXT}, (
        "ONETAPE_OKX_PASSPHRASE is missing beside ONETAPE_OKX_API_KEY and ONETAPE_OKX_API_SECRET: no login to okx"
    )),
    ({"KRAKEN_API_SECRET": "c2VjcmV0"}, (
        "ONETAPE_KRAKEN_API_KEY is missing beside ONETAPE_KRAKEN_API_SECRET: no login to kraken"
    )),
    ({"BINANCE_API_KEY": TEXT}, (
        "ONETAPE_BINANCE_API_SECRET or ONETAPE_BINANCE_PRIVATE_KEY is missing beside ONETAPE_BINANCE_API_KEY: "
        "no login to binance"
    )),
    ({"BINANCE_API_KEY": TEXT, "BINANCE_API_SECRET": TEXT, "BINANCE_PRIVATE_KEY": ED25519},
     "ONETAPE_BINANCE_API_SECRET and ONETAPE_BINANCE_PRIVATE_KEY are both there: take one away"),
    ({"KRAKEN_API_KEY": TEXT, "KRAKEN_API_SECRET": f"{TEXT}!"}, "ONETAPE_KRAKEN_API_SECRET is not base64"),
    ({"COINBASE_EXCHANGE_API_KEY": TEXT, "COINBASE_EXCHANGE_API_SECRET": TEXT, "COINBASE_EXCHANGE_PASSPHRASE": TEXT},
     "ONETAPE_COINBASE_EXCHANGE_API_SECRET is not base64"),
    ({"COINBASE_API_KEY": TEXT, "COINBASE_PRIVATE_KEY": "c2VjcmV0"}, (
        "ONETAPE_COINBASE_PRIVATE_KEY is no private key: "
        "neither PEM nor the base64 of an Ed25519 key with its public key"
    )),
    ({"COINBASE_API_KEY": TEXT, "COINBASE_PRIVATE_KEY": EC[:90]},
     "ONETAPE_COINBASE_PRIVATE_KEY is no private key in PEM, or an encrypted one"),
    ({"COINBASE_API_KEY": TEXT, "COINBASE_PRIVATE_KEY": pem(simulated.private_key(), TEXT.encode())},
     "ONETAPE_COINBASE_PRIVATE_KEY is no private key in PEM, or an encrypted one"),
    ({"COINBASE_API_KEY": TEXT, "COINBASE_PRIVATE_KEY": pem(generate_private_key(SECP384R1()))},
     "ONETAPE_COINBASE_PRIVATE_KEY is a private key of another kind than EC P-256 or Ed25519"),
    ({"COINBASE_API_KEY": TEXT, "COINBASE_PRIVATE_KEY": pem(rsa.generate_private_key(65_537, 1_024))},
     "ONETAPE_COINBASE_PRIVATE_KEY is a private key of another kind than EC P-256 or Ed25519"),
    ({"BINANCE_API_KEY": TEXT, "BINANCE_PRIVATE_KEY": EC},
     "ONETAPE_BINANCE_PRIVATE_KEY is no Ed25519 private key in PEM"),
    ({"BYBIT_API_KEY": TEXT, "BYBIT_API_SECRET": f"{TEXT}\x00{TEXT}"}, (
        "ONETAPE_BYBIT_API_SECRET has characters that no such text has: "
        "blanks, control characters, or others beyond ASCII"
    )),
    ({"BYBIT_API_KEY": TEXT, "BYBIT_API_SECRET": "x" * 20_000}, "ONETAPE_BYBIT_API_SECRET is too long"),
])
def test_what_is_wrong_is_told_by_name(given, told):
    assert problems(**given) == [told]


def test_every_problem_is_told():
    assert len(problems(OKX_API_KEY=TEXT, BYBIT_API_SECRET=TEXT, KRAKEN_API_SECRET="?", KRAKEN_API_KEY=TEXT)) == 3


@pytest.mark.parametrize(("name", "meant"), [
    ("ONETAPE_OKX_API_SECERT", "ONETAPE_OKX_API_SECRET"), ("ONETAPE_OKX_API_PASSPHRASE", "ONETAPE_OKX_PASSPHRASE"),
    ("ONETAPE_COINBASE_API_SECRET", "ONETAPE_COINBASE_"), ("ONETAPE_BINANCE_KEY", "ONETAPE_BINANCE_API_KEY"),
])
def test_a_misspelt_variable_is_no_setting(name, meant):
    with pytest.raises(UsageError) as caught:
        config.load(None, {name: TEXT})
    assert f"{name} is no setting: did you mean" in str(caught.value)
    assert meant in str(caught.value)
    assert TEXT not in str(caught.value)


@pytest.mark.parametrize(("url", "shown"), [
    ("postgresql://u:secret@host/db", "postgresql://u:***@host/db"),
    ("postgresql://u:se/cr#et@host/db", "postgresql://u:***@host/db"),
    ("postgresql://u:s@cr@t@host/db", "postgresql://u:***@host/db"),
    ("postgresql:///db?password=secret&sslpassword=secret", "postgresql:///db?password=***&sslpassword=***"),
    ("socks5://u:secret@127.0.0.1:1080", "socks5://u:***@127.0.0.1:1080"),
    ("postgresql://u@host:5432/db", "postgresql://u@host:5432/db"),
    ("wss://stream.binance.com:9443", "wss://stream.binance.com:9443"),
])
def test_no_password_of_an_address_is_shown(url, shown):
    assert without_password(url) == shown
