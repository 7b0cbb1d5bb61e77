"""Candles: trades of one instrument summed over intervals of time, provisional, final, and corrected."""
