"""What was stored comes back as it was, from the journal, from the lake, and from half of each."""
import sqlite3
from contextlib import closing
from decimal import Decimal as D
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.parse import quote

import duckdb
import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onetape.clock import DAY, HOUR, MINUTE
from onetape.errors import UsageError
from onetape.model import (
    BookDelta,
    BookSnapshot,
    Candle,
    Channel,
    FeedError,
    FeedStatus,
    Flag,
    GapClosed,
    GapOpened,
    InstrumentId,
    Levels,
    Quote,
    Side,
    Source,
    Trade,
    TrustState,
    encode,
)
from onetape.model.numbers import plain
from onetape.storage import merging, parquet, tables, views
from onetape.storage.compaction import compact
from onetape.storage.journal import Journal
from onetape.storage.lake import Lake, Selection
from onetape.storage.schema import TABLES
from onetape.tape.coverage import Covered, Interval

T0 = 1_760_000_000_000_000_000
NOW = T0 + DAY
BTC, ETH = InstrumentId("binance", "BTCUSDT"), InstrumentId("binance", "ETHUSDT")
HOSTILE = [
    "'; DROP TABLE trades; --", "%", "%41", "/../x", "..", "a/b:c", "x*[y]?", "=", "ü€😀", "a\nb", "", " ", "NULL",
    "007", 'q"q', "\\", "__HIVE_DEFAULT_PARTITION__", "x" * 300, "é" * 100, "$1", "{}", "pair=x",
]


def trade(number, *, id=BTC, time=None, price="1.10", size="2", channel=Channel.TRADES, **more):
    time = T0 + number if time is None else time
    return Trade(**{
        "venue": id.venue, "symbol": id.symbol, "exchange_time": time, "received_time": time + 1,
        "available_at": time + 2, "channel": channel, "id": str(number), "after": None, "price": D(price),
        "size": D(size), "side": Side.BUY if number % 2 else Side.SELL,
    } | more)


def candle(end, *, id=BTC, revision=0, close="1.5", available_at=None, interval="1m", **more):
    return Candle(**{
        "venue": id.venue, "symbol": id.symbol, "exchange_time": end, "received_time": end,
        "available_at": end + revision if available_at is None else available_at, "interval": interval,
        "start": end - MINUTE, "end": end, "open": D("1.50"), "high": D("2"), "low": D("1.000"), "close": D(close),
        "volume": D("12.50"), "quote_volume": D("18.7500"), "vwap": D("1.500000000000000001"), "trades": 3,
        "taker_buy_volume": D(0), "complete": True, "final": True, "source": "trades", "revision": revision,
    } | more)


def snapshot(time, *, id=BTC, sequence=1):
    return BookSnapshot(
        venue=id.venue, symbol=id.symbol, exchange_time=time, received_time=time, available_at=time, sequence=sequence,
        bids=Levels.of([(D("1.10"), D("2"))]), asks=Levels.of([(D("1.2"), D("0.00000001"))]), depth=0,
        verification="sequence", checksum=5,
    )


def gap(time, *, id=BTC, after="5", before="9", state=None):
    head = {
        "venue": id.venue, "symbol": id.symbol, "exchange_time": time, "received_time": time, "available_at": time,
        "channel": Channel.TRADES, "after": after, "before": before, "from_time": T0 + 5, "to_time": T0 + 9,
        "cause": "a test",
    }
    return GapOpened(**head) if state is None else GapClosed(**head, healed=state == "healed", recovered=3)


def quoted(time, *, id=BTC):
    return Quote(
        venue=id.venue, symbol=id.symbol, received_time=time, available_at=time, exchange_time=time,
        bid=(D("1.10"), D(2)), ask=(D("1.20"), D("0.50")), sequence=7,
    )


def others(id=BTC):
    head = {"venue": id.venue, "symbol": id.symbol, "received_time": T0, "available_at": T0}
    return [
        Quote(**head, exchange_time=T0, bid=(D("1.10"), D(2)), ask=None, sequence=None),
        Quote(**head, exchange_time=T0, bid=None, ask=(D("1.20"), D("0.50")), sequence=7),
        BookDelta(**head, exchange_time=T0, after=1, sequence=2, bids=Levels.of([]), asks=Levels.of([])),
        FeedStatus(**head, exchange_time=T0, channel=Channel.BOOK, state=TrustState.STALE, since=T0, reason="a\tb"),
        FeedError(**head, channel="trades", reason="odd", quarantined=True, text='{"x": "\x00é"}'),
    ]


def store_of(folder, *files, pairs=None, writer="main"):
    """One file of the journal for each list of records, all sealed."""
    pairs = pairs or {}
    with Journal(folder, writer, pair_of=lambda venue, symbol: pairs.get((venue, symbol), "")) as journal:
        start = journal.last_batch
        for number, records in enumerate(files, start + 1):
            for it in records:
                journal.add(it)
            journal.commit(journal.take(T0 + number * HOUR))


def in_every_state(folder, files, read, pairs=None):
    """What ``read`` finds before compaction, with the first half compacted, and with all of it."""
    half = len(files) // 2
    store_of(folder, *files[:half], pairs=pairs)
    out = []
    with Lake(folder) as lake:
        assert compact(folder, NOW).refused == []
        store_of(folder, *files[half:], pairs=pairs)
        out.append(read(lake))
        assert compact(folder, NOW).refused == []
        out.append(read(lake))
    with TemporaryDirectory() as other:
        store_of(Path(other), *files, pairs=pairs)
        with Lake(Path(other)) as lake:
            return [read(lake), *out]


def texts(trades):
    return [(str(it.price), str(it.size)) for it in trades]


# --- trades ----------------------------------------------------------------------------------------------------------

number = st.integers(1, 10**19 - 1).flatmap(
    lambda whole: st.integers(0, 18).map(lambda scale: plain(D(whole).scaleb(-scale))))
wide = st.integers(10**19, 10**28 - 1).flatmap(
    lambda whole: st.integers(8, 18).map(lambda scale: plain(D(whole).scaleb(-scale))))
word = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
ident = st.integers(0, 10**25).map(str) | word.filter(bool)


@st.composite
def any_trade(draw, ordinal):
    return trade(
        ordinal, id=InstrumentId(draw(st.sampled_from(["binance", "okx"])), draw(word)), price=draw(number | wide),
        size=draw(number | wide), time=draw(st.integers(T0, T0 + 3 * DAY)), received_time=draw(st.integers(0, 2**62)),
        channel=draw(st.sampled_from([Channel.TRADES, Channel.AGG_TRADES])), side=draw(st.sampled_from(Side)),
        source=draw(st.sampled_from(Source)), first_id=draw(st.none() | ident), last_id=draw(st.none() | ident),
        flags=tuple(it for it in Flag if draw(st.booleans())),
    )


@settings(max_examples=12, deadline=None)
@given(st.data())
def test_every_field_of_a_trade_comes_back(data):
    count = data.draw(st.integers(2, 6))
    events = [data.draw(any_trade(ordinal)) for ordinal in range(count)]
    with TemporaryDirectory() as folder:
        for found in in_every_state(Path(folder), [[it] for it in events], Lake.trades):
            expected = sorted(events, key=lambda it: it.exchange_time)
            assert found == expected
            assert texts(found) == texts(expected)


def test_limits_take_the_newest_and_times_end_before_their_end(tmp_path):
    files = [[trade(n, time=T0 + n * 10, id=BTC if n % 3 else ETH) for n in range(k, 40, 4)] for k in range(4)]

    def read(lake):
        def numbers(**selection):
            return [int(it.id) for it in lake.trades(Selection(**selection))]

        return [
            numbers(), numbers(limit=3), numbers(limit=0), numbers(limit=100),
            numbers(start=T0 + 100, end=T0 + 130), numbers(end=T0 + 130, limit=2), numbers(start=T0 + 391),
            numbers(instruments=frozenset({ETH}), limit=2), numbers(instruments=frozenset({ETH, BTC}), limit=2),
            numbers(instruments=frozenset()), numbers(venue="okx"), numbers(venue="binance", limit=1),
            numbers(channel=Channel.AGG_TRADES), numbers(channel=Channel.TRADES, limit=1),
        ]

    ethereum = [n for n in range(40) if n % 3 == 0]
    expected = [
        list(range(40)), [37, 38, 39], [], list(range(40)), [10, 11, 12], [11, 12], [], ethereum[-2:], [38, 39], [], [],
        [39], [], [39],
    ]
    assert in_every_state(tmp_path, files, read) == [expected] * 3


def test_trades_of_one_time_keep_their_order(tmp_path):
    files = [[trade(n, time=T0) for n in range(k, k + 5)] for k in (0, 5, 10, 15)]
    for found in in_every_state(tmp_path, files, lambda lake: lake.trades(Selection(limit=12))):
        assert [int(it.id) for it in found] == list(range(8, 20))


@pytest.mark.parametrize(("id", "first", "last", "channel", "after"), [
    ("7", None, None, Channel.TRADES, 6),
    ("7", "100", "102", Channel.AGG_TRADES, 6),  # Binance: named apart from the matches that it merges
    ("102", "100", "102", Channel.AGG_TRADES, 99),  # OKX: named by the last of them
])
def test_what_came_before_a_trade_is_known_where_ids_are_covered(tmp_path, id, first, last, channel, after):
    it = trade(1, channel=channel, first_id=first, last_id=last)
    it = msgspec.structs.replace(it, id=id, after=after)
    covered = Covered(*BTC, channel, after + 1, int(id), T0, T0)
    unproven = trade(2, id=ETH)
    for found in in_every_state(tmp_path, [[it, covered, unproven], [trade(3, id=ETH)]], Lake.trades):
        assert found == [it, unproven, trade(3, id=ETH)]


def test_numbers_that_no_column_holds_stay_in_the_journal_and_are_read_from_there(tmp_path):
    finer, higher = trade(1, price=f"0.{'0' * 20}1"), trade(2, size="9" * 25)
    store_of(tmp_path, [finer], [higher], [trade(3)])
    report = compact(tmp_path, NOW)
    assert report.files == 1
    assert len(report.refused) == 2
    assert all("\n" not in it and "stays in the journal" in it for it in report.refused)
    with Lake(tmp_path) as lake:
        found = lake.trades()
        assert texts(found) == texts([finer, higher, trade(3)])
        with pytest.raises(UsageError, match=r"^[^\n]*does not hold[^\n]*$"):
            lake.connect()
        assert ["does not hold" in it for it in lake.verify()] == [True]


# --- candles ---------------------------------------------------------------------------------------------------------


def test_candles_come_in_their_latest_revision_or_as_of_a_time(tmp_path):
    one, two, three = T0, T0 + MINUTE, T0 + 2 * MINUTE
    venues_own = candle(one, source="venue", quote_volume=None, vwap=None, trades=None, taker_buy_volume=None)
    files = [
        [candle(one), candle(two), candle(one, interval="5m"), venues_own], [candle(one, revision=1, close="7.0")],
        [candle(three), candle(two, revision=2, close="9")], [candle(two, revision=1), candle(three, id=ETH)],
    ]

    def read(lake):
        only = Selection(instruments=frozenset({BTC}))
        return [
            lake.candles(only, "1m"), lake.candles(Selection(instruments=frozenset({BTC}), limit=2), "1m"),
            lake.candles(only, "1m", as_of=one), lake.candles(only, "1m", as_of=one + 1),
            lake.candles(only, "1m", as_of=two + 1), lake.candles(Selection(start=two, end=three), "1m"),
            lake.candles(Selection(), "1m", source="venue"), lake.candles(Selection(instruments=frozenset({ETH}))),
            lake.candles(Selection(end=two)),
        ]

    first, again = candle(one, revision=1, close="7.0"), candle(two, revision=2, close="9")
    expected = [
        [first, again, candle(three)], [again, candle(three)], [candle(one)], [first],
        [first, candle(two, revision=1)], [again], [venues_own], [candle(three, id=ETH)],
        [candle(one, interval="5m"), first],
    ]
    for found in in_every_state(tmp_path, files, read):
        assert found == expected
        assert [list(map(encode, it)) for it in found] == [list(map(encode, it)) for it in expected]  # every digit
    with Lake(tmp_path) as lake:
        assert len(lake.candles(Selection(), "1m", latest=False)) == 7


@pytest.mark.parametrize("text", [
    "0", "1.50", f"1.{'3' * 18}", f"1.{'3' * 36}", f"{'9' * 20}.5", f"{'9' * 21}", f"{'9' * 25}.{'1' * 30}",
    f"0.5{'0' * 30}",
])
def test_quote_volumes_are_exact_whatever_their_size(tmp_path, text):
    it = candle(T0, quote_volume=D(text))
    store_of(tmp_path, [it])
    assert compact(tmp_path, NOW).refused == []
    with Lake(tmp_path) as lake:
        (found,) = lake.candles()
        assert str(found.quote_volume) == text
        with closing(lake.connect()) as duck:
            value, exact = duck.execute("SELECT quote_volume, quote_volume_exact FROM candles").fetchone()
    assert (value == D(text)) == (exact is None)
    assert exact in (None, text)


@pytest.mark.parametrize("field", ["open", "high", "low", "close", "volume", "vwap", "taker_buy_volume"])
def test_no_other_number_of_a_candle_is_rounded(tmp_path, field):
    it = candle(T0, **{field: D(f"1.{'3' * 19}")})
    store_of(tmp_path, [it])
    assert "does not hold 1.333" in compact(tmp_path, NOW).refused[0]
    with Lake(tmp_path) as lake:
        assert lake.candles() == [it]


# --- the rest --------------------------------------------------------------------------------------------------------


def test_a_gap_is_told_in_its_latest_state(tmp_path):
    files = [
        [gap(T0)], [gap(T0 + 1, after="20", before="30"), gap(T0 + 1, id=ETH)],
        [gap(T0 + 2, state="healed")], [gap(T0 + 2, id=ETH, state="unhealable")],
    ]

    def read(lake):
        def states(**selection):
            return sorted((it.symbol, it.after, it.state, it.recovered) for it in lake.gaps(Selection(**selection)))

        return states(), states(start=T0 + 10), states(end=T0 + 5), states(start=T0 + 9, end=T0 + 10, venue="binance")

    every = sorted([("BTCUSDT", "5", "healed", 3), ("BTCUSDT", "20", "open", 0), ("ETHUSDT", "5", "unhealable", 3)])
    for found in in_every_state(tmp_path, files, read):
        assert found == (every, [], [], every)
    with Lake(tmp_path) as lake:
        assert len(lake.gaps(Selection(limit=2))) == 2
        it = next(it for it in lake.gaps() if it.state == "healed")
        assert (it.venue, it.channel, it.before, it.from_time, it.to_time) == (
            "binance", Channel.TRADES, "9", T0 + 5, T0 + 9)
        assert it.available_at == T0 + 2


def test_the_last_book_of_each_instrument(tmp_path):
    files = [
        [snapshot(T0), snapshot(T0 + 5, sequence=2)], [snapshot(T0 + 5, sequence=3)],
        [snapshot(T0 + 3, id=ETH)], [snapshot(T0 + 4, sequence=9)],
    ]
    newest = [snapshot(T0 + 3, id=ETH), snapshot(T0 + 5, sequence=3)]
    for found in in_every_state(tmp_path, files, lambda lake: [
        lake.books(), lake.books(Selection(limit=1)), lake.books(Selection(instruments=frozenset({ETH}))),
        lake.books(Selection(end=T0 + 5)),
    ]):
        expected = [newest, newest[1:], newest[:1], [newest[0], snapshot(T0 + 4, sequence=9)]]
        assert [list(map(encode, it)) for it in found] == [list(map(encode, it)) for it in expected]


def test_coverage_and_instruments_of_lake_and_journal_are_one(tmp_path):
    files = [
        [Covered(*BTC, Channel.TRADES, 1, 5, 10, 50), trade(5)], [Covered(*BTC, Channel.TRADES, 9, 9, 90, 90)],
        [Covered(*BTC, Channel.TRADES, 6, 7, 60, 70)], [Covered(*ETH, Channel.AGG_TRADES, 1, 1, 10, 10)],
    ]

    def read(lake):
        of = lake.coverage()
        return [list(of[*BTC, Channel.TRADES]), list(of[*ETH, Channel.AGG_TRADES]), len(of), lake.pairs(),
                [(it.symbol, it.pair) for it in lake.instruments()]]

    pairs = {BTC: "BTC-USDT"}
    expected = [
        [Interval(1, 7, 10, 70), Interval(9, 9, 90, 90)], [Interval(1, 1, 10, 10)], 2,
        {BTC: "BTC-USDT", ETH: "ETHUSDT"}, [("BTCUSDT", "BTC-USDT"), ("ETHUSDT", "ETHUSDT")],
    ]
    assert in_every_state(tmp_path, files, read, pairs) == [expected] * 3


def everything(lake):
    """All rows of all tables as SQL gives them, each table's in one order."""
    with closing(lake.connect()) as duck:
        return {
            table: duck.execute(f"SELECT * FROM {table} ORDER BY writer, pos").fetchall()
            for table in TABLES if table not in ("batches", "instruments")
        } | {it: sorted(map(repr, duck.execute(f"FROM {it}").fetchall()))
             for it in ("raw_trades", "market_data", "instruments")}


def test_sql_sees_the_same_rows_wherever_they_are(tmp_path):
    files = [
        [trade(n), trade(n + 10, price="9" * 20 + ".5"), candle(T0, revision=n), snapshot(T0 + n), gap(T0 + n),
         Covered(*BTC, Channel.TRADES, n, n, T0, T0), *others()]
        for n in range(4)
    ]
    journal, half, lake = in_every_state(tmp_path, files, everything, {BTC: "BTC-USDT"})
    assert journal == half == lake
    assert {table: len(rows) for table, rows in lake.items()} == {
        "trades": 8, "candles": 4, "quotes": 8, "book_snapshots": 4, "book_deltas": 4, "feed_status": 4, "gaps": 4,
        "coverage": 4, "quarantine": 4, "raw_trades": 8, "market_data": 1, "instruments": 1,
    }


def test_the_views_speak_the_outward_words(tmp_path):
    provisional = candle(T0 + MINUTE, final=False)
    records = [trade(1, price="1.10"), candle(T0), candle(T0, revision=1), provisional]
    store_of(tmp_path, records, pairs={BTC: "BTC-USDT"})
    for _ in range(2):
        with Lake(tmp_path) as lake, closing(lake.connect()) as duck:
            sql = "SELECT exchange, symbol, pair, id, price, size, side, epoch_ns(timestamp) FROM raw_trades"
            assert duck.execute(sql).fetchall() == [
                ("binance", "BTCUSDT", "BTC-USDT", "1", D("1.1"), D(2), "buy", T0 + 1)]
            sql = "SELECT exchange, interval, epoch_ns(timestamp), revision FROM market_data"
            assert duck.execute(sql).fetchall() == [("binance", "1m", T0, 1)]
            assert duck.execute("SELECT reason FROM quarantine").fetchall() == []
        compact(tmp_path, NOW)


def test_no_symbol_is_anything_but_a_symbol(tmp_path):
    store = tmp_path / "it's [a] st*re?"
    ids = [InstrumentId("binance", symbol) for symbol in HOSTILE]
    for number in (1, 2):
        store_of(store, [
            record for id in ids for record in
            (trade(number, id=id), candle(T0 + number, id=id), snapshot(T0 + number, id=id), *others(id))
        ])
        with Lake(store) as lake:
            for _ in range(2):
                for id in ids:
                    only = Selection(instruments=frozenset({id}))
                    assert lake.trades(only) == [trade(n, id=id) for n in range(1, number + 1)]
                    assert [it.symbol for it in lake.candles(only)] == [id.symbol] * number
                    assert [it.symbol for it in lake.books(only)] == [id.symbol]
                assert set(lake.pairs()) == {it for it in ids if it.symbol}
                sees_each(lake, number)
                assert compact(store, NOW).refused == []
            assert lake.verify() == []
    assert {it.name for it in tmp_path.iterdir()} == {store.name}
    assert {it.name for it in store.iterdir()} <= {
        "journal", "lake", "catalog.db", "catalog.db-wal", "catalog.db-shm", "compaction.lock"}


def sees_each(lake, number):
    with closing(lake.connect()) as duck:
        for table in ("trades", "quarantine"):
            counts = dict(duck.execute(f"SELECT symbol, count(*) FROM {table} GROUP BY ALL").fetchall())
            assert counts == dict.fromkeys(HOSTILE, number)
        pairs = dict(duck.execute("SELECT DISTINCT symbol, pair FROM trades").fetchall())
        assert all(pair == symbol for symbol, pair in pairs.items() if len(quote(symbol, safe="")) <= 200)


# --- files of another version of the lake's columns -------------------------------------------------------------------


def of_two_versions(store, monkeypatch, *, now_and_then=("note", "VARCHAR")):
    """Files of before a column came, one of before another one went, and one of today; 2 trades each."""
    name, type_ = now_and_then
    store_of(store, [trade(0), trade(1)])
    compact(store, NOW)
    store_of(store, [trade(2), trade(3)])
    compact(store, NOW)
    with closing(sqlite3.connect(store / "catalog.db", isolation_level=None)) as catalog:
        ((path,),) = catalog.execute("SELECT path FROM lake_files WHERE path LIKE '%2.parquet'").fetchall()
        catalog.execute("UPDATE lake_files SET schema = 0, sum = '' WHERE path = ?", (path,))
    with closing(duckdb.connect()) as duck:
        rows = f"SELECT *, 42 AS went FROM read_parquet('{store / path}', hive_partitioning = false)"
        duck.execute(f"COPY ({rows}) TO '{store / path}.new' (FORMAT parquet)")
    Path(f"{store / path}.new").rename(store / path)
    of = tables.LAKE["trades"]
    newer = msgspec.structs.replace(of, columns={**of.columns, name: f"'of now'::{type_}"})
    monkeypatch.setattr(tables, "LAKE", {**tables.LAKE, "trades": newer})
    for module in (tables, merging, parquet):
        monkeypatch.setattr(module, "SCHEMA", 2)
    monkeypatch.setattr(parquet, "ADDED", {"trades": {name: type_}})
    for module in (parquet, merging, views):
        monkeypatch.setattr(module, "LAKE", tables.LAKE)


def notes(lake):
    with closing(lake.connect()) as duck:
        return dict(duck.execute("SELECT id, note FROM trades").fetchall())


def test_a_lake_of_an_older_version_is_read_and_merged_and_what_it_lacks_is_null(tmp_path, monkeypatch):
    of_two_versions(tmp_path, monkeypatch)
    with Lake(tmp_path) as lake:
        assert notes(lake) == dict.fromkeys("0123")  # no file has the column
        store_of(tmp_path, [trade(4), trade(5)])
        compact(tmp_path, NOW)
        mixed = dict.fromkeys("0123") | dict.fromkeys("45", "of now")
        for merge_at in (9, 3):
            compact(tmp_path, NOW, merge_at=merge_at)
            assert notes(lake) == mixed
            assert lake.trades() == [trade(n) for n in range(6)]
            assert lake.verify() == []
        assert lake.status()["lake"]["files"] == 1
    (path,) = (tmp_path / "lake").rglob("day+*.parquet")
    with closing(duckdb.connect()) as duck:  # what another version knew is kept
        assert duck.execute(f"SELECT id, went FROM read_parquet('{path}') ORDER BY id").fetchall() == [
            ("0", None), ("1", None), ("2", 42), ("3", 42), ("4", None), ("5", None)]


# --- only what is needed ----------------------------------------------------------------------------------------------


def row_groups(path):
    """Rows, first and last time of each."""
    with closing(duckdb.connect()) as duck:
        return duck.execute("""
            SELECT row_group_num_rows, stats_min_value::BIGINT, stats_max_value::BIGINT FROM parquet_metadata(?)
            WHERE path_in_schema = 'exchange_time' ORDER BY row_group_id""", [str(path)]).fetchall()


def test_row_groups_follow_one_another_in_time_so_that_an_hour_is_read_from_its_own_alone(tmp_path):
    """DuckDB passes over those whose least and greatest time say that they have none of it."""
    count = 4 * 122_880
    times = [T0 + n * 8 * HOUR // count for n in range(count)]
    for part in range(2):
        store_of(tmp_path, [trade(n, time=time) for n, time in enumerate(times)][part * count // 2:][:count // 2])
    for merge_at in (9, 2):
        compact(tmp_path, NOW, keep_replaced_ns=-1, merge_at=merge_at)
        found = [it for path in sorted((tmp_path / "lake/trades").rglob("*.parquet")) for it in row_groups(path)]
        assert [rows for rows, _, _ in found] == [122_880] * 4
        assert all(high < low for (_, _, high), (_, low, _) in pairwise(found))
        assert len([it for it in found if it[2] >= T0 + 5 * HOUR and it[1] < T0 + 6 * HOUR]) == 1


def test_what_is_no_store_is_refused_in_one_line(tmp_path):
    with pytest.raises(UsageError, match=r"^[^\n]*is no store[^\n]*$"), Lake(tmp_path / "nothing"):
        pass
    with pytest.raises(UsageError, match="is no store"):
        compact(tmp_path / "nothing", NOW)


def test_an_empty_store_has_nothing(tmp_path):
    (tmp_path / "journal").mkdir()
    with Lake(tmp_path) as lake:
        assert (lake.trades(), lake.candles(), lake.gaps(), lake.books(), lake.instruments()) == ([], [], [], [], [])
        assert lake.coverage() == {}
        assert lake.count("trades") == 0
        assert lake.verify() == []
        with closing(lake.connect()) as duck:
            assert duck.execute("SELECT count(*) FROM raw_trades").fetchone() == (0,)
    compact(tmp_path, NOW)
    with Lake(tmp_path) as lake:
        assert lake.trades() == []


def test_duckdb_waits_for_the_first_parquet_file(tmp_path):
    store_of(tmp_path, [trade(1), candle(T0 + MINUTE)])
    with Lake(tmp_path) as lake:
        assert (len(lake.trades()), len(lake.candles()), lake.gaps(), lake.coverage()) == (1, 1, [], {})
        assert lake._engine is None
        compact(tmp_path, NOW)
        assert len(lake.trades()) == 1
        assert lake._engine is not None


def test_a_newer_catalog_is_refused_in_one_line(tmp_path):
    store_of(tmp_path, [trade(1)])
    compact(tmp_path, NOW)
    with closing(sqlite3.connect(tmp_path / "catalog.db")) as file:
        file.execute("PRAGMA user_version = 99")
    with pytest.raises(UsageError, match=r"^[^\n]*newer OneTape[^\n]*$"), Lake(tmp_path):
        pass
    with pytest.raises(UsageError, match="newer OneTape"):
        compact(tmp_path, NOW)


def test_a_newer_journal_is_refused_in_one_line(tmp_path):
    store_of(tmp_path, [trade(1)])
    with closing(sqlite3.connect(next(tmp_path.rglob("*.db")))) as file:
        file.execute("PRAGMA user_version = 99")
    with Lake(tmp_path) as lake, pytest.raises(UsageError, match=r"^[^\n]*newer OneTape[^\n]*$"):
        lake.trades()


def test_the_status_counts_what_there_is(tmp_path):
    store_of(tmp_path, [trade(1)], [trade(2)])
    compact(tmp_path, NOW)
    store_of(tmp_path, [trade(3)], writer="backfill")
    with Lake(tmp_path) as lake, Journal(tmp_path) as journal:
        journal.add(trade(4))
        journal.commit(journal.take(NOW))
        it = lake.status()
    assert it["tables"]["trades"] == {"lake": 2, "journal": 2}
    assert it["writers"] == {
        "backfill": {"last_batch": 1, "committed_at": T0 + HOUR}, "main": {"last_batch": 3, "committed_at": NOW}}
    assert it["waiting"] == 1
    assert it["lake"]["files"] == 2
    assert it["journal"]["files"] == 4
    assert min(it["lake"]["bytes"], it["journal"]["bytes"]) > 0


def test_the_end_of_a_journal_is_read_while_it_is_written(tmp_path):
    with Journal(tmp_path) as journal, Lake(tmp_path) as lake:
        for number in range(3):
            journal.add(trade(number))
            journal.commit(journal.take(NOW))
            assert len(lake.trades()) == lake.count("trades") == number + 1
            with closing(lake.connect()) as duck:
                assert duck.execute("SELECT count(*) FROM trades").fetchone() == (number + 1,)
            assert compact(tmp_path, NOW).files == 0
