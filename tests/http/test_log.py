"""The log's proofs over HTTP, checked as an outsider would: with the verifier key, the header and nothing else."""

from __future__ import annotations

from dataclasses import replace

import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from api.services import Services
from ledger.merkle import extend, root
from ledger.note import SignerKey, open_note, parse_checkpoint, parse_verifier_key
from ledger.tlog_proof import ForeignOriginError, NotIncludedError, parse_log_proof, verify_log_proof
from tests.conftest import ManualClock, client_of
from tests.http.test_access import post
from tests.stripe_events import event, new_event


async def test_every_event_can_be_proved_offline(client: httpx.AsyncClient, services: Services) -> None:
    events = [new_event(event(f"evt_{n}", "x.y", {"id": f"o_{n}"})) for n in range(1, 701)]
    await services.appender.append(events[:300])
    await client.get("/v1/log/checkpoint")
    await services.appender.append(events[300:])
    key = parse_verifier_key((await client.get("/v1/log/verifier-key")).text.strip())
    origin = f"{key.name}/self:live"
    for number in (1, 2, 256, 257, 299, 300, 512, 699, 700):
        text = (await client.get(f"/v1/log/proof/evt_{number}")).text
        assert len(text) < 2_000
        header = (await client.get(f"/v1/events/evt_{number}")).json()["leaf"]["header"].encode()
        proof = parse_log_proof(text)
        assert verify_log_proof(proof, header, origin, [key]).size >= number
        with pytest.raises(NotIncludedError):
            verify_log_proof(proof, header.replace(b"evt_", b"evt-"), origin, [key])
        with pytest.raises(ForeignOriginError):
            verify_log_proof(proof, header, origin.replace("live", "test"), [key])


async def test_a_checkpoint_is_the_signed_root_of_the_leaves(client: httpx.AsyncClient, clock: ManualClock) -> None:
    for number in (1, 2, 3):
        await post(client, clock, event(f"evt_{number}", "x.y", {"id": "o_1"}))
    key = parse_verifier_key((await client.get("/v1/log/verifier-key")).text.strip())
    note = (await client.get("/v1/log/checkpoint")).text
    checkpoint = parse_checkpoint(open_note(note, [key]).text)
    events = (await client.get("/v1/events")).json()["data"]
    leaves = [bytes.fromhex(one["leaf"]["hash"]) for one in events]
    assert (checkpoint.size, checkpoint.root) == (3, root(extend(0, b"", leaves)))
    await post(client, clock, event("evt_4", "x.y", {"id": "o_1"}))
    assert (await client.get("/v1/log/checkpoint")).text == note
    fresh = (await client.get("/v1/log/checkpoint", params={"min_position": "4"})).text
    assert parse_checkpoint(open_note(fresh, [key]).text).size == 4


async def test_a_key_that_was_changed_vouches_for_what_the_old_one_signed(
    client: httpx.AsyncClient, services: Services, clock: ManualClock
) -> None:
    await post(client, clock, event("evt_1", "x.y", {"id": "o_1"}))
    old = parse_verifier_key((await client.get("/v1/log/verifier-key")).text.strip())
    before = (await client.get("/v1/log/checkpoint")).text
    signer = SignerKey("ledger-new", Ed25519PrivateKey.from_private_bytes(bytes(32)))
    async with client_of(replace(services, notary=replace(services.notary, signer=signer))) as later:
        new = parse_verifier_key((await later.get("/v1/log/verifier-key")).text.strip())
        note = (await later.get("/v1/log/checkpoint")).text
        proof = parse_log_proof((await later.get("/v1/log/proof/evt_1")).text)
        header = (await later.get("/v1/events/evt_1")).json()["leaf"]["header"].encode()
    for key in (old, new):
        assert open_note(note, [key]).text == open_note(before, [old]).text
        assert verify_log_proof(proof, header, f"{old.name}/self:live", [key]).size == 1


async def test_what_is_not_there_cannot_be_proved(client: httpx.AsyncClient, clock: ManualClock) -> None:
    assert (await client.get("/v1/log/checkpoint")).status_code == 404
    assert (await client.get("/v1/log/proof/evt_1")).status_code == 404
    await post(client, clock, event("evt_1", "x.y", {"id": "o_1"}))
    ahead = await client.get("/v1/log/checkpoint", params={"min_position": "2"})
    assert (ahead.status_code, ahead.json()["type"], ahead.headers["retry-after"]) == (503, "not-yet", "1")
    assert (await client.get("/v1/log/checkpoint", params={"min_position": "-1"})).status_code == 400
    assert (await client.get("/v1/log/proof/evt_1", params={"book": "self:test"})).status_code == 404


async def test_signing_is_repeatable_and_reaches_every_folder(
    services: Services, client: httpx.AsyncClient, clock: ManualClock
) -> None:
    for number in range(5):
        await post(client, clock, event(f"evt_{number}", "x.y", {"id": "o_1"}))
        clock.forward(seconds=60)
        await services.notary.sign_all()
        await services.notary.sign_all()
    notes = services.notary.outside.notes()
    sizes = [parse_checkpoint(open_note(note, services.notary.outside.keys()).text).size for note in notes]
    assert sorted(sizes) == [1, 2, 3, 3, 4, 5]  # the control book has the log's dictionary, its origin and its key
