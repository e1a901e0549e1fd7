"""The zstd dictionary that bodies are compressed with: made of events we wrote ourselves, so it holds nobody's data."""
