"""A short session of our own making with all seven feeds, for a first look without a network."""
from pathlib import Path

SESSION = Path(__file__).with_name("session.jsonl.zst")
