"""Says what was perhaps meant by a name that is unknown."""
from collections.abc import Iterable
from difflib import get_close_matches


def nearest(name: str, known: Iterable[str]) -> str:
    """``did you mean 'kraken'?``, or all that there is where that is little, or the three nearest."""
    names = sorted(known)
    close = get_close_matches(name, names, 3, 0.6) or get_close_matches(name.upper(), names, 3, 0.6)
    if close:
        return f"did you mean {' or '.join(repr(it) for it in close)}?"
    if len(names) <= 12:
        return f"there is {', '.join(names)}"
    return f"nearest are {', '.join(get_close_matches(name, names, 3, 0.0))}"
