"""No feed without a store: what is collected is followed to a row before anything is collected."""
import pytest

from onetape.errors import UsageError
from onetape.model import Channel, Ticker
from onetape.pipeline import Policy
from onetape.service import wiring
from onetape.storage import journal as journal_module
from onetape.storage.schema import TABLES, WRITERS


def test_there_is_a_probe_for_every_table():
    with wiring.probe() as portion:
        assert dict(portion.counts) == dict.fromkeys(set(TABLES) - {"batches", "instruments"}, 1)


def test_a_sound_store_takes_all_of_it():
    wiring.check_store()


@pytest.mark.parametrize("kind", sorted(WRITERS, key=lambda it: it.__name__))
def test_a_kind_of_event_that_loses_its_table_is_an_error(kind, monkeypatch):
    if kind.__name__ in ("GapFilling", "GapClosed"):
        kind = next(it for it in WRITERS if it.__name__ == "GapOpened")  # one of them stands for all three
    left = {it: to for it, to in WRITERS.items() if it is not kind}
    monkeypatch.setattr(journal_module, "WRITERS", left)
    table = WRITERS[kind][0]
    with pytest.raises(UsageError, match=f"the store did not take what was sent to try it: {table}"):
        wiring.check_store()


def test_what_a_store_did_not_take_is_named():
    with pytest.raises(UsageError, match="PostgreSQL did not take what was sent to try it: quotes: nothing would"):
        wiring.compare({"trades": 1, "quotes": 1}, {"trades": 1}, "PostgreSQL")


def test_channels_of_which_nothing_is_kept_are_told():
    assert Ticker not in WRITERS
    channels = [Channel.TRADES, Channel.TICKER, Channel.QUOTES]
    told = wiring.unstored(channels, Policy(quotes=False))
    assert list(told) == [Channel.TICKER, Channel.QUOTES]
    assert "no table" in told[Channel.TICKER]
    assert "keep.quotes is off" in told[Channel.QUOTES]
    assert wiring.unstored([it for it in Channel if it not in (Channel.TICKER, Channel.STATUS)], Policy()) == {}
