"""Where a client's program finds the simulator: by address, or by resolving the venues' real names to it."""
import json
import socket
import sys

WANTED = json.loads(sys.argv[1])
"""``venue``, ``symbol``, ``websocket`` and ``rest`` (addresses), ``trades`` and ``books`` (how many are enough)."""

_real = socket.getaddrinfo


def _resolve(host, port, *arguments, **rest):
    name = host.decode() if isinstance(host, bytes) else host
    if name in WANTED["names"]:
        return _real("127.0.0.1", WANTED["names"][name], *arguments, **rest)
    return _real(host, port, *arguments, **rest)


socket.getaddrinfo = _resolve
