"""Fixtures of several tests of operators: an ops process, and people whose banks are mirrored."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from arq.connections import ArqRedis

from tests.support.mirrored_people import People, open_people
from tests.support.ops import OpsClient, open_ops
from tests.support.simulator_process import SimulatorProcess
from tests.support.stack import fill_budget


@pytest.fixture
async def ops(
    database_url: str, redis_url: str, redis: ArqRedis, quiet_simulator: SimulatorProcess
) -> AsyncIterator[OpsClient]:
    await fill_budget(redis)
    async with open_ops(database_url, redis_url, quiet_simulator.url) as opened:
        yield opened


@pytest.fixture(scope="module")
async def people(postgres_url: str, template: str, redis_url: str) -> AsyncIterator[People]:
    """At a Pluggy of their own: other tests have moved the clock of the shared one past today."""
    with SimulatorProcess(rate_limit=0, seed=7) as simulator:
        simulator.post("/_simulator/webhooks", {"quiet": True})
        async with open_people(postgres_url, template, redis_url, simulator) as opened:
            yield opened
