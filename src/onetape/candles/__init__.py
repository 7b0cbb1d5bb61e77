"""Candles: trades of one instrument summed over intervals of time, provisional, final, and corrected.

The running one is compiled where that is built, else the reference in pure Python.
"""
from onetape.candles.running import RunningCandle

try:
    from onetape.candles import _running

    _compiled = _running.RunningCandle
except (ImportError, AttributeError, TypeError):  # as in book/__init__.py; TypeError: built with another _numbers
    COMPILED = False
else:
    COMPILED = True
    RunningCandle = _compiled  # type: ignore[misc]

__all__ = ["COMPILED", "RunningCandle"]
