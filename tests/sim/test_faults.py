"""Plans say what is wrong with them; while they run, they lie on what they are meant for and on nothing else."""
import json
from hashlib import sha256
from random import Random

import msgspec
import pytest

from onetape.clock import SECOND
from onetape.errors import UsageError
from onetape.sim.base import Close, Frame, Ping
from onetape.sim.faults import Fault, FaultKind, FaultPlan, Faults
from onetape.sim.network import Network, corrupted, giant

START = 1_800_000_000 * SECOND


def plan(tmp_path, text):
    path = tmp_path / "plan.toml"
    path.write_text(text, "utf-8")
    return FaultPlan.load(path)


def test_a_plan_is_read(tmp_path):
    it = plan(tmp_path, """
        seed = 7
        [[fault]]
        kind = "drop"
        venue = "kraken"
        at = 3
        lasts = 2.5
        share = 0.1
        [[fault]]
        kind = "close"
        at = 9
        code = 1001
    """)
    assert it.seed == 7
    assert it.faults == (
        Fault(kind=FaultKind.DROP, venue="kraken", at=3.0, lasts=2.5, share=0.1),
        Fault(kind=FaultKind.CLOSE, at=9.0, code=1001),
    )
    assert it.ends() == 9.0
    assert FaultPlan().ends() == 0.0


def test_all_problems_are_told_at_once(tmp_path):
    with pytest.raises(UsageError) as caught:
        plan(tmp_path, """
            sed = 1
            [[fault]]
            kind = "flood"
            [[fault]]
            kind = "drop"
            at = -1
            share = 2
            [[fault]]
            kind = "close"
            code = 3
            [[fault]]
            kind = "drop"
            how = "much"
            [[fault]]
            kind = "delay"
            seconds = inf
            [[fault]]
            kind = "silent"
            venue = "krakn"
            channel = "boks"
            [[fault]]
            kind = "slow_rest"
            lasts = 3
            [[fault]]
            kind = "bad_certificate"
            code = 2
        """)
    text = str(caught.value)
    assert "\n" not in text
    for part in (
        "'sed'", "fault 1", "flood", "fault 2: at is negative", "fault 2: share", "fault 3: a close code",
        "fault 4", "how", "fault 5: a number is not finite", "fault 6: no simulated venue is called 'krakn'",
        "fault 6: no channel is called 'boks'", "fault 6: silent must last", "fault 7: slow_rest needs seconds",
        "fault 8: of a bad certificate the code is 0 or 1", "fault 8: bad_certificate must last",
    ):
        assert part in text


@pytest.mark.parametrize("text", ["fault = 1", "[[fault", "seed = 'x'"])
def test_what_is_no_plan_is_refused(tmp_path, text):
    with pytest.raises(UsageError):
        plan(tmp_path, text)
    with pytest.raises(UsageError, match="cannot be read"):
        FaultPlan.load(tmp_path / "none.toml")


def test_a_random_plan_is_the_same_for_the_same_seed():
    one = FaultPlan.random(3, ["kraken", "binance"], 3_000)
    assert one == FaultPlan.random(3, ["binance", "kraken"], 3_000)
    assert one != FaultPlan.random(4, ["binance", "kraken"], 3_000)
    assert len({it.kind for it in one.faults}) > 12
    assert {it.venue for it in one.faults} == {"kraken", "binance"}
    assert one.ends() <= 3_000
    assert FaultPlan.random(1, [], 100).faults == ()


def test_old_seeds_keep_their_mixtures():
    """Whatever kinds of faults come later: a failure that a seed showed once is to be had again."""
    digest = sha256()
    for seed in range(200):
        digest.update(msgspec.json.encode(FaultPlan.random(seed, ["kraken", "binance", "okx"], 300)))
    assert digest.hexdigest() == "9979232aeb08c176963850411f0d600460f7c044ae984435f7e1122c3ae6d8af"


def test_a_fault_lies_on_what_it_names():
    fault = Fault(kind=FaultKind.SILENT, venue="v", at=1, lasts=2, symbol="s", channel="book")
    it = Faults(FaultPlan(faults=(fault,)), START)

    def active(seconds, kind=FaultKind.SILENT, venue="v", symbol="s", channel="book"):
        return it.active(kind, venue, START + round(seconds * SECOND), symbol, channel)

    assert [active(moment) is fault for moment in (0.999, 1, 2.999, 3)] == [False, True, True, False]
    assert active(2, FaultKind.DROP) is None
    assert active(2, venue="w") is None
    assert active(2, symbol="t") is None
    assert active(2, symbol="") is None
    assert active(2, channel="trades") is None


def test_the_share_is_thrown_by_the_seed():
    fault = Fault(kind=FaultKind.DROP, lasts=1, share=0.3)
    one, two = (Faults(FaultPlan(faults=(fault,), seed=9), START) for _ in range(2))
    hits = [one.hits(fault) for _ in range(1_000)]
    assert hits == [two.hits(fault) for _ in range(1_000)]
    assert 230 < sum(hits) < 370
    assert one.hits(Fault(kind=FaultKind.DROP))
    assert not one.hits(Fault(kind=FaultKind.DROP, share=0.0))


# --- on the way -----------------------------------------------------------------------------------------------------


class Line:
    """Two connections, and frames that are numbered."""

    def __init__(self, *faults):
        self.network = Network(Faults(FaultPlan(faults=faults), START))
        for connection in (1, 2):
            self.network.open(connection, "v")
        self.network.edge(START)

    def send(self, *numbers, connection=1, seconds=0.0, symbol="s", channel="book"):
        frames = [Frame(connection, b"[%d]" % number, symbol, channel) for number in numbers]
        for it in frames:
            self.network.send([it], START + round(seconds * SECOND))
        return self.out(seconds)

    def out(self, seconds):
        self.network.wake(START + round(seconds * SECOND))
        out, self.network.out = self.network.out, []
        return [it.data if isinstance(it, Frame) else it for it in out]


def test_without_faults_all_goes_through():
    it = Line()
    assert it.send(1, 2, 3) == [b"[1]", b"[2]", b"[3]"]
    assert it.network.next_wake() is None


def test_drop_and_silence_keep_data_and_nothing_else():
    for kind in (FaultKind.DROP, FaultKind.SILENT):
        it = Line(Fault(kind=kind, lasts=9, symbol="s"))
        assert it.send(1, 2) == []
        assert it.send(3, symbol="t") == [b"[3]"]
        assert it.send(4, symbol="", channel="") == [b"[4]"]
        assert it.network.swallowed == 2


def test_double():
    assert Line(Fault(kind=FaultKind.DOUBLE, lasts=9)).send(1, 2) == [b"[1]", b"[1]", b"[2]", b"[2]"]


def test_what_is_late_holds_up_its_connection_and_no_other():
    it = Line(Fault(kind=FaultKind.DELAY, lasts=1, seconds=2, symbol="s"))
    assert it.send(1) == []
    assert it.send(2, symbol="t", seconds=0.5) == []
    assert it.send(3, symbol="", channel="", seconds=0.6) == []
    assert it.send(4, symbol="t", connection=2, seconds=0.7) == [b"[4]"]
    assert it.network.next_wake() == START + 2 * SECOND
    assert it.out(1.9) == []
    assert it.out(2) == [b"[1]", b"[2]", b"[3]"]
    assert it.send(5, symbol="t", seconds=2.1) == [b"[5]"]


def test_reorder_swaps_neighbours_and_waits_no_longer_than_a_second():
    it = Line(Fault(kind=FaultKind.REORDER, lasts=9))
    assert it.send(1, 2, 3, 4) == [b"[2]", b"[1]", b"[4]", b"[3]"]
    assert it.send(5, seconds=2) == []
    assert it.out(2.9) == []
    assert it.out(3) == [b"[5]"]


def test_garbage_comes_beside_the_data():
    out = Line(Fault(kind=FaultKind.GARBAGE, lasts=9)).send(1, 2)
    assert (out[1], out[3], len(out)) == (b"[1]", b"[2]", 4)


def test_corrupt_is_no_json():
    out = Line(Fault(kind=FaultKind.CORRUPT, lasts=9)).send(*range(1000, 1100))
    assert len(out) == 100
    assert not any(is_json(it) for it in out)


@pytest.mark.parametrize("data", [b'{"a":[1,2,{"b":"c,d"}],"e":null}', b"[1]", b"1", b"12", b"{}", b'"x"', b""])
def test_nothing_corrupted_is_ever_json(data):
    dice = Random(5)
    for _ in range(300):
        assert not is_json(corrupted(data, dice)) or data.isdigit()


def is_json(data):
    try:
        json.loads(data)
    except ValueError:
        return False
    return True


def test_half_open_is_for_good_and_for_those_that_were_there():
    it = Line(Fault(kind=FaultKind.HALF_OPEN))
    it.network.open(3, "v")
    assert it.send(1) == []
    assert it.send(1, seconds=100) == []
    assert it.send(2, connection=3) == [b"[2]"]
    assert it.network.venue(1) is None
    assert it.network.venue(3) == "v"
    closes = it.network.send([Ping(1, b""), Close(1, 1000)], START)
    assert it.out(0) == []
    assert closes == [Close(1, 1000)], "the venue is done with it all the same"


def test_giant_frames_are_as_big_as_they_say():
    it = Line()
    it.network = Network(Faults(FaultPlan(faults=(Fault(kind=FaultKind.GIANT, code=5_000),)), START))
    it.network.open(1, "v")
    it.network.edge(START)
    (data,) = it.out(0)
    assert len(data) == 5_000
    assert is_json(data)
    assert len(giant(64)) == 64


def test_a_close_is_not_held_up_and_takes_along_what_is_late():
    it = Line(Fault(kind=FaultKind.DELAY, lasts=9, seconds=2))
    assert it.send(1) == []
    assert it.network.send([Close(1, 1001)], START) == [Close(1, 1001)]
    it.network.forget(1)
    assert it.out(5) == [Close(1, 1001)]
