"""Revenue: pots, journal, recognition."""
