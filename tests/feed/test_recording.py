"""What was written is read; what is broken is refused with one line that says where."""
import pytest

from onetape.errors import UsageError
from onetape.feed.inputs import Answer, Closed, Failed, Frame, Opened
from onetape.feed.recording import Header, RecordingWriter, Setup, open_recording
from onetape.model import Channel, Subscription

HEADER = Header(1, {"binance": Setup("binance", "", (Subscription("BTCUSDT", Channel.TRADES),))})
INPUTS = [
    Opened(number=1, time=10, connection="binance"),
    Frame(number=2, time=11, connection="binance", data='{"é":1}'.encode()),
    Frame(number=3, time=11, connection="binance", data=b"\xff\xfe\x00"),
    Answer(number=4, time=12, connection="binance", id=7, status=429, body=b"{}", url="/x",
           headers={"retry-after": "3"}),
    Failed(number=5, time=13, connection="binance", id=8, reason="no route"),
    Closed(number=6, time=14, connection="binance", reason="1006"),
]


def write(path, inputs=INPUTS, header=HEADER):
    with RecordingWriter(path, header) as out:
        for it in inputs:
            out.add(it)
    return path


def test_every_kind_of_input_comes_back_equal(tmp_path):
    recording = open_recording(write(tmp_path / "r.jsonl.zst"))
    assert recording.header == HEADER
    assert list(recording.inputs) == list(enumerate(INPUTS, start=2))


def test_what_was_flushed_survives_a_kill(tmp_path):
    path = write(tmp_path / "r.jsonl.zst")
    many = [Frame(number=7 + n, time=15, connection="binance", data=b"x" * 4_000) for n in range(200)]
    write(path, [*INPUTS, *many])
    path.write_bytes(path.read_bytes()[:-1])
    recording = open_recording(path)
    read = [it for _, it in recording.inputs]
    assert recording.cut_off
    assert 60 < len(read) < 206
    assert read == [*INPUTS, *many][: len(read)]


def test_a_recording_that_came_to_its_end_says_so(tmp_path):
    recording = open_recording(write(tmp_path / "r.jsonl.zst"))
    list(recording.inputs)
    assert not recording.cut_off


@pytest.mark.parametrize(("content", "words"), [
    (b"", "is empty"),
    (b"\n", "is empty"),
    (b"\x7fELF\0\0", "is not a recording"),
    (b'{"onetape":"1"}\n', "corrupt in line 1"),
    (b'{"onetape":9,"sessions":{}}\n', "newer OneTape"),
])
def test_a_file_that_is_no_recording(tmp_path, content, words):
    path = tmp_path / "r.jsonl"
    path.write_bytes(content)
    with pytest.raises(UsageError, match=words):
        open_recording(path)


@pytest.mark.parametrize("line", [
    b"{", b"[]", b'{"n":1,"t":1,"c":"x","k":"dance"}', b'{"n":1,"t":1,"c":"x","k":"frame","b":"???"}',
    b'{"n":5,"t":1,"c":"x","k":"open"}',
])
def test_a_broken_line_names_itself(tmp_path, line):
    path = tmp_path / "r.jsonl"
    path.write_bytes(b'{"onetape":1,"sessions":{}}\n' + line + b"\n")
    with pytest.raises(UsageError, match="corrupt in line 2"):
        list(open_recording(path).inputs)


def test_a_missing_file_a_folder_and_a_wrong_compression(tmp_path):
    with pytest.raises(UsageError, match="no such recording"):
        open_recording(tmp_path / "nothing")
    with pytest.raises(UsageError, match="is a folder"):
        open_recording(tmp_path)
    fake = tmp_path / "r.jsonl.zst"
    fake.write_bytes(b"not compressed at all")
    with pytest.raises(UsageError, match="corrupt"):
        open_recording(fake)


def others(tmp_path, frames, **beside):
    (tmp_path / "x.jsonl").write_text("".join(f"{it}\n" for it in frames))
    for name, content in beside.items():
        (tmp_path / f"x.{name}").write_text(content)
    return tmp_path / "x.jsonl"


def test_others_with_receive_times(tmp_path):
    path = others(tmp_path, ["a", "b"], **{"recv_ts.txt": "1628952395.799805\n1628952396.5\n"})
    inputs = list(open_recording(path).inputs)
    assert [(line, it.time, it.data) for line, it in inputs] == [
        (1, 1628952395799805000, b"a"), (2, 1628952396500000000, b"b"),
    ]


def test_others_without_a_clock_come_a_millisecond_apart(tmp_path):
    inputs = [it for _, it in open_recording(others(tmp_path, ["a", "b", "c"])).inputs]
    assert [it.time for it in inputs] == [10**6, 2 * 10**6, 3 * 10**6]


def test_a_rest_body_enters_at_its_receive_time(tmp_path):
    path = others(tmp_path, ["a", "b", "c"], **{"recv_ns.txt": "100\n200000000\n300000000\n"})
    (tmp_path / "x.rest").mkdir()
    (tmp_path / "x.rest" / "body.json").write_text("{}")
    (tmp_path / "x.rest" / "index.tsv").write_text("file\trecv_ts\turl\nbody.json\t0.25\thttps://v/depth?symbol=S\n")
    inputs = [it for _, it in open_recording(path).inputs]
    assert [type(it) for it in inputs] == [Frame, Frame, Answer, Frame]
    assert (inputs[2].url, inputs[2].body, inputs[2].time) == ("https://v/depth?symbol=S", b"{}", 250_000_000)


def test_a_rest_body_enters_where_its_meta_file_says(tmp_path):
    path = others(tmp_path, ["a", "b", "c"], **{
        "rest_depth.json": "{}", "rest_depth.meta.txt": "recv_ns=5\ninserted_before_jsonl_line(0-based)=1\n",
    })
    assert [type(it) for _, it in open_recording(path).inputs] == [Frame, Answer, Frame, Frame]


@pytest.mark.parametrize(("beside", "words"), [
    ({"recv_ns.txt": "1\n"}, "1 receive times"),
    ({"recv_ts.txt": "1\nsoon\n"}, "corrupt"),
    ({"rest_depth.json": "{}"}, "missing or corrupt"),
    ({"rest_depth.json": "{}", "rest_depth.meta.txt": "nothing"}, "missing or corrupt"),
])
def test_what_stands_beside_may_be_broken(tmp_path, beside, words):
    with pytest.raises(UsageError, match=words):
        list(open_recording(others(tmp_path, ["a", "b"], **beside)).inputs)


def test_an_empty_line_is_no_frame_but_keeps_its_number(tmp_path):
    inputs = list(open_recording(others(tmp_path, ["", "a", "", "b", ""])).inputs)
    assert [(line, it.data) for line, it in inputs] == [(2, b"a"), (4, b"b")]
