"""Permission checks are shared by those who ask at the same time, and by nobody else."""

from __future__ import annotations

import asyncio
import contextvars
import gc

import pytest
from datasette.app import Datasette
from test_permissions import HIDDEN, configured, cookies

from datasette_image_search.web import permissions, versions
from datasette_image_search.web import together as module
from datasette_image_search.web.together import Together

THUMBNAIL = "/shop/products/-/image-search/thumbnail/1"
someone = contextvars.ContextVar("someone")


class Found:
    """Answers 1, 2, 3, …, each when it is let go; ``begun`` counts them."""

    def __init__(self):
        self.begun = 0
        self.go = asyncio.Event()

    async def __call__(self):
        self.begun += 1
        answer = self.begun
        await self.go.wait()
        return answer


async def turns(count: int = 10) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def test_who_asks_before_it_is_begun_shares_the_answer():
    together, find = Together(), Found()
    first = [asyncio.create_task(together.ask("same", find)) for _ in range(3)]
    await turns()
    later = [asyncio.create_task(together.ask("same", find)) for _ in range(5)]
    other = asyncio.create_task(together.ask("other", find))
    await turns()
    assert find.begun == 2, "the later ones wait, another question does not"
    find.go.set()
    assert await asyncio.gather(*first) == [1, 1, 1]
    assert await asyncio.gather(*later) == [3] * 5, "none is given an answer begun before"
    assert await other == 2
    assert not together._next and not together._under_way


async def test_who_would_find_another_context_has_an_answer_of_its_own():
    together, find = Together(), Found()
    find.go.set()

    async def ask(name):
        someone.set(name)
        return await together.ask("same", find)

    answers = await asyncio.gather(ask("one"), ask("two"), together.ask("same", find))
    assert sorted(answers) == [1, 2, 3]


async def test_one_who_leaves_takes_nobody_along():
    together, find = Together(), Found()
    leaving = asyncio.create_task(together.ask("same", find))
    staying = asyncio.create_task(together.ask("same", find))
    await turns()
    leaving.cancel()
    await turns()
    find.go.set()
    assert await staying == 1 and leaving.cancelled()


async def test_one_that_hangs_keeps_others_waiting_for_a_moment_only(monkeypatch):
    monkeypatch.setattr(module, "_PATIENCE", 0.05)
    together, hanging, find = Together(), Found(), Found()
    first = asyncio.create_task(together.ask("same", hanging))
    await turns()
    first.cancel()
    find.go.set()
    for expected in (1, 2):
        assert await asyncio.wait_for(together.ask("same", find), 5) == expected
    hanging.go.set()
    await turns()
    assert not together._next and not together._under_way


async def test_a_failure_is_told_to_all_who_asked():
    together, failed = Together(), []

    async def fail():
        failed.append(1)
        raise ValueError("as it is")

    answers = [together.ask("same", fail) for _ in range(2)]
    told = await asyncio.gather(*answers, return_exceptions=True)
    assert [str(error) for error in told] == ["as it is"] * 2
    assert len(failed) == 1 and not together._next and not together._under_way


async def test_a_failure_that_nobody_waits_for_any_more_is_no_surprise():
    """asyncio reports what it was never asked for; visitors may have left."""
    together, go, reported = Together(), asyncio.Event(), []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: reported.append(context))

    async def fail():
        await go.wait()
        raise ValueError("of no interest")

    leaving = asyncio.create_task(together.ask("same", fail))
    await turns()
    leaving.cancel()
    await turns()
    go.set()
    await turns()
    assert leaving.cancelled()
    del leaving  # which knows of the failure
    gc.collect()
    assert reported == []


def test_what_hangs_in_one_event_loop_keeps_no_other_waiting(monkeypatch):
    """A process may have several, and a task belongs to one."""
    monkeypatch.setattr(module, "_PATIENCE", 60)
    together, hanging, find = Together(), Found(), Found()

    async def begin():
        task = asyncio.create_task(together.ask("same", hanging))
        await turns()
        return task

    async def ask():
        find.go.set()
        return await asyncio.wait_for(together.ask("same", find), 5)

    async def end(task):
        hanging.go.set()
        return await task

    one = asyncio.new_event_loop()
    try:
        task = one.run_until_complete(begin())
        assert asyncio.run(ask()) == 1
        assert one.run_until_complete(end(task)) == 1
    finally:
        one.close()


async def test_an_answer_is_of_one_visitor_one_table_and_one_server(monkeypatch):
    async def answer(*question):
        await asyncio.sleep(0)
        return question

    monkeypatch.setattr(versions, "can_view_table", answer)
    # Two whose actors are of a plugin's own making, and no two of them are known to be one.
    actors = [None, {"id": "1"}, {"id": 1}, {"id": object()}, {"id": object()}]
    asked = [
        (datasette, actor, database, table)
        for datasette in (object(), object())
        for actor in actors
        for database in ("shop", "other")
        for table in ("products", "secret")
    ]
    answers = [permissions._may_see_now(*question) for question in asked]
    assert await asyncio.gather(*answers) == asked


@pytest.fixture
def checks(monkeypatch):
    """The actors that Datasette was asked about, in order."""
    asked, check = [], versions.can_view_table

    async def counted(datasette, actor, database, table):
        asked.append(actor and actor["id"])
        return await check(datasette, actor, database, table)

    monkeypatch.setattr(versions, "can_view_table", counted)
    return asked


def hidden(folder) -> Datasette:
    return configured(folder, HIDDEN["table"])


async def test_thumbnails_asked_for_at_once_are_checked_together(shop, checks):
    ds = Datasette([str(shop / "shop.db")])
    await ds.client.get(THUMBNAIL)
    checks.clear()
    answers = await asyncio.gather(*(ds.client.get(THUMBNAIL) for _ in range(12)))
    assert [answer.status_code for answer in answers] == [200] * 12
    assert len(checks) < 6
    for _ in range(3):
        checks.clear()
        assert (await ds.client.get(THUMBNAIL)).status_code == 200
        assert len(checks) == 1, "one who asks alone is checked each time"


async def test_visitors_at_once_are_each_shown_what_they_may_see(shop, checks):
    ds = hidden(shop)
    names = [None, "admin", "other"] * 5
    jars = [cookies(ds, name and {"id": name}) for name in names]
    answers = await asyncio.gather(*(ds.client.get(THUMBNAIL, cookies=jar) for jar in jars))
    assert [a.status_code for a in answers] == [404, 200, 404] * 5
    assert set(checks) == set(names)


@pytest.mark.skipif(not hasattr(Datasette, "allowed"), reason="Datasette 1.0 alone has that")
async def test_a_request_without_permission_checks_opens_nothing_for_others(shop, checks):
    ds = hidden(shop)
    skipping = [index % 2 == 0 for index in range(12)]
    answers = await asyncio.gather(
        *(ds.client.get(THUMBNAIL, skip_permission_checks=skip) for skip in skipping)
    )
    assert [a.status_code for a in answers] == [200 if skip else 404 for skip in skipping]
