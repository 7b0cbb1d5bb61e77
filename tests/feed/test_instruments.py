"""What is different in a venue's list of instruments is told once; a list that cannot be meant is no list."""
from decimal import Decimal

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from onetape import venues
from onetape.feed import instruments as module
from onetape.feed.instruments import Directory
from onetape.model import Change, Instrument, InstrumentId, Kind


def instrument(name, kind=Kind.SPOT, **changed):
    return structs.replace(Instrument(
        id=InstrumentId("kraken", name), pair="" if kind is Kind.OTHER else f"{name}-USD", base=name, quote="USD",
        kind=kind, tradable=True, status="online", tick_size=Decimal("0.1"), lot_size=Decimal("0.01"),
    ), **changed)


class Listing:
    """A venue whose pages are names, as JSON; it is asked for nothing else."""

    spec = venues.spec("kraken")

    def parse_instruments(self, page):
        rows = msgspec.json.decode(page, type=list[str | dict[str, str]])
        return [instrument(it) if isinstance(it, str) else self._read(**it) for it in rows], None

    @staticmethod
    def _read(name="", kind="spot", **changed):
        return instrument(name, Kind(kind), **changed)


def directory(*names):
    return Directory(Listing(), [instrument(it) for it in names])


def page(*rows):
    return msgspec.json.encode(rows)


def lasting(it, *pages, at=1):
    """The same list twice, since what is missing once may only have been unreadable; what both told."""
    return [*it.receive(pages, at), *it.receive(pages, at)]


def told(changes):
    return [(it.change, it.instrument.id.symbol) for it in changes]


def test_the_first_list_is_all_news():
    it = directory()
    changes = it.receive([page("A", "B"), page("C")], 7)
    assert told(changes) == [(Change.LISTED, "A"), (Change.LISTED, "B"), (Change.LISTED, "C")]
    assert {(one.venue, one.received_time, one.available_at) for one in changes} == {("kraken", 7, 7)}
    assert set(it.instruments) == {InstrumentId("kraken", name) for name in "ABC"}


def test_the_same_list_is_no_news():
    assert directory("A", "B").receive([page("B", "A")], 1) == []


def test_a_listing_and_a_delisting():
    it = directory("A", "B", "C")
    first, then = it.receive([page("A", "C", "D")], 1), it.receive([page("A", "C", "D")], 1)
    assert told(first) == [(Change.LISTED, "D")]
    assert told(then) == [(Change.DELISTED, "B")]
    assert then[0].instrument.tradable is False
    assert then[0].instrument.pair == "B-USD"  # whoever held it knows what is meant
    assert set(it.instruments) == {InstrumentId("kraken", name) for name in "ACD"}
    assert it.receive([page("A", "C", "D")], 2) == []


def test_a_rename_and_an_update():
    it = directory("A", "B", "C")
    changes = it.receive([page({"name": "A", "pair": "NEW-USD"}, {"name": "B", "status": "maintenance"}, "C")], 1)
    assert told(changes) == [(Change.RENAMED, "A"), (Change.UPDATED, "B")]
    assert changes[0].instrument.pair == "NEW-USD"


def test_the_same_pair_by_another_symbol():
    """One change, not two: who follows the pair goes on with the new symbol."""
    it = directory("A", "B", "C")
    changes = it.receive([page("A", "B", {"name": "C2", "pair": "C-USD"})], 1)
    assert told(changes) == [(Change.RENAMED, "C2")]
    assert changes[0].symbol_before == "C"
    assert set(it.instruments) == {InstrumentId("kraken", name) for name in ("A", "B", "C2")}


def test_back_again():
    it = directory("A", "B", "C")
    assert told(lasting(it, page("A", "B"))) == [(Change.DELISTED, "C")]
    assert told(it.receive([page("A", "B", "C")], 2)) == [(Change.LISTED, "C")]


def test_what_is_missing_once_was_never_gone():
    it = directory("A", "B", "C")
    assert it.receive([page("A", "B")], 1) == []
    assert it.missing == {InstrumentId("kraken", "C")}
    assert it.receive([page("A", "B", "C")], 2) == []
    assert it.missing == frozenset()
    assert told(lasting(it, page("A", "B"))) == [(Change.DELISTED, "C")]


def test_no_kind_goes_as_a_whole():
    """As when one of a venue's two lists is empty for once."""
    it = directory("A", "B", "C", "D")
    it.receive([page("A", "B", "C", "D", {"name": "P", "kind": "perpetual"})], 1)
    assert it.receive([page("A", "B", "C", "D")], 2) is None
    assert InstrumentId("kraken", "P") in it.instruments


def test_what_is_not_offered_is_not_told():
    it = directory("A")
    assert it.receive([page("A", {"name": "F", "kind": "other"})], 1) == []
    assert InstrumentId("kraken", "F") not in it.instruments


def test_the_last_page_wins_where_two_name_the_same():
    it = directory("A")
    assert told(it.receive([page("A"), page({"name": "A", "status": "post_only"})], 1)) == [(Change.UPDATED, "A")]


@pytest.mark.parametrize("pages", [
    [], [b""], [b"[]"], [b"{"], [b"\xff\xfe"], [b"null"], [b'[{"kind":"no"}]'], [b"[1]"], [b"[" * 100_000],
    [page("A"), b"broken"],
    [page("A")],  # a third of the market
])
def test_a_list_that_cannot_be_meant_changes_nothing(pages):
    it = directory("A", "B", "C")
    before = dict(it.instruments)
    assert it.receive(pages, 1) is None
    assert it.instruments == before
    assert it.failures == 1


def test_half_a_market_may_go():
    assert told(lasting(directory("A", "B", "C", "D"), page("A", "B"))) == [
        (Change.DELISTED, "C"), (Change.DELISTED, "D")]


def test_a_list_without_end(monkeypatch):
    monkeypatch.setattr(module, "MAX_INSTRUMENTS", 3)
    it = directory("A")
    assert it.receive([page("A", "B", "C", "D")], 1) is None
    assert it.failures == 1
    assert len(it.receive([page("A", "B", "C")], 1)) == 2


names = st.lists(st.sampled_from("ABCDEFGH"), unique=True)


@given(st.lists(names, max_size=10))
def test_who_follows_what_is_told_knows_what_is_listed(lists):
    it, known = directory(), set()
    for at, listed in enumerate(lists):
        for change in it.receive([page(*listed)], at) or ():
            symbol = change.instrument.id.symbol
            if change.change is Change.DELISTED:
                known.remove(symbol)
            else:
                assert change.change is Change.LISTED
                assert symbol not in known
                known.add(symbol)
        assert {id.symbol for id in it.instruments} == known


@pytest.mark.parametrize("name", ["binance", "binance-usdm", "bybit", "coinbase", "coinbase-exchange", "kraken", "okx"])
@given(data=st.binary(max_size=200))
def test_no_venue_chokes_on_garbage(name, data):
    it = Directory(venues.create(name), [instrument("A")])
    assert it.receive([data], 1) is None
    assert len(it.instruments) == 1
