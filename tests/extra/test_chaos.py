"""The short storm: nothing that was acknowledged is lost or doubled, and no row differs."""

from __future__ import annotations

import pytest

from tests.chaos.run import SHORT, run

SEED = 2026


@pytest.mark.timeout(3600)
async def test_chaos_loses_doubles_and_changes_nothing() -> None:
    report = await run(SHORT, seed=SEED)
    print(report)
    assert report.failures == []
