"""A process beside a run ends with it, is begun again when it ends alone, and never holds it up."""
import asyncio

import pytest
import uvloop

from onetape.credentials import VARIABLES
from onetape.errors import UsageError
from onetape.service import child as child_module
from onetape.service.child import Child


@pytest.fixture
def scripts(tmp_path, monkeypatch):
    """``-m onetape`` is what a test writes there."""
    def write(text):
        (tmp_path / "onetape").mkdir(exist_ok=True)
        (tmp_path / "onetape" / "__init__.py").touch()
        (tmp_path / "onetape" / "__main__.py").write_text(text)
    monkeypatch.setattr(child_module, "FIRST_WAIT_S", 0.01)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    return write


def watched(child, done):
    async def go():
        async with asyncio.timeout(30), child:
            watching = asyncio.create_task(child.watch())
            while not (watching.done() or done(child)):  # noqa: ASYNC110
                await asyncio.sleep(0.01)
            if watching.done():
                watching.result()
            watching.cancel()
    uvloop.run(go())


def test_it_does_what_is_left_to_do_when_its_input_ends(scripts, tmp_path):
    scripts(f"import sys, pathlib; p = pathlib.Path({str(tmp_path / 'said')!r}); p.write_text('begun');"
            "sys.stdin.read(); p.write_text('drained')")
    watched(Child("it", []), lambda _: (tmp_path / "said").exists() and (tmp_path / "said").read_text() == "begun")
    assert (tmp_path / "said").read_text() == "drained"


def test_what_does_not_end_is_killed(scripts, tmp_path):
    scripts(f"import time, pathlib; pathlib.Path({str(tmp_path / 'said')!r}).touch(); time.sleep(1000)")
    watched(Child("it", [], drain_s=0.1), lambda _: (tmp_path / "said").exists())


def test_it_is_begun_again(scripts):
    scripts("raise SystemExit(1)")
    watched(Child("it", []), lambda child: child.starts >= 3)


def test_what_a_person_has_to_mend_ends_the_run(scripts):
    scripts("import sys; sys.exit(sys.stderr.write('onetape: no such database\\n') and 2)")
    with pytest.raises(UsageError, match=r"^no such database$"):
        watched(Child("it", []), lambda _: False)


def test_keys_to_the_venues_stay_here(scripts, tmp_path, monkeypatch):
    monkeypatch.setenv("ONETAPE_OKX_API_KEY", "secret")
    assert "ONETAPE_OKX_API_KEY" in VARIABLES
    scripts(f"import os, sys, pathlib; p = pathlib.Path({str(tmp_path / 'said')!r});"
            "p.write_text(os.environ.get('ONETAPE_OKX_API_KEY', 'none') + os.environ['MORE']); sys.stdin.read()")
    watched(Child("it", [], environment={"MORE": "!"}), lambda _: (tmp_path / "said").exists()
            and (tmp_path / "said").read_text())
    assert (tmp_path / "said").read_text() == "none!"
