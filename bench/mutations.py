"""What ``bench.mutants`` breaks, one at a time: the promises, as changes of the source that keeps each of them.

``tests`` are the area's own tests, which have to notice. The guards of the source itself (a fold's digest, the
comparison of schema and migrations) are never among them: they would notice any change, right or wrong.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Mutant:
    """One promise broken: each old text stands once in the file, and the new one is put in its place."""

    area: str
    breaks: str
    path: str
    changes: tuple[tuple[str, str], ...]
    tests: tuple[str, ...]


def _mutant(area: str, breaks: str, path: str, old: str, new: str, *tests: str) -> Mutant:
    return Mutant(area, breaks, path, ((old, new),), tests)


_SCHEMA = "ledger/migrations/0001_first_light.sql"
_APPEND = "tests/log/test_append.py"
_MANY = "tests/log/test_many_processes.py"
_TAMPER = "tests/log/test_tamper.py"
_COLUMNS = f"{_TAMPER}::test_a_changed_column_is_found"
_TAMPERED = f"{_TAMPER}::test_a_tampered_log_is_found_out"
_AGREEING = f"{_TAMPER}::test_a_change_that_leaves_and_head_agree_with_is_found_out"
_MERKLE = "tests/proof/test_merkle.py"
_CAUSAL = "tests/projections/test_causal.py"
_ENGINE = ("tests/projections/test_engine.py", "tests/projections/test_engine_database.py")
_FOLLOWER = "tests/projections/test_follower.py"
_BUILDS = "tests/projections/test_builds.py"
_FENCED = f"{_BUILDS}::test_an_old_leader_is_fenced_off"
_OVERTAKEN = f"{_FOLLOWER}::test_a_step_that_was_overtaken_is_dropped"
_PIECES = f"{_BUILDS}::test_a_part_of_many_pieces_is_folded_piece_by_piece_to_its_end"
_NOT_PROMOTED = f"{_BUILDS}::test_what_is_not_promoted"
_JOINING = "tests/projections/test_joining.py"
_LINK_LAST = f"{_JOINING}::test_the_link_may_come_last"
_CLAIMED_TWICE = f"{_JOINING}::test_what_two_customers_claim_is_parked_and_stays_with_the_first"
_LATE_TERMS = f"{_JOINING}::test_late_terms_reach_exactly_those_who_used_them"
_CHANGES = "tests/projections/test_changes.py"
_SOURCES = (
    "tests/entitlements/test_standing.py",
    "tests/entitlements/test_sources.py",
    "tests/simulator/test_access_scenarios.py",
    "tests/projections/test_entitlement_stories.py",
)
_STORIES = ("tests/dunning/test_stories.py", "tests/dunning/test_cases.py")
_POTS = ("tests/revenue/test_pots.py", "tests/revenue/test_pots_by_hand.py")
_GOLDEN = ("tests/revenue/test_golden.py", "tests/revenue/test_traps.py")
_MOVEMENTS = "tests/mrr/test_movements.py"
_WORTH = "tests/mrr/test_worth.py"
_REPORTED = "tests/periods/test_reported.py"
_CLOSE = "tests/periods/test_close.py"
_ACCESS = "tests/http/test_access.py"
_WEBHOOK = "tests/http/test_webhook.py"
_SESSIONS = "tests/console/test_sessions.py"
_COOKIES = f"{_SESSIONS}::test_a_cookie_is_for_this_site_alone"
_TOKENS = f"{_SESSIONS}::test_signing_out_needs_the_token_of_this_session"
_ENDS = f"{_SESSIONS}::test_a_session_ends_with_its_time_and_with_its_key"
_GOES_TO = f"{_SESSIONS}::test_signing_in_goes_on_where_one_wanted_to_be_on_this_site_only"
_SCOPED = "tests/console/test_pages.py::test_a_key_sees_the_pages_and_parts_of_its_scopes"
_GUARDS = "tests/http/test_guards.py::test_each_other_book_is_refused"

LOG: Final = (
    _mutant("log", "the head row is not locked", _SCHEMA,
            "    ORDER BY h.book\n    FOR UPDATE;", "    ORDER BY h.book;", _APPEND, _MANY),
    _mutant("log", "a batch is written on whatever head there is", _SCHEMA,
            "    WHERE h.position <> believed.expected;", "    WHERE false;", _APPEND, _MANY),
    _mutant("log", "tailing goes past a missing position, as a sequence's reader does", "ledger/reader.py",
            'return [row for expected, row in enumerate(rows, after + 1) if row["position"] == expected]',
            "return list(rows)", _APPEND),
    Mutant("log", "an event is deduped per stream", _SCHEMA, (
        ("    PRIMARY KEY (event_id, book)\n", "    PRIMARY KEY (event_id, book, stream_id)\n"),
        ("    FROM unnest(event_ids, books) AS new (event_id, book)\n",
         "    FROM unnest(event_ids, books, stream_ids) AS new (event_id, book, stream_id)\n"),
        ("ON k.event_id = new.event_id AND k.book = new.book;",
         "ON k.event_id = new.event_id AND k.book = new.book AND k.stream_id = new.stream_id;"),
    ), (_APPEND,)),
    _mutant("log", "an event is deduped across books", _SCHEMA,
            "ON k.event_id = new.event_id AND k.book = new.book;", "ON k.event_id = new.event_id;", _APPEND),
    _mutant("log", "another body under a known id is no conflict", "ledger/conflicts.py",
            "return first == copy or _settled(first) == _settled(copy)", "return True", _APPEND),
    _mutant("log", "pending_webhooks makes a conflict", "ledger/conflicts.py",
            "return first == copy or _settled(first) == _settled(copy)", "return first == copy", _APPEND),
    _mutant("log", "times of recording go back with the clock", "ledger/batch.py",
            "recorded_at = max(recorded_at, when(event))", "recorded_at = when(event)", _APPEND),
    _mutant("log", "the queue has no bound", "ledger/appender.py",
            "self._queued_events + len(events) > self._limits.waiting_events", "len(events) < 0", _APPEND),
    _mutant("log", "the queue has no bound in bytes", "ledger/appender.py",
            "or self._queued_bytes + size > self._limits.waiting_bytes", "or size < 0", _APPEND),
    _mutant("log", "one event that cannot be written fails its whole batch", "ledger/appender.py",
            "if len(callers) > 1:\n                # Something", "if len(callers) < 0:\n                # Something", _APPEND),
    _mutant("log", "who comes second for a version is never told", "ledger/appender.py",
            "answer.taken - self._own(one.key)", "set()", f"{_APPEND}::test_a_version_conflict_fails_its_caller_alone"),
    _mutant("log", "the log may be changed by its owner", _SCHEMA,
            "ALTER TABLE ledger.event ENABLE ALWAYS TRIGGER event_is_immutable;",
            "ALTER TABLE ledger.event DISABLE TRIGGER event_is_immutable;", _APPEND),
    _mutant("log", "a refused webhook is told to be durable", "ledger/appender.py",
            'self._refuse(callers, "the database did not confirm the commit")',
            "[one.answer.set_result([Appended(1, duplicate=False)] * len(one.events)) for one in callers]",
            _APPEND, _WEBHOOK),
)  # fmt: skip

PROOF: Final = (
    _mutant("proof", "a leaf is hashed like a node", "ledger/merkle.py",
            'return sha256(b"\\x00" + entry).digest()', 'return sha256(b"\\x01" + entry).digest()', _MERKLE),
    _mutant("proof", "left and right are swapped while the tree grows", "ledger/merkle.py",
            'sha256(b"\\x01" + left + right).digest() for left', 'sha256(b"\\x01" + right + left).digest() for left',
            _MERKLE),
    _mutant("proof", "a body's digest has no salt", "ledger/leaf.py",
            "hashlib.sha256(salt + body)", "hashlib.sha256(body)", "tests/http/test_log.py", "tests/log/test_erasure.py",
            "tests/http/test_events.py"),
    _mutant("proof", "a leaf says nothing of when it was recorded", "ledger/leaf.py",
            '"recorded_at": self.recorded_at.astimezone(UTC),\n', "", f"{_TAMPERED}[record everything a moment later]"),
    _mutant("proof", "the envelope chain leaves out the signature", "ledger/leaf.py",
            "[version, received_at.astimezone(UTC), signature, api_version,",
            "[version, received_at.astimezone(UTC), api_version,", f"{_COLUMNS}[signature-299]"),
    _mutant("proof", "verify does not compare roots", "ledger/verify.py",
            "if root(self._frontier) != one.checkpoint.root:", "if root(self._frontier) == b'':", f"{_AGREEING}[type-is not the one that was signed]"),
    _mutant("proof", "verify does not compare envelope chains", "ledger/verify.py",
            "elif one.envelope is not None and one.envelope != self._envelope:", "elif one.envelope == b'':",
            f"{_AGREEING}[signature-are not what was signed]"),
    _mutant("proof", "verify does not miss a deleted checkpoint", "ledger/verify.py",
            "if not one.inside:", "if one.inside is None:", f"{_TAMPERED}[delete a checkpoint]"),
    _mutant("proof", "verify does not miss what was cut off", "ledger/verify.py",
            "if size > self._size:", "if size < 0:", f"{_TAMPER}::test_an_older_backup_is_found_out"),
    _mutant("proof", "verify does not look at the keys of events", "ledger/verify.py",
            "ORDER BY 2\nLIMIT $2", "ORDER BY 2\nLIMIT 0 * $2", f"{_TAMPERED}[change a key]"),
    _mutant("proof", "any empty body counts as erased", "ledger/verify.py",
            "if self._erasures.pop(position, None) == event_id:", "if True:", "tests/log/test_erasure.py::test_only_what_the_erasure_names_may_be_without_a_body"),
    _mutant("proof", "a checkpoint of anybody's key is believed", "ledger/verify.py",
            "checkpoint = parse_checkpoint(open_note(note, trusted).text)",
            'checkpoint = parse_checkpoint(note.partition("\\n\\n")[0] + "\\n")', f"{_TAMPER}::test_history_rewritten_with_another_key_is_found_out"),
    _mutant("proof", "a log that lost what was signed is signed again", "ledger/notary.py",
            "if size and not await connection", "if size < 0 and not await connection",
            f"{_TAMPER}::test_an_older_backup_is_found_out"),
)  # fmt: skip

ORDER: Final = (
    _mutant("order", "previous_attributes are ignored", "projections/causal.py",
            "chained = [fact for fact in between if fact.previous]", "chained: list[Fact] = []", _CAUSAL),
    _mutant("order", "arrival decides inside a second", "projections/causal.py",
            "return (_stage(fact), _life(fact), milestones, fact.created, fact.event_id)",
            "return (fact.position, _life(fact), milestones, fact.created, fact.event_id)", _CAUSAL),
    _mutant("order", "of two copies the later one counts", "projections/causal.py",
            'key=attrgetter("position"), reverse=True)', 'key=attrgetter("position"))', _CAUSAL),
    _mutant("order", "neighbouring seconds are never tried as one", "projections/causal.py",
            "wider = [n for n in range(end + 1,", "wider = [n for n in range(0) if range(end + 1,", _CAUSAL),
    _mutant("order", "an object's life says nothing", "projections/causal.py",
            'return _LIFE.get(str(fact.subject.get("object")), {}).get(str(fact.subject.get("status")), 0)',
            "return 0", _CAUSAL),
    _mutant("order", "nested prior values are put back whole", "projections/causal.py",
            "if isinstance(was, dict) and isinstance(state.get(key), dict)}", "if was is state}", _CAUSAL),
    _mutant("order", "a state is kept that a late event may still change", "projections/folding.py",
            "if facts[end - 1].created + REACH < facts[-1].created]", "if facts]", *_ENGINE),
    _mutant("order", "a fold goes on from a state that news may change", "projections/folding.py",
            "if one.at + 2 * REACH < moment)", "if one.at - 2 * REACH < moment)", *_ENGINE),
    _mutant("order", "what comes late leaves the kept states after it alone", "projections/refold.py",
            "if (reached.state, reached.anchors) != (target.state, target.anchors):", "if reached is target:",
            *_ENGINE, _FOLLOWER),
)  # fmt: skip

ENGINE: Final = (
    _mutant("engine", "the checkpoint moves under an older term", "projections/follower.py",
            "AND position = $3 AND term <= $5", "AND position = $3 AND $5::bigint IS NOT NULL", _FENCED),
    _mutant("engine", "the checkpoint moves from wherever it is", "projections/follower.py",
            "AND position = $3 AND term <= $5", "AND $3::bigint IS NOT NULL AND term <= $5", _OVERTAKEN),
    _mutant("engine", "two leaders hold one lease", "projections/leases.py",
            "WHERE lease.holder = excluded.holder OR lease.expires_at <= now()\n", "", _FENCED),
    _mutant("engine", "a change of leaders keeps the term", "projections/leases.py",
            "THEN lease.term ELSE lease.term + 1 END", "THEN lease.term ELSE lease.term END", _FENCED),
    _mutant("engine", "what the database refuses stops everybody", "projections/writing.py",
            "_REFUSED: Final = (asyncpg.DataError,", "_REFUSED: Final = (", f"{_FOLLOWER}::test_what_fails_is_parked_alone"),
    _mutant("engine", "a database that is away parks subjects", "projections/refold.py",
            "folded = folding.finish(until)\n    except AWAY:\n        raise\n    except Exception",
            "folded = folding.finish(until)\n    except Exception",
            f"{_FOLLOWER}::test_a_database_that_goes_away_parks_nobody"),
    _mutant("engine", "the last link to come stands instead of the first", "projections/links.py",
            "if current is None or link.rank < current.rank:", "if current != link:",
            f"{_JOINING}::test_the_first_link_stands_whatever_the_order"),
    _mutant("engine", "a worker that has not seen the first link writes another over it", "projections/joining.py",
            "WHERE (excluded.created, excluded.event_id) < (link.created, link.event_id)\n", "",
            f"{_JOINING}::test_the_first_link_stands_where_a_worker_has_not_seen_it"),
    _mutant("engine", "a child that leaves a customer leaves its rows behind", "projections/follower.py",
            "await _drop(connection, projection, joined.no_longer_roots)\n", "pass\n", _LINK_LAST),
    _mutant("engine", "late terms touch nobody", "projections/joining.py",
            'joined.dirty |= {row["subject"] for row in await connection.fetch(USERS, named)}',
            "joined.dirty |= set(named[:0])", _LATE_TERMS),
    _mutant("engine", "a child of two customers is not parked", "projections/links.py",
            "return child.child == other.child and len(roots) == 2 and", "return len(roots) > 2 and", _CLAIMED_TWICE),
    _mutant("engine", "a rebuild calls a part done after its first piece", "projections/rebuild.py",
            "SET after_stream = $3, events = events + $4, done = $5\n",
            "SET after_stream = $3, events = events + $4, done = $5 OR true\n", _PIECES),
    _mutant("engine", "a rebuild forgets how far a part has come", "projections/rebuild.py",
            "SET after_stream = $3, events", "SET after_stream = left($3, 0), events", _PIECES),
    _mutant("engine", "a build that was never compared is promoted", "projections/promotion.py",
            "if never or (prudent and not force):", "if never:", _NOT_PROMOTED),
    _mutant("engine", "a build with parked subjects is promoted", "projections/promotion.py",
            'prudent.append(f"{parked} subjects are parked")', "pass", _NOT_PROMOTED),
    _mutant("engine", "an answer that is the same is told again", "projections/entitlements/telling.py",
            "if granted != (feature in told) or (granted and told[feature] != value):", "if granted or feature in told:",
            _CHANGES),
)  # fmt: skip

ENTITLEMENTS: Final = (
    _mutant("entitlements", "intervals include their end", "projections/entitlements/standing.py",
            "return span[0] <= at and (span[1] is None or at < span[1])",
            "return span[0] <= at and (span[1] is None or at <= span[1])", *_SOURCES),
    _mutant("entitlements", "a grant lasts one moment longer than it says", "projections/entitlements/standing.py",
            "if row.expires_at is not None and row.expires_at <= at:",
            "if row.expires_at is not None and row.expires_at < at:", *_SOURCES),
    _mutant("entitlements", "grace is counted from the newest failure", "projections/entitlements/standing.py",
            "since = min((one.valid_from for one in _owed(evidence, at)), default=row.status_since)",
            "since = max((one.valid_from for one in _owed(evidence, at)), default=row.status_since)", *_SOURCES),
    _mutant("entitlements", "grace never ends", "projections/entitlements/standing.py",
            "if over is not None and over <= at:", "if over is not None and at < row.valid_from:", *_SOURCES),
    _mutant("entitlements", "who never paid has the grace of who did", "projections/entitlements/standing.py",
            'if not any(one.kind == "paid" and one.valid_from <= at for one in evidence):', "if not row.source:",
            *_SOURCES),
    _mutant("entitlements", "a won dispute goes on to suspend", "projections/entitlements/standing.py",
            "end = earliest(one.valid_to, one.covers_to)", "end = one.covers_to", *_SOURCES),
    _mutant("entitlements", "a dispute suspends beyond the invoice's period", "projections/entitlements/standing.py",
            "start = max(one.valid_from, one.covers_from)\n        end = earliest(one.valid_to, one.covers_to)",
            "start = max(one.valid_from, one.covers_from)\n        end = earliest(one.valid_to, datetime.max.replace(tzinfo=start.tzinfo))",
            *_SOURCES),
    _mutant("entitlements", "several sources give the most instead of the sum", "projections/entitlements/answer.py",
            'return max(amounts) if combine == "max" else sum(amounts, Decimal(0))', "return max(amounts)", *_SOURCES),
    _mutant("entitlements", "one source that denies takes what another gives", "projections/entitlements/answer.py",
            "granting = tuple(one for one in contributions if one.standing.granted)",
            "granting = tuple(one for one in contributions if all(other.standing.granted for other in contributions))",
            *_SOURCES),
    _mutant("entitlements", "a catalog holds before it is effective", "projections/catalog.py",
            "if one.effective_from is None or one.effective_from <= at]", "if published]", "tests/projections/test_features.py",
            "tests/http/test_catalog.py", *_SOURCES),
)  # fmt: skip

DUNNING: Final = (
    _mutant("dunning", "a hard decline is retried like any other", "projections/dunning/course.py",
            'self.stuck = one.kind in ("hard", "no_method")', "self.stuck = False", *_STORIES),
    _mutant("dunning", "an attempt without a payment counts after a hard decline", "projections/dunning/course.py",
            'if self.stuck and one.declined is None and one.kind != "no_method":', "if self.stuck is None:", *_STORIES),
    _mutant("dunning", "a subscription counts as left past due at once", "projections/dunning/course.py",
            "LEFT_AFTER: Final = timedelta(hours=24)", "LEFT_AFTER: Final = timedelta(hours=0)", *_STORIES),
    _mutant("dunning", "what was credited counts as recovered", "projections/dunning/course.py",
            "return (whole, whole - credited, credited)", "return (whole, whole, 0)", *_STORIES),
    _mutant("dunning", "what was written off has an open amount", "projections/dunning/course.py",
            "open_amount=0 if over else self.now.amount_remaining", "open_amount=self.now.amount_remaining", *_STORIES),
    _mutant("dunning", "an invoice that was sent fails before it is due", "projections/dunning/course.py",
            "return self.bill.automatic or self.overdue", "return True", *_STORIES),
    _mutant("dunning", "the last outcome stands instead of the first", "projections/dunning/course.py",
            "if self.outcome is None and (outcome := ENDS.get(self.status)) is not None:",
            "if (outcome := ENDS.get(self.status)) is not None:", *_STORIES),
    _mutant("dunning", "a new card mends nothing", "projections/dunning/course.py",
            "if one.mends and self.stuck and self.failures and one.at > self.failures[-1].at:", "if self.stuck is None:",
            *_STORIES),
)  # fmt: skip

REVENUE: Final = (
    _mutant("revenue", "a payment is posted by event instead of by fact", "projections/revenue/gather.py",
            "or shown.id in facts.invoice_payments:\n        return\n    facts.invoice_payments[shown.id] = InvoicePaymentFact(\n        key=shown.id,",
            "or fact.event_id in facts.invoice_payments:\n        return\n    facts.invoice_payments[fact.event_id] = InvoicePaymentFact(\n        key=fact.event_id,",
            *_GOLDEN),
    _mutant("revenue", "a reduction is split by elapsed time instead of by pots", "projections/revenue/pots.py",
            "shares = split(amount, [held for _, _, held in places])",
            "shares = split(amount, [(pot == 'D') * max(line.end - at, 0) + (pot == 'R') * max(at - line.start, 1)"
            " for line, pot, _ in places])", *_POTS, *_GOLDEN),
    _mutant("revenue", "what is earned is rounded per day", "projections/revenue/schedule.py",
            "return half_even(self.amount * (self.a - self.b * ((at - self.origin) // self.unit)), self.c)",
            "return self.amount - (at - self.origin) // 86_400 * half_even(self.amount * self.b * 86_400, self.c)"
            " if at < self.end else 0", *_POTS, *_GOLDEN),
    _mutant("revenue", "a half is rounded up", "projections/revenue/schedule.py",
            "(twice == denominator and whole % 2 == 1)", "twice == denominator", *_POTS, *_GOLDEN),
    _mutant("revenue", "what is left over by a split goes to the first", "projections/revenue/pots.py",
            "key=lambda place: -abs(parts[place][1]))[:missing]", "key=lambda place: place)[:missing]", *_POTS, *_GOLDEN),
    _mutant("revenue", "the first invoice of an incomplete subscription earns", "projections/revenue/journal.py",
            "bill.pots.held = True", "bill.pots.held = False", *_GOLDEN),
    _mutant("revenue", "a failed refund stays refunded", "projections/revenue/journal.py",
            'fail = partial(bill.fail_refund, refund.key, because=[refund.because["failed"]])\n        books.act(key, refund.failed_at, Rank.REFUND_FAILED, refund.key, fail)',
            "pass", *_GOLDEN),
    _mutant("revenue", "a voided invoice stays", "projections/revenue/journal.py",
            "if fact.voided_at is not None:\n        books.act(fact.key", "if fact.voided_at == 0:\n        books.act(fact.key",
            *_GOLDEN),
    _mutant("revenue", "a voided credit note stays", "projections/revenue/journal.py",
            "if note.voided_at is not None:", "if note.voided_at == 0:", *_GOLDEN),
    _mutant("revenue", "a refund that a credit note covers is posted twice", "projections/revenue/journal.py",
            "covered = sum(some for note, some in covering if note.created <= refund.created)", "covered = 0", *_GOLDEN),
    _mutant("revenue", "a dispute that was won stays lost", "projections/revenue/journal.py",
            "method = books.bills[bill].reinstate if back else books.bills[bill].withdraw",
            "method = books.bills[bill].withdraw", *_GOLDEN),
    _mutant("revenue", "a write-off takes no gain", "projections/revenue/pots.py",
            "line.g += line.d - d - g", "line.g += 0", *_POTS, *_GOLDEN),
)  # fmt: skip

MRR: Final = (
    _mutant("mrr", "who comes back is new", "projections/mrr/movements.py",
            'return "reactivation" if group.had else "new"', 'return "new"', _MOVEMENTS),
    _mutant("mrr", "movements are grouped across midnight", "projections/mrr/movements.py",
            "if group is not None and not (at - group.since <= length and at.date() == group.since.date()):",
            "if group is not None and not at - group.since <= length:", _MOVEMENTS),
    _mutant("mrr", "changes of one hour are not one movement", "projections/mrr/movements.py",
            "if group is not None and not (at - group.since <= length and at.date() == group.since.date()):",
            "if group is not None:", _MOVEMENTS),
    _mutant("mrr", "another currency is a churn and a new customer", "projections/mrr/movements.py",
            'marked[out] = marked[out]._replace(reason="currency_change", involuntary=False)', "pass", _MOVEMENTS),
)  # fmt: skip

PERIODS: Final = (
    _mutant("periods", "what was sealed is not taken off what is so now", "projections/periods/reported.py",
            "amounts[key] = amounts.get(key, 0) + sign * one.amount", "amounts[key] = amounts.get(key, 0) + one.amount",
            _REPORTED),
    _mutant("periods", "a late fact changes a closed month", "projections/periods/reported.py",
            "(early if one.original_month < first_open else found).append(one)", "found.append(one)", _REPORTED),
    _mutant("periods", "months are closed in any order", "projections/periods/decisions.py",
            "if month != following:", "if month < following:", _CLOSE),
    _mutant("periods", "any closed month is reopened", "projections/periods/decisions.py",
            "if not self.closed or self.closed[-1] != month:", "if month not in self.closed:", _CLOSE),
    _mutant("periods", "a month is closed before it has ended", "projections/periods/closing.py",
            "if asked.now < month_end(asked.month):", "if asked.now < month_end(asked.month) and asked.force:", _CLOSE),
    _mutant("periods", "objections do not stop a close", "projections/periods/closing.py",
            "if objections and not asked.force:", "if objections and asked.force is None:", _CLOSE),
    _mutant("periods", "a reopened month is reported as never sealed", "projections/periods/reported.py",
            "before, after = last.get(key, 0), now[key].after if key in now else 0",
            "before, after = 0, now[key].after if key in now else 0", _REPORTED),
)  # fmt: skip

ACCESS: Final = (
    _mutant("access", "a key's scope is not asked for", "api/access.py",
            "if not key.allows(scope):", "if not scope:", _ACCESS),
    _mutant("access", "a key sees other books", "api/access.py", "if not key.sees(book):", "if not book:", _ACCESS),
    _mutant("access", "any key will do", "api/secrets.py",
            "if hmac.compare_digest(key.digest, digest):", "if digest:", _ACCESS),
    _mutant("access", "an old signature is good for ever", "api/webhook.py",
            "if abs(age_seconds) > tolerance_seconds:", "if age_seconds < -tolerance_seconds:", _WEBHOOK),
    _mutant("access", "a signature from the future is good", "api/webhook.py",
            "if abs(age_seconds) > tolerance_seconds:", "if age_seconds > tolerance_seconds:", _WEBHOOK),
    _mutant("access", "a secret vouches for every account and mode", "api/webhook.py",
            "if not any(secret.covers(livemode=envelope.livemode, account=account) for secret in vouching):",
            "if not vouching:", _WEBHOOK),
    _mutant("access", "a body without a length is read to its end", "api/webhook.py",
            "if len(body) > MAX_BODY_BYTES:", "if len(body) < 0:", _WEBHOOK),
    _mutant("access", "what is asked of another book is answered", "api/declared.py",
            'if not key.sees(request.query_params.get("book", key.book or "")):', "if key.book is None:", _GUARDS),
    _mutant("access", "what is of all books is for a key of one", "api/declared.py",
            "if BOOK not in self.query:", "if key.book is None:", _GUARDS),
    _mutant("access", "parameters that nobody knows are left out", "api/declared.py",
            'raise Problem(400, f"unknown parameter {name!r}: {there_are}", kind="unknown-parameter")', "continue",
            "tests/http/test_parameters.py::test_an_unknown_parameter_is_named"),
    _mutant("access", "the log names what was asked for", "api/front.py",
            "method=method, route=route, status=status, ms", 'method=method, route=scope["path"], status=status, ms',
            "tests/http/test_front.py::test_one_line_a_request_that_names_nobody"),
    _mutant("access", "the log shows what looks like a secret", "api/logs.py",
            "text = shape.sub(BLOT, text)", "text = text[:]", "tests/http/test_front.py::test_what_looks_personal_or_secret_is_blotted_out"),
)  # fmt: skip

CONSOLE: Final = (
    _mutant("console", "a session's cookie goes along from other sites", "api/session.py",
            'samesite="strict", secure=secure', 'samesite="none", secure=secure', _COOKIES),
    _mutant("console", "a script may read a session's cookie", "api/session.py",
            'httponly=True, samesite="strict", secure=secure', 'httponly=False, samesite="strict", secure=secure', _COOKIES),
    _mutant("console", "a session's cookie goes over http as well", "api/session.py",
            'samesite="strict", secure=secure', 'samesite="strict", secure=False', _COOKIES),
    _mutant("console", "any token will do for a form", "api/session.py",
            'return secrets.compare_digest(session.token.encode(), token.encode("utf-8", "replace"))', "return True", _TOKENS),
    _mutant("console", "all sessions have one token", "api/session.py",
            "return str(self._tokens.dumps(name))", 'return str(self._tokens.dumps(""))', _TOKENS),
    _mutant("console", "a session has no end", "api/session.py",
            'request.cookies.get(COOKIE, ""), max_age=_MAX_AGE_SECONDS)', 'request.cookies.get(COOKIE, ""))', _ENDS),
    _mutant("console", "the digests of the keys are enough to sign in", "api/session.py",
            "[secret, *(digest.encode()", "[*(digest.encode()",
            f"{_SESSIONS}::test_the_digest_of_a_key_signs_nobody_in"),
    _mutant("console", "a message is told to whoever comes", "api/session.py",
            "return str(message) if name == session.name else None", "return str(message)",
            f"{_SESSIONS}::test_a_message_is_told_once_and_to_its_session_only"),
    _mutant("console", "a form comes from any site", "api/console/doors.py",
            "if not is_own:", "if is_own is None:", f"{_SESSIONS}::test_no_other_site_signs_anybody_in"),
    _mutant("console", "what changes something comes from any site", "api/console/doors.py",
            'if page.method == "POST":\n            _refuse_other_sites(request)\n', 'if page.method == "POST":\n',
            f"{_SESSIONS}::test_no_other_site_changes_anything"),
    _mutant("console", "signing in leads to any site", "api/console/doors.py",
            'return address if is_local else "/"', "return address", _GOES_TO),
    _mutant("console", "signing in leads to a site without a scheme", "api/console/doors.py",
            'not address.startswith(("//", "/\\\\"))', 'not address.startswith("/\\\\")', _GOES_TO),
    _mutant("console", "a page's scopes are not looked at", "api/console/doors.py",
            "if not page.opens_for(current.key):", "if not current.key:", _SCOPED),
    _mutant("console", "a key of one book sees the pages of others", "api/console/doors.py",
            "if not key.sees(book):", "if not book:", "tests/console/test_pages.py::test_a_key_of_one_book_sees_no_other"),
    _mutant("console", "what stands in an event is markup", "api/console/rendering.py",
            "autoescape=True", "autoescape=False", "tests/http/test_console.py::test_hostile_text_stays_text"),
)  # fmt: skip

MUTANTS: Final = (*LOG, *PROOF, *ORDER, *ENGINE, *ENTITLEMENTS, *DUNNING, *REVENUE, *MRR, *PERIODS, *ACCESS, *CONSOLE)
