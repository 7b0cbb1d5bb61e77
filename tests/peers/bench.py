"""Runs a client that nobody here wrote against the simulator, and compares what it tells with the truth."""
import asyncio
import json
import os
import subprocess
import sys
import time
from collections import Counter
from decimal import Decimal
from heapq import nlargest, nsmallest
from pathlib import Path

from onetape.clock import MILLISECOND, MINUTE, SECOND
from onetape.sim.certificate import certificates
from onetape.sim.server import HOSTS, Server
from onetape.sim.simulator import Simulator

CLIENTS = Path(__file__).parent / "clients"
WITHIN = 90.0  # seconds
ABOUT_NS = 3 * SECOND  # how far a book's time may be from when it stood so: caches of two seconds are among the quirks
COARSE = {("kraken", "rest"): Decimal("0.001")}
"""Of books whose sizes are told in steps of so much: see the protocol document, section 7."""


def compared(program, venue, symbol, known_as, folder, *, tls=False, seed=1, trades=60, books=60, **rest):
    """How much of what the program said was compared, by kind and way; raises where it is not the truth.

    ``symbol``: the simulator's own; ``known_as``: the client's. ``rest``: further things that the program needs.
    """
    async def run():
        simulator = Simulator(seed, [venue], start=time.time_ns(), pace=2.0)
        shown = certificates((*HOSTS, "localhost", "127.0.0.1")) if tls else None
        async with Server(simulator, tls=shown) as server:
            if shown is not None:
                (folder / "ca.pem").write_bytes(shown.authority)
            wanted = {
                "venue": venue, "symbol": known_as, "websocket": server.websocket_url(venue), "trades": trades,
                "rest": server.rest_url(venue), "books": books, "names": names(server) if tls else {}, **rest,
            }
            said = await asyncio.to_thread(said_by, program, wanted, folder)
        return Comparison(simulator, venue, symbol).of(said)

    return asyncio.run(run())


def report(client, version, venue, counts):
    """One line for who reads the output (``make test-peers`` shows it)."""
    told = ", ".join(f"{count} {kind} ({way})" for (kind, way), count in sorted(counts.items()))
    sys.stdout.write(f"{client} {version} on {venue}: {told}\n")


def names(server):
    """Every real name, and the port behind which it is found."""
    socket, rest = (int(url("").split(":")[2].split("/")[0]) for url in (server.websocket_url, server.rest_url))
    sockets = ("stream.", "data-stream.", "fstream.", "ws.", "ws-", "advanced-trade-ws")
    return {name: socket if name.startswith(sockets) else rest for name in HOSTS}


def said_by(program, wanted, folder):
    """The lines that it prints until it ends by itself."""
    authority = str(folder / "ca.pem")
    done = subprocess.run(
        [sys.executable, CLIENTS / f"{program}.py", json.dumps(wanted)], capture_output=True, text=True, check=False,
        timeout=WITHIN, cwd=folder, env=os.environ | {
            "SSL_CERT_FILE": authority, "REQUESTS_CA_BUNDLE": authority, "PYTHONUNBUFFERED": "1",
        } if wanted["names"] else None,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]


class Comparison:
    """One instrument's truth, and all that was found of it."""

    def __init__(self, simulator, venue, symbol):
        self.venue, self.symbol = simulator.venues[venue], symbol
        self.truth = simulator.truths[venue, symbol]
        self.listings = {
            key: truth.listing for (name, key), truth in simulator.truths.items() if name == venue
        }
        self.ended = simulator.now
        self.counts = Counter()
        self.moments = {}  # by depth, and then by what the book was: from when until when, and its number

    def of(self, said):
        hear = {
            "trade": self.trade, "book": self.book, "candle": self.candle, "markets": self.markets, "begun": self.begun,
        }
        for it in said:
            hear[it["kind"]](it)
        return self.counts

    def begun(self, it):
        """How often the client lost its book, and began again."""
        self.counts["books begun again", "websocket"] += it["times"]

    def ticks(self, price):
        return exact(Decimal(price) / self.truth.listing.tick)

    def lots(self, size):
        return exact(Decimal(size) / self.truth.listing.lot)

    def trade(self, it):
        last, count = self.venue.number(it["id"]), int(it["count"] or 1)
        true = [self.venue.match(self.symbol, number) for number in range(last - count + 1, last + 1)]
        assert None not in true, f"no such trade: {it}"
        assert {(match.price, match.buy) for match in true} == {(self.ticks(it["price"]), it["side"] == "buy")}, it
        assert sum(match.size for match in true) == self.lots(it["size"]), it
        self.counts["trades", it["via"]] += 1

    def book(self, it):
        bids, asks = (
            tuple((self.ticks(price), self.lots(size)) for price, size in it[side]) for side in ("bids", "asks"))
        assert len(bids) == len(asks) >= 5, it
        step = COARSE.get((self.venue.name, it["via"]))
        if step is None:
            stood = self.stood(len(bids)).get((bids, asks), [])
        else:
            stood = self.stood_about(bids + asks, self.lots(step))
        assert stood, f"no book was ever so: {it}"
        self.counts["books", it["via"]] += 1
        if it["nonce"] is not None and not self.venue.book_clock_ns:
            assert any(first <= it["nonce"] <= last for _, _, first, last in stood), (it, stood)
            return
        time = it["time"] * MILLISECOND if it["time"] else it["seen"]
        assert any(begin - ABOUT_NS <= time <= end + ABOUT_NS for begin, end, _, _ in stood), (it, stood)

    def stood(self, depth):
        """All that the best levels ever were, as far back as it is known: (begin, end, first and last number)."""
        if depth not in self.moments:
            self.moments[depth] = found = {}
            before = None
            for time, sequence, top in tops(self.truth, depth):
                if before is not None:
                    found.setdefault(before[2], []).append((before[0], time, before[1], sequence - 1))
                before = time, sequence, top
            found.setdefault(before[2], []).append((before[0], self.ended, before[1], self.truth.sequence))
        return self.moments[depth]

    def stood_about(self, levels, step):
        """As ``stood``, of sizes that are rounded."""
        def fits(true):
            return all(a[0] == b[0] and abs(a[1] - b[1]) < step for a, b in zip(levels, true, strict=True))

        stood = self.stood(len(levels) // 2)
        return [moment for (bids, asks), moments in stood.items() if fits(bids + asks) for moment in moments]

    def candle(self, it):
        """The running one, and those without a trade, which some venues tell and others do not, are not compared."""
        start = it["start"] * MILLISECOND
        if start + MINUTE > it["seen"] or not Decimal(it["volume"]):
            return
        self.counts["candles", "rest"] += 1
        (true,) = self.truth.candles(MINUTE, start, start + MINUTE)
        assert [self.ticks(price) for price in it["prices"]] == [true.open, true.high, true.low, true.close], it
        assert self.lots(it["volume"]) == true.volume, it

    def markets(self, it):
        for listing in self.listings.values():
            found = it["markets"].get(listing.symbol) or it["markets"].get(listing.symbol.replace("/", ""))
            if found is not None:
                assert [Decimal(text) for text in found] == [listing.tick, listing.lot], listing
                self.counts["markets", "rest"] += 1


def tops(truth, depth):
    """Time, number and best levels after each order: what stood between two changes of one order was never a book."""
    first = truth.changes_since(0)[0].sequence
    book = truth.book_at(first)
    bids, asks = dict(book.bids), dict(book.asks)
    changes = truth.changes_since(first)
    for number, it in enumerate(changes):
        side = bids if it.bid else asks
        if it.size:
            side[it.price] = it.size
        else:
            side.pop(it.price, None)
        if number + 1 == len(changes) or changes[number + 1].time != it.time:
            yield it.time, it.sequence, (
                tuple((price, bids[price]) for price in nlargest(depth, bids)),
                tuple((price, asks[price]) for price in nsmallest(depth, asks)),
            )


def exact(number):
    """Whole, and nothing else: what a library makes of a price must be that price."""
    assert number == int(number), number
    return int(number)
