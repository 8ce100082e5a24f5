from __future__ import annotations

from starlette.testclient import TestClient

from examples.rate_limited_route import create_app


def test_logins_are_limited_by_failures_search_by_plan_and_poems_by_words() -> None:
    with TestClient(create_app()) as client:
        right, wrong = "/login?password=tea", "/login?password=milk"
        statuses = [client.post(url).status_code for url in [right] * 9 + [wrong] * 6]
        assert statuses == [200] * 9 + [401] * 5 + [429]

        answers = [client.get("/search?q=tea", headers={"x-customer": "bob"}) for _ in range(3)]
        assert [each.status_code for each in answers] == [200, 200, 429]
        assert answers[2].json()["violated-policies"] == ["search-per-second"]
        assert client.get("/search?q=tea", headers={"x-customer": "ada"}).status_code == 200

        assert client.get("/poem?lines=50").headers["content-type"] == "application/json"
        assert [client.get(f"/poem?lines={lines}").status_code for lines in (90, 80)] == [429, 200]
