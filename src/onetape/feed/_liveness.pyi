# To the type checker it is the reference: it fills the same interface, and tests hold it to that.
from onetape.feed.liveness import Pulse as Pulse
