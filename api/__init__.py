"""Every way in: webhook, HTTP, console and command line. Settings are read here and nowhere else.

    settings ─► services (pool, appender, projection) ─► app (routes) ─► serve (web processes, followers)

Reading order: ``settings``, ``services``, ``webhook``, ``events``, ``entitlements``, ``app``, ``serve``, ``cli``.
"""
