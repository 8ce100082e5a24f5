from __future__ import annotations

from fastapi.testclient import TestClient

from examples.background_tasks import Outbox, create_app


def test_every_mail_is_sent_before_the_app_has_stopped() -> None:
    outbox = Outbox()
    with TestClient(create_app(outbox)) as client:
        for number in range(50):
            order = {"item": "tea", "email": f"{number}@example.org"}
            assert client.post("/orders", json=order).status_code == 202
        assert len(client.get("/sent").json()) < 50
    assert len(outbox.sent) == 50
    assert "0@example.org: your tea is on its way" in outbox.sent
