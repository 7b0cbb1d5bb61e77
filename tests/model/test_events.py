"""Events survive their encoding, and EVENTS.md speaks of every field of every one."""
import re
from decimal import Decimal as D
from pathlib import Path
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw

from onetape.model import (
    BookAudited,
    BookDelta,
    BookSnapshot,
    Candle,
    Change,
    Channel,
    ConnectionGap,
    ConnectionState,
    Event,
    FeedError,
    FeedStatus,
    Flag,
    GapClosed,
    GapFilling,
    GapOpened,
    Instrument,
    InstrumentChanged,
    InstrumentId,
    Kind,
    Levels,
    Lifecycle,
    Quote,
    Shape,
    Side,
    Skipped,
    Source,
    Ticker,
    Trade,
    TrustState,
    VenueStatus,
    decode,
    encode,
)
from onetape.model.events import kind_of

HEAD = {"venue": "binance", "received_time": 1_795_000_000_123_456_789, "available_at": 2**62}
OF = HEAD | {"symbol": "币安人生USDT", "exchange_time": 5}
LEVELS = Levels.of([(D("0.00000001"), D("5.00")), (D("100"), D("0"))])
EVENTS = [
    Trade(**OF, channel=Channel.TRADES, id="9007199254740993", after=9007199254740992, price=D("1.10"), size=D("2"),
          side=Side.SELL, source=Source.SNAPSHOT, first_id="1", last_id="3",
          flags=(Flag.HUGE,)),
    BookSnapshot(**OF, sequence=5, bids=LEVELS, asks=Levels.of([]), depth=10, verification="checksum(10)", checksum=7),
    BookDelta(**OF, after=4, sequence=5, bids=LEVELS, asks=LEVELS, checksum=None, restart=True),
    Quote(**OF, bid=(D("1.0"), D("2")), ask=None, sequence=3),
    Ticker(**OF, last=D(1), price_change=D("-0.5"), price_change_percent=None, high=D(2), low=D(1), volume=D(5),
           quote_volume=None),
    Candle(**OF, interval="1m", start=0, end=60, open=D(1), high=D(2), low=D("0.5"), close=D(1), volume=D(9),
           quote_volume=None, vwap=D("1.1"), trades=4, taker_buy_volume=None, complete=True, final=False,
           source="venue", revision=2),
    FeedStatus(**OF, channel=Channel.BOOK, state=TrustState.STALE, since=3, reason="gap"),
    ConnectionState(**HEAD, connection="okx/business", state=Lifecycle.ACTIVE),
    VenueStatus(**OF, status="maintenance", message="soon"),
    ConnectionGap(**HEAD, expected=4, got=9),
    GapFilling(**OF, channel=Channel.TRADES, after="4", before="9", from_time=1, to_time=2, attempts=2, cause="html"),
    GapOpened(**OF, channel=Channel.TRADES, after="4", before="9", from_time=1, to_time=2, cause="ids"),
    GapClosed(**OF, channel=Channel.TRADES, after="4", before="9", from_time=1, to_time=2,
              healed=True, cause="backfill", recovered=4),
    Skipped(**OF, channel=Channel.TRADES, first="4", last="5", after=3, reason="ADL"),
    InstrumentChanged(**HEAD, change=Change.LISTED, instrument=Instrument(
        id=InstrumentId("okx", "BTC-USDT-SWAP"), pair="BTC-USDT-PERP", base="BTC", quote="USDT", kind=Kind.PERPETUAL,
        tradable=True, status="live", tick_size=D("0.1"), lot_size=D("0.01"), contract_value=D("0.01"))),
    FeedError(**HEAD, symbol="", channel="", reason="garbage", quarantined=True, text="\ufffd"),
    BookAudited(**OF, sequence=7, levels=50, bids_match=0.98, asks_match=1.0, exact=False, wrong=True),
]


def test_every_kind_of_event_is_tried():
    assert {type(it) for it in EVENTS} == set(get_args(Event))


@pytest.mark.parametrize("event", EVENTS, ids=kind_of)
def test_an_event_survives_its_encoding(event):
    assert decode(encode(event)) == event
    assert encode(decode(encode(event))) == encode(event)


@pytest.mark.parametrize("event", EVENTS, ids=kind_of)
def test_events_are_immutable_and_hashable(event):
    with pytest.raises(AttributeError):
        event.venue = "other"
    assert hash(event) == hash(decode(encode(event)))


def test_levels_are_written_as_plain_digits():
    assert b'"bids":[["0.00000001","5.00"],["100","0"]]' in encode(EVENTS[1])


def test_levels_from_the_wire_are_encoded_like_any():
    raw = Levels(Raw(b'[["1.50","2"]]'), Shape.PAIRS)
    assert encode(BookDelta(**OF, after=1, sequence=2, bids=raw, asks=raw)) == encode(
        BookDelta(**OF, after=1, sequence=2, bids=Levels.of([(D("1.50"), D(2))]), asks=Levels.of([(D("1.50"), D(2))])))


@given(price=st.decimals(min_value=0, max_value=10**15, places=8), size=st.decimals(0, 10**15, places=3))
def test_no_digit_is_lost(price, size):
    event = Quote(**OF, bid=(price, size), ask=None)
    back = decode(encode(event)).bid
    assert [str(it) for it in back] == [str(price), str(size)]


ROOT = Path(__file__).parents[2]
COMMON = {"venue", "received_time", "available_at", "symbol", "exchange_time"}


SECTION = re.compile(r"^### (\w+)\n(.*?)(?=^##|\Z)", re.MULTILINE | re.DOTALL)
FIRST_CELL = re.compile(r"^\| (`.*?) \|", re.MULTILINE)


@pytest.mark.parametrize("kind", get_args(Event), ids=lambda it: it.__name__)
def test_the_document_speaks_of_every_field(kind):
    sections = dict(SECTION.findall((ROOT / "EVENTS.md").read_text()))
    cells = FIRST_CELL.findall(sections[kind.__struct_config__.tag])
    assert set(re.findall(r"`(\w+)`", " ".join(cells))) == set(kind.__struct_fields__) - COMMON
