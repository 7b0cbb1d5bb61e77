"""Finds the instruments that a file speaks of."""
from pathlib import Path

from onetape import demo, venues
from onetape.errors import UsageError
from onetape.feed.recording import open_recording
from onetape.model import Instrument
from onetape.venues.base import UNREADABLE


def instruments_of(path: Path | None, venue: str | None) -> list[Instrument]:
    """Of a recording of ours, or of an instrument list as the venue's REST gave it. Raises UsageError."""
    if venue is not None:
        venues.spec(venue)
    path = demo.SESSION if path is None else path
    header = open_recording(path).header
    if header is not None:
        return [it for it in header.instruments if venue in (None, it.id.venue)]
    if venue is None:
        raise UsageError(f"say --venue: whose list is {path}?")
    try:
        listed, _ = venues.create(venue).parse_instruments(path.read_bytes())
    except UNREADABLE as error:
        raise UsageError(f"{path} is not an instrument list of {venue}: {error}") from error
    return listed
