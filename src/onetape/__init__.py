"""OneTape: the consolidated tape and order book of crypto, verified and gap-aware."""

__version__ = "0.1.0"
