"""What ``bench.mutants`` breaks, one at a time: the promises, as changes of the source that keeps each of them.

``tests`` are the area's own tests, which have to notice. The guards of the source itself (a fold's digest, the
comparison of schema and migrations) are never among them: they would notice any change, right or wrong.
"""

from __future__ import annotations

from typing import Final

from bench.mutant import Mutant, mutant
from bench.mutations_http import ACCESS, CONSOLE

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
_CLAIMS = "tests/projections/test_claims.py::test_workers_side_by_side_come_to_what_all_links_say"
_LATE_TERMS = f"{_JOINING}::test_late_terms_reach_exactly_those_who_used_them"
_WARM = "tests/projections/test_warm.py"
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
_WEBHOOK = "tests/http/test_webhook.py"
_SESSIONS = "tests/console/test_sessions.py"

LOG: Final = (
    mutant("log", "the head row is not locked", _SCHEMA,
            "    ORDER BY h.book\n    FOR UPDATE;", "    ORDER BY h.book;", _APPEND, _MANY),
    mutant("log", "a batch is written on whatever head there is", _SCHEMA,
            "    WHERE h.position <> believed.expected;", "    WHERE false;", _APPEND, _MANY),
    mutant("log", "tailing goes past a missing position, as a sequence's reader does", "ledger/reader.py",
            'return [row for expected, row in enumerate(rows, after + 1) if row["position"] == expected]',
            "return list(rows)", _APPEND),
    Mutant("log", "an event is deduped per stream", _SCHEMA, (
        ("    PRIMARY KEY (event_id, book)\n", "    PRIMARY KEY (event_id, book, stream_id)\n"),
        ("    FROM unnest(event_ids, books) AS new (event_id, book)\n",
         "    FROM unnest(event_ids, books, stream_ids) AS new (event_id, book, stream_id)\n"),
        ("ON k.event_id = new.event_id AND k.book = new.book;",
         "ON k.event_id = new.event_id AND k.book = new.book AND k.stream_id = new.stream_id;"),
    ), (_APPEND,)),
    mutant("log", "an event is deduped across books", _SCHEMA,
            "ON k.event_id = new.event_id AND k.book = new.book;", "ON k.event_id = new.event_id;", _APPEND),
    mutant("log", "another body under a known id is no conflict", "ledger/conflicts.py",
            "return first == copy or _settled(first) == _settled(copy)", "return True", _APPEND),
    mutant("log", "pending_webhooks makes a conflict", "ledger/conflicts.py",
            "return first == copy or _settled(first) == _settled(copy)", "return first == copy", _APPEND),
    mutant("log", "times of recording go back with the clock", "ledger/batch.py",
            "recorded_at = max(recorded_at, when(event))", "recorded_at = when(event)", _APPEND),
    mutant("log", "the queue has no bound", "ledger/appender.py",
            "self._queued_events + len(events) > self._limits.waiting_events", "len(events) < 0", _APPEND),
    mutant("log", "the queue has no bound in bytes", "ledger/appender.py",
            "or self._queued_bytes + size > self._limits.waiting_bytes", "or size < 0", _APPEND),
    mutant("log", "one event that cannot be written fails its whole batch", "ledger/appender.py",
            "if len(callers) > 1:\n                # Something", "if len(callers) < 0:\n                # Something", _APPEND),
    mutant("log", "who comes second for a version is never told", "ledger/flush.py",
            "answer.taken - self._own(one.key)", "set()", f"{_APPEND}::test_a_version_conflict_fails_its_caller_alone"),
    mutant("log", "the log may be changed by its owner", _SCHEMA,
            "ALTER TABLE ledger.event ENABLE ALWAYS TRIGGER event_is_immutable;",
            "ALTER TABLE ledger.event DISABLE TRIGGER event_is_immutable;", _APPEND),
    mutant("log", "a refused webhook is told to be durable", "ledger/appender.py",
            'self._refuse(callers, "the database did not confirm the commit")',
            "[one.answer.set_result([Appended(1, duplicate=False)] * len(one.events)) for one in callers]",
            f"{_WEBHOOK}::test_while_the_database_is_away_nothing_is_acknowledged"),
)  # fmt: skip

PROOF: Final = (
    mutant("proof", "a leaf is hashed like a node", "ledger/merkle.py",
            'return sha256(b"\\x00" + entry).digest()', 'return sha256(b"\\x01" + entry).digest()', _MERKLE),
    mutant("proof", "left and right are swapped while the tree grows", "ledger/merkle.py",
            'sha256(b"\\x01" + left + right).digest() for left', 'sha256(b"\\x01" + right + left).digest() for left',
            _MERKLE),
    mutant("proof", "a body's digest has no salt", "ledger/leaf.py",
            "hashlib.sha256(salt + body)", "hashlib.sha256(body)", "tests/http/test_log.py", "tests/log/test_erasure.py",
            "tests/http/test_events.py"),
    mutant("proof", "a leaf says nothing of when it was recorded", "ledger/leaf.py",
            '"recorded_at": self.recorded_at.astimezone(UTC),\n', "", f"{_TAMPERED}[record everything a moment later]"),
    mutant("proof", "the envelope chain leaves out the signature", "ledger/leaf.py",
            "[version, received_at.astimezone(UTC), signature, api_version,",
            "[version, received_at.astimezone(UTC), api_version,", f"{_COLUMNS}[signature-299]"),
    mutant("proof", "verify does not compare roots", "ledger/verify.py",
            "if root(self._frontier) != one.checkpoint.root:", "if root(self._frontier) == b'':", f"{_AGREEING}[type-is not the one that was signed]"),
    mutant("proof", "verify does not compare envelope chains", "ledger/verify.py",
            "elif one.envelope is not None and one.envelope != self._envelope:", "elif one.envelope == b'':",
            f"{_AGREEING}[signature-are not what was signed]"),
    mutant("proof", "verify does not miss a deleted checkpoint", "ledger/verify.py",
            "if not one.inside:", "if one.inside is None:", f"{_TAMPERED}[delete a checkpoint]"),
    mutant("proof", "verify does not miss what was cut off", "ledger/verify.py",
            "if size > self._size:", "if size < 0:", f"{_TAMPER}::test_an_older_backup_is_found_out"),
    mutant("proof", "verify does not look at the keys of events", "ledger/verify.py",
            "ORDER BY 2\nLIMIT $2", "ORDER BY 2\nLIMIT 0 * $2", f"{_TAMPERED}[change a key]"),
    mutant("proof", "any empty body counts as erased", "ledger/verify.py",
            "if self._erasures.pop(position, None) == event_id:", "if True:", "tests/log/test_erasure.py::test_only_what_the_erasure_names_may_be_without_a_body"),
    mutant("proof", "a checkpoint of anybody's key is believed", "ledger/verify.py",
            "checkpoint = parse_checkpoint(open_note(note, trusted).text)",
            'checkpoint = parse_checkpoint(note.partition("\\n\\n")[0] + "\\n")', f"{_TAMPER}::test_history_rewritten_with_another_key_is_found_out"),
    mutant("proof", "a log that lost what was signed is signed again", "ledger/notary.py",
            "if size and not await connection", "if size < 0 and not await connection",
            f"{_TAMPER}::test_an_older_backup_is_found_out"),
)  # fmt: skip

ORDER: Final = (
    mutant("order", "previous_attributes are ignored", "projections/causal.py",
            "chained = [fact for fact in between if fact.previous]", "chained: list[Fact] = []", _CAUSAL),
    mutant("order", "arrival decides inside a second", "projections/causal.py",
            "return (_stage(fact), _life(fact), milestones, fact.created, fact.event_id)",
            "return (fact.position, _life(fact), milestones, fact.created, fact.event_id)", _CAUSAL),
    mutant("order", "of two copies the later one counts", "projections/causal.py",
            'key=attrgetter("position"), reverse=True)', 'key=attrgetter("position"))', _CAUSAL),
    mutant("order", "neighbouring seconds are never tried as one", "projections/causal.py",
            "n for n in range(end + 1, min(start + 3,", "n for n in range(0) if range(end + 1, min(start + 3,", _CAUSAL),
    mutant("order", "an object's life says nothing", "projections/causal.py",
            'return _LIFE.get(str(fact.subject.get("object")), {}).get(str(fact.subject.get("status")), 0)',
            "return 0", _CAUSAL),
    mutant("order", "nested prior values are put back whole", "projections/causal.py",
            "if isinstance(was, dict) and isinstance(state.get(key), dict)}", "if was is state}", _CAUSAL),
    mutant("order", "a state is kept that a late event may still change", "projections/folding.py",
            "if facts[-1].created - facts[end - 1].created > REACH]", "if facts]", *_ENGINE),
    mutant("order", "a fold goes on from a state that news may change", "projections/folding.py",
            "if moment - one.at > 2 * REACH)", "if one.at - moment < 2 * REACH)", *_ENGINE),
    mutant("order", "what comes late leaves the kept states after it alone", "projections/refold.py",
            "if (reached.state, reached.anchors) != (target.state, target.anchors):", "if reached is target:",
            _ENGINE[1]),
)  # fmt: skip

ENGINE: Final = (
    mutant("engine", "the checkpoint moves under an older term", "projections/follower.py",
            "AND moves = $6 AND term <= $5", "AND moves = $6 AND $5::bigint IS NOT NULL", _FENCED),
    mutant("engine", "the checkpoint moves from wherever it is", "projections/follower.py",
            "AND position = $3 AND moves = $6 AND", "AND $3::bigint IS NOT NULL AND $6::bigint IS NOT NULL AND", _OVERTAKEN),
    mutant("engine", "the checkpoint moves though somebody wrote where it stands", "projections/follower.py",
            "AND moves = $6 AND", "AND $6::bigint IS NOT NULL AND", f"{_WARM}::test_what_somebody_else_wrote_meanwhile_is_not_written_over"),
    mutant("engine", "two leaders hold one lease", "projections/leases.py",
            "WHERE lease.holder = excluded.holder OR lease.expires_at <= now()\n", "", _FENCED),
    mutant("engine", "a change of leaders keeps the term", "projections/leases.py",
            "THEN lease.term ELSE lease.term + 1 END", "THEN lease.term ELSE lease.term END", _FENCED),
    mutant("engine", "what the database refuses stops everybody", "projections/writing.py",
            "asyncpg.DataError,\n    asyncpg.IntegrityConstraintViolationError,\n", "", f"{_FOLLOWER}::test_what_fails_is_parked_alone"),
    mutant("engine", "a database that is away parks subjects", "projections/refold.py",
            "folded = folding.finish(work.until)\n    except AWAY:\n        raise\n    except Exception",
            "folded = folding.finish(work.until)\n    except Exception",
            f"{_FOLLOWER}::test_a_database_that_goes_away_parks_nobody"),
    mutant("engine", "a late event is forgotten where the state that knew it is passed", "projections/folding.py",
            "states = list(kept)", "states = list(kept)[-1:]", "tests/projections/test_late.py"),
    mutant("engine", "what an object showed is forgotten after 64 others", "projections/folding.py",
            "_ANCHORS: Final = 512", "_ANCHORS: Final = 64",
            "tests/projections/test_warm.py::test_what_an_object_showed_a_hundred_objects_ago_still_tells_an_order"),
    mutant("engine", "a state that is thinned out takes its late events along", "projections/writing.py",
            "await connection.executemany(INHERIT, inherited)", "pass", "tests/projections/test_late.py"),
    mutant("engine", "a parked subject goes on from states that lack what could not be folded", "projections/follower.py",
            "await at.connection.executemany(LACKING, lacking)", "pass",
            f"{_FOLLOWER}::test_a_long_life_stays_parked_until_it_can_be_folded"),
    mutant("engine", "a parked subject is unparked by a part of it that folds", "projections/writing.py",
            " for one in refolding.done if one.until is None]", " for one in refolding.done]",
            f"{_FOLLOWER}::test_a_long_life_stays_parked_until_it_can_be_folded"),
    mutant("engine", "a fold goes on without asking what strange objects showed", "projections/folding.py",
            "        self._before |= shown\n", "",
            f"{_WARM}::test_what_an_object_showed_a_hundred_objects_ago_still_tells_an_order"),
    mutant("engine", "the last link to come stands instead of the first", "projections/links.py",
            "if current is None or link.rank < current.rank:", "if current != link:",
            f"{_JOINING}::test_the_first_link_stands_whatever_the_order"),
    mutant("engine", "a worker that has not seen the first link writes another over it", "projections/joining.py",
            "WHERE (excluded.created, excluded.event_id COLLATE \"C\") < (link.created, link.event_id)\n", "",
            f"{_JOINING}::test_the_first_link_stands_where_a_worker_has_not_seen_it"),
    mutant("engine", "a child that leaves a customer leaves its rows behind", "projections/follower.py",
            "await _drop(at, joined.no_longer_roots)\n", "pass\n", _LINK_LAST),
    mutant("engine", "late terms touch nobody", "projections/joining.py",
            "joined.dirty |= await users_of(connection,", "await users_of(connection,", _LATE_TERMS),
    mutant("engine", "a child of two customers is not parked", "projections/rivals.py",
            "if kept != other and is_customer(kept) and", "if not kept and", _CLAIMED_TWICE),
    mutant("engine", "what nobody else claims any more stays parked", "projections/rivals.py",
            "sorted({link.child for link, _, _ in led} - found.keys())", "[]",
            f"{_JOINING}::test_who_claims_what_is_asked_again_when_what_is_named_changes_hands"),
    mutant("engine", "a rebuild folds objects before all customers", "projections/rebuild.py",
            "until_stream ~ $3 OR NOT EXISTS (", "until_stream ~ $3 OR true OR NOT EXISTS (", _CLAIMS),
    mutant("engine", "a rebuild folds nobody again whom another claimed from", "projections/rivals.py",
            "return sorted(root for root in ends if is_customer(root))", "return sorted(ends)[:0]", _CLAIMS),
    mutant("engine", "a worker keeps its claim though an earlier one stands", "projections/claims.py",
            "after = merged(first, before.values())", "after = first", _CLAIMS),
    mutant("engine", "a rebuild calls a part done after its first piece", "projections/rebuild.py",
            "SET after_stream = $3, events = events + $4, done = $5\n",
            "SET after_stream = $3, events = events + $4, done = $5 OR true\n", _PIECES),
    mutant("engine", "a rebuild forgets how far a part has come", "projections/rebuild.py",
            "SET after_stream = $3, events", "SET after_stream = left($3, 0), events", _PIECES),
    mutant("engine", "what is remembered goes on though the news may change it", "projections/refold.py",
            "    return known if newest_before([known.state], min(wanted.news)[0]) else None", "    return known",
            f"{_WARM}::test_live_through_disorder_equals_a_rebuild"),
    mutant("engine", "a fold goes on though its news belong before its end", "projections/folding.py",
            "        if ordered[:stood] != self._ordered:", "        if False:",
            f"{_ENGINE[0]}::test_a_fold_goes_on_from_its_end_or_says_that_it_cannot"),
    mutant("engine", "what is remembered stands though somebody else wrote", "projections/warm.py",
            "        if self._checkpoints.get(book) == checkpoint:", "        if book in self._checkpoints:",
            f"{_WARM}::test_what_somebody_else_wrote_is_noticed"),
    mutant("engine", "an aggregate's events are looked for by their position", "projections/reading.py",
            "kept.first_after if is_customer(stream) else 0", "kept.first_after", f"{_WARM}::test_decisions_about_a_long_life_are_seen"),
    mutant("engine", "what joins a customer leaves its past behind", "projections/joining.py",
            "    return {one for row in rows for one in path_of(row[\"stream_id\"], standing) if one in moved}",
            "    return set()", _LINK_LAST),
    mutant("engine", "a build that was never compared is promoted", "projections/promotion.py",
            "if never or (prudent and not force):", "if never:", _NOT_PROMOTED),
    mutant("engine", "a build with parked subjects is promoted", "projections/promotion.py",
            'prudent.append(f"{parked} subjects are parked")', "pass", _NOT_PROMOTED),
    mutant("engine", "an answer that is the same is told again", "projections/entitlements/telling.py",
            "if granted != (feature in told) or (granted and told[feature] != value):", "if granted or feature in told:",
            _CHANGES),
)  # fmt: skip

ENTITLEMENTS: Final = (
    mutant("entitlements", "intervals include their end", "projections/entitlements/standing.py",
            "return span[0] <= at and (span[1] is None or at < span[1])",
            "return span[0] <= at and (span[1] is None or at <= span[1])", *_SOURCES),
    mutant("entitlements", "a grant lasts one moment longer than it says", "projections/entitlements/standing.py",
            "if row.expires_at is not None and row.expires_at <= at:",
            "if row.expires_at is not None and row.expires_at < at:", *_SOURCES),
    mutant("entitlements", "grace is counted from the newest failure", "projections/entitlements/standing.py",
            "since = min((one.valid_from for one in _owed(evidence, at)), default=row.status_since)",
            "since = max((one.valid_from for one in _owed(evidence, at)), default=row.status_since)", *_SOURCES),
    mutant("entitlements", "grace never ends", "projections/entitlements/standing.py",
            "if over is not None and over <= at:", "if over is not None and at < row.valid_from:", *_SOURCES),
    mutant("entitlements", "who never paid has the grace of who did", "projections/entitlements/standing.py",
            'if not any(one.kind == "paid" and one.valid_from <= at for one in evidence):', "if not row.source:",
            *_SOURCES),
    mutant("entitlements", "a won dispute goes on to suspend", "projections/entitlements/standing.py",
            "end = earliest(one.valid_to, one.covers_to)", "end = one.covers_to", *_SOURCES),
    mutant("entitlements", "a dispute suspends beyond the invoice's period", "projections/entitlements/standing.py",
            "start = max(one.valid_from, one.covers_from)\n        end = earliest(one.valid_to, one.covers_to)",
            "start = max(one.valid_from, one.covers_from)\n        end = earliest(one.valid_to, datetime.max.replace(tzinfo=start.tzinfo))",
            *_SOURCES),
    mutant("entitlements", "several sources give the most instead of the sum", "projections/entitlements/answer.py",
            'return max(amounts) if combine == "max" else sum(amounts, Decimal(0))', "return max(amounts)", *_SOURCES),
    mutant("entitlements", "one source that denies takes what another gives", "projections/entitlements/answer.py",
            "granting = tuple(one for one in contributions if one.standing.granted)",
            "granting = tuple(one for one in contributions if all(other.standing.granted for other in contributions))",
            *_SOURCES),
    mutant("entitlements", "a catalog holds before it is effective", "projections/catalog.py",
            "if one.effective_from is None or one.effective_from <= at]", "if published]", "tests/projections/test_features.py",
            "tests/http/test_catalog.py", *_SOURCES),
)  # fmt: skip

DUNNING: Final = (
    mutant("dunning", "a hard decline is retried like any other", "projections/dunning/course.py",
            'self.stuck = one.kind in ("hard", "no_method")', "self.stuck = False", *_STORIES),
    mutant("dunning", "an attempt without a payment counts after a hard decline", "projections/dunning/course.py",
            'if self.stuck and one.declined is None and one.kind != "no_method":', "if self.stuck is None:", *_STORIES),
    mutant("dunning", "a subscription counts as left past due at once", "projections/dunning/course.py",
            "LEFT_AFTER: Final = timedelta(hours=24)", "LEFT_AFTER: Final = timedelta(hours=0)", *_STORIES),
    mutant("dunning", "what was credited counts as recovered", "projections/dunning/course.py",
            "return (whole, whole - credited, credited)", "return (whole, whole, 0)", *_STORIES),
    mutant("dunning", "what was written off has an open amount", "projections/dunning/course.py",
            "open_amount=0 if over else self.now.amount_remaining", "open_amount=self.now.amount_remaining", *_STORIES),
    mutant("dunning", "an invoice that was sent fails before it is due", "projections/dunning/course.py",
            "return self.bill.automatic or self.overdue", "return True", *_STORIES),
    mutant("dunning", "the last outcome stands instead of the first", "projections/dunning/course.py",
            "if self.outcome is None and (outcome := ENDS.get(self.status)) is not None:",
            "if (outcome := ENDS.get(self.status)) is not None:", *_STORIES),
    mutant("dunning", "a new card mends nothing", "projections/dunning/course.py",
            "if one.mends and self.stuck and self.failures and one.at > self.failures[-1].at:", "if self.stuck is None:",
            *_STORIES),
)  # fmt: skip

REVENUE: Final = (
    mutant("revenue", "a payment is posted by event instead of by fact", "projections/revenue/gather.py",
            "or shown.id in facts.invoice_payments:\n        return\n    facts.invoice_payments[shown.id] = InvoicePaymentFact(\n        key=shown.id,",
            "or fact.event_id in facts.invoice_payments:\n        return\n    facts.invoice_payments[fact.event_id] = InvoicePaymentFact(\n        key=fact.event_id,",
            *_GOLDEN),
    mutant("revenue", "a reduction is split by elapsed time instead of by pots", "projections/revenue/pots.py",
            "shares = split(amount, [held for _, _, held in places])",
            "shares = split(amount, [(pot == 'D') * max(line.end - at, 0) + (pot == 'R') * max(at - line.start, 1)"
            " for line, pot, _ in places])", *_POTS, *_GOLDEN),
    mutant("revenue", "what is earned is rounded per day", "projections/revenue/schedule.py",
            "return half_even(self.amount * (self.a - self.b * ((at - self.origin) // self.unit)), self.c)",
            "return self.amount - (at - self.origin) // 86_400 * half_even(self.amount * self.b * 86_400, self.c)"
            " if at < self.end else 0", *_POTS, *_GOLDEN),
    mutant("revenue", "a half is rounded up", "projections/revenue/schedule.py",
            "(twice == denominator and whole % 2 == 1)", "twice == denominator", *_POTS, *_GOLDEN),
    mutant("revenue", "what is left over by a split goes to the first", "projections/revenue/pots.py",
            "key=lambda place: -abs(parts[place][1]))[:missing]", "key=lambda place: place)[:missing]", *_POTS, *_GOLDEN),
    mutant("revenue", "the first invoice of an incomplete subscription earns", "projections/revenue/journal.py",
            "bill.pots.held = True", "bill.pots.held = False", *_GOLDEN),
    mutant("revenue", "a failed refund stays refunded", "projections/revenue/journal.py",
            "bill.fail_refund(refund.key, at, failed)", "None", *_GOLDEN),
    mutant("revenue", "a voided invoice stays", "projections/revenue/journal.py",
            "if fact.voided_at is not None:\n        books.act(fact.key", "if fact.voided_at == 0:\n        books.act(fact.key",
            *_GOLDEN),
    mutant("revenue", "a voided credit note stays", "projections/revenue/journal.py",
            "if note.voided_at is not None:", "if note.voided_at == 0:", *_GOLDEN),
    mutant("revenue", "a refund that a credit note covers is posted twice", "projections/revenue/journal.py",
            "[one for one in covering if one[0].created <= refund.created]", "[]", *_GOLDEN),
    mutant("revenue", "a dispute that was won stays lost", "projections/revenue/journal.py",
            "method = books.bills[bill].reinstate if back else books.bills[bill].withdraw",
            "method = books.bills[bill].withdraw", *_GOLDEN),
    mutant("revenue", "a write-off takes no gain", "projections/revenue/pots.py",
            "line.g += line.d - d - g", "line.g += 0", *_POTS, *_GOLDEN),
)  # fmt: skip

MRR: Final = (
    mutant("mrr", "who comes back is new", "projections/mrr/movements.py",
            'return "reactivation" if had else "new"', 'return "new"', _MOVEMENTS),
    mutant("mrr", "movements are grouped across midnight", "projections/mrr/movements.py",
            "if group is not None and not (at - group.since <= grouping(group.since) and at.date() == group.since.date()):",
            "if group is not None and not at - group.since <= grouping(group.since):", _MOVEMENTS),
    mutant("mrr", "changes of one hour are not one movement", "projections/mrr/movements.py",
            "if group is not None and not (at - group.since <= grouping(group.since) and at.date() == group.since.date()):",
            "if group is not None:", _MOVEMENTS),
    mutant("mrr", "another currency is a churn and a new customer", "projections/mrr/movements.py",
            'marked[out] = marked[out]._replace(reason="currency_change", involuntary=False)', "pass", _MOVEMENTS),
)  # fmt: skip

PERIODS: Final = (
    mutant("periods", "what was sealed is not taken off what is so now", "projections/periods/reported.py",
            "amounts[key] = amounts.get(key, 0) + sign * one.amount", "amounts[key] = amounts.get(key, 0) + one.amount",
            _REPORTED),
    mutant("periods", "a late fact changes a closed month", "projections/periods/reported.py",
            "(early if one.original_month < first_open else found).append(one)", "found.append(one)", _REPORTED),
    mutant("periods", "months are closed in any order", "projections/periods/decisions.py",
            "if month != following:", "if month < following:", _CLOSE),
    mutant("periods", "any closed month is reopened", "projections/periods/decisions.py",
            "if not self.closed or self.closed[-1] != month:", "if month not in self.closed:", _CLOSE),
    mutant("periods", "a month is closed before it has ended", "projections/periods/closing.py",
            "if asked.now < month_end(asked.month):", "if asked.now < month_end(asked.month) and asked.force:", _CLOSE),
    mutant("periods", "objections do not stop a close", "projections/periods/closing.py",
            "if objections and not asked.force:", "if objections and asked.force is None:", _CLOSE),
    mutant("periods", "a reopened month is reported as never sealed", "projections/periods/reported.py",
            "before, after = last.get(key, 0), now[key].after if key in now else 0",
            "before, after = 0, now[key].after if key in now else 0", _REPORTED),
)  # fmt: skip

MUTANTS: Final = (*LOG, *PROOF, *ORDER, *ENGINE, *ENTITLEMENTS, *DUNNING, *REVENUE, *MRR, *PERIODS, *ACCESS, *CONSOLE)
