"""Every real payload of the corpus goes in signed and comes back byte for byte, and none of them hurts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson
import pytest

from tests.conftest import CORPUS
from tests.system.running import Service


def payloads() -> list[tuple[str, bytes]]:
    """Return every event of the corpus under an id of its own: as found, or a bare object in an envelope."""
    found = []
    for number, path in enumerate(sorted(CORPUS.rglob("*.json"))):
        content = orjson.loads(path.read_bytes())
        if path.name == "index.json" or not isinstance(content, dict):
            continue
        for part, one in enumerate(_events(path, content)):
            one |= {"id": f"evt_{number}_{part}", "created": one.get("created") or 1_600_000_000}
            found.append((one["id"], orjson.dumps(one, option=orjson.OPT_INDENT_2)))
    return found


def _events(path: Path, content: dict[str, Any]) -> list[dict[str, Any]]:
    if all(key in content for key in ("type", "data")):
        return [content]
    objects = content["resources"].values() if "resources" in content else [content]
    return [
        {"object": "event", "type": f"corpus.{path.stem}", "livemode": False, "data": {"object": one}}
        for one in objects
    ]


@pytest.mark.skipif(not CORPUS.exists(), reason="the corpus of real payloads is not beside this checkout")
def test_every_event_of_the_corpus_is_kept_as_it_came(service: Service) -> None:
    sent = payloads()
    assert len(sent) > 250
    service.start()
    answers = {event_id: service.post(body) for event_id, body in sent}
    assert {answer.status_code for answer in answers.values()} == {200}
    for event_id, body in sent:
        content = orjson.loads(body)
        book = f"{content.get('account') or 'self'}:{'live' if content.get('livemode') else 'test'}"
        raw = service.get(f"/v1/events/{event_id}/raw", book=book)
        assert (raw.status_code, raw.content == body) == (200, True), event_id
    books = orjson.loads(service.run("status", "--json").stdout)["books"]
    for head in (one for one in books if one["book"] != "ledger:control"):
        asked = {"book": head["book"], "min_position": str(head["position"]), "wait": "10"}
        answer = service.get("/v1/customers/cus_x/entitlements", **asked)
        assert answer.status_code == 200, answer.text
    projections = orjson.loads(service.run("status", "--json").stdout)["projections"]
    assert {(one["position"] - one["head"], one["parked"]) for one in projections} == {(0, 0)}
