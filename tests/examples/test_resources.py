from __future__ import annotations

from pathlib import Path

from fastapi.testclient import TestClient

from examples.resources import create_app


def test_a_note_is_kept_over_a_restart(tmp_path: Path) -> None:
    app = create_app(str(tmp_path / "notes"))
    with TestClient(app) as client:
        assert client.post("/notes", json="milk").json() == 1
    with TestClient(app) as client:
        assert client.get("/notes/1").json() == "milk"
        assert client.get("/notes/2").json() == {"detail": "There is no note 2."}
