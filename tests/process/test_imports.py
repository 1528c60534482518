"""Who reaches whom, where import-linter's contracts cannot say it: by what is allowed."""

import grimp
import pytest

# The receiver is a door: what it may reach of the engine, directly or not, is all there is to it.
DOOR = {
    "accept",
    "background",
    "database",
    "deep_json",
    "drain",
    "events",
    "http_server",
    "log",
    "outage_words",
    "postgres_hosts",
    "queries",
    "queue",
    "redis_names",
    "redis_settings",
    "server_outage",
    "settings",
    "spool",
    "turns",
}


@pytest.fixture
def graph() -> grimp.ImportGraph:
    return grimp.build_graph("webhook_receiver", "worker", cache_dir=None)


def beyond_the_door(graph: grimp.ImportGraph, package: str) -> set[str]:
    """What the package reaches of the engine and should not if it is the receiver."""
    reached = graph.find_upstream_modules(package, as_package=True)
    return {name for name in reached if name.startswith("worker.")} - {f"worker.{m}" for m in DOOR}


def test_the_receiver_reaches_only_the_door_s_modules(graph: grimp.ImportGraph) -> None:
    assert beyond_the_door(graph, "webhook_receiver") == set()


def test_reaching_the_engine_through_another_module_counts(graph: grimp.ImportGraph) -> None:
    graph.add_import(importer="webhook_receiver.app", imported="worker.main")
    assert "worker.pluggy_client" in beyond_the_door(graph, "webhook_receiver")
