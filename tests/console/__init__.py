"""The console: who may come in, what pages show, and that hostile text stays text."""
