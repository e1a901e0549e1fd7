"""Benchmarks: every number beside a peer or a physical limit measured in the same run, since machines are noisy.

``make bench`` prints one table; ``python -m bench --help`` tells of sizes and of single rows.
"""
