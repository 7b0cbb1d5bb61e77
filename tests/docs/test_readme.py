"""What the documents show works as shown."""
import re
import subprocess
import sys
from pathlib import Path

import pytest

from onetape.cli.main import app
from onetape.sim.faults import FaultKind, FaultPlan
from onetape.venues import VENUES

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
DOCUMENTS = sorted(it.name for it in ROOT.glob("*.md"))


EXAMPLES = {  # what each of them prints, in their order
    "README.md": ("syncing", "(Decimal('60000.05'), Decimal('0.25'))"),
    "SIMULATOR.md": ('"channel":"book","type":"snapshot"',),
}


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_python_examples_run(name):
    found = re.findall(r"```python\n(.*?)```", (ROOT / name).read_text(), re.DOTALL)
    for code, prints in zip(found, EXAMPLES[name], strict=True):
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert prints in done.stdout


def test_every_fault_is_documented():
    first_column = re.findall(r"^\| (`.*?) \|", (ROOT / "SIMULATOR.md").read_text(), re.MULTILINE)
    told = set(re.findall(r"`(\w+)`", "".join(first_column)))
    assert set(FaultKind) <= told


def test_the_plan_of_faults_that_is_shown_can_be_loaded(tmp_path):
    (text,) = re.findall(r"```toml\n(.*?)```", (ROOT / "SIMULATOR.md").read_text(), re.DOTALL)
    (tmp_path / "plan.toml").write_text(text)
    assert len(FaultPlan.load(tmp_path / "plan.toml").faults) == 1


def test_the_table_of_venues_is_whole():
    for name, venue in VENUES.items():
        (row,) = re.findall(rf"^\| `{name}` \|.*\| (.*) \|$", README, re.MULTILINE)
        verification = venue.spec.capabilities.verification
        expected = {"sequence": "sequence", "checksum(10)": "best 10", "none": "nothing"}[verification]
        assert expected in row


def test_every_command_in_the_readme_exists():
    import onetape.cli.backfill  # noqa: PLC0415
    import onetape.cli.candles  # noqa: PLC0415
    import onetape.cli.check  # noqa: PLC0415
    import onetape.cli.config  # noqa: PLC0415
    import onetape.cli.export  # noqa: PLC0415
    import onetape.cli.follow  # noqa: PLC0415
    import onetape.cli.gaps  # noqa: PLC0415
    import onetape.cli.importing  # noqa: PLC0415
    import onetape.cli.listing  # noqa: PLC0415
    import onetape.cli.replay  # noqa: PLC0415
    import onetape.cli.run  # noqa: PLC0415
    import onetape.cli.sim  # noqa: PLC0415
    import onetape.cli.status  # noqa: PLC0415
    import onetape.cli.storage  # noqa: PLC0415
    import onetape.cli.store  # noqa: F401, PLC0415

    commands = {it.name or it.callback.__name__ for it in app.registered_commands}
    groups = {f"{group.name} {it.name or it.callback.__name__}" for group in app.registered_groups
              for it in group.typer_instance.registered_commands}
    names = "|".join(group.name for group in app.registered_groups)
    told = set(re.findall(rf"\bonetape ((?:{names}) \w+|\w+)", README))
    assert told == commands | groups


@pytest.mark.parametrize("name", DOCUMENTS)
def test_every_make_target_that_is_named_exists(name):
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for line in re.findall(r"(?:`|    )make ([a-z -]+)", (ROOT / name).read_text()):
        assert set(line.split()) <= targets


@pytest.mark.parametrize("name", DOCUMENTS)
def test_every_file_that_is_named_exists(name):
    for path in re.findall(r"`((?:src|tests|tools|bench|docs)/[\w./]+)`", (ROOT / name).read_text()):
        assert (ROOT / path).exists() or "NAME" in path, path
