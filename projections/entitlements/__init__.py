"""May this customer use X now? Rows are *sources* (what a subscription's item gives, and when); features are
resolved at reading, by one pure function that the route, the console and the tests share.

Reading order: ``fold`` (events to sources), ``features`` (what a product gives), ``answer`` (sources and a moment to
answers), ``tables``, ``query``.
"""
