"""Every way in: webhook, HTTP, console and command line. Settings are read here and nowhere else.

    settings ─► services (pool, appender, projection) ─► app (routes) ─► serve (web processes, followers)

Reading order: ``settings``, ``services``, ``webhook``, ``declared`` and ``routes`` (every route, declared once),
``reads`` (what reads share), ``entitlements`` or another route's module, ``front``, ``app``, ``serve``, ``cli``.
"""
