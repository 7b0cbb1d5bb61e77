"""The tape: which trades there are, each once, and what is known to be missing."""
