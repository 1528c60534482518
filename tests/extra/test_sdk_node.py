"""Pluggy's own Node SDK drives the simulator and sees what is there."""

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.extra.sdk_operations import covered_by
from tests.support.simulator_process import SimulatorProcess

PROJECT = Path(__file__).parent / "node"
ROWS = 2_600
pytestmark = pytest.mark.timeout(1800)


def program(name: str, package: str) -> str:
    found = shutil.which(name)
    assert found is not None, f"{name} is missing: install {package}"
    return found


@pytest.fixture(scope="module")
def sdk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The SDK as npm installs it, outside the work tree."""
    directory = tmp_path_factory.mktemp("node")
    for name in ("package.json", "drive.js"):
        shutil.copy(PROJECT / name, directory)
    subprocess.run(
        [
            program("npm", "npm"),
            "install",
            "--no-package-lock",
            "--no-audit",
            "--no-fund",
            "--ignore-scripts",
        ],
        cwd=directory,
        check=True,
        timeout=600,
    )
    return directory


def drive(sdk: Path, simulator: SimulatorProcess, *arguments: str) -> Any:
    run = subprocess.run(
        [program("node", "nodejs"), "drive.js", *arguments],
        cwd=sdk,
        env=os.environ | {"PLUGGY_API_URL": simulator.url},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert run.returncode == 0, run.stderr
    return json.loads(run.stdout)


def test_the_official_sdk_cannot_distinguish_it_from_pluggy(sdk: Path) -> None:
    with SimulatorProcess(rate_limit=0, seed=22) as simulator:
        item = simulator.post("/_simulator/items", {"transactions": ROWS})
        truth = simulator.get(f"/_simulator/truth/{item['id']}")
        bank, card = (account["id"] for account in truth["accounts"])
        seen = drive(sdk, simulator, item["id"], bank, card)
        true = {name: [row["id"] for row in rows] for name, rows in truth.items() if name in seen}
        rows = [row["id"] for row in truth["transactions"] if row["accountId"] == bank]
        assert seen["transactions"] == rows
        assert len(rows) == ROWS // 2
        assert seen["firstPage"] == 500
        assert seen["byIds"] == seen["byIdsWanted"]
        for name in ("accounts", "investments", "loans", "consents"):
            assert seen[name] == true[name]
        assert sorted(seen["bills"]) == sorted(true["bills"])
        assert seen["movements"] == [row["id"] for row in truth["investment_transactions"]]
        assert seen["identity"] == seen["identityAgain"] == truth["identities"][0]["id"]
        assert {0, 2, 600} <= set(seen["connectors"])
        assert seen["categories"] > 100
        assert seen["category_changed"] == "Donations"
        assert seen["itemDatesAreDates"]
        assert seen["transactionDatesAreDates"]
        assert seen["connectToken"] == 3
        assert seen["webhooks"] == [seen["webhook"]]
        assert seen["webhookChanged"] == ["all", "https://example.com/b"]
        assert seen["webhooksLeft"] == 0
        assert (seen["created"], seen["asked"]) == ("CREATED", "token")
        assert (seen["answered"], seen["collected"]) == ("UPDATING", "UPDATED")
        assert seen["updating"] == "UPDATING"
        assert seen["refusal"] == "ITEM_NOT_FOUND"
        assert covered_by("Node") <= simulator.get("/_simulator/requests")["endpoints"].keys()
