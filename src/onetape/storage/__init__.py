"""Keeps what was seen: the journal first, every other store as its reader."""
