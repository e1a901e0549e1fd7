"""What a page of the console works with: the visit, its parts, rendering it, and ending a change."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final
from urllib.parse import urlencode

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from api import session
from api.console import asking, rendering
from api.declared import BOOK
from api.parameters import path_value
from api.problems import HANDLED, Problem, problem_of
from api.secrets import ApiKey
from api.services import Services
from api.session import Session, Sessions
from ledger.reader import BookHead

MOMENT: Final = ("as_of", "known_at", "known_position")
"""The parameters that say what moment a page is about, and by what was known when."""

NOW: Final[Mapping[str, object]] = dict.fromkeys(MOMENT)
"""What to ask with for what is decided now, whatever moment the page is about."""


@dataclass(frozen=True, slots=True)
class Page:
    """A page, or with ``method="POST"`` a change that a form asks for.

    ``scopes``: a key with any of them may come in; none: every key. ``nav`` is its name in the navigation and ``home``
    where that leads; ``sample`` an address to measure and to walk it by, in which ``{customer}`` stands for a customer.
    """

    path: str
    show: Callable[[Visit], Awaitable[Response]]
    scopes: tuple[str, ...] = ()
    nav: str | None = None
    home: str | None = None
    sample: str | None = None
    method: str = "GET"

    def opens_for(self, key: ApiKey) -> bool:
        """Tell whether a key may come in."""
        return not self.scopes or any(key.allows(scope) for scope in self.scopes)


@dataclass(frozen=True, slots=True)
class Part:
    """One part of a page: what a route answered, why it could not, or nothing for a key without its scope."""

    content: Any = None
    problem: Problem | None = None
    hidden: bool = False

    @property
    def shown(self) -> bool:
        """Whether there is anything to look at."""
        return self.content is not None

    @property
    def freshness(self) -> Mapping[str, Any] | None:
        """How fresh the answer is, where it says so."""
        return self.content.get("freshness") if isinstance(self.content, dict) else None


@dataclass(frozen=True, slots=True)
class Visit:
    """One request of somebody signed in: who, which book, which moment, and the way to everything shown."""

    request: Request
    services: Services
    sessions: Sessions
    session: Session
    pages: tuple[Page, ...]
    page: Page
    book: str
    heads: tuple[BookHead, ...]
    now: datetime
    as_of: datetime | None = None
    known_at: datetime | None = None
    known_position: int | None = None
    form: Mapping[str, str] = field(default_factory=dict)

    @property
    def key(self) -> ApiKey:
        """The key that is signed in."""
        return self.session.key

    @property
    def books(self) -> list[str]:
        """The books of Stripe's that the key sees; the one asked about among them."""
        return list(dict.fromkeys([*(head.book for head in self.heads), self.book]))

    @property
    def head(self) -> BookHead | None:
        """How far the book's log is; None while it has no event."""
        return next((head for head in self.heads if head.book == self.book), None)

    @property
    def moment(self) -> dict[str, object]:
        """The moment asked about, as parameters; those not given are None."""
        return {name: getattr(self, name) for name in MOMENT}

    def path(self, name: str) -> str:
        """Return a value of the page's path."""
        return path_value(self.request, name)

    def query(self, name: str, default: str = "") -> str:
        """Return a parameter of the page's address, without white space around it."""
        return self.request.query_params.get(name, default).strip()

    def leads_to(self, address: str) -> bool:
        """Tell whether the navigation leads to an address: there is such a page, and the key may see it."""
        return any((page.home or page.path) == address for page in self.pages)

    def may(self, scope: str) -> bool:
        """Tell whether the key has a scope."""
        return self.key.allows(scope)

    async def ask(self, operation: str, /, *, body: object = None, **values: object) -> Any:
        """Call a JSON route in this process as the key that is signed in; raises what it raises."""
        asked = asking.operation_of(operation)
        declared = {one.name for one in asked.query}
        given = {"book": self.book, **self.moment} if BOOK in asked.query else {}  # others are of all books, and of now
        given = {name: value for name, value in given.items() if name in declared}
        return await asking.ask(self.request, self.key, asked, given | values, body)

    async def part(self, operation: str, /, **values: object) -> Part:
        """Read one part of the page: the rest of it is shown where this cannot be answered."""
        scope = asking.operation_of(operation).scope
        if scope is not None and not self.may(scope):
            return Part(hidden=True)
        try:
            return Part(await self.ask(operation, **values))
        except HANDLED as error:
            problem = problem_of(error)
            if problem.status >= 500 and problem.status != 503:
                raise
            return Part(problem=problem)

    def url(self, path: str, /, **values: object) -> str:
        """Return the address of a page in this book and at this moment; a value that is None is left out."""
        given = {"book": self.book, **self.moment, **values}
        text = {name: rendering.parameter(value) for name, value in given.items() if value not in (None, "")}
        return f"{path}?{urlencode(text)}"

    @property
    def place(self) -> str:
        """The path of this page, as addresses have it."""
        return "/".join(rendering.segment(step.replace("\x00", "/")) for step in self.request.scope["path"].split("/"))

    def here(self, **values: object) -> str:
        """Return the address of this page with some of its parameters changed."""
        kept = {name: value for name, value in self.request.query_params.items() if name not in ("book", *MOMENT)}
        return self.url(self.place, **{**kept, **values})


def render(visit: Visit, template: str, /, *, refused: Problem | None = None, **context: object) -> Response:
    """Render a page's template; with its status where it shows why something was ``refused``."""
    told = visit.sessions.told(visit.request, visit.session)
    context = {"visit": visit, "told": told, "refused": refused, **context}
    response = rendering.respond(template, context, 200 if refused is None else refused.status)
    if told is not None:
        session.forget_message(response)
    return response


def done(visit: Visit, address: str, message: str) -> Response:
    """End a change: go on to a page, which shows the message once."""
    response = RedirectResponse(address, status_code=303, headers=rendering.HEADERS)
    visit.sessions.tell(response, visit.request, visit.session, message)
    return response
