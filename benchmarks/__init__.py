"""Measures corral beside the standard library, in one run on one machine.

`python -m benchmarks` (or ``make bench``) runs every workload for every subject, each in a fresh process,
interleaved over several rounds, and prints medians with their spread beside the target.
"""
