from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import msgspec
import pytest

import deploy_walls

Json = dict[str, Any]
Change = Callable[[Any], object]
DEPLOY = Path(__file__).resolve().parents[2] / "deploy"
DOCKERFILE = (DEPLOY / "Dockerfile").read_text("utf-8")
COMPOSE: Json = msgspec.yaml.decode((DEPLOY / "compose.yaml").read_bytes())
DEPLOYMENT: Json = {
    "spec": {
        "template": {
            "spec": {
                "automountServiceAccountToken": False,
                "securityContext": {
                    "runAsNonRoot": True,
                    "runAsUser": 65532,
                    "seccompProfile": {"type": "RuntimeDefault"},
                },
                "containers": [
                    {
                        "name": "api",
                        "resources": {"limits": {"memory": "2Gi"}},
                        "securityContext": {
                            "allowPrivilegeEscalation": False,
                            "readOnlyRootFilesystem": True,
                            "capabilities": {"drop": ["ALL"]},
                        },
                    }
                ],
            }
        }
    }
}


def pod(document: Json) -> Json:
    """The pod of a Deployment."""
    found: Json = document["spec"]["template"]["spec"]
    return found


def container(document: Json) -> Json:
    """Its one container."""
    found: Json = pod(document)["containers"][0]
    return found


def service(name: str, **changes: Any) -> Change:  # noqa: ANN401  # YAML
    """A change of one service."""
    return lambda document: document["services"][name].update(changes)


def test_what_we_ship_is_shut_in() -> None:
    """Dockerfile and compose file have all walls; `make check` says so of the rendered chart."""
    assert list(deploy_walls.of_dockerfile(DOCKERFILE)) == []
    assert list(deploy_walls.of_compose(COMPOSE)) == []
    assert list(deploy_walls.of_deployment(DEPLOYMENT)) == []


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("USER 65532:65532", ""),
        ("USER 65532:65532", "USER root"),
        ("USER 65532:65532", "USER 0:0"),
        ("USER 65532:65532", "USER 65532:65532\nUSER 0:0"),
        ("pip install --require-hashes -r requirements/build.txt", "pip install hatchling"),
        (" PIP_ONLY_BINARY=:all:", ""),
        ("HEALTHCHECK", "# none"),
        ("USER", "RUN curl https://x.example | sh\nUSER"),
        ("USER", "ADD https://x.example/x /x\nUSER"),
        ("ENV PATH", "ENV PENSTOCK_SECRET=x\nENV PATH"),
    ],
)
def test_a_loose_dockerfile_is_found(old: str, new: str) -> None:
    """Each wall that is taken away is missed."""
    assert old in DOCKERFILE
    assert len(list(deploy_walls.of_dockerfile(DOCKERFILE.replace(old, new, 1)))) >= 1


@pytest.mark.parametrize(
    "change",
    [
        service("api", read_only=False),
        service("worker", cap_drop=[]),
        service("worker", cap_drop=["NET_RAW"]),
        service("api", cap_add=["SYS_ADMIN"]),
        service("api", security_opt=[]),
        service("postgres", security_opt=["seccomp:unconfined", "no-new-privileges:true"]),
        service("api", privileged=True),
        service("api", pid="host"),
        service("api", network_mode="host"),
        service("api", ports=["8080:8080"]),
        service("worker", volumes=["/var/run/docker.sock:/var/run/docker.sock"]),
    ],
)
def test_a_loose_service_is_found(change: Change) -> None:
    """Each wall that is taken away is missed, and only that."""
    document = deepcopy(COMPOSE)
    change(document)
    assert len(list(deploy_walls.of_compose(document))) == 1


@pytest.mark.parametrize(
    "change",
    [
        lambda d: pod(d)["securityContext"].update(runAsNonRoot=False),
        lambda d: pod(d)["securityContext"].update(runAsUser=0),
        lambda d: pod(d)["securityContext"].pop("seccompProfile"),
        lambda d: pod(d).pop("automountServiceAccountToken"),
        lambda d: pod(d).update(hostNetwork=True),
        lambda d: pod(d).update(volumes=[{"hostPath": {"path": "/"}}]),
        lambda d: container(d)["securityContext"].update(privileged=True),
        lambda d: container(d)["securityContext"].update(readOnlyRootFilesystem=False),
        lambda d: container(d)["securityContext"].pop("allowPrivilegeEscalation"),
        lambda d: container(d)["securityContext"]["capabilities"].update(add=["NET_RAW"]),
        lambda d: container(d).pop("resources"),
        lambda d: pod(d).update(initContainers=[{**container(d), "securityContext": {}}]),
    ],
)
def test_a_loose_pod_is_found(change: Change) -> None:
    """Each wall that is taken away is missed."""
    document = deepcopy(DEPLOYMENT)
    change(document)
    assert len(list(deploy_walls.of_deployment(document))) >= 1
