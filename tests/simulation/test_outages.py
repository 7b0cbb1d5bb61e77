"""Outages, bad answers of REST, restarts, by seed: what is stored is what happened, or lies in a gap on record."""
import os

import pytest

from onetape.sim.venues import VENUES
from tests.simulation import outages

LONG = bool(os.environ.get("ONETAPE_LONG"))
NAMES = sorted(VENUES)
SEEDS = range(200) if LONG else range(len(NAMES))
LENGTH = outages.LENGTH if LONG else 150  # virtual seconds; outages of two minutes need the long ones


@pytest.mark.long
@pytest.mark.parametrize(("venue", "seed"), [(NAMES[seed % len(NAMES)], seed) for seed in SEEDS])
def test_what_is_stored_after_outages(tmp_path, venue, seed):
    report = outages.play(venue, seed, tmp_path, LENGTH)
    assert outages.is_good(report), report
