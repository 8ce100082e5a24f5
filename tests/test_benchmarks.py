"""What is compared does the work that it is compared for. The peers are checked where they are timed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from benchmarks.__main__ import find
from benchmarks.harness import BARE, LIMIT, Contender, Result, Suite
from benchmarks.report import section, table
from benchmarks.rig import Rig, Tape
from tests.servers import RedisServer

OURS = [
    pytest.param(suite, contender, id=f"{suite.name}: {contender.name}")
    for suite in find().values()
    for contender in suite.contenders
    if contender.package == "fastapi-prodkit" and not suite.name.endswith("-32")
]


@pytest.fixture
def rig(redis_server: RedisServer) -> Iterator[Rig]:
    with Tape() as tape:
        yield Rig(tape=tape, redis_url=redis_server.url, empty=lambda: None)


@pytest.mark.parametrize(("suite", "contender"), OURS)
async def test_our_own_contenders_do_the_work(suite: Suite, contender: Contender, rig: Rig) -> None:
    await suite.check(contender.build, rig)


async def test_one_that_does_not_do_the_work_is_told_from_one_that_does(rig: Rig) -> None:
    suite = find()["rate-limit"]
    bare = next(each for each in suite.contenders if each.name == BARE)
    with pytest.raises(AssertionError, match="of three a minute"):
        await suite.check(bare.build, rig)


@pytest.mark.parametrize("suite", find().values(), ids=lambda suite: suite.name)
def test_a_suite_has_both_yardsticks_and_distinct_names(suite: Suite) -> None:
    names = [each.name for each in suite.contenders]
    assert {BARE, LIMIT} <= set(names)
    assert len(set(names)) == len(names)


def test_one_that_failed_is_in_the_table_with_the_reason() -> None:
    good = Result("good", "1.0", "", microseconds=10.0, over_bare=1.5, over_limit=2.0, spread=0.1)
    bad = replace(good, name="bad", note="does not do the work", microseconds=None)
    rows = table([bad, good]).splitlines()
    assert [row.split("|")[1].strip() for row in rows[2:]] == ["good", "bad"]
    assert "does not do the work" in rows[3]
    assert "bare = 1" in section(find()["rate-limit"], [good, bad])
