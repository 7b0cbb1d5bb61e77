"""What a person or a script is told about completeness: with every answer, as a list, and over the time."""
import json

import pytest

from onetape.cli.timeline import Line, cells, draw
from onetape.clock import DAY, HOUR, MINUTE, SECOND
from tests.cli.test_store import START, good, onetape, refusal, rows

T0 = START * 10**6
MISSING = "1 gap (1 open), 28.0s in all"


def said(*arguments):
    """The array, and what stands beside it."""
    done = onetape(*arguments, "--json")
    assert done.returncode == 0, done
    return json.loads(done.stdout), done.stderr


# --- with every answer ----------------------------------------------------------------------------------------------


def test_a_table_ends_with_whether_it_is_complete(store):
    assert good("trades", "--store", store).endswith(f"not complete: {MISSING}\n")
    assert good("trades", "--store", store, "--limit", "1").endswith("\ncomplete\n")
    assert good("trades", "--store", store, "--start", "2024-08-08T12:02").endswith("\ncomplete\n")
    early = good("trades", "--store", store, "--start", "2024-08-08T11:59", "--end", "2024-08-08T12:00:40")
    assert early.endswith(
        "\nnot complete: nothing is known before 2024-08-08 12:00:00.000Z of binance ETHUSDT\n")
    late = good("trades", "--store", store, "--start", "2024-08-08T12:02", "--end", "2024-08-09")
    assert late.endswith("\nnot complete: nothing is known after 2024-08-08 12:02:10.000Z of binance ETHUSDT\n")


@pytest.mark.parametrize("time", [
    ["--start", "2024-08-09"], ["--start", "2027-01-01"], ["--start", "2027-01-01", "--end", "2027-01-02"],
    ["--end", "2024-08-08T11:00"], ["--start", "2024-08-01", "--end", "2024-08-02"],
])
def test_time_that_nobody_collected_is_never_complete(store, time):
    for command in (["trades"], ["candles", "show"]):
        it, _ = said(*command, "--store", store, "--proof", *time)
        assert (it["complete"], it["rows"], len(it["unknown"])) == (False, [], 1)
        assert abs(int(it["unknown"][0]["from_time"])) < 1 << 62
        assert "nothing is known" in good(*command, "--store", store, *time)


def test_a_time_that_ends_before_it_begins_is_refused(store):
    told = refusal("trades", "--store", store, "--start", "2024-08-09", "--end", "2024-08-08")
    assert "--end 2024-08-08 is not behind --start 2024-08-09" in told


def test_of_candles_only_the_time_of_those_that_are_shown_counts(store):
    def last(*arguments):
        return good("candles", "show", "--store", store, *arguments).splitlines()[-1]
    assert last() == f"not complete: {MISSING}"
    assert last("--limit", "1") == "complete"
    assert last("--end", "2024-08-08T12:01") == "complete"


def test_an_array_stays_one_and_what_is_missing_stands_beside_it(store):
    found, beside = said("trades", "--store", store)
    assert len(found) == 5
    assert beside == f"onetape: not complete: {MISSING}\n"
    assert said("trades", "--store", store, "--limit", "1")[1] == ""


def test_the_proof_is_part_of_one_object(store):
    it, beside = said("trades", "--store", store, "--proof", "--start", "2024-08-08T11:59")
    assert beside == ""
    assert set(it) == {"complete", "known", "unknown", "pruned", "gaps", "rows"}
    assert it["complete"] is False
    assert it["rows"] == rows("trades", "--store", store)
    assert [(one["from_time"], one["to_time"], one["proven"]) for one in it["known"]] == [
        (f"{T0}", f"{T0 + 62 * SECOND}", True), (f"{T0 + 90 * SECOND}", f"{T0 + 130 * SECOND}", True),
    ]
    assert [(one["side"], one["from_time"], one["to_time"]) for one in it["unknown"]] == [
        ("before", f"{T0 - MINUTE}", f"{T0}")]
    assert it["gaps"] == rows("gaps", "--store", store)
    it, _ = said("candles", "show", "--store", store, "--proof", "--limit", "1")
    assert (it["complete"], len(it["rows"]), it["gaps"]) == (True, 1, [])


def test_a_proof_is_of_json_and_of_what_is_made_of_trades(store):
    assert "--json" in refusal("trades", "--store", store, "--proof")
    assert "made of trades" in refusal("candles", "show", "--store", store, "--proof", "--json", "--source", "venue")


def test_as_of_a_time_nothing_is_seen_that_came_later(store):
    def ids(time):
        return [it["id"] for it in rows("trades", "--store", store, "--as-of", time)]
    assert ids("2024-08-08T12:01:01Z") == ["1", "2", "3"]
    assert ids("2024-08-08T12:01:00.999Z") == ["1", "2"]
    assert ids("2024-08-08T12:00:00Z") == ["1"]
    assert ids("2024-08-08T11:00:00Z") == []
    assert "--as-of must be" in refusal("trades", "--store", store, "--as-of", "soon")
    then, _ = said("trades", "--store", store, "--as-of", "2024-08-08T12:01:30.100Z", "--proof")
    assert (then["complete"], then["gaps"]) == (True, [])  # the gap had its grace then
    then, _ = said("trades", "--store", store, "--as-of", "2024-08-08T12:01:31Z", "--proof")
    assert (then["complete"], [it["state"] for it in then["gaps"]]) == (False, ["open"])
    candles = rows("candles", "show", "--store", store, "--as-of", "2024-08-08T12:01:01Z")
    assert [(it["final"], it["trades"]) for it in candles] == [(False, "2"), (False, "1")]
    assert max(int(it["available_at"]) for it in candles) <= T0 + 61 * SECOND


# --- gaps -----------------------------------------------------------------------------------------------------------


def test_gaps_are_filtered_by_state_and_say_how_they_came(store):
    (gap,) = rows("gaps", "--store", store, "--state", "open", "--state", "unhealable")
    assert (gap["detected"], gap["attempts"], gap["opened_at"]) == ("ids are missing", "0", gap["available_at"])
    assert rows("gaps", "--store", store, "--state", "healed") == []
    assert rows("gaps", "--store", store, "--as-of", "2024-08-08T12:01") == []
    assert "'lost'" in refusal("gaps", "--store", store, "--state", "lost")
    text = good("gaps", "--store", store)
    assert "28.0s" in text
    assert "ids are missing" in text


def test_the_timeline_of_a_store(store):
    text = good("gaps", "--store", store, "--timeline")
    lines = text.splitlines()
    assert lines[0] == "2024-08-08 12:00:00Z to 2024-08-08 12:02:10Z"
    (line,) = (it for it in lines if it.startswith("binance ETHUSDT "))
    assert "=o" in line
    assert "o=" in line
    assert " 78.46% o1" in line
    assert "o gap open" in lines[-1]
    (it,) = rows("gaps", "--store", store, "--timeline")
    assert (it["share"], it["gaps"], len(it["known"])) == ("0.784615", {"open": "1"}, 2)
    wide = good("gaps", "--store", store, "--timeline", "--start", "2024-08-08T11", "--end", "2024-08-08T13")
    assert "...=" in wide
    assert good("gaps", "--store", store, "--timeline", "--state", "healed") == "nothing\n"
    assert "--limit" in refusal("gaps", "--store", store, "--timeline", "--limit", "3")


LINES = [
    Line("binance BTC-USDT", [(0, 40 * MINUTE), (50 * MINUTE, HOUR)], [("open", 40 * MINUTE, 50 * MINUTE)]),
    Line("coinbase-exchange BTC-USD", [(30 * MINUTE, HOUR)], [("healed", 31 * MINUTE, 31 * MINUTE + 1)]),
    Line("okx ETH-USDT", [(0, HOUR)], [("filling", 0, 9), ("unhealable", HOUR, HOUR + 5), ("open", 8, 9)]),
]


@pytest.mark.parametrize("width", [80, 100, 140, 200])
@pytest.mark.parametrize("span", [10 * SECOND, HOUR, 2 * DAY, 400 * DAY])
def test_a_timeline_fits_and_its_lines_are_of_one_length(width, span):
    scaled = [
        Line(
            it.label, [(a * span // HOUR, b * span // HOUR) for a, b in it.known],
            [(state, a * span // HOUR, b * span // HOUR) for state, a, b in it.gaps],
        ) for it in LINES
    ]
    texts = [it.plain for it in draw(scaled, 0, span, width)]
    assert max(map(len, texts)) <= width
    assert len(texts[1]) == len(texts[2])
    assert texts[2].count("+") >= 2


def test_a_gap_is_seen_however_short_and_the_worst_is_seen_first():
    drawn = ["".join(it[0] for it in cells(line, 0, HOUR, 60)) for line in LINES]
    assert drawn[0] == "c" * 40 + "o" * 11 + "c" * 9
    assert drawn[1] == "n" * 30 + "ch" + "c" * 28
    assert drawn[2] == "o" + "c" * 58 + "u"


def test_a_share_is_never_rounded_up_to_all():
    line = Line("x", [(0, DAY - 1)], [])
    text = [it.plain for it in draw([line], 0, DAY, 80)]
    assert " 99.99%" in text[3]
