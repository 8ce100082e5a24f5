"""`python -m benchmarks.serve suite contender port`: one contender under uvicorn."""

from __future__ import annotations

import os
import sys

import uvicorn

from .__main__ import find
from .rig import Rig, Tape

if __name__ == "__main__":
    suite, name, port = sys.argv[1:]
    contender = next(each for each in find()[suite].contenders if each.name == name)
    rig = Rig(tape=Tape(), redis_url=os.environ["REDIS_URL"], empty=lambda: None)
    uvicorn.run(
        contender.build(rig),
        port=int(port),
        access_log=contender.access_log,
        timeout_keep_alive=3600,  # its connections rest while the others are timed
    )
