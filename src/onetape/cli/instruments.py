"""Finds the instruments that a file speaks of."""
from pathlib import Path

from onetape import demo, venues
from onetape.errors import UsageError
from onetape.feed.inputs import Started
from onetape.feed.recording import Recording, open_recording
from onetape.model import Instrument
from onetape.venues.base import UNREADABLE


def instruments_of(path: Path | None, venue: str | None) -> list[Instrument]:
    """Of a recording of ours, or of an instrument list as the venue's REST gave it. Raises UsageError."""
    if venue is not None:
        venues.spec(venue)
    path = demo.SESSION if path is None else path
    recording = open_recording(path)
    if recording.header is not None:
        instruments = recording.header.instruments or _started(recording)
        return [it for it in instruments if venue in (None, it.id.venue)]
    if venue is None:
        raise UsageError(f"say --venue: whose list is {path}?")
    try:
        listed, _ = venues.create(venue).parse_instruments(path.read_bytes())
    except UNREADABLE as error:
        raise UsageError(f"{path} is not an instrument list of {venue}: {error}") from error
    return listed


def _started(recording: Recording) -> tuple[Instrument, ...]:
    """What the venues listed when their lines were started."""
    return tuple(one for _, it in recording.inputs if isinstance(it, Started) for one in it.instruments)
