"""The console: pages for people, rendered on the server from what the JSON routes answer.

A page is a function from a ``Visit`` to a response, and one entry in a list of its module::

    # api/console/tides.py
    from starlette.responses import Response
    from api.console.frame import Page, Visit, done, render

    async def show(visit: Visit) -> Response:
        tides = await visit.part("/v1/tides/{harbour}", harbour=visit.path("harbour"), limit=50)
        return render(visit, "tides.html", tides=tides)

    async def turn(visit: Visit) -> Response:
        body = {"reason": visit.form.get("reason", "")}
        await visit.ask("POST /v1/tides/{harbour}/turn", harbour=visit.path("harbour"), body=body)
        return done(visit, visit.url("/tides/dover"), "The tide is turning.")

    PAGES = (
        Page("/tides/{harbour}", show, scopes=("events:read",), nav="Tides", home="/tides/dover",
             sample="/tides/dover"),
        Page("/tides/{harbour}/turn", turn, scopes=("admin",), method="POST"),
    )

and a line in ``pages.py``. What to know:

- ``visit.ask(operation, **values)`` calls a route of ``api/routes.py`` in this process, as the key that is signed in:
  the same checks, the same queries, the same figures as over HTTP. Values named in its path go there, the others are
  its parameters; the book and, where the route takes them, ``as_of``, ``known_at`` and ``known_position`` are added by
  themselves. It raises what the route raises, which becomes an HTML error page. ``visit.part(…)`` does the same for one
  part of a page: a ``Part`` with ``content``, or the ``problem``, or ``hidden`` where the key lacks the route's scope.
  Several parts are read at once with ``asyncio.gather``.
- A page with ``scopes`` opens for a key with any of them (none: for every key), else 403. ``nav`` puts it into the
  navigation, leading to ``home`` (by default its path). ``sample`` is an address for measuring and for walking it.
- A page with ``method="POST"`` is reached only with the session's form token, which ``ui.form`` writes; the door checks
  it before the function runs, and ``visit.form`` holds the fields. It ends with ``done``: 303 and a message shown once.
- A template extends ``layout.html`` and begins with ``{% import "macros.html" as ui with context %}``: macros for
  money, times, tables, events, paging, the moment asked about, notices and charts, each described where it stands.
- Scripts and styles are files under ``api/static``: the Content-Security-Policy runs nothing written into a page, not
  even a ``style`` attribute.

Reading order: ``frame`` (what a page works with), ``asking`` (the JSON routes in this process), ``doors`` (who may come
in, and what they are told when something fails), ``rendering``, ``charts``, ``assets``; then the pages.
"""
