"""The short storm: nothing that was acknowledged is lost or doubled, and no row differs."""

from __future__ import annotations

import time

import pytest

from tests.chaos.run import SHORT, run


@pytest.mark.timeout(600)
async def test_chaos_loses_doubles_and_changes_nothing() -> None:
    report = await run(SHORT, seed=int(time.time()))
    print(report)
    assert report.failures == []
