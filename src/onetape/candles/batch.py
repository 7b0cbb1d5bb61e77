"""The same candles from what is stored: from trades, or from shorter candles."""
from collections.abc import Iterable, Sequence
from itertools import chain

from msgspec import structs

from onetape.candles.builder import CandleBuilder, touched
from onetape.candles import RunningCandle
from onetape.candles.series import BEGINNING, Series
from onetape.model import Candle, InstrumentId, Trade

_EVER = 1 << 63  # ns


def build(
    trades: Iterable[Trade], interval: str, now: int, *, until: int | None = None, covered_since: int | None = None,
    gaps: Sequence[tuple[int, int]] = (), carry_empty: bool = False,
) -> list[Candle]:
    """The final candles of one instrument's trades, each trade once, in any order; available at ``now``.

    ``until``: all trades up to this exchange time are there (None: up to the last one); what ends later is left out.
    ``covered_since``: None for the first of the trades. ``gaps``: exchange times of the trades on both sides of each.
    Raises ValueError: not an interval.
    """
    rest = iter(trades)
    one = next(rest, None)
    if one is None:
        return []
    builder = CandleBuilder(
        InstrumentId(one.venue, one.symbol), (interval,), 0, carry_empty=carry_empty, covered_since=covered_since,
        retention_ns=_EVER, max_kept=_EVER, max_gaps=_EVER,
    )
    for from_time, to_time in gaps:
        builder.gap_opened(from_time, to_time)
    first = last = one.exchange_time
    for it in chain((one,), rest):
        builder.add(it, now)
        first, last = min(first, it.exchange_time), max(last, it.exchange_time)
    if covered_since is None:
        builder.cover(first)
    return builder.wake(last if until is None else until, now)


def roll_up(
    candles: Iterable[Candle], interval: str, *, until: int | None = None, covered_since: int | None = None,
    gaps: Sequence[tuple[int, int]] = (),
) -> list[Candle]:
    """Candles of a longer interval from one instrument's final ones of one shorter interval, in any order.

    Of several revisions the highest counts. ``until``: what ends later is left out (None: than the last of them).
    A candle is complete if all its parts are, it does not begin before ``covered_since``, and no gap lies in it (where
    there is nothing, there is no part to tell); it was available when the last of its parts was. Raises ValueError: the
    candles do not fit into the interval, or are of several.
    """
    series = Series(interval, BEGINNING, carry_empty=False)
    latest: dict[int, Candle] = {}
    for it in candles:
        if it.final and (it.end not in latest or it.revision > latest[it.end].revision):
            latest[it.end] = it
    if len({it.interval for it in latest.values()}) > 1:
        raise ValueError(f"candles of {interval} are made of candles of one interval")
    groups: dict[int, list[Candle]] = {}
    for _, it in sorted(latest.items()):
        if series.end_of(it.start) != series.end_of(it.end - 1):
            raise ValueError(f"candles of {it.interval} do not make up candles of {interval}")
        groups.setdefault(series.end_of(it.start), []).append(it)
    known = max(latest, default=0) if until is None else until
    out = []
    for end, parts in groups.items():
        start = end - series.length
        covered = (covered_since is None or start >= covered_since) and not touched(start, end, gaps)
        if end <= known:
            out.append(_sum(parts, interval, start, end, covered=covered))
    return out


def _sum(parts: list[Candle], interval: str, start: int, end: int, *, covered: bool) -> Candle:
    first = parts[0]
    traded = [it for it in parts if it.volume]
    total = RunningCandle.of(first)
    if traded:  # those that only carry a close have no say in open, high and low
        total = RunningCandle.of(traded[0])
        for it in traded[1:]:
            total.merge(RunningCandle.of(it))
    candle = total.candle(
        InstrumentId(first.venue, first.symbol), interval, start, end, max(it.available_at for it in parts),
        complete=covered and all(it.complete for it in parts), final=True,
    )
    unknown = {  # venues do not say all of it
        name: None for name in ("quote_volume", "trades", "taker_buy_volume")
        if any(getattr(it, name) is None for it in traded)
    }
    if "quote_volume" in unknown:
        unknown["vwap"] = None
    return structs.replace(candle, source=first.source, received_time=max(it.received_time for it in parts), **unknown)
