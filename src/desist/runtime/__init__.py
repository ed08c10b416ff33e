"""Loops, threads, timers and wake-ups. Nothing here knows what a run or a cancel is."""
