"""The text of every frame of the simulated Advanced Trade: numbers as strings and cut short (sections 3 to 7.1)."""
from collections.abc import Iterable, Mapping, Sequence

from msgspec import json

from onetape.clock import SECOND
from onetape.sim.base import Match
from onetape.sim.klines import Kline
from onetape.sim.truth import Day, Level
from onetape.sim.venues.coinbase_paper import (
    NAMES,
    Paper,
    go_time,
    maker_side,
    short_micros,
    short_nanos,
    trimmed,
)
from onetape.sim.venues.coinbase_sockets import Said

MINIMUM = "1"
"""Of an order, in the quote."""


def framed(channel: str, time: int, event: str) -> Said:
    """The envelope around one event (section 3); its number is the connection's own."""
    head = f'{{"channel":"{channel}","timestamp":"{short_nanos(time)}","sequence_num":'
    return Said(head.encode(), f',"events":[{event}]}}'.encode())


def failed(message: str) -> Said:
    """Bears no number (section 3)."""
    return Said(json.encode({"type": "error", "message": message}))


def subscriptions(heard: Mapping[str, Sequence[str]], time: int) -> Said:
    shown = {name: [it or name for it in heard[name]] for name in sorted(heard)}
    return framed("subscriptions", time, json.encode({"subscriptions": shown}).decode())


def heartbeat(running: int, time: int) -> Said:
    event = f'{{"current_time":"{go_time(time, running)}","heartbeat_counter":{running // SECOND}}}'
    return framed("heartbeats", time, event)


def book(paper: Paper, kind: str, rows: Iterable[str], time: int) -> Said:
    event = f'{{"type":"{kind}","product_id":"{paper.symbol}","updates":[{",".join(rows)}]}}'
    return framed("l2_data", time, event)


def level_rows(paper: Paper, bid: bool, levels: Iterable[Level], changed: int) -> list[str]:
    head = f'{{"side":"{"bid" if bid else "offer"}","event_time":"{short_micros(changed)}","price_level":"'
    price, size = paper.price, paper.size
    return [f'{head}{price(ticks)}","new_quantity":"{size(lots)}"}}' for ticks, lots in levels]


def trades(paper: Paper, kind: str, matches: Iterable[Match], time: int, skew: int) -> Said:
    """The newest first."""
    rows = ",".join(trade_row(paper, it, skew) for it in reversed(list(matches)))
    return framed("market_trades", time, f'{{"type":"{kind}","trades":[{rows}]}}')


def trade_row(paper: Paper, it: Match, skew: int) -> str:
    return (
        f'{{"product_id":"{paper.symbol}","trade_id":"{it.id}","price":"{paper.price(it.price)}",'
        f'"size":"{paper.size(it.size)}","time":"{short_micros(it.time + skew)}","side":"{maker_side(it).upper()}"}}'
    )


def candles(paper: Paper, kind: str, klines: Iterable[Kline], time: int) -> Said:
    rows = ",".join(
        json.encode(candle_row(paper, it, ("high", "low", "open", "close")) | {"product_id": paper.symbol}).decode()
        for it in klines
    )
    return framed("candles", time, f'{{"type":"{kind}","candles":[{rows}]}}')


def candle_row(paper: Paper, it: Kline, order: Sequence[str]) -> dict[str, str]:
    prices = {"open": it.open, "high": it.high, "low": it.low, "close": it.close}
    return {
        "start": str(it.start // SECOND), **{name: paper.price(prices[name]) for name in order},
        "volume": paper.size(it.volume),
    }


def ticker_row(paper: Paper, day: Day, *, best: bool) -> str:
    """No market is old enough here for its 52 weeks to be other than its day."""
    price, size, truth = paper.price, paper.size, paper.truth
    row = {
        "type": "ticker", "product_id": paper.symbol, "price": price(day.last), "volume_24_h": size(day.volume),
        "low_24_h": price(day.low), "high_24_h": price(day.high), "low_52_w": price(day.low),
        "high_52_w": price(day.high), "price_percent_chg_24_h": percent(day),
    }
    if best:
        bid, ask = (side[0] if side else (0, 0) for side in (truth.bids(1), truth.asks(1)))
        row |= {
            "best_bid": price(bid[0]), "best_ask": price(ask[0]), "best_bid_quantity": size(bid[1]),
            "best_ask_quantity": size(ask[1]),
        }
    return json.encode(row).decode()


def percent(day: Day) -> str:
    return trimmed(f"{100 * (day.last - day.open) / day.open:.14f}")


def tickers(channel: str, kind: str, row: str, time: int) -> Said:
    return framed(channel, time, f'{{"type":"{kind}","tickers":[{row}]}}')


def statuses(kind: str, papers: Iterable[Paper], time: int) -> Said:
    rows = [status_row(it) for it in papers]
    return framed("status", time, json.encode({"type": kind, "products": rows}).decode())


def status_row(paper: Paper) -> dict[str, str]:
    it = paper.listing
    return {
        "product_type": "SPOT", "id": it.symbol, "base_currency": it.base, "quote_currency": it.quote,
        "base_increment": f"{it.lot:f}", "quote_increment": f"{it.tick:f}", "display_name": f"{it.base}/{it.quote}",
        "status": "online", "status_message": "", "min_market_funds": MINIMUM,
    }


def product_row(paper: Paper, now: int, *, alias: bool, shown_as: Sequence[str]) -> dict[str, object]:
    """As captured in 2026. An alias is the same book under another name."""
    it, day = paper.listing, paper.truth.day(now)
    quote = "USDC" if alias else it.quote
    name = f"{it.base}-{quote}" if alias else it.symbol
    value = f"{day.quote * it.tick * it.lot:.2f}" if day else "0"
    lot = f"{it.lot:f}"
    return {
        "product_id": name, "price": paper.price(day.last) if day else "",
        "price_percentage_change_24h": percent(day) if day else "", "volume_24h": paper.size(day.volume if day else 0),
        "volume_percentage_change_24h": "0", "base_increment": lot, "quote_increment": f"{it.tick:f}",
        "quote_min_size": MINIMUM, "quote_max_size": "150000000", "base_min_size": lot, "base_max_size": "3400",
        "base_name": NAMES.get(it.base, it.base), "quote_name": NAMES.get(quote, quote), "watched": False,
        "is_disabled": False, "new": False, "status": "online", "cancel_only": False, "limit_only": False,
        "post_only": False, "trading_disabled": False, "auction_mode": False, "product_type": "SPOT",
        "quote_currency_id": quote, "base_currency_id": it.base, "fcm_trading_session_details": None,
        "mid_market_price": "", "alias": it.symbol if alias else "", "alias_to": [] if alias else shown_as,
        "base_display_symbol": it.base, "quote_display_symbol": it.quote, "view_only": False,
        "price_increment": f"{it.tick:f}", "display_name": name, "product_venue": "CBE",
        "approximate_quote_24h_volume": value, "new_at": "2023-01-01T00:00:00Z", "market_cap": "", "base_cbrn": "",
        "quote_cbrn": "", "product_cbrn": "", "icon_color": "", "icon_url": "", "display_name_overwrite": "",
        "is_alpha_testing": False, "about_description": "", "best_bid_price": "", "best_ask_price": "",
        "high_24h": paper.price(day.high) if day else "", "low_24h": paper.price(day.low) if day else "",
    }
