"""What a sandbox is told of its visitors."""

import asyncio

from sandlot.errors import ApiError
from sandlot.presence import Presence


def told_by(visits):
    told = []

    async def annotate(notes):
        told.append(notes["arl.infra.io/last-activity"])

    asyncio.run(visits(Presence(annotate)))
    return told


def test_one_command_after_another_is_told_of_once():
    async def visits(presence):
        for _ in range(20):
            async with presence.visit():
                await asyncio.sleep(0.001)

    assert len(told_by(visits)) == 1


def test_a_visit_is_told_of_when_it_begins_and_when_it_has_ended():
    async def visits(presence):
        async with presence.visit(), presence.visit():
            await asyncio.sleep(1.1)

    first, last = told_by(visits)
    assert first < last


def test_who_may_not_say_so_works_on():
    async def visits():
        async def annotate(_):
            raise ApiError(403, "Forbidden", "no")

        async with Presence(annotate).visit():
            await asyncio.sleep(0.01)
        return "worked"

    assert asyncio.run(visits()) == "worked"
