"""``onetape sim``: the simulated venues as a process of its own."""
import json
import shlex
import signal
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from onetape.cli.main import app
from onetape.errors import UsageError

if TYPE_CHECKING:
    from onetape.sim.certificate import Certificates
    from onetape.sim.faults import FaultPlan
    from onetape.sim.server import Server

CA_FILE = "simulator-ca.pem"
MIXTURE_S = 600.0  # of faults by seed, where the run has no end of its own


@app.command()
def sim(
    *,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    ws_port: Annotated[int, typer.Option(min=0, max=65_535, help="Of the WebSockets; 0: any that is free.")] = 0,
    rest_port: Annotated[int, typer.Option(min=0, max=65_535, help="Of REST; 0: any that is free.")] = 0,
    venue: Annotated[list[str] | None, typer.Option("--venue", help="Only this venue; may be repeated.")] = None,
    seed: Annotated[int, typer.Option(help="Of the market: the same seed, the same prices.")] = 1,
    pace: Annotated[float, typer.Option(help="Of the market: 10 is ten times as busy.")] = 1.0,
    faults: Annotated[
        str | None, typer.Option(metavar="SEED|FILE", help="What goes wrong: by chance, or a plan in TOML.")
    ] = None,
    truth: Annotated[Path | None, typer.Option(metavar="FILE", help="Write what really happened there.")] = None,
    duration: Annotated[float | None, typer.Option(metavar="S", help="Stop after so many seconds.")] = None,
    tls: Annotated[bool, typer.Option("--tls", help="Serve wss and https, by a certificate of its own.")] = False,
    tls_ca: Annotated[Path | None, typer.Option(
        metavar="FILE", show_default=False,
        help=f"Where the certificate authority is written; {CA_FILE} beside the truth, or in this folder.",
    )] = None,
) -> None:
    """Run the simulated venues on loopback, speaking the real wire protocols.

    Any client can be pointed at them: the address takes the place of the venue's own, the rest of the path stays.

    With --tls a client has to trust the certificate authority that is made for this run. Its file is named in
    SSL_CERT_FILE before the client starts (REQUESTS_CA_BUNDLE for clients that use requests, NODE_EXTRA_CA_CERTS for
    Node.js). It speaks for localhost, 127.0.0.1 and the venues' real names, so that a client can be sent here by name
    resolution alone.

    Examples:

      onetape sim

      onetape sim --venue kraken --seed 7 --pace 5

      onetape sim --faults 42 --truth truth.jsonl.zst

      onetape sim --tls --tls-ca ca.pem    # and then: SSL_CERT_FILE=ca.pem onetape run --live --config here.toml
    """
    import asyncio

    from onetape.sim.venues import VENUES

    if not 0 < pace <= 1_000:
        raise UsageError(f"--pace must be above 0, and 1000 at most: {pace:g}")
    if duration is not None and not duration > 0:
        raise UsageError(f"--duration must be above 0: {duration:g}")
    if tls_ca is not None and not tls:
        raise UsageError("--tls-ca is for --tls")
    names = venue or list(VENUES)
    plan = plan_of(faults, names, duration or MIXTURE_S)
    shown = _certified(host, tls_ca or (truth.parent if truth else Path()) / CA_FILE) if tls else None
    asyncio.run(_sim(names, host, ws_port, rest_port, seed, pace, plan, truth, duration, shown))


def _certified(host: str, path: Path) -> "Certificates":
    """The authority's file is written, and named. Raises UsageError."""
    from onetape.sim.certificate import certificates
    from onetape.sim.server import HOSTS

    try:
        made = certificates(dict.fromkeys((*HOSTS, "localhost", "127.0.0.1", host)))
        path.write_bytes(made.authority)
    except ValueError as error:
        raise UsageError(f"--host is no name and no address: {host}") from error
    except OSError as error:
        raise UsageError(f"cannot write the certificate authority to {path}: {error.strerror or error}") from error
    print(f"# SSL_CERT_FILE={shlex.quote(str(path.resolve()))}\n", flush=True)
    return made


async def _sim(
    names: Sequence[str], host: str, ws_port: int, rest_port: int, seed: int, pace: float, plan: "FaultPlan",
    truth: Path | None, duration: float | None, tls: "Certificates | None",
) -> None:
    import asyncio
    from contextlib import ExitStack

    from onetape.sim.server import Server
    from onetape.sim.simulator import Simulator
    from onetape.sim.truthlog import TruthLog

    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for it in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(it, stop.set)
    if duration is not None:
        loop.call_later(duration, stop.set)
    simulator = Simulator(seed, names, start=time.time_ns(), plan=plan, pace=pace, clock=time.time_ns)
    with ExitStack() as stack:
        if truth is not None:
            stack.enter_context(TruthLog(truth, simulator))
        async with Server(simulator, host, ws_port, rest_port, tls) as server:
            _say_where(names, server)
            running = asyncio.create_task(server.wait())
            stopping = asyncio.create_task(stop.wait())
            await asyncio.wait({running, stopping}, return_when=asyncio.FIRST_COMPLETED)
            stopping.cancel()
            if running.done():
                await running
            running.cancel()


def _say_where(names: Sequence[str], server: "Server") -> None:
    """As settings that can be copied into a file."""
    from onetape import venues
    from onetape.presets import PRESETS
    from onetape.service.run import path_of

    for name in names:
        routes = venues.spec(name).endpoints["production"].websocket.items()
        urls = {route: f'"{server.websocket_url(name)}{path_of(url)}"' for route, (url, *_) in routes}
        routed = "{ " + ", ".join(f"{route} = {url}" for route, url in urls.items()) + " }"
        print(f"[venues.{name}]\nwebsocket = {urls.get('', routed)}\nrest = \"{server.rest_url(name)}\"")
        for key, value in PRESETS["seven-feeds"].values["venues"][name].items():
            if key != "enabled":  # what it has, where that is not what all have
                print(f"{key} = {json.dumps(value)}")
        print(flush=True)


def plan_of(text: str | None, venues: Sequence[str], duration: float) -> "FaultPlan":
    """None: nothing goes wrong. Raises UsageError."""
    from onetape.sim.faults import FaultPlan

    if text is None:
        return FaultPlan()
    if text.isascii() and text.isdecimal() and len(text) <= 9:
        return FaultPlan.random(int(text), venues, duration)
    return FaultPlan.load(Path(text))
