"""What commands print and write with credentials in their environment: nothing of them is in it, right or wrong."""
import json
import os
import subprocess
import sys
from base64 import b64encode, urlsafe_b64encode
from pathlib import Path

import pytest
import zstandard
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, derive_private_key
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from onetape.sim import credentials as account

COMMAND = Path(sys.executable).with_name("onetape")
CLEAN = {name: it for name, it in os.environ.items() if not name.startswith("ONETAPE_")} | {
    "COLUMNS": "200", "NO_COLOR": "1", "PYTHONUTF8": "1",
}
LOG = {"ONETAPE_LOG__LEVEL": "debug", "ONETAPE_LOG__FORMAT": "json"}
WITHIN = 120.0  # seconds, in which every process is done


def pem(key):
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


def environment(key, secret, phrase, private):
    encoded = b64encode(secret.encode()).decode()
    return {
        "ONETAPE_OKX_API_KEY": key, "ONETAPE_OKX_API_SECRET": secret, "ONETAPE_OKX_PASSPHRASE": phrase,
        "ONETAPE_COINBASE_API_KEY": key, "ONETAPE_COINBASE_PRIVATE_KEY": private.replace("\n", "\\n"),
        "ONETAPE_COINBASE_EXCHANGE_API_KEY": key, "ONETAPE_COINBASE_EXCHANGE_API_SECRET": encoded,
        "ONETAPE_COINBASE_EXCHANGE_PASSPHRASE": phrase, "ONETAPE_KRAKEN_API_KEY": key,
        "ONETAPE_KRAKEN_API_SECRET": encoded, "ONETAPE_BYBIT_API_KEY": key, "ONETAPE_BYBIT_API_SECRET": secret,
        "ONETAPE_BINANCE_API_KEY": key, "ONETAPE_BINANCE_API_SECRET": secret, "ONETAPE_BINANCE_USDM_API_KEY": key,
        "ONETAPE_BINANCE_USDM_API_SECRET": secret,
    }


RIGHT = environment(account.KEY, account.SECRET, account.PASSPHRASE, pem(account.private_key()))
WRONG = environment(
    "xyzzy-wrong-key", "xyzzy-wrong-secret-of-nobody", "xyzzy-wrong-passphrase",
    pem(derive_private_key(0xC9AFA9D845BA75166B5C215767B1D6934E50C3DB36E89B127B8A622B120F6721, SECP256R1())),
)
SETTINGS = """
pairs = ["BTC-USDT", "BTC-USD"]
channels = ["trades", "book"]
[venues.okx]
[venues.coinbase]
[venues.coinbase-exchange]
[venues.kraken]
"""


def needles(given):
    """All that must not be found, in every form that it might have."""
    texts = set()
    for text in given.values():
        parts = [it for it in text.replace("\\n", "\n").splitlines() if it and not it.startswith("-----")]
        texts.update(it for part in parts for it in (part, part[:30] if len(parts) > 1 else part))
    raw = {it.encode() for it in texts}
    encoded = {how(it).rstrip(b"=") for it in raw for how in (b64encode, urlsafe_b64encode)}
    return raw | encoded | {it.hex().encode() for it in raw}


class Place:
    """A folder with settings, and the commands that are run there."""

    def __init__(self, path, given):
        self.path, self._given = path, given
        self.said = b""
        (path / "settings.toml").write_text(SETTINGS)

    def run(self, *arguments, code=0, **more):
        done = subprocess.run(
            [COMMAND, *map(str, arguments)], capture_output=True, check=False, timeout=WITHIN, cwd=self.path,
            env=CLEAN | LOG | self._given | more,
        )
        assert done.returncode == code, done
        self.said += done.stdout + done.stderr
        return done.stdout.decode(), done.stderr.decode()

    def files(self):
        """Content by name, decompressed where it is under zstd."""
        for path in sorted(it for it in self.path.rglob("*") if it.is_file()):
            data = path.read_bytes()
            if data[:4] == b"\x28\xb5\x2f\xfd":
                data = zstandard.ZstdDecompressor().stream_reader(data, read_across_frames=True).read()
            yield path.relative_to(self.path).as_posix(), data

    def check(self):
        """Nothing said, nothing written; gives the names of what was looked at."""
        looked = dict(self.files())
        for needle in needles(self._given):
            assert needle not in self.said, needle
            assert not [name for name, data in looked.items() if needle in data], needle
        return looked


@pytest.fixture
def place(tmp_path):
    return lambda given: Place(tmp_path, given)


def test_the_search_finds_what_is_there(place):
    it = place(RIGHT)
    it.check()
    for hidden in (account.SECRET, account.SECRET_BASE64, account.PASSPHRASE, account.KEY):
        (it.path / "leak.zst").write_bytes(zstandard.ZstdCompressor().compress(f"a {hidden} b".encode()))
        with pytest.raises(AssertionError):
            it.check()


RUN = (
    "run", "--sim", "--config", "settings.toml", "--duration", 6, "--store", "D", "--record", "R", "--truth", "t.zst",
)


def test_a_run_with_the_right_ones(place):
    it = place(RIGHT)
    said, log = it.run(*RUN)
    assert "login" not in said + log
    assert {json.loads(line)["level"] for line in log.splitlines()} >= {"info"}
    status = json.loads(it.run("status", "--store", "D", "--json", code=1)[0])
    assert {one["name"] for one in status["venues"]} == {"okx", "coinbase", "coinbase-exchange", "kraken"}
    for view in (("trades",), ("candles", "show"), ("books",), ("gaps",), ("storage", "status")):
        it.run(*view, "--store", "D")
    it.run("replay", "R", "--verify")
    shown, _ = it.run("config", "show", "--config", "settings.toml")
    assert "# credentials are there, in the environment, for binance, binance-usdm, coinbase, coinbase-ex" in shown
    _, told = it.run("config", "show", "--json")
    assert "credentials are there for binance" in told
    looked = it.check()
    assert {name.partition("/")[0] for name in looked} == {"D", "R", "t.zst", "settings.toml"}
    assert "D/status.json" in looked
    assert sum(len(data) for name, data in looked.items() if name.startswith("R/")) > 100_000


def test_a_run_with_wrong_ones(place):
    it = place(WRONG)
    said, log = it.run(*RUN)
    refused = [json.loads(line) for line in log.splitlines() if '"refused"' in line]
    assert sorted(one["venue"] for one in refused) == ["coinbase", "coinbase-exchange", "okx"]
    assert all(one["permanent"] and one["reason"].startswith("login refused: ") for one in refused)
    assert "okx is error: login refused: 60032: " in said
    status = json.loads((it.path / "D" / "status.json").read_bytes())
    told = {one["name"]: (one["state"], one["reason"].partition(":")[0]) for one in status["venues"]}
    assert told.pop("kraken")[0] in ("active", "stopped")
    it.run("trades", "--store", "D", "--venue", "kraken", "--limit", 1)
    it.run("status", "--store", "D", code=1)
    it.run("replay", "R", "--verify")
    assert {name.partition("/")[0] for name in it.check()} == {"D", "R", "t.zst", "settings.toml"}


@pytest.mark.parametrize(("given", "code"), [(RIGHT, 0), (WRONG, 1)], ids=["right", "wrong"])
def test_the_doctor(given, code, place):
    it = place(given)
    said, _ = it.run("check", "--sim", "--config", "settings.toml", "--json", code=code)
    findings = json.loads(said)
    there = [one["says"] for one in findings if one["check"] == "credentials"]
    assert there == [
        "there are some for binance, binance-usdm, coinbase, coinbase-exchange, kraken, okx, bybit"
    ]
    failed = {one["venue"]: one for one in findings if one["grade"] == "FAILED"}
    assert set(failed) == (set() if given is RIGHT else {"okx", "coinbase", "coinbase-exchange"})
    assert {one["check"] for one in failed.values()} <= {"login"}
    it.check()


@pytest.mark.parametrize(("missing", "told"), [
    ("ONETAPE_OKX_PASSPHRASE", "ONETAPE_OKX_PASSPHRASE is missing beside ONETAPE_OKX_API_KEY"),
    ("ONETAPE_COINBASE_PRIVATE_KEY", "ONETAPE_COINBASE_PRIVATE_KEY is missing beside ONETAPE_COINBASE_API_KEY"),
])
@pytest.mark.parametrize("command", [
    ("run", "--sim"), ("record", "--sim", "R"), ("config", "show"), ("run", "--live"),
])
def test_half_of_them_is_refused_before_anything_is_done(command, missing, told, place):
    it = place(WRONG)
    said, errors = it.run(*command, code=2, **{missing: ""})
    assert said == ""
    assert errors.startswith("onetape: 1 problem with credentials in the environment:\n")
    assert told in errors
    assert set(it.check()) == {"settings.toml"}


def test_a_run_that_fails(place):
    """A pair that nobody has; a variable that is misspelt; a secret that cannot be read."""
    it = place(RIGHT)
    it.run("run", "--sim", "--venue", "okx", "--pair", "BTC-USTD", "--duration", 20, "--store", "D", code=2)
    _, errors = it.run("run", "--sim", code=2, ONETAPE_OKX_API_SECERT=account.SECRET)
    assert "ONETAPE_OKX_API_SECERT is no setting: did you mean 'ONETAPE_OKX_API_SECRET'" in errors
    broken = RIGHT["ONETAPE_COINBASE_PRIVATE_KEY"][:120]
    _, errors = it.run("run", "--sim", code=2, ONETAPE_COINBASE_PRIVATE_KEY=broken)
    assert "ONETAPE_COINBASE_PRIVATE_KEY is no private key in PEM" in errors
    it.check()
