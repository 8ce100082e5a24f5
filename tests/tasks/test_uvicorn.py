"""A deploy: SIGTERM while work is under way."""

from __future__ import annotations

import httpx2

from tests.servers import Uvicorn


def test_a_server_that_is_told_to_stop_finishes_its_tasks_and_names_what_it_loses() -> None:
    with Uvicorn("tests.tasks.app:app") as server:
        for seconds in (0.3, 0.4, 60):
            assert httpx2.post(f"{server.url}/mail/{seconds}").status_code == 200
        server.stop(timeout=10)
    assert server.output.count("mail sent") == 2
    assert server.output.count("mail cleaned up") == 3
    assert "tasks lost when the app stopped: mail (1)" in server.output
