"""What kubectl makes of the Kubernetes base."""

import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

K8S = Path(__file__).parents[2] / "k8s"


@pytest.fixture(scope="module")
def kubectl() -> str:
    found = shutil.which("kubectl")
    if found is None:
        pytest.fail("kubectl is missing: apt-get install kubernetes-client")
    return found


def manifests_of(kustomization: dict[str, Any]) -> list[dict[str, Any]]:
    return [
        m
        for name in kustomization["resources"]
        for m in yaml.safe_load_all((K8S / name).read_text())
    ]


def by_name(manifests: list[dict[str, Any]]) -> dict[tuple[str, str], dict[str, Any]]:
    return {(m["kind"], m["metadata"]["name"]): m for m in manifests}


def test_the_base_builds_into_its_manifests_with_the_image_named(kubectl: str) -> None:
    built = subprocess.run([kubectl, "kustomize", K8S], check=True, capture_output=True, text=True)
    kustomization = yaml.safe_load((K8S / "kustomization.yaml").read_text())
    expected = manifests_of(kustomization)
    (image,) = kustomization["images"]
    for manifest in expected:
        for container in (
            manifest.get("spec", {}).get("template", {}).get("spec", {}).get("containers", [])
        ):
            container["image"] = f"{image['newName']}:{image['newTag']}"
    assert by_name(list(yaml.safe_load_all(built.stdout))) == by_name(expected)
