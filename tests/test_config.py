"""Settings: every problem at once, in words that name the path and what is allowed; the later source wins."""
import json
from pathlib import Path

import pytest

from onetape.config import FIVE, VENUES, Settings, load
from onetape.errors import UsageError


@pytest.fixture
def file(tmp_path):
    """Writes settings, as TOML text or as an object of JSON."""
    def write(content):
        path = tmp_path / ("s.toml" if isinstance(content, str) else "s.json")
        path.write_text(content if isinstance(content, str) else json.dumps(content), "utf-8")
        return path
    return write


def problems(path=None, environment=None, flags=None):
    """Lines, without the first one, which only counts them."""
    with pytest.raises(UsageError) as caught:
        load(path, environment or {}, flags)
    first, *lines = str(caught.value).splitlines()
    assert first.startswith("1 problem in " if len(lines) == 1 else f"{len(lines)} problems in "), first
    return [it.strip() for it in lines]


# --- sources --------------------------------------------------------------------------------------------------------


def test_without_anything_the_five_venues_run():
    settings = load(None, {})
    assert settings == Settings()
    assert settings.chosen() == FIVE
    assert settings.store == Path("data")


def test_toml_and_json_say_the_same(file):
    toml = load(file('depth = 20\n[venues.kraken]\npairs = ["BTC-USD"]\n[venues.kraken.timings]\nack = 3\n'), {})
    assert toml == load(file({"depth": 20, "venues": {"kraken": {"pairs": ["BTC-USD"], "timings": {"ack": 3}}}}), {})
    assert toml.chosen() == ("kraken",)
    assert toml.venue("kraken").timings.ack == 3
    assert toml.venue("okx").pairs is None


def test_the_environment_goes_before_the_file_and_flags_before_both(file):
    path = file('depth = 20\nstore = "a"\n[log]\nlevel = "error"\nformat = "json"\n')
    settings = load(path, {"ONETAPE_DEPTH": "50", "ONETAPE_LOG__LEVEL": "debug", "ONETAPE_STORE": "b"}, {"store": "c"})
    assert (settings.depth, str(settings.store)) == (50, "c")
    assert (settings.log.level, settings.log.format) == ("debug", "json")


@pytest.mark.parametrize(("name", "text", "read"), [
    ("PAIRS", "BTC-USDT,ETH-USDT", lambda it: it.pairs == ("BTC-USDT", "ETH-USDT")),
    ("PAIRS", "BTC-USDT", lambda it: it.pairs == ("BTC-USDT",)),
    ("PAIRS", '["BTC-USDT"]', lambda it: it.pairs == ("BTC-USDT",)),
    ("STORE", "2024", lambda it: it.store == Path("2024")),
    ("STORE", "a,b", lambda it: it.store == Path("a,b")),
    ("STORE", "null", lambda it: it.store == Path("null")),
    ("PROXY", "http://me:a,b@h:1", lambda it: it.proxy == "http://me:a,b@h:1"),
    ("STOP_WITHIN", "3", lambda it: it.stop_within == 3),
    ("KEEP__DELTAS", "true", lambda it: it.keep.deltas is True),
    ("VENUES__BINANCE_USDM__DEPTH", "20", lambda it: it.venue("binance-usdm").depth == 20),
    ("VENUES__KRAKEN__LOCAL_ADDRESS", "127.0.0.1", lambda it: it.venue("kraken").local_address == "127.0.0.1"),
    ("VENUES", '{"kraken": {"depth": 10}}', lambda it: it.chosen() == ("kraken",)),
    ("VENUES__OKX__WEBSOCKET__PUBLIC", "ws://h:1", lambda it: it.venue("okx").websocket == {"public": ("ws://h:1",)}),
])
def test_a_variable_is_read_as_what_it_is_for(name, text, read):
    assert read(load(None, {f"ONETAPE_{name}": text}))


@pytest.mark.parametrize("turn", [1, -1])
def test_a_table_and_a_part_of_it_may_both_be_variables(turn):
    both = {"ONETAPE_VENUES": '{"kraken": {"depth": 10}}', "ONETAPE_VENUES__KRAKEN__DEFLATE": "true"}
    own = load(None, dict(list(both.items())[::turn])).venue("kraken")
    assert (own.depth, own.deflate) == (10, True)


def test_credentials_and_what_serves_tests_are_no_settings():
    load(None, {
        "ONETAPE_OKX_API_KEY": "x", "ONETAPE_OKX_PASSPHRASE": "x", "ONETAPE_BINANCE_API_SECRET": "x",
        "ONETAPE_COINBASE_PRIVATE_KEY": "x", "ONETAPE_LONG": "1", "OTHER_DEPTH": "x", "onetape_depth": "x",
    })


def test_an_unknown_variable_is_a_problem_that_does_not_tell_its_value():
    (line,) = problems(environment={"ONETAPE_DEPHT": "secret"})
    assert line.startswith("environment: ONETAPE_DEPHT is no setting: did you mean 'ONETAPE_DEPTH'")
    assert "secret" not in line


def test_a_mark_at_the_beginning_of_the_file_does_no_harm(tmp_path):
    for name, text in (("a.toml", "depth = 20"), ("a.json", '{"depth": 20}'), ("b.JSON", '{"depth": 20}')):
        (tmp_path / name).write_text(text, "utf-8-sig")
        assert load(tmp_path / name, {}).depth == 20


# --- problems -------------------------------------------------------------------------------------------------------


def test_all_problems_are_told_at_once_whichever_source_they_have(file):
    path = file({
        "depht": 3, "depth": 0, "channels": ["trade"], "pairs": ["btcusdt"], "log": {"format": "xml"},
        "venues": {"krakn": {}, "kraken": {"timings": {"conect": 1}}},
    })
    told = problems(path, {"ONETAPE_KEEP__QUOTES": "perhaps", "ONETAPE_STROE": "x"}, {"stop_within": -1})
    assert sorted(told) == sorted([
        ("environment: ONETAPE_STROE is no setting:"
         " did you mean 'ONETAPE_STORE' or 'ONETAPE_STORAGE' or 'ONETAPE_POSTGRES'?"),
        "depht: there is no such setting: did you mean 'depth'?",
        "depth: must be at least 1",
        "channels.0: not 'trade', but one of 'trades', 'agg_trades', 'quotes', 'ticker', 'candles', 'book' or 'status'",
        "pairs.0: a pair is written BTC-USDT, a perpetual BTC-USDT-PERP",
        "log.format: not 'xml', but one of 'console' or 'json'",
        "venues.krakn: there is no such venue: did you mean 'kraken'?",
        "venues.kraken.timings.conect: there is no such setting: did you mean 'connect'?",
        "keep.quotes: must be true or false",
        "stop_within: must be above 0",
    ])


@pytest.mark.parametrize(("settings", "line"), [
    ({"depth": "deep"}, "depth: must be a whole number"),
    ({"depth": True}, "depth: must be a whole number"),
    ({"depth": 20.5}, "depth: must be a whole number"),
    ({"depth": None}, "depth: must be a whole number"),
    ({"depth": 10_001}, "depth: must be at most 10000"),
    ({"stop_within": True}, "stop_within: must be a number"),
    ({"stop_within": float("inf")}, "stop_within: must be a number"),
    ({"stop_within": float("nan")}, "stop_within: must be a number"),
    ({"stop_within": 10**9}, "stop_within: must be at most 604800"),
    ({"reconnect": {"jitter": 2}}, "reconnect.jitter: must be at most 1"),
    ({"keep": {"deltas": "yes"}}, "keep.deltas: must be true or false"),
    ({"keep": {"deltas": 1}}, "keep.deltas: must be true or false"),
    ({"pairs": []}, "pairs: must not be empty"),
    ({"pairs": 3}, "pairs: must be a list"),
    ({"pairs": [3]}, "pairs.0: must be text"),
    ({"channels": []}, "channels: must not be empty"),
    ({"store": ""}, "store: must be the path of a folder"),
    ({"store": "a\0b"}, "store: must be the path of a folder"),
    ({"store": 3}, "store: must be a path, as text"),
    ({"log": "json"}, "log: must be a table"),
    ({"venues": []}, "venues: must be a table"),
    ({"venues": {"kraken": {"rest": []}}}, "venues.kraken.rest: must not be empty"),
    ({"venues": {"kraken": {"websocket": {}}}}, "venues.kraken.websocket: must not be empty"),
    ({"venues": {"kraken": {"websocket": {"": ["http://h"]}}}},
     "venues.kraken.websocket..0: must be a URL that begins with ws:// or wss://"),
    ({"venues": {"kraken": {"local_address": "here"}}},
     "venues.kraken.local_address: must be an IP address of this machine"),
    ({"environment": "prod"},
     "environment: not 'prod', but one of 'production', 'testnet', 'demo' or 'sandbox'"),
])
def test_a_wrong_value_is_told_with_its_path_and_what_is_allowed(file, settings, line):
    assert problems(file(settings)) == [line]


@pytest.mark.parametrize("url", [
    "h:1", "ftp://h", "http://", "http:///", "http://h:99999", "http://h:x", "http://[1", "http:// h", "http://h/\n",
])
def test_what_is_no_url_is_refused_and_not_repeated_for_it_may_hold_a_password(file, url):
    (line,) = problems(file({"proxy": url}))
    assert line == "proxy: must be a URL that begins with http:// or https:// or socks4:// or socks5://"


def test_the_environment_does_not_hide_what_is_wrong_in_the_file(file):
    assert problems(file({"log": "json"}), {"ONETAPE_LOG__LEVEL": "info"}) == ["log: must be a table"]


def test_a_part_of_what_is_no_table():
    assert problems(environment={"ONETAPE_LOG": "json", "ONETAPE_LOG__LEVEL": "info"}) == [
        "environment: ONETAPE_LOG__LEVEL names a part of log, which is no table", "log: must be a table",
    ]


@pytest.mark.parametrize("name", VENUES)
def test_every_venue_is_known(file, name):
    assert load(file({"venues": {name: {"enabled": False}}}), {}).chosen() == ()


@pytest.mark.parametrize(("name", "content", "words"), [
    ("a.toml", b"depth = ", "is not TOML"), ("a.json", b"{", "is not JSON"), ("a.json", b"[]", "must hold a table"),
    ("a.json", b"[" * 100_000, "is not JSON"), ("a.toml", b"a = " + b"[" * 100_000, "is not TOML"),
    ("a.toml", b"\xff", "cannot read"),
])
def test_what_is_no_settings_file(tmp_path, name, content, words):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UsageError, match=words):
        load(tmp_path / name, {})


def test_a_file_that_is_not_there_or_a_folder(tmp_path):
    for path in (tmp_path, tmp_path / "no.toml"):
        with pytest.raises(UsageError, match="cannot read"):
            load(path, {})
