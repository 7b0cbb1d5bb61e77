# To the type checker it is the reference: it fills the same interface, and tests hold it to that.
from onetape.candles.running import RunningCandle as RunningCandle
