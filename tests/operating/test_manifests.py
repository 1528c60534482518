"""Procfile, image, compose file and manifests: they agree, and a cluster accepts them."""

import copy
import re
import shlex
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import kubernetes_validate
import pytest
import yaml

from ops.adoption import AdoptSettings
from ops.roles import OPS, RECEIVER, WORKER
from ops.web.settings import OpsSettings
from webhook_receiver.settings import ReceiverSettings
from worker.infra.settings import Environment, PluggySettings
from worker.main import COMPLETION_WAIT_S

ROOT = Path(__file__).parents[2]
K8S = ROOT / "k8s"
EXAMPLE = K8S / "secret.example.yaml"
KUSTOMIZATION = K8S / "kustomization.yaml"
# What a cluster of today and one of three years ago understand.
VERSIONS = ("1.27", kubernetes_validate.latest_version())
# The Procfile's names and those of the containers that run them.
CONTAINER_OF = {"release": "migrate", "web": "receiver", "worker": "worker", "ops": "ops"}

Manifest = dict[str, Any]


def documents(path: Path) -> list[Manifest]:
    return list(yaml.safe_load_all(path.read_text()))


def named(manifest: Manifest) -> str:
    return f"{manifest['kind']} {manifest['metadata']['name']}"


MANIFESTS = [m for p in sorted(K8S.glob("*.yaml")) if p != KUSTOMIZATION for m in documents(p)]
PODS = {
    named(manifest): manifest["spec"]["template"]["spec"]
    for manifest in MANIFESTS
    if "template" in manifest.get("spec", {})
}
CONTAINERS = {c["name"]: c for pod in PODS.values() for c in pod["containers"]}
COMPOSE = yaml.safe_load((ROOT / "compose.yaml").read_text())["services"]
OURS = {name: service for name, service in COMPOSE.items() if "build" in service}


@pytest.fixture(scope="module")
def procfile() -> dict[str, list[str]]:
    """The command of each kind of process."""
    lines = (ROOT / "Procfile").read_text().splitlines()
    return {name: shlex.split(command) for name, command in (line.split(": ", 1) for line in lines)}


def values_of(key: str, node: object) -> Iterator[Any]:
    """Every value under the key, however deep."""
    if isinstance(node, dict):
        yield from (value for name, value in node.items() if name == key)
        node = list(node.values())
    if isinstance(node, list):
        for inner in node:
            yield from values_of(key, inner)


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("manifest", MANIFESTS, ids=named)
def test_a_cluster_accepts_it(manifest: Manifest, version: str) -> None:
    kubernetes_validate.validate(manifest, version, strict=True)


def misspell_the_grace_period(manifest: Manifest) -> None:
    pod = manifest["spec"]["template"]["spec"]
    pod["terminationGracePeriodSecond"] = pod.pop("terminationGracePeriodSeconds")


def name_the_replicas(manifest: Manifest) -> None:
    manifest["spec"]["replicas"] = "two"


@pytest.mark.parametrize("apply_fault", [misspell_the_grace_period, name_the_replicas])
def test_the_validation_notices_a_mistake(apply_fault: Callable[[Manifest], None]) -> None:
    spoilt = copy.deepcopy(
        next(m for m in MANIFESTS if named(m) == "Deployment pluggy-sync-worker")
    )
    apply_fault(spoilt)
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(spoilt, VERSIONS[-1], strict=True)


def test_compose_runs_the_procfile(procfile: dict[str, list[str]]) -> None:
    assert {name: shlex.split(service["command"]) for name, service in OURS.items()} == procfile


def test_kubernetes_runs_the_procfile(procfile: dict[str, list[str]]) -> None:
    commands = {name: c["command"] + c.get("args", []) for name, c in CONTAINERS.items()}
    assert commands == {CONTAINER_OF[name]: command for name, command in procfile.items()}


def test_the_image_is_one_and_the_same_everywhere() -> None:
    images = {c["image"] for c in CONTAINERS.values()}
    images |= {service["image"].partition(":")[0] for service in OURS.values()}
    (rewritten,) = documents(KUSTOMIZATION)[0]["images"]
    assert images == {rewritten["name"]}


def test_the_kustomization_holds_every_manifest_but_the_example() -> None:
    stored = {K8S / name for name in documents(KUSTOMIZATION)[0]["resources"]}
    assert stored == set(K8S.glob("*.yaml")) - {KUSTOMIZATION, EXAMPLE}
    assert not [m for path in stored for m in documents(path) if m["kind"] == "Secret"]


def test_every_reference_names_what_is_there() -> None:
    there = {named(manifest) for manifest in MANIFESTS}
    secrets = [s["name"] for s in values_of("secretRef", MANIFESTS)]
    configs = [c["name"] for c in values_of("configMapRef", MANIFESTS)]
    assert secrets
    assert configs
    assert there >= {f"Secret {name}" for name in secrets}
    assert there >= {f"ConfigMap {name}" for name in configs}


def test_no_value_is_set_twice_for_a_container() -> None:
    data = {named(m): set(m.get("data", {})) | set(m.get("stringData", {})) for m in MANIFESTS}
    for container in CONTAINERS.values():
        names = [variable["name"] for variable in container.get("env", [])]
        for source in container["envFrom"]:
            kind = "Secret" if "secretRef" in source else "ConfigMap"
            (reference,) = source.values()
            names += data[f"{kind} {reference['name']}"]
        assert len(names) == len(set(names))


def test_the_receiver_is_given_no_credentials_of_pluggy() -> None:
    (receiver,) = (m for m in documents(EXAMPLE) if named(m) == "Secret pluggy-sync-receiver")
    assert not [name for name in receiver["stringData"] if name.startswith("PLUGGY_CLIENT")]
    assert not [name for name in OURS["web"]["environment"] if name.startswith("PLUGGY_")]


@pytest.mark.parametrize(
    ("name", "role"), [("receiver", RECEIVER), ("worker", WORKER), ("ops", OPS)]
)
def test_each_process_logs_in_with_the_role_that_is_meant_for_it(name: str, role: str) -> None:
    (secret,) = (m for m in documents(EXAMPLE) if named(m) == f"Secret pluggy-sync-{name}")
    assert urlsplit(secret["stringData"]["DATABASE_URL"]).username == role


def test_no_secret_stands_in_the_compose_file() -> None:
    for service in OURS.values():
        for name, value in service["environment"].items():
            if name.endswith(("SECRET", "PASSWORD", "TOKEN")):
                assert ":?" in value, name
            assert not urlsplit(value or "").password, name


def reads(service: str) -> set[str]:
    """Every name that the process reads. The rest of the environment is for commands."""
    classes: dict[str, tuple[type[Environment], ...]] = {
        "release": (Environment, AdoptSettings),
        "web": (ReceiverSettings,),
        "worker": (PluggySettings,),
        "ops": (OpsSettings,),
    }
    fields = {name.upper() for settings in classes[service] for name in settings.model_fields}
    # Only migrations go around a pooler.
    return fields if service == "release" else fields - {"DATABASE_DIRECT_URL"}


@pytest.mark.parametrize("service", OURS)
def test_every_setting_reaches_the_process_that_reads_it_in_compose(service: str) -> None:
    given = set(OURS[service]["environment"])
    assert given - {"PGPASSWORD"} == reads(service)


@pytest.mark.parametrize("service", OURS)
def test_every_setting_reaches_the_process_that_reads_it_in_kubernetes(service: str) -> None:
    data = {named(m): set(m.get("data", {})) | set(m.get("stringData", {})) for m in MANIFESTS}
    container = CONTAINERS[CONTAINER_OF[service]]
    given = {variable["name"] for variable in container.get("env", [])}
    for source in container["envFrom"]:
        kind = "Secret" if "secretRef" in source else "ConfigMap"
        given |= data[f"{kind} {source[kind[0].lower() + kind[1:] + 'Ref']['name']}"]
    # A migration waits for no Redis.
    assert given >= reads(service) - ({"REDIS_URL"} if service == "release" else set())


def test_both_sides_of_a_delivery_use_the_same_header_and_secret() -> None:
    for name in ("WEBHOOK_SECRET", "WEBHOOK_SECRET_HEADER"):
        assert OURS["web"]["environment"][name] == OURS["worker"]["environment"][name]


@pytest.mark.parametrize("service", OURS)
def test_no_character_of_the_password_of_postgres_has_a_meaning_in_compose(service: str) -> None:
    environment = OURS[service]["environment"]
    # asyncpg takes the variable as it is; a URL would need every / # @ % in it encoded.
    assert environment["PGPASSWORD"] == COMPOSE["postgres"]["environment"]["POSTGRES_PASSWORD"]
    assert "$" not in environment["DATABASE_URL"]


def test_no_container_may_do_more_than_it_needs() -> None:
    for pod in PODS.values():
        assert pod["automountServiceAccountToken"] is False
        assert pod["enableServiceLinks"] is False
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    for container in CONTAINERS.values():
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert "memory" in container["resources"]["limits"]


def test_the_image_s_user_is_the_pods_user() -> None:
    found = re.search(r"^USER (\d+):(\d+)$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    assert found
    users = {
        (p["securityContext"]["runAsUser"], p["securityContext"]["runAsGroup"])
        for p in PODS.values()
    }
    assert users == {(int(found[1]), int(found[2]))}
    assert int(found[1]) > 0


@pytest.mark.parametrize(
    ("name", "variable"), [("receiver", "PORT"), ("worker", "METRICS_PORT"), ("ops", "OPS_PORT")]
)
def test_probes_ask_the_port_that_the_process_listens_on(name: str, variable: str) -> None:
    container = CONTAINERS[name]
    (port,) = container["ports"]
    assert {"name": variable, "value": str(port["containerPort"])} in container["env"]
    asked = {
        probe: (container[probe]["httpGet"]["path"], container[probe]["httpGet"]["port"])
        for probe in ("startupProbe", "livenessProbe", "readinessProbe")
    }
    assert asked == {
        "startupProbe": ("/livez", port["name"]),
        "livenessProbe": ("/livez", port["name"]),
        "readinessProbe": ("/readyz", port["name"]),
    }


def test_selectors_select_the_pods_they_are_for() -> None:
    labels = [t["metadata"]["labels"] for t in values_of("template", MANIFESTS)]
    selectors = list(values_of("matchLabels", MANIFESTS))
    selectors += [m["spec"]["selector"] for m in MANIFESTS if m["kind"] == "Service"]
    for selector in selectors:
        assert [found for found in labels if selector.items() <= found.items()], selector


def test_a_worker_s_jobs_may_end_before_it_is_killed() -> None:
    grace_s = PODS["Deployment pluggy-sync-worker"]["terminationGracePeriodSeconds"]
    # Connections are closed after the jobs.
    assert grace_s >= COMPLETION_WAIT_S + 10
    assert OURS["worker"]["stop_grace_period"] == f"{grace_s}s"


@pytest.mark.parametrize("name", ["runtime", "build", "dev"])
def test_every_requirement_is_pinned_by_hash(name: str) -> None:
    text = (ROOT / "requirements" / f"{name}.txt").read_text()
    requirements = text.replace("\\\n", " ").splitlines()
    assert requirements
    for requirement in requirements:
        assert re.match(r"[a-z0-9._-]+==\S+ ", requirement), requirement
        assert "--hash=sha256:" in requirement
