"""The program that drives dj-stripe, run by the interpreter of a folder of its own; it imports nothing of ours.

``dj_stripe.py migrate URL`` makes its tables; ``dj_stripe.py run URL BODIES SECONDS PART PARTS`` sends the bodies of a
part of the customers to its webhook view, through Django's WSGI handler in this process, and prints what it did.

Its view verifies the signature, keeps the request, then asks Stripe's API for the object of every event, whatever the
body says, and for each object that one names and the database has not. The stand-in below answers from memory, at no
cost of a network or a wait, with the newest version that is told of in any of the bodies.
"""

from __future__ import annotations

import hashlib
import hmac
import io
import json
import sys
import time
import urllib.parse
import uuid
import zlib
from pathlib import Path
from typing import Any

import django
import stripe
from django.conf import settings
from django.core.handlers.wsgi import WSGIHandler
from django.core.management import call_command

SECRET = "whsec_bench"
ENDPOINT = uuid.UUID(int=1)
PATH = f"/stripe/webhook/{ENDPOINT}/"
ACCOUNT = {
    "id": "acct_bench",
    "object": "account",
    "livemode": True,
    "country": "US",
    "settings": {},
    "type": "standard",
}

Told = dict[str, dict[str, Any]]


class Answers(stripe.HTTPClient):
    """Stripe's API, as far as the bodies tell of it."""

    name = "answers"

    def __init__(self, told: Told) -> None:
        super().__init__()
        self.told, self.asked, self.missing = told, 0, 0

    def request(self, method: str, url: str, headers: Any, post_data: Any = None) -> tuple[str, int, dict[str, str]]:
        self.asked += 1
        parts = urllib.parse.urlsplit(url).path.strip("/").split("/")
        if parts == ["v1", "account"] or parts[1] == "accounts":
            return json.dumps(ACCOUNT), 200, {}
        if found := self.told.get(urllib.parse.unquote(parts[-1])):
            # It asks for discounts to be written out, which events do not.
            return json.dumps(found | {"discounts": []} if "discounts" in found else found), 200, {}
        if not parts[-1].partition("_")[2]:
            return json.dumps({"object": "list", "data": [], "has_more": False, "url": "/" + "/".join(parts)}), 200, {}
        self.missing += 1
        error = {"type": "invalid_request_error", "code": "resource_missing", "message": f"No such {parts[1]}"}
        return json.dumps({"error": error}), 404, {}

    def close(self) -> None:
        """Nothing is open."""


def configure(url: str) -> None:
    """Set Django up as dj-stripe's installation page does, with connections kept."""
    place = urllib.parse.urlsplit(url)
    query = dict(urllib.parse.parse_qsl(place.query))
    settings.configure(
        SECRET_KEY="bench",
        ALLOWED_HOSTS=["*"],
        INSTALLED_APPS=["django.contrib.auth", "django.contrib.contenttypes", "djstripe"],
        ROOT_URLCONF=__name__,
        USE_TZ=True,
        LOGGING_CONFIG=None,
        DATABASES={
            "default": {
                "ENGINE": "django.db.backends.postgresql",
                "NAME": place.path.strip("/"),
                "USER": place.username or "",
                "PASSWORD": place.password or "",
                "HOST": query.get("host") or place.hostname or "",
                "PORT": str(place.port or query.get("port", "")),
                "CONN_MAX_AGE": None,
            }
        },
        STRIPE_LIVE_SECRET_KEY="sk_live_" + "x" * 24,
        STRIPE_LIVE_MODE=True,
        MIGRATION_MODULES=dict.fromkeys(("auth", "contenttypes", "djstripe")),  # the tables at once: a minute less
        DJSTRIPE_FOREIGN_KEY_TO_FIELD="id",
    )
    django.setup()
    from django.urls import include, path

    global urlpatterns  # noqa: PLW0603 - Django looks for this name here
    urlpatterns = [path("stripe/", include("djstripe.urls", namespace="djstripe"))]


def make_endpoint() -> None:
    """Store the webhook endpoint, as its administration page would, with the signature to be verified."""
    from djstripe.models import WebhookEndpoint

    WebhookEndpoint.objects.create(
        id="we_bench",
        djstripe_uuid=ENDPOINT,
        secret=SECRET,
        livemode=True,
        stripe_data={"secret": SECRET},
        enabled_events=["*"],
        status="enabled",
        url="https://example.com/stripe/webhook/",
    )


def signed(body: bytes) -> dict[str, Any]:
    """Make the WSGI environment of a webhook."""
    at = int(time.time())
    digest = hmac.new(SECRET.encode(), f"{at}.".encode() + body, hashlib.sha256).hexdigest()
    return {
        "REQUEST_METHOD": "POST", "PATH_INFO": PATH, "SCRIPT_NAME": "", "QUERY_STRING": "",
        "SERVER_NAME": "localhost", "SERVER_PORT": "80", "SERVER_PROTOCOL": "HTTP/1.1", "REMOTE_ADDR": "127.0.0.1",
        "CONTENT_TYPE": "application/json", "CONTENT_LENGTH": str(len(body)), "HTTP_HOST": "localhost",
        "HTTP_STRIPE_SIGNATURE": f"t={at},v1={digest}", "wsgi.input": io.BytesIO(body), "wsgi.errors": sys.stderr,
        "wsgi.url_scheme": "http", "wsgi.version": (1, 0), "wsgi.multithread": False, "wsgi.multiprocess": True,
        "wsgi.run_once": False,
    }  # fmt: skip


def post(handler: WSGIHandler, body: bytes) -> int:
    """Send one webhook; return the status."""
    answered: list[str] = []
    for _ in (response := handler(signed(body), lambda status, _headers, _error=None: answered.append(status))):
        pass
    response.close()
    return int(answered[0].split()[0])


def run(file: Path, seconds: float, part: int, parts: int) -> dict[str, Any]:
    """Warm up on a tenth of this part's bodies, wait for a line, and send the others for so long."""
    bodies = [json.loads(line) for line in file.read_text().splitlines()]
    told: Told = {}
    mine = []
    for body in bodies:
        subject = json.loads(body)["data"]["object"]
        if not subject.get("deleted"):
            told[str(subject.get("id"))] = subject
        if zlib.crc32(str(subject.get("customer") or subject.get("id")).encode()) % parts == part:
            mine.append(body.encode())
    answers = stripe.default_http_client = Answers(told)
    handler = WSGIHandler()
    warm = min(100, len(mine) // 10)
    for body in mine[:warm]:
        post(handler, body)
    answers.asked = answers.missing = 0
    print("ready", flush=True)
    sys.stdin.readline()
    statuses: dict[int, int] = {}
    latencies = []
    began = time.perf_counter()
    for body in mine[warm:]:
        asked = time.perf_counter()
        if asked - began > seconds:
            break
        status = post(handler, body)
        statuses[status] = statuses.get(status, 0) + 1
        latencies.append(time.perf_counter() - asked)
    took = time.perf_counter() - began
    return {"seconds": took, "statuses": statuses, "latencies": latencies, "asked": answers.asked,
            "missing": answers.missing}  # fmt: skip


if __name__ == "__main__":
    configure(sys.argv[2])
    if sys.argv[1] == "migrate":
        call_command("migrate", run_syncdb=True, verbosity=0)
        make_endpoint()
    else:
        print(json.dumps(run(Path(sys.argv[3]), float(sys.argv[4]), int(sys.argv[5]), int(sys.argv[6]))), flush=True)
