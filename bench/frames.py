"""The frames that all are fed in the race against the peers: generated bursts, and real ones from the recordings."""
import json
import os
import random
from array import array
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

MILLISECOND = 1_000_000
START = 1_790_000_000_000  # ms since the epoch, of the first generated frame
MIDDLE = 6_000_000  # cents; the best bid that can be there, the best ask is a cent above
REACH = 100  # cents by which the market walks away from there, at most
LEVELS = 1_000  # per side of the snapshot
SPREAD = 30  # cents from the top to a changed level, on average
NO_TRADES = "of trades it takes none but aggTrade"
RECORDING = "binance/spot_20240808_ethusdt"


@dataclass
class Burst:
    """What one stage is fed, and what has to come of it."""

    name: str
    symbol: str
    frames: list[bytes]
    times: array  # when each was received, ns
    calls: dict[str, int]
    """How often a subscriber is called: by kind (book, trade, quote)."""
    snapshot: bytes = b""
    """Of REST; it is there before the first frame."""
    fails: dict[str, str] = field(default_factory=dict)
    """Who cannot be fed with this, and why."""

    def save(self, folder: Path) -> dict[str, str]:
        """As files, for processes that share nothing else; gives the order to run it."""
        path = folder / self.name.replace(" ", "_").replace(",", "")
        path.with_suffix(".jsonl").write_bytes(b"\n".join(self.frames))
        path.with_suffix(".json").write_bytes(self.snapshot)
        path.with_suffix(".times").write_bytes(self.times.tobytes())
        return {"name": self.name, "symbol": self.symbol, "path": str(path)}


# --- generated -------------------------------------------------------------------------------------------------------


def walk(dice: random.Random, count: int) -> Iterator[tuple[int, str, str]]:
    """Middle, bids and asks of so many depth frames: twelve levels each on average, a fifth of them taken away.

    A frame takes away what the market has walked over, whether it is there or not, so the book never is crossed, and
    the frames can come again from the first one: the market comes back to where it began.
    """
    middle = MIDDLE
    for left in range(count, 0, -1):
        step = dice.choice((-1, 0, 0, 1))
        if abs(middle + step - MIDDLE) >= min(REACH, left):
            step = (middle < MIDDLE) - (middle > MIDDLE)
        bids, asks = _side(dice), _side(dice)
        over = middle + (step > 0)
        middle += step
        gone = [f'["{price(over)}","0.00000000"]'] if step else []
        yield (
            middle,
            ",".join([*(gone if step < 0 else ()), *(f'["{price(middle - at)}","{size}"]' for at, size in bids)]),
            ",".join([*(gone if step > 0 else ()), *(f'["{price(middle + 1 + at)}","{size}"]' for at, size in asks)]),
        )


def _side(dice: random.Random) -> list[tuple[int, str]]:
    """Distances from the top, and sizes."""
    away = dict.fromkeys(min(int(dice.expovariate(1 / SPREAD)), LEVELS // 2) for _ in range(dice.randint(3, 9)))
    return [(at, "0.00000000" if dice.random() < 0.2 else f"{dice.randint(1, 10**7) / 10**5:.8f}") for at in away]


def price(cents: int) -> str:
    return f"{cents // 100}.{cents % 100:02}000000"


def rest_book(middle: int, last: int, limit: int = LEVELS) -> bytes:
    def side(top: int, way: int) -> str:
        levels = range(min(limit, LEVELS))
        return ",".join(f'["{price(top + way * at)}","{1 + at % 9}.00000000"]' for at in levels)
    return f'{{"lastUpdateId":{last},"bids":[{side(middle, -1)}],"asks":[{side(middle + 1, 1)}]}}'.encode()


def depth(count: int) -> Burst:
    dice, last, now, frames = random.Random(7), 160, START, []
    snapshot = rest_book(MIDDLE, last)
    for _, bids, asks in walk(dice, count):
        first, last, now = last + 1, last + dice.randint(1, 20), now + 100
        frames.append(
            f'{{"stream":"btcusdt@depth@100ms","data":{{"e":"depthUpdate","E":{now},"s":"BTCUSDT","U":{first},'
            f'"u":{last},"b":[{bids}],"a":[{asks}]}}}}'.encode()
        )
    return Burst("depth", "BTCUSDT", frames, _times(count, 100), {"book": count}, snapshot)


def trades(count: int, kind: str) -> Burst:
    """``kind``: trade or aggTrade; 50 per second."""
    dice, now, middle, frames = random.Random(11), START, MIDDLE, []
    for id in range(1, count + 1):
        middle, now = middle + dice.choice((-1, 0, 1)), now + 20
        ids = f'"t":{id}' if kind == "trade" else f'"a":{id},"f":{2 * id},"l":{2 * id + 1}'
        frames.append(
            f'{{"stream":"btcusdt@{kind}","data":{{"e":"{kind}","E":{now},"s":"BTCUSDT",{ids},"p":"{price(middle)}",'
            f'"q":"0.{dice.randint(1, 99_999):05}000","T":{now - 1},"m":{"true" if dice.random() < 0.5 else "false"},'
            f'"M":true}}}}'.encode()
        )
    fails = {"cryptofeed": NO_TRADES} if kind == "trade" else {}
    return Burst(kind, "BTCUSDT", frames, _times(count, 20), {"trade": count}, fails=fails)


def _times(count: int, step: int) -> array:
    """Five milliseconds after the exchange's time."""
    return array("q", ((START + 5 + step * at) * MILLISECOND for at in range(1, count + 1)))


# --- recordings ------------------------------------------------------------------------------------------------------


def recordings() -> list[Burst]:
    """None, where they are not: the reason is printed."""
    root = Path(__file__).parents[1]
    folder = Path(os.environ.get("ONETAPE_RECORDINGS", root.parent / "shared" / "recordings"))
    path = folder / f"{RECORDING}.jsonl"
    if not path.is_file():
        print(f"no recordings raced: {path} is not there (ONETAPE_RECORDINGS says where they are)")
        return []
    snapshot = (folder / f"{RECORDING}.rest_depth.json").read_bytes()
    last = json.loads(snapshot)["lastUpdateId"]
    times = map(int, (folder / f"{RECORDING}.recv_ns.txt").read_text().split())
    rows = []
    for time, frame in sorted(zip(times, path.read_bytes().splitlines(), strict=True), key=lambda it: it[0]):
        data = json.loads(frame)["data"]
        kind = {"depthUpdate": "book", "trade": "trade", None: "quote"}[data.get("e")]
        if kind != "book" or data["u"] > last:  # what the snapshot reaches over is not fed: not everybody drops it
            rows.append((time, frame, kind))
    return [
        _recording("recording, book and quotes", [it for it in rows if it[2] != "trade"], snapshot, {}),
        _recording("recording, all", rows, snapshot, {"cryptofeed": NO_TRADES}),
    ]


def _recording(name: str, rows: list[tuple[int, bytes, str]], snapshot: bytes, fails: dict[str, str]) -> Burst:
    return Burst(
        name, "ETHUSDT", [frame for _, frame, _ in rows], array("q", (time for time, _, _ in rows)),
        dict(Counter(kind for _, _, kind in rows)), snapshot, fails,
    )
