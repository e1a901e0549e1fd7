"""The simulated company and what checks it."""
