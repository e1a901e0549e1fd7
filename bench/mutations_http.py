"""What ``bench.mutants`` breaks of the ways in: keys, signatures, sessions, pages."""

from __future__ import annotations

from typing import Final

from bench.mutant import mutant

_ACCESS = "tests/http/test_access.py"
_WEBHOOK = "tests/http/test_webhook.py"
_SESSIONS = "tests/console/test_sessions.py"
_COOKIES = f"{_SESSIONS}::test_a_cookie_is_for_this_site_alone"
_TOKENS = f"{_SESSIONS}::test_signing_out_needs_the_token_of_this_session"
_ENDS = f"{_SESSIONS}::test_a_session_ends_with_its_time_and_with_its_key"
_GOES_TO = f"{_SESSIONS}::test_signing_in_goes_on_where_one_wanted_to_be_on_this_site_only"
_SCOPED = "tests/console/test_pages.py::test_a_key_sees_the_pages_and_parts_of_its_scopes"
_GUARDS = "tests/http/test_guards.py::test_each_other_book_is_refused"
_FROM_MEMORY = "tests/http/test_present.py::test_memory_answers_nobody_who_may_not_ask"

ACCESS: Final = (
    mutant("access", "a key's scope is not asked for", "api/access.py",
            "if not key.allows(scope):", "if not scope:", _ACCESS),
    mutant("access", "a key sees other books", "api/secrets.py", "return self.book in (None, book)", "return True", _ACCESS),
    mutant("access", "any key will do", "api/secrets.py",
            "if hmac.compare_digest(key.digest, digest):", "if digest:", _ACCESS),
    mutant("access", "an old signature is good for ever", "api/webhook.py",
            "if abs(age_seconds) > tolerance_seconds:", "if age_seconds < -tolerance_seconds:", _WEBHOOK),
    mutant("access", "a signature from the future is good", "api/webhook.py",
            "if abs(age_seconds) > tolerance_seconds:", "if age_seconds > tolerance_seconds:", _WEBHOOK),
    mutant("access", "a secret vouches for every account and mode", "api/webhook.py",
            "if not any(secret.covers(livemode=envelope.livemode, account=account) for secret in vouching):",
            "if not vouching:", _WEBHOOK),
    mutant("access", "a body without a length is read to its end", "api/webhook.py",
            "if len(body) > MAX_BODY_BYTES:", "if len(body) < 0:", _WEBHOOK),
    mutant("access", "what is asked of another book is answered", "api/declared.py",
            'if not key.sees(request.query_params.get("book", key.book or "")):', "if key.book is None:", _GUARDS),
    mutant("access", "what is of all books is for a key of one", "api/declared.py",
            "if BOOK not in self.query:", "if key.book is None:", _GUARDS),
    mutant("access", "parameters that nobody knows are left out", "api/declared.py",
            'raise Problem(400, f"unknown parameter {name!r}: {there_are}", kind="unknown-parameter")', "continue",
            "tests/http/test_parameters.py::test_an_unknown_parameter_is_named"),
    mutant("access", "the log names what was asked for", "api/front.py",
            "route=route,", 'route=scope["path"],',
            "tests/http/test_front.py::test_one_line_a_request_that_names_nobody"),
    mutant("access", "memory answers whoever has a key", "api/present.py",
            "if key is None or not key.allows(_SCOPE):", "if key is None:", _FROM_MEMORY),
    mutant("access", "the log shows what looks like a secret", "api/logs.py",
            "text = shape.sub(BLOT, text)", "text = text[:]", "tests/http/test_front.py::test_what_looks_personal_or_secret_is_blotted_out"),
)  # fmt: skip

CONSOLE: Final = (
    mutant("console", "a session's cookie goes along from other sites", "api/session.py",
            'samesite="strict", secure=secure', 'samesite="none", secure=secure', _COOKIES),
    mutant("console", "a script may read a session's cookie", "api/session.py",
            'httponly=True, samesite="strict", secure=secure', 'httponly=False, samesite="strict", secure=secure', _COOKIES),
    mutant("console", "a session's cookie goes over http as well", "api/session.py",
            'samesite="strict", secure=secure', 'samesite="strict", secure=False', _COOKIES),
    mutant("console", "any token will do for a form", "api/session.py",
            'return secrets.compare_digest(session.token.encode(), token.encode("utf-8", "replace"))', "return True", _TOKENS),
    mutant("console", "all sessions have one token", "api/session.py",
            "return str(self._tokens.dumps(name))", 'return str(self._tokens.dumps(""))', _TOKENS),
    mutant("console", "a session has no end", "api/session.py",
            'request.cookies.get(COOKIE, ""), max_age=_MAX_AGE_SECONDS)', 'request.cookies.get(COOKIE, ""))', _ENDS),
    mutant("console", "the digests of the keys are enough to sign in", "api/session.py",
            "[secret, *(digest.encode()", "[*(digest.encode()",
            f"{_SESSIONS}::test_the_digest_of_a_key_signs_nobody_in"),
    mutant("console", "a message is told to whoever comes", "api/session.py",
            "return str(message) if name == session.name else None", "return str(message)",
            f"{_SESSIONS}::test_a_message_is_told_once_and_to_its_session_only"),
    mutant("console", "a form comes from any site", "api/console/doors.py",
            "if not is_own:", "if is_own is None:", f"{_SESSIONS}::test_no_other_site_signs_anybody_in"),
    mutant("console", "what changes something comes from any site", "api/console/doors.py",
            'if page.method == "POST":\n            _refuse_other_sites(request)\n', 'if page.method == "POST":\n',
            f"{_SESSIONS}::test_no_other_site_changes_anything"),
    mutant("console", "signing in leads to any site", "api/console/doors.py",
            'return address if is_local else "/"', "return address", _GOES_TO),
    mutant("console", "signing in leads to a site without a scheme", "api/console/doors.py",
            'not address.startswith(("//", "/\\\\"))', 'not address.startswith("/\\\\")', _GOES_TO),
    mutant("console", "a page's scopes are not looked at", "api/console/doors.py",
            "if not page.opens_for(current.key):", "if not current.key:", _SCOPED),
    mutant("console", "a key of one book sees the pages of others", "api/console/doors.py",
            "if not key.sees(book):", "if not book:", "tests/console/test_pages.py::test_a_key_of_one_book_sees_no_other"),
    mutant("console", "what stands in an event is markup", "api/console/rendering.py",
            "autoescape=True", "autoescape=False", "tests/http/test_console.py::test_hostile_text_stays_text"),
)  # fmt: skip
