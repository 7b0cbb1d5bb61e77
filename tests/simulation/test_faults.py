"""Every fault of the simulator on every venue, in memory: what is live is right, what is lost is told, all heals."""
import os

import pytest

from onetape.clock import SECOND
from onetape.sim.faults import Fault, FaultKind, FaultPlan
from tests.simulation.lab import START, Lab

LONG = bool(os.environ.get("ONETAPE_LONG"))
AT, LASTS, HEALED_WITHIN = 8.0, 10.0, 45.0
CLOSE = Fault(kind=FaultKind.CLOSE, at=AT + 1, code=1006)  # so that a snapshot is needed
CASES = {
    "drop": [Fault(kind=FaultKind.DROP, at=AT, lasts=LASTS, share=0.1)],
    "double": [Fault(kind=FaultKind.DOUBLE, at=AT, lasts=LASTS, share=0.3)],
    "delay": [Fault(kind=FaultKind.DELAY, at=AT, lasts=LASTS, share=0.05, seconds=2.0)],
    "reorder": [Fault(kind=FaultKind.REORDER, at=AT, lasts=LASTS, share=0.2)],
    "corrupt": [Fault(kind=FaultKind.CORRUPT, at=AT, lasts=LASTS, share=0.05)],
    "garbage": [Fault(kind=FaultKind.GARBAGE, at=AT, lasts=LASTS, share=0.05)],
    "giant": [Fault(kind=FaultKind.GIANT, at=AT, lasts=LASTS, seconds=5.0, code=34_000_000)],
    "checksum": [Fault(kind=FaultKind.CHECKSUM, at=AT, lasts=LASTS, share=0.1)],
    "skip_sequence": [Fault(kind=FaultKind.SKIP_SEQUENCE, at=AT, lasts=LASTS, share=0.1)],
    "half_open": [Fault(kind=FaultKind.HALF_OPEN, at=AT)],
    "silent book": [Fault(kind=FaultKind.SILENT, at=AT, lasts=40.0, channel="book")],
    "silent trades": [Fault(kind=FaultKind.SILENT, at=AT, lasts=40.0, channel="trades")],
    "slow_rest": [Fault(kind=FaultKind.SLOW_REST, at=AT, lasts=LASTS, seconds=4.0), CLOSE],
    "rest without answer": [Fault(kind=FaultKind.SLOW_REST, at=AT, lasts=LASTS, seconds=60.0), CLOSE],
    "stale_snapshot": [Fault(kind=FaultKind.STALE_SNAPSHOT, at=AT, lasts=LASTS, seconds=5.0), CLOSE],
    "rest 429": [Fault(kind=FaultKind.REST_STATUS, at=AT, lasts=LASTS, code=429, seconds=5.0), CLOSE],
    "rest 418": [Fault(kind=FaultKind.REST_STATUS, at=AT, lasts=LASTS, code=418, seconds=20.0), CLOSE],
    "rest 503": [Fault(kind=FaultKind.REST_STATUS, at=AT, lasts=LASTS, code=503), CLOSE],
    "close without a word": [Fault(kind=FaultKind.CLOSE, at=AT, lasts=LASTS, code=1006, seconds=3.0)],
    "close 1001": [Fault(kind=FaultKind.CLOSE, at=AT, code=1001)],
    "close 1008": [Fault(kind=FaultKind.CLOSE, at=AT, code=1008)],
    "close 1012": [Fault(kind=FaultKind.CLOSE, at=AT, code=1012)],
    "notice": [Fault(kind=FaultKind.NOTICE, at=AT, lasts=LASTS)],
    "clock ahead": [Fault(kind=FaultKind.CLOCK_SKEW, at=AT, lasts=LASTS, seconds=3.0)],
    "clock behind": [Fault(kind=FaultKind.CLOCK_SKEW, at=AT, lasts=LASTS, seconds=-3.0)],
    "refuse_symbol": [Fault(kind=FaultKind.REFUSE_SYMBOL, at=AT, lasts=LASTS), CLOSE],
    "refuse_connect": [Fault(kind=FaultKind.REFUSE_CONNECT, at=AT, lasts=LASTS, code=503), CLOSE],
    "too many connections": [
        Fault(kind=FaultKind.REFUSE_CONNECT, at=AT, lasts=LASTS, code=429, seconds=10.0), CLOSE],
    "turned away": [Fault(kind=FaultKind.REFUSE_CONNECT, at=AT, lasts=LASTS, code=429), CLOSE],
    "forbidden": [Fault(kind=FaultKind.REFUSE_CONNECT, at=AT, lasts=LASTS, code=403), CLOSE],
    "dns": [Fault(kind=FaultKind.DNS, at=AT, lasts=LASTS), CLOSE],
    "dns at the start": [Fault(kind=FaultKind.DNS, at=0.0, lasts=LASTS)],
}
SYMBOLS = {
    "binance": "BTCUSDT", "binance-usdm": "BTCUSDT", "bybit": "linear:BTCUSDT", "coinbase": "BTC-USD",
    "coinbase-exchange": "BTC-USD", "kraken": "BTC/USDT",
    "okx": "BTC-USDT-SWAP",
}
BOTH = ["BTC-USDT", "ETH-USDT", "BTC-USDT-PERP"]
DOLLARS = ["BTC-USD", "ETH-USD"]
PAIRS = {
    "binance-usdm": ["BTC-USDT-PERP", "ETH-USDT-PERP"], "bybit": BOTH, "okx": BOTH,
    "coinbase": DOLLARS, "coinbase-exchange": DOLLARS,
}
UNSEEN = {("bybit", "drop"), ("bybit", "skip_sequence")}  # its ids do not tell that one is missing between two others
BLIND = {("coinbase-exchange", "drop"), ("coinbase-exchange", "reorder")}
"""Books without any number, which nothing but the audit by REST can put right."""


def plan_of(case, venue):
    named = {FaultKind.SILENT, FaultKind.REFUSE_SYMBOL}
    faults = [
        Fault(kind=it.kind, venue=venue, at=it.at, lasts=it.lasts, symbol=SYMBOLS[venue] if it.kind in named else "",
              channel=it.channel, share=it.share, code=it.code, seconds=it.seconds)
        for it in CASES[case]
    ]
    return FaultPlan(faults=tuple(faults), seed=7)


def matrix():
    """Every fault on every venue; those that fall into planned rotations as a sample, or all with ONETAPE_LONG."""
    for row, venue in enumerate(SYMBOLS):
        for column, case in enumerate(CASES):
            yield pytest.param(case, venue, False, id=f"{case}-{venue}")
            if LONG or (row + column) % 7 == 0:
                yield pytest.param(case, venue, True, id=f"{case}-{venue}-rotating")


@pytest.mark.long
@pytest.mark.parametrize(("case", "venue", "rotating"), list(matrix()))
def test_a_fault(case, venue, rotating):
    plan = plan_of(case, venue)
    settings = {"pairs": PAIRS.get(venue, ["BTC-USDT", "ETH-USDT"])}
    blind = (venue, case) in BLIND
    settings["timings"] = ({"rotate_after": 7.0} if rotating else {}) | ({"audit": 4.0} if blind else {})
    lab = Lab(plan, venue=venue, settings=settings, pace=0.7, promised=True)
    lab.start()
    if case != "dns at the start":
        lab.play(AT - 1)
        assert lab.healthy, lab.states
    ends = max(it.ends() for it in plan.faults)
    lab.play(ends)
    flowing = 0  # seconds in a row in which all was well and something came
    for second in range(int(HEALED_WITHIN) + 1):
        seen = lab.referee.verdict.books
        lab.play(ends + second)
        flowing = flowing + 1 if lab.healthy and lab.referee.verdict.books > seen else 0
        if flowing == 4:
            break
    assert flowing, (lab.states, {key: (it.state, it.reason) for key, it in lab.books().items()})
    if blind:
        lab.play(ends + HEALED_WITHIN)
        assert {book.verification for book in lab.books().values()} == {"none"}
    seen, unproven = lab.referee.verdict.trades, lab.referee.verdict.unproven
    lab.play((lab.now - START) / SECOND + 10)
    assert lab.referee.verdict.trades > seen, "no trades come"
    assert lab.healthy or rotating  # then a rotation may be under way
    assert not lab.deceived(5 * SECOND)
    lab.stop()
    verdict = lab.referee.finish()
    assert verdict.books > 50
    assert not verdict.wrong, verdict.findings
    assert verdict.unproven == unproven, "nothing but the fault makes them differ, and not for long"
    assert blind or not unproven
    if (venue, case) not in UNSEEN:
        assert lab.missing() == lab.told_missing()
