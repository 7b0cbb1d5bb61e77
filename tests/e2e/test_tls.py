"""The simulator under TLS: whoever trusts its authority is served, and a bad certificate is never accepted."""
import asyncio
import re
import signal
import ssl
import time

import pytest
from cryptography import x509

from onetape.clock import SECOND
from onetape.feed.rest import client
from onetape.feed.socket import Ends, Unreached, Way, connect
from onetape.sim.certificate import certificates
from onetape.sim.faults import Fault, FaultKind, FaultPlan
from onetape.sim.server import HOSTS, Server
from onetape.sim.simulator import Simulator
from tests.e2e import test_run
from tests.e2e.test_run import running, settings_of, stored
from tests.feed.wire import run

NAMES = ("localhost", "127.0.0.1", *HOSTS)
ENDS = Ends(*[lambda *_: None] * 5)


@pytest.fixture
def shown():
    return certificates(NAMES)


@pytest.fixture
def trusting(shown, tmp_path):
    """As a client that is told so by SSL_CERT_FILE."""
    (tmp_path / "ca.pem").write_bytes(shown.authority)
    context = ssl.create_default_context(cafile=tmp_path / "ca.pem")
    context.verify_flags |= ssl.VERIFY_X509_STRICT  # what Python 3.13 does by itself
    return context


def served(test, shown, *faults, venues=("binance", "kraken")):
    async def serve():
        simulator = Simulator(1, venues, start=time.time_ns(), plan=FaultPlan(faults=faults), history_ns=SECOND)
        async with Server(simulator, tls=shown) as server:
            await test(server)

    run(serve())


def bad(code, venue=""):
    return Fault(kind=FaultKind.BAD_CERTIFICATE, venue=venue, lasts=1_000.0, code=code)


async def shake_hands(url, name, context):
    """The certificate that is shown to who asks for this name; raises SSLError."""
    host, port = url.split("/")[2].split(":")
    _, writer = await asyncio.open_connection(host, port, ssl=context, server_hostname=name)
    certificate = x509.load_der_x509_certificate(writer.get_extra_info("ssl_object").getpeercert(binary_form=True))
    writer.close()
    await writer.wait_closed()
    return certificate


def dial(server, context):
    return connect(
        server.websocket_url("kraken") + "/v2", ENDS, way=Way(tls=context), timeout_ns=5 * SECOND, max_bytes=1 << 20,
        clock=time.time_ns,
    )


def test_every_name_of_a_venue_is_certified(shown, trusting):
    async def test(server):
        for url in (server.websocket_url("kraken"), server.rest_url("kraken")):
            for name in NAMES:
                await shake_hands(url, name, trusting)
            with pytest.raises(ssl.SSLCertVerificationError, match="mismatch"):
                await shake_hands(url, "kraken.com", trusting)

    served(test, shown)


def test_only_who_trusts_the_authority_takes_it(shown):
    async def test(server):
        with pytest.raises(Unreached, match="TLS failed: unable to get local issuer certificate"):
            await dial(server, ssl.create_default_context())

    served(test, shown)


def test_frames_and_answers_come_through(shown, trusting):
    async def test(server):
        first = asyncio.get_running_loop().create_future()
        ends = Ends(lambda it: None, lambda data, _: first.done() or first.set_result(data), *[lambda *_: None] * 3)
        url = server.websocket_url("kraken")
        assert url.startswith("wss://127.0.0.1:")
        socket = await connect(
            url + "/v2", ends, way=Way(tls=trusting), timeout_ns=5 * SECOND, max_bytes=1 << 20, clock=time.time_ns)
        assert b'"status"' in await first
        socket.close("done")
        async with client() as http, http.get(server.rest_url("kraken") + "/0/public/Time", ssl=trusting) as answer:
            assert "unixtime" in (await answer.json())["result"]

    served(test, shown)


@pytest.mark.parametrize(("code", "reason"), [(0, "TLS failed: IP address mismatch"), (1, "certificate has expired")])
def test_a_bad_certificate_is_refused(code, reason, shown, trusting):
    async def test(server):
        with pytest.raises(Unreached, match=reason):
            await dial(server, trusting)

    served(test, shown, bad(code))


def test_a_bad_certificate_is_of_the_venue_that_is_named(shown, trusting):
    """A handshake for an address tells of no venue: it may be meant, and is hit."""
    async def test(server):
        url = server.rest_url("kraken")
        for name in ("ws.kraken.com", "api.kraken.com", "localhost"):
            with pytest.raises(ssl.SSLCertVerificationError, match="expired"):
                await shake_hands(url, name, trusting)
        for name in ("api.binance.com", "stream.bybit.com"):
            await shake_hands(url, name, trusting)

    served(test, shown, bad(1, "kraken"))


# --- as processes ---------------------------------------------------------------------------------------------------


@pytest.fixture
def simulator(tmp_path):
    """``onetape sim --tls``: the settings that it prints, and the file of its authority."""
    def start(*arguments):
        it = running("sim", "--venue", "kraken", "--tls", *arguments, cwd=tmp_path)
        started.append(it)
        process = it.__enter__()
        process.wait_for("rest")
        (websocket, rest) = settings_of(process.said)["kraken"]
        (tmp_path / "here.toml").write_text(
            f'pairs = ["BTC-USDT"]\n[venues.kraken]\nwebsocket = "{websocket}"\nrest = "{rest}"\n')
        return re.search("# SSL_CERT_FILE=(.*)", process.said)[1]

    started = []
    yield start
    for it in started:
        it.__exit__(None, None, None)


def test_a_run_by_ssl_cert_file(simulator, tmp_path, monkeypatch):
    authority = simulator()
    assert authority == str(tmp_path / "simulator-ca.pem")
    assert "https://" in (tmp_path / "here.toml").read_text()
    monkeypatch.setitem(test_run.ENVIRONMENT, "SSL_CERT_FILE", authority)
    with running("run", "--live", "--config", "here.toml", "--store", "D", cwd=tmp_path) as it:
        it.wait_for("1 active.* [1-9][0-9,]* rows kept")
        it.signal(signal.SIGTERM)
        code, _, errors = it.end()
    assert code == 0, errors
    trades, _, _ = stored(tmp_path / "D")
    assert {it.venue for it in trades} == {"kraken"}


def test_a_run_that_does_not_trust_it_says_so_and_keeps_trying(simulator, tmp_path):
    simulator("--tls-ca", "mine.pem")
    assert (tmp_path / "mine.pem").exists()
    with running("run", "--live", "--config", "here.toml", "--store", "D", cwd=tmp_path) as it:
        it.wait_for("1 reconnecting")
        it.wait_for("1 reconnecting")
        it.signal(signal.SIGTERM)
        code, said, errors = it.end()
    assert code == 0, errors
    assert "kraken is reconnecting: " in said
    assert "TLS failed: unable to get local issuer certificate" in said
    assert "Traceback" not in errors
    assert stored(tmp_path / "D") == ([], [], [])


BAD = """
[[fault]]
kind = "bad_certificate"
lasts = 10.0
code = 1

[[fault]]
kind = "bad_certificate"
at = 24.0
lasts = 5.0

[[fault]]
kind = "close"
at = 24.001
"""


def test_a_run_over_bad_certificates_comes_back(simulator, tmp_path, monkeypatch):
    """At first there is none that is good; later all connections break, and for a while there is none again."""
    (tmp_path / "bad.toml").write_text(BAD)
    monkeypatch.setitem(test_run.ENVIRONMENT, "SSL_CERT_FILE", simulator("--faults", "bad.toml"))
    with running("run", "--live", "--config", "here.toml", "--store", "D", cwd=tmp_path) as it:
        it.wait_for("1 active.* [1-9][0-9,]* rows kept")
        it.wait_for("1 (reconnecting|degraded|connecting)")
        it.wait_for("1 active")
        it.signal(signal.SIGTERM)
        ended, _, errors = it.end()
    assert ended == 0, errors
    assert "TLS failed: certificate has expired" in errors
    assert "TLS failed: IP address mismatch" in errors
    assert stored(tmp_path / "D")[0]


@pytest.mark.parametrize(("arguments", "words"), [
    (("--tls-ca", "x.pem"), "--tls-ca is for --tls"),
    (("--tls", "--host", "ü.example"), "--host is no name and no address"),
    (("--tls", "--tls-ca", "no/such/x.pem"), "cannot write the certificate authority to no/such/x.pem"),
])
def test_wrong_arguments(arguments, words, tmp_path):
    assert words in test_run.refusal("sim", *arguments, cwd=tmp_path)
