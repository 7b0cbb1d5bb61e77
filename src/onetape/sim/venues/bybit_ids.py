"""The trade ids of the simulated Bybit: digits on spot, UUIDs on linear, consecutive on neither (section 5.1)."""
from zlib import crc32

_STEP = 4  # spot ids rise by one to seven
_ROOM = 10**16
_BITS = 62  # of a UUID, behind its variant
_FACTOR, _MASK = 0x1F35_7A91_C3D2_4E6B, (1 << _BITS) - 1
_INVERSE = pow(_FACTOR, -1, 1 << _BITS)


def trade_id(symbol: str, match: int, *, linear: bool) -> str:
    if linear:
        return _uuid(symbol, match)
    return str(_series(symbol) * _ROOM + _STEP * match + match * 40_503 % 65_521 % _STEP)


def match_id(trade_id: str) -> int:
    """The match that a trade id stands for: what a test compares with the truth, and no client can know."""
    if "-" in trade_id:
        return (int(trade_id.replace("-", ""), 16) & _MASK) * _INVERSE & _MASK
    return int(trade_id) % _ROOM // _STEP


def _series(symbol: str) -> int:
    """The first three digits: one series for each symbol."""
    return 200 + crc32(symbol.encode()) % 100


def _uuid(symbol: str, match: int) -> str:
    tail = match * _FACTOR & _MASK
    head = (tail * 0x9E37_79B9_7F4A_7C15 >> 7 ^ crc32(symbol.encode()) << 31) & 0xFFFF_FFFF_FFFF_0FFF | 0x5000
    text = f"{head << 64 | 0b10 << _BITS | tail:032x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"
