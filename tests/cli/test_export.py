"""``onetape export`` and ``onetape import``, as a person or a script meets them."""
import csv
import gzip
import json
import os
import signal
import subprocess

import pytest

from tests.cli.test_store import COMMAND, START, good, onetape, refusal, rows

US = START * 1_000
TARDIS = "exchange,symbol,timestamp,local_timestamp,id,side,price,amount\n"


def read(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def tape(folder, count, name="binance_trades_2024-08-08_ETHUSDT.csv"):
    path = folder / name
    lines = (f"binance,ETHUSDT,{US + n * 1_000},{US + n * 1_000},{n + 1},buy,100.10,0.50\n" for n in range(count))
    path.write_text(TARDIS + "".join(lines))
    return path


def test_a_table_becomes_a_file_and_it_is_said_what_is_missing(store, tmp_path):
    path = tmp_path / "trades.csv"
    said = good("export", "trades", "--store", store, "--out", path)
    assert said == f"{path}: 5 rows\nnot complete: 1 gap (1 open), 28.0s in all\n"
    assert [(it["id"], it["price"], it["size"]) for it in read(path)] == [
        ("1", "100.10", "0.50"), ("2", "101.00", "0.50"), ("3", "99.9", "2"), ("6", "100.5", "0.50"),
        ("7", "100.10", "0.50")]
    chosen = ["--start", "2024-08-08T12:02", "--venue", "binance", "--pair", "ETH-USDT"]
    assert good("export", "trades", "--store", store, "--out", path, "--force", *chosen).endswith("1 rows\ncomplete\n")


def test_every_format_by_its_name_or_as_it_is_named(store, tmp_path):
    for name, start in (
        ("a.parquet", b"PAR1"), ("a.csv", b"venue,"), ("a.csv.gz", b"\x1f\x8b"), ("a.csv.zst", b"\x28\xb5\x2f\xfd"),
    ):
        good("export", "candles", "--store", store, "--out", tmp_path / name, "--interval", "1m")
        assert (tmp_path / name).read_bytes().startswith(start)
    good("export", "trades", "--store", store, "--format", "tardis", "--out", tmp_path / "t.csv")
    assert (tmp_path / "t.csv").read_text().startswith(f"{TARDIS}binance,ETHUSDT,{US},{US},1,buy,100.10,0.50\n")
    good("export", "hftbacktest", "--store", store, "--out", tmp_path / "h.npz")
    assert (tmp_path / "h.npz").read_bytes().startswith(b"PK")


def test_a_folder_gets_a_file_of_each_instrument(store, tmp_path):
    good("import", tape(tmp_path, 3), "--store", store, "--symbol", "BTC/USD", "--venue", "binance")
    said = good("export", "trades", "--store", store, "--format", "tardis", "--out", f"{tmp_path}/out/")
    assert sorted(it.name for it in (tmp_path / "out").iterdir()) == [
        "trades_binance_BTC%2FUSD.csv.gz", "trades_binance_ETHUSDT.csv.gz"]
    assert said.count(" rows\n") == 2
    assert "is there already" in refusal("export", "trades", "--store", store, "--format", "tardis", "--out",
                                         tmp_path / "out")


def test_as_json_programs_learn_the_same(store, tmp_path):
    path = tmp_path / "a.csv"
    found = json.loads(good("export", "trades", "--store", store, "--out", path, "--json"))
    assert found["files"] == [{"file": str(path), "rows": "5", "note": ""}]
    assert (found["rows"], found["complete"], len(found["gaps"])) == ("5", False, 1)
    books = json.loads(good("export", "book_deltas", "--store", store, "--out", tmp_path / "b.csv", "--json"))
    assert (books["rows"], books["complete"]) == ("0", None)


@pytest.mark.parametrize(("arguments", "said"), [
    (["trades", "--out", "x.txt"], "does not say the format"),
    (["trades", "--out", "-"], "a pipe has no name; name a file"),
    (["trades", "--format", "csv", "--out", "/dev/stdout", "--force"], "is no file that can be replaced"),
    (["trades", "--format", "csv", "--out", "/dev/null", "--force"], "is no file that can be replaced"),
    (["quotes", "--format", "tardis", "--out", "x.csv"], "the layout of Tardis is for trades and incremental_book_L2"),
    (["hftbacktest", "--format", "csv", "--out", "x.csv"], "is not written as csv"),
    (["trades", "--interval", "1m", "--out", "x.csv"], "--interval and --revisions are for candles"),
    (["quotes", "--channel", "trades", "--out", "x.csv"], "--channel is for trades"),
    (["trades", "--format", "parquet", "--out", "x.parquet.gz"], "is packed as it is"),
    (["trades", "--pair", "NO-PAIR", "--out", "x.csv"], "the store has no pair"),
    (["trades", "--start", "yesterday", "--out", "x.csv"], "--start must be"),
    (["trades", "--out", "no/such/folder/x.csv"], "cannot be written"),
    (["hftbacktest", "--venue", "kraken", "--out", "x.npz"], "takes one instrument a file, and here is none"),
])
def test_what_does_not_fit_is_refused_in_one_line(arguments, said, store, tmp_path):
    assert said in refusal("export", *arguments, "--store", store)
    assert not (tmp_path / "x.csv").exists()


def test_within_a_store_nothing_is_written(store, tmp_path):
    (tmp_path / "link").symlink_to(store / "journal")
    before = sorted(store.rglob("*"))
    for path in (store / "a.csv", store / "journal" / "main" / "a.csv", tmp_path / "link" / "a.csv"):
        said = refusal("export", "trades", "--store", store, "--out", path, "--force")
        assert "lies within a store, which is written by OneTape alone" in said
    assert sorted(store.rglob("*")) == before


def test_a_file_that_is_there_is_kept_unless_somebody_insists(store, tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("mine")
    assert "is there already" in refusal("export", "trades", "--store", store, "--out", path)
    assert path.read_text() == "mine"
    good("export", "trades", "--store", store, "--out", path, "--force")
    assert sorted(it.name for it in tmp_path.iterdir() if it.name.startswith(("a", ".a"))) == ["a.csv"]


def test_a_disk_that_is_full_leaves_no_file(tmp_path):
    """A limit on the size of files is a full disk to one process."""
    store, path = tmp_path / "s", tmp_path / "a.csv"
    good("import", tape(tmp_path, 3_000), "--store", store)
    for arguments in (["trades", "--format", "csv"], ["trades", "--format", "tardis"], ["hftbacktest"]):
        done = subprocess.run(
            ["sh", "-c", 'ulimit -f 16; trap "" XFSZ; exec "$@"', "sh", COMMAND, "export", *arguments, "--store", store,
             "--out", path.with_suffix(".npz" if arguments == ["hftbacktest"] else ".csv")],
            capture_output=True, text=True, check=False, timeout=120)
        assert (done.returncode, done.stdout) == (1, ""), done
        assert done.stderr.count("\n") == 1
        assert not list(tmp_path.glob("*a.*"))


def test_an_import_says_what_is_new_and_then_that_nothing_is(store, tmp_path):
    path = tape(tmp_path, 10)
    said = good("import", path, "--store", tmp_path / "new")
    assert said.startswith("10 trades of tardis: binance:ETHUSDT\nnew in the store: ")
    assert "10 trades" in said.splitlines()[1]
    assert good("import", path, "--store", tmp_path / "new").endswith("new in the store: nothing\n")
    found = json.loads(good("import", path, "--store", tmp_path / "new", "--json"))
    assert found == {"file": str(path), "format": "tardis", "layout": "trades", "events": "10", "new": {},
                     "left_out": "0", "contradicted": "0"}
    assert [it["id"] for it in rows("trades", "--store", tmp_path / "new")] == [str(n + 1) for n in range(10)]


def test_an_import_says_what_it_left_out_and_what_is_stored_otherwise(tmp_path):
    path, store = tape(tmp_path, 10), tmp_path / "s"
    text = path.read_text()
    path.write_text(text.replace(",5,buy", ",5,unknown"))
    assert good("import", path, "--store", store).endswith(
        "1 trade without a side left out: what is missing there is on record as a gap\n")
    path.write_text(text.replace(",5,buy", ",5,unknown").replace("100.10", "200.10"))
    done = onetape("import", path, "--store", store)
    assert (done.returncode, "new in the store: nothing" in done.stdout) == (1, True)
    assert done.stderr.count("\n") == 1
    assert "9 rows contradict what is stored, which stays as it was: binance ETHUSDT 1 is buy" in done.stderr
    assert {it["price"] for it in rows("trades", "--store", store)} == {"100.10"}


def test_what_is_exported_for_tardis_is_imported_as_it_was(store, tmp_path):
    path = tmp_path / "a.csv.gz"
    good("export", "trades", "--store", store, "--format", "tardis", "--out", path)
    good("import", path, "--store", tmp_path / "new")
    names = ("id", "price", "size", "side", "exchange_time", "available_at")

    def told(of):
        done = onetape("trades", "--store", of, "--json")
        return [{name: it[name] for name in names} for it in json.loads(done.stdout)]

    assert told(tmp_path / "new") == told(store)
    good("export", "trades", "--store", tmp_path / "new", "--format", "tardis", "--out", tmp_path / "b.csv.gz")
    assert gzip.decompress(path.read_bytes()) == gzip.decompress((tmp_path / "b.csv.gz").read_bytes())


@pytest.mark.parametrize(("arguments", "said"), [
    ([], "line 2: the exchange 'bitmex' is none that is known"), (["--venue", "../x"], "--venue must be a name"),
    (["--format", "binance"], "is of tardis (trades), not of binance"),
    (["--symbol", "../x", "--venue", "x"], "line 2: "),
])
def test_an_import_that_cannot_be_is_refused_in_one_line(arguments, said, tmp_path):
    path = tape(tmp_path, 3)
    path.write_text(path.read_text().replace("binance", "bitmex"))
    assert said in refusal("import", path, "--store", tmp_path / "new", *arguments)
    assert not (tmp_path / "new").exists()
    assert "cannot be read" in refusal("import", tmp_path / "no.csv", "--store", tmp_path / "new")


def test_a_venue_of_ones_own_is_asked_for_by_its_name(tmp_path):
    path, store = tape(tmp_path, 3), tmp_path / "s"
    path.write_text(path.read_text().replace("binance", "bitmex"))
    good("import", path, "--store", store, "--venue", "bitmex")
    assert [it["venue"] for it in rows("trades", "--store", store, "--venue", "bitmex")] == ["bitmex"] * 3
    assert good("export", "trades", "--store", store, "--venue", "bitmex", "--out", tmp_path / "b.csv").endswith(
        "3 rows\ncomplete (no gap is known; the ids of bitmex prove nothing)\n")
    assert "unknown venue 'deribit'" in refusal("trades", "--store", store, "--venue", "deribit")


def test_interrupted_it_says_so_and_the_same_command_goes_on(tmp_path):
    path, store = tape(tmp_path, 60_000), tmp_path / "s"
    running = subprocess.Popen(
        [COMMAND, "import", path, "--store", store], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    while not list(store.glob("journal/main/*.db")) and running.poll() is None:
        os.sched_yield()
    running.send_signal(signal.SIGINT)
    out, errors = running.communicate(timeout=120)
    assert (running.returncode, errors) == (130, ""), (out, errors)
    assert out.startswith(f"{int(out.split()[0].replace(',', '')):,} trades of tardis: ")
    good("import", path, "--store", store)
    assert len(rows("trades", "--store", store)) == 60_000
    assert good("storage", "verify", "--store", store).startswith("sound")


@pytest.mark.parametrize("by", [signal.SIGINT, signal.SIGTERM])
def test_an_export_that_is_interrupted_leaves_no_file(by, tmp_path):
    good("import", tape(tmp_path, 60_000), "--store", tmp_path / "s")
    ended = 0
    for number in range(10):  # on a machine that is busy it may have ended before the signal comes
        name = f"{number}.npz"
        running = subprocess.Popen(
            [COMMAND, "export", "hftbacktest", "--store", tmp_path / "s", "--out", tmp_path / name],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        while not (tmp_path / f".{name}.part").exists() and running.poll() is None:
            os.sched_yield()
        running.send_signal(by)
        said = running.communicate(timeout=120)
        if running.returncode == 0:
            assert (tmp_path / name).exists()
            continue
        assert (running.returncode, *said) == (130, "", "")
        assert not [it for it in tmp_path.iterdir() if name in it.name]
        ended += 1
        if ended == 2:
            return
    raise AssertionError("no signal came in time")
