"""What several tests share: the folder of real recordings, and the project's own fixtures."""
import os
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FIXTURES = Path(__file__).parent / "fixtures"

os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # the command is started many hundred times, and compiled but once


@pytest.fixture(scope="session")
def recordings() -> Path:
    """Frames that the exchanges really sent: beside the checkout, or where ONETAPE_RECORDINGS says."""
    folder = Path(os.environ.get("ONETAPE_RECORDINGS", ROOT.parent / "shared" / "recordings"))
    if not folder.is_dir():
        pytest.skip(f"no real recordings at {folder}: set ONETAPE_RECORDINGS to their folder")
    return folder


@pytest.fixture(scope="session")
def fixtures() -> Path:
    """Small frames of the project's own making, in the venues' documented shapes."""
    return FIXTURES
