"""`make demo`: serve the shop and say what to try."""

from __future__ import annotations

import os

import uvicorn

HOST, PORT = "127.0.0.1", 8000

TRY = f"""
The shop is open on http://{HOST}:{PORT} ({{place}}). Try:

  curl -i {HOST}:{PORT}/items/1                          # twice: the second one is a cache hit
  curl -i {HOST}:{PORT}/items/99                         # a problem document
  TOKEN=$(curl -s {HOST}:{PORT}/login --json '{{{{"name": "ada", "password": "wonderland"}}}}' |
      cut -d '"' -f 4)
  curl -i {HOST}:{PORT}/orders -H "Authorization: Bearer $TOKEN" --json '{{{{"item_id": 1}}}}'
  curl -i '{HOST}:{PORT}/search?q=a' -H "Authorization: Bearer $TOKEN"   # limited by plan
  curl -N {HOST}:{PORT}/export/items.ndjson               # a stream; items.csv too
  curl -i {HOST}:{PORT}/health/ready
  python -m websockets ws://{HOST}:{PORT}/orders/live    # refused before accept: it has no token

Interactive documentation: http://{HOST}:{PORT}/docs. Ctrl-C ends it.
"""


def main() -> None:
    url = os.environ.get("REDIS_URL", "memory://")
    print(TRY.format(place="on Redis" if "redis" in url else "in memory"), flush=True)
    uvicorn.run("examples.showcase.app:create_app", factory=True, host=HOST, port=PORT)


if __name__ == "__main__":
    main()
