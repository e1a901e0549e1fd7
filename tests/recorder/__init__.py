"""The log behind the ``eventsourcing`` library: its own recorder tests, its aggregates and its runner."""
