"""The installed command as a person or a script meets it: what it prints, where, and how it ends."""
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import zstandard

from onetape import __version__, demo
from onetape.cli.replay import replay
from onetape.errors import UsageError
from onetape.feed.inputs import Answer, Closed, Frame, Opened
from onetape.feed.recording import Header, RecordingWriter, Setup, open_recording
from onetape.model import Channel, Subscription
from onetape.venues import VENUES

COMMAND = Path(sys.executable).with_name("onetape")
WANTED = (Subscription("BTCUSDT", Channel.BOOK), Subscription("BTCUSDT", Channel.TRADES))
KEYS = {"venue", "frames", "events", "books", "trades", "gaps", "quarantined", "unknown"}



def frame(stream, **data):
    return json.dumps({"stream": f"btcusdt@{stream}", "data": data | {"s": "BTCUSDT", "E": 1}}, separators=(",", ":"))


def trade(number, price, size):
    return frame("trade", t=number, p=price, q=size, T=2, m=True)


FRAMES = [
    frame("depth@100ms", U=11, u=12, b=[["9.50", "2.0"]], a=[]),
    trade(7, "9.55", "0.10"),
    frame("depth@100ms", U=13, u=14, b=[["9.40", "0.0000001"]], a=[["9.61", "3"]]),
    trade(8, "9.6", "1"),
    trade(8, "9.6", "1"),
    frame("somethingNew"),
    trade(9, "NaN", "1"),
    frame("depth@100ms", U=20, u=21, b=[], a=[]),
]
BODY = '{"lastUpdateId":11,"bids":[["9.50","1.0"]],"asks":[["9.60","1"]]}'


def onetape(*arguments, **rest):
    """The finished process; its output is text, and not a terminal."""
    environment = os.environ | {"COLUMNS": "200", "NO_COLOR": "1", "PYTHONUTF8": "1"}
    return subprocess.run(
        [COMMAND, *map(str, arguments)], capture_output=True, text=True, check=False, timeout=120, env=environment,
        **rest,
    )


def good(*arguments):
    """What it prints, where all went well and nothing is to be said beside."""
    done = onetape(*arguments)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def refusal(*arguments):
    """The one line that says what is wrong."""
    done = onetape(*arguments)
    assert done.returncode == 2, done
    assert done.stdout == ""
    assert done.stderr.startswith("onetape: "), done.stderr
    assert done.stderr.count("\n") == 1, done.stderr
    assert done.stderr.endswith("\n")
    return done.stderr.removeprefix("onetape: ").rstrip("\n")


@pytest.fixture
def others(tmp_path):
    """A recording in the layout of others: a frame a line, the REST snapshot beside it."""
    path = tmp_path / "spot.jsonl"
    path.write_text("".join(f"{it}\n" for it in FRAMES))
    (tmp_path / "spot.rest_depth.json").write_text(BODY)
    (tmp_path / "spot.rest_depth.meta.txt").write_text("recv_ns=1\ninserted_before_jsonl_line(0-based)=1\n")
    return path


def write(path, inputs):
    with RecordingWriter(path, Header(1, {"binance": Setup("binance", "", WANTED)})) as out:
        for number, (kind, rest) in enumerate(inputs, start=1):
            out.add(kind(number=number, time=number * 10**6, connection="binance", **rest))
    return path


@pytest.fixture
def ours(tmp_path):
    """The same as OneTape itself would have recorded it."""
    frames = [(Frame, {"data": it.encode()}) for it in FRAMES]
    answer = Answer, {"id": 1, "status": 200, "body": BODY.encode()}
    return write(tmp_path / "ours.jsonl.zst", [
        (Opened, {}), frames[0], answer, *frames[1:], (Closed, {"reason": "1006"}),
    ])


# --- replay ---------------------------------------------------------------------------------------------------------


def test_the_summary_is_one_object_with_these_keys_and_numbers_as_they_came(others):
    text = good("replay", others, "--venue", "binance", "--summary", "json")
    assert text.count("\n") == 1
    summary = json.loads(text)
    assert set(summary) == KEYS
    assert summary == {
        "venue": "binance",
        "frames": 8,
        "events": {"book_delta": 2, "book_snapshot": 1, "feed_error": 1, "feed_status": 2, "trade": 3},
        "books": {"BTCUSDT": {
            "state": "stale", "sequence": 14, "verification": "sequence",
            "bids": [["9.50", "2.0"], ["9.40", "0.0000001"]], "asks": [["9.60", "1"], ["9.61", "3"]], "levels": [2, 2],
        }},
        "trades": {"BTCUSDT": 2},
        "gaps": [{
            "symbol": "BTCUSDT", "channel": "book", "at_frame": 8,
            "reason": "gap: the book is at 14, the next delta begins after 19",
        }],
        "quarantined": 1,
        "unknown": 1,
    }


def test_ours_says_its_venue_itself(ours, others):
    summary = json.loads(good("replay", ours, "--json"))
    assert summary["venue"] == "binance"
    assert summary["books"]["BTCUSDT"]["state"] == "down"
    assert summary["trades"] == json.loads(good("replay", others, "--venue", "binance", "--json"))["trades"]


def test_the_hash_is_a_key_more_and_the_same_each_time(others):
    runs = [json.loads(good("replay", others, "--venue", "binance", "--summary", "json", "--hash")) for _ in range(2)]
    assert set(runs[0]) == KEYS | {"hash"}
    assert runs[0] == runs[1]
    assert len(bytes.fromhex(runs[0]["hash"])) == 32


def test_the_hash_alone_is_a_line(others):
    first, second = (good("replay", others, "--venue", "binance", "--hash") for _ in range(2))
    assert first == second
    assert len(bytes.fromhex(first)) == 32


def test_another_digit_is_another_hash(others):
    before = good("replay", others, "--venue", "binance", "--hash")
    others.write_text(others.read_text().replace('"9.55"', '"9.550"'))
    assert good("replay", others, "--venue", "binance", "--hash") != before


def test_a_recording_that_was_cut_off_is_played_and_said_to_be_so(ours, tmp_path):
    lines = zstandard.ZstdDecompressor().stream_reader(ours.read_bytes()).read().splitlines(keepends=True)
    path = tmp_path / "cut.jsonl"
    path.write_bytes(b"".join(lines[:5])[:-3])  # header, open, two inputs, and a part of the next
    done = onetape("replay", path, "--json")
    assert done.returncode == 0
    assert json.loads(done.stdout)["books"]["BTCUSDT"]["state"] == "live"
    assert "was cut off" in done.stderr
    assert done.stderr.count("\n") == 1


def test_for_people_it_says_the_same_in_words(others):
    text = good("replay", others, "--venue", "binance")
    assert "BTCUSDT" in text
    assert "gap in BTCUSDT book at line 8" in text
    assert "8 frames" in text
    assert "1 quarantined, 1 unknown" in text


@pytest.mark.parametrize("depth", ["1", "50", "all"])
def test_a_depth_limits_what_is_held_beyond_a_thousand(others, depth):
    assert json.loads(good("replay", others, "--venue", "binance", "--depth", depth, "--json"))["frames"] == 8


def test_a_small_depth_cuts_what_is_held(tmp_path):
    path = tmp_path / "deep.jsonl"
    levels = [[f"{price}.5", "1"] for price in range(1, 1_501)]
    path.write_text(json.dumps({"type": "snapshot", "product_id": "A-B", "bids": levels, "asks": []}) + "\n")
    held = {
        depth: json.loads(good("replay", path, "--venue", "coinbase-exchange", "--depth", depth, "--json"))
        for depth in ("all", "10", "300")
    }
    assert {depth: it["books"]["A-B"]["levels"] for depth, it in held.items()} == {
        "all": [1_500, 0], "10": [1_000, 0], "300": [1_200, 0],
    }


@pytest.mark.parametrize("depth", ["0", "-1", "1.5", "ten", "", "ALL", " 5", "1e3", "9" * 5_000])
def test_a_depth_that_is_none_is_refused(others, depth):
    line = refusal("replay", others, "--venue", "binance", f"--depth={depth}")
    assert "--depth must be a number of levels above 0, or all" in line
    assert len(line) < 200


# --- what can be wrong with a file ----------------------------------------------------------------------------------


def test_a_missing_file(tmp_path):
    assert "no such recording" in refusal("replay", tmp_path / "nothing.jsonl", "--venue", "binance")


def test_a_name_that_no_file_can_have():
    refusal("replay", "x" * 5_000, "--venue", "binance")


def test_a_folder(tmp_path):
    assert "is a folder" in refusal("replay", tmp_path, "--venue", "binance")


@pytest.mark.parametrize("name", ["empty.jsonl", "empty.jsonl.zst"])
def test_an_empty_file(tmp_path, name):
    (tmp_path / name).write_bytes(b"")
    assert "is empty" in refusal("replay", tmp_path / name, "--venue", "binance")


def test_an_unknown_venue_is_refused_with_the_nearest(others):
    assert "unknown venue 'binanse': did you mean 'binance'" in refusal("replay", others, "--venue", "binanse")


def test_a_recording_of_others_needs_its_venue(others):
    assert "--venue" in refusal("replay", others)


ALIKE = {  # their trades cannot be told apart; or a product is named alike, in frames that are then quarantined
    "binance": "binance-usdm", "binance-usdm": "binance", "coinbase": "coinbase-exchange",
    "coinbase-exchange": "coinbase",
}


@pytest.mark.parametrize("venue", VENUES)
@pytest.mark.parametrize("beside", [True, False])
def test_a_recording_of_another_venue_is_refused(others, venue, beside):
    if not beside:
        (others.parent / "spot.rest_depth.json").unlink()
    if not venue.startswith("binance"):
        assert "is --venue right?" in refusal("replay", others, "--venue", venue, "--summary", "json")


@pytest.mark.parametrize("venue", VENUES)
def test_each_venues_own_frames_are_refused_under_another_name(tmp_path, venue):
    """None of them is understood as something else, be it unknown or unreadable."""
    path, recording = tmp_path / "x.jsonl", open_recording(demo.SESSION)
    names = {name for name, setup in recording.header.sessions.items() if setup.venue == venue}
    frames = [it.data for _, it in recording.inputs if isinstance(it, Frame) and it.connection in names]
    path.write_bytes(b"\n".join(frames[:50]))
    for other in set(VENUES) - {venue, ALIKE.get(venue)}:
        with pytest.raises(UsageError, match=r"is --venue right\?"):
            replay(path, venue=other, depth="all", summary=None, hash=True, json=False)


def test_ours_does_not_have_every_venue(ours):
    assert "no venue 'kraken'" in refusal("replay", ours, "--venue", "kraken")


def test_a_binary_file(tmp_path):
    path = tmp_path / "a.out"
    path.write_bytes(b"\x7fELF\0\0\0" + bytes(range(256)))
    assert "is not a recording" in refusal("replay", path, "--venue", "binance")


def test_what_only_pretends_to_be_compressed(tmp_path):
    path = tmp_path / "x.jsonl.zst"
    path.write_bytes(b"not compressed at all")
    assert "is corrupt" in refusal("replay", path, "--venue", "binance")


HEAD = b'{"onetape":1,"sessions":{"binance":{"venue":"binance","route":"","wanted":[]}}}\n'
OPEN = b'{"n":1,"t":1,"c":"binance","k":"open"}\n'


@pytest.mark.parametrize(("content", "words"), [
    (b'{"onetape":1}\n', "corrupt in line 1"),
    (b'{"onetape":9}\n', "newer OneTape"),
    (HEAD + b"{\n", "corrupt in line 2"),
    (HEAD + b"\xff\xff\n", "corrupt in line 2"),
    (HEAD + b"\n", "corrupt in line 2"),
    (HEAD + b'{"n":1,"t":1,"c":"binance","k":"frame","d":"x"}\n', "never opened"),
    (HEAD + b'{"n":1,"t":1,"c":"nobody","k":"open"}\n', "unknown connection 'nobody'"),
    (HEAD + OPEN + b'{"n":3,"t":1,"c":"binance","k":"frame","d":"x"}\n', "corrupt in line 3"),
    (HEAD + OPEN + b'{"n":2,"t":0,"c":"binance","k":"frame","d":"x"}\n', "corrupt in line 3"),
    (HEAD + OPEN + b'{"n":2,"t":1,"c":"binance","k":"frame","b":"%%%"}\n', "corrupt in line 3"),
    (HEAD + OPEN + b'{"end":"soon"}\n', "corrupt in line 3"),
    (HEAD.replace(b'"venue":"binance"', b'"venue":"binanse"') + OPEN, "did you mean 'binance'"),
    (HEAD.replace(b"[]", b'[{"symbol":"A","channel":"status"}]') + OPEN, "status"),
    (HEAD.replace(b"[]", b'[{"symbol":"A","channel":"candles","interval":"7y"}]') + OPEN, "7y"),
    (HEAD.replace(b'"route":""', b'"route":"nowhere"') + OPEN, "nowhere"),
])
def test_a_corrupt_recording_of_ours_says_where(tmp_path, content, words):
    path = tmp_path / "ours.jsonl"
    path.write_bytes(content)
    assert words in refusal("replay", path)


@pytest.mark.parametrize(("name", "content"), [
    ("recv_ns.txt", b"1\n"), ("recv_ts.txt", b"soon\n"), ("recv_ns.txt", b"\xff\xfe\n"),
    ("rest/index.tsv", b"file\trecv_ts\turl\nbody.json\n"), ("rest/index.tsv", b"file\trecv_ts\turl\nno.json\t1\t/x\n"),
    ("rest/index.tsv", b"\xff\xfe\n\xff\n"),
])
def test_what_stands_beside_a_recording_may_be_broken(tmp_path, name, content):
    path = tmp_path / "x.jsonl"
    path.write_text("\n".join(FRAMES))
    (tmp_path / "x.rest").mkdir()
    (tmp_path / f"x.{name}").write_bytes(content)
    refusal("replay", path, "--venue", "binance")


# --- venues and pairs -----------------------------------------------------------------------------------------------


def test_venues_as_json_is_an_array_of_objects():
    rows = json.loads(good("venues", "--json"))
    assert [it["venue"] for it in rows] == list(VENUES)
    for it in rows:
        assert set(it) == {
            "venue", "exchange", "channels", "tape", "depths", "intervals", "verification", "environments",
            "documentation",
        }
    assert next(it for it in rows if it["venue"] == "kraken")["depths"] == [10, 25, 100, 500, 1000]
    assert next(it for it in rows if it["venue"] == "coinbase")["depths"] == ["all"]


def test_venues_for_people_names_them_all():
    text = good("venues")
    assert all(name in text for name in VENUES)


def test_pairs_of_the_built_in_session():
    rows = json.loads(good("pairs", "--venue", "kraken", "--json"))
    assert [it["pair"] for it in rows] == ["BTC-USD", "ETH-USD", "SOL-USD"]
    assert rows[0] == {
        "venue": "kraken", "pair": "BTC-USD", "symbol": "BTC/USD", "kind": "spot", "tradable": True, "status": "demo",
        "tick_size": "0.1", "lot_size": "0.0001", "contract_value": "1",
    }


def test_pairs_of_all_venues_and_for_people():
    assert len(json.loads(good("pairs", "--json"))) == 21
    assert "BTC-USDT-PERP" in good("pairs")


INFO = {"symbols": [
    {"symbol": "ETHBTC", "status": "TRADING", "baseAsset": "ETH", "quoteAsset": "BTC", "filters": [
        {"filterType": "PRICE_FILTER", "tickSize": "0.00001000"},
        {"filterType": "LOT_SIZE", "stepSize": "0.0001", "minQty": "1"},
    ]},
    {"symbol": "AAABTC", "status": "BREAK", "baseAsset": "AAA", "quoteAsset": "BTC", "filters": []},
    {"symbol": "half announced"},
]}


def test_pairs_of_a_saved_list(tmp_path):
    path = tmp_path / "exchangeInfo.json"
    path.write_text(json.dumps(INFO))
    rows = json.loads(good("pairs", path, "--venue", "binance", "--json"))
    assert [(it["pair"], it["tradable"], it["tick_size"]) for it in rows] == [
        ("AAA-BTC", False, "0"), ("ETH-BTC", True, "0.00001000"),
    ]


def test_pairs_of_a_list_needs_to_know_whose_it_is(tmp_path):
    path = tmp_path / "list.json"
    path.write_text(json.dumps(INFO))
    assert "say --venue" in refusal("pairs", path)


@pytest.mark.parametrize("content", [b"not json", b"[]", b"{}", b"\xff\xfe", b"[" * 100_000])
def test_pairs_of_what_is_no_list(tmp_path, content):
    path = tmp_path / "list.json"
    path.write_bytes(content)
    assert "is not an instrument list of binance" in refusal("pairs", path, "--venue", "binance")


def test_pairs_refuses_what_is_not_there(tmp_path):
    assert "no such" in refusal("pairs", tmp_path / "nothing.json", "--venue", "binance")
    assert "did you mean 'kraken'" in refusal("pairs", "--venue", "kracken")


# --- help, version, usage -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["venues", "pairs", "replay", "run"])
@pytest.mark.parametrize("flag", ["--help", "-h"])
def test_every_command_helps_with_an_example(command, flag):
    text = good(command, flag)
    assert "Examples:" in text
    assert f"onetape {command}" in text.partition("Examples:")[2]


def test_help_lists_every_command():
    text = good("--help")
    assert all(it in text for it in ("venues", "pairs", "replay", "run", "Exit codes"))


def test_version():
    assert good("--version") == f"onetape {__version__}\n"


@pytest.mark.parametrize("arguments", [
    ["frobnicate"], ["replay"], ["replay", "--frobnicate"], ["replay", "x", "--summary", "xml"], ["venues", "more"],
    ["run", "--duration", "fast"], ["run", "--duration", "0"], ["run", "--duration", "-1"],
    ["run", "--duration", "nan"],
    ["run", "--compare"], ["run", "--faults", "3"], ["sim", "--pace", "0"], ["sim", "--venue", "nobody"],
    ["sim", "--ws-port", "-1"],
])
def test_wrong_usage_is_one_line(arguments):
    refusal(*arguments)


# --- the built-in session ---------------------------------------------------------------------------------------------


def test_the_built_in_session_has_no_gap():
    summary = json.loads(good("replay", demo.SESSION, "--json"))
    assert (summary["gaps"], summary["quarantined"], summary["unknown"]) == ([], 0, 0)
    assert {it["state"] for it in summary["books"].values()} == {"live"}
    assert len(summary["books"]) == 21


# --- a reader that has seen enough ----------------------------------------------------------------------------------


@pytest.mark.parametrize("arguments", [
    ["--version"], ["--help"], ["venues"], ["venues", "--json"], ["pairs"], ["pairs", "--json"],
    ["replay", demo.SESSION], ["replay", demo.SESSION, "--json"], ["replay", demo.SESSION, "--hash"],
    ["config", "show"], ["run", "--sim", "--duration", "2"],
])
def test_a_closed_pipe_is_no_traceback(arguments, tmp_path):
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "wb") as out:
        done = subprocess.run(
            [COMMAND, *map(str, arguments)], stdout=out, stderr=subprocess.PIPE, text=True, check=False, timeout=120,
            cwd=tmp_path,
        )
    log = [line for line in done.stderr.splitlines() if " [info " in line or " [warning" in line]
    assert done.stderr.splitlines() == (log if arguments[0] == "run" else [])
    assert done.returncode in (0, 1)
