"""People's stories, walked in a real browser: slow, and skipped where there is none."""
