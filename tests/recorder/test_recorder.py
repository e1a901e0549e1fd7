"""The library's own test cases for application recorders, run on our recorder and a real PostgreSQL."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from uuid import UUID

import pytest
from eventsourcing.persistence import ApplicationRecorder
from eventsourcing.tests.persistence import ApplicationRecorderTestCase, NonInterleavingNotificationIDsBaseCase

from ledger.postgres import Database
from ledger.recorder import LedgerRecorder


class OnOurLog:
    """Gives a library's test case recorders on this test's own database, each on a book without events."""

    make: Callable[[], LedgerRecorder]

    @pytest.fixture(autouse=True)
    def recorders(self, database: Database) -> Iterator[None]:
        made: list[LedgerRecorder] = []

        def make() -> LedgerRecorder:
            recorder = LedgerRecorder(database, f"acct_{len(made)}:live", originator_id=UUID)
            recorder.open()
            made.append(recorder)
            return recorder

        self.make = make
        yield
        for recorder in made:
            recorder.close()

    def create_recorder(self) -> ApplicationRecorder:
        return self.make()

    def new_originator_id(self) -> UUID:
        return uuid.uuid4()


class TestApplicationRecorder(OnOurLog, ApplicationRecorderTestCase[ApplicationRecorder]):
    INITIAL_VERSION = 0


class TestNonInterleavingNotificationIDs(OnOurLog, NonInterleavingNotificationIDsBaseCase):
    pass


del ApplicationRecorderTestCase, NonInterleavingNotificationIDsBaseCase  # abstract: not to be collected themselves
