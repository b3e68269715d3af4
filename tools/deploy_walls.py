"""How tightly containers are shut in: what each of ours must say, and what none may.

Pure functions over documents that were already parsed, so that their tests need no linter.
"""

import re
from collections.abc import Iterator
from typing import Any, Final

Json = dict[str, Any]

OURS: Final = ("api", "worker", "emulator")
"""The services of the compose file that run our image; Postgres has the image of others."""

FORBIDDEN: Final = ("privileged", "pid", "ipc", "network_mode", "cap_add", "devices", "userns_mode")
NO_NEW_PRIVILEGES: Final = "no-new-privileges:true"


def of_dockerfile(text: str) -> Iterator[str]:
    """Yield what the Dockerfile lacks: a numeric user at its end, hashes, wheels alone."""
    users = re.findall(r"^USER (.+)$", text, re.MULTILINE)
    if not users or not re.fullmatch(r"[1-9]\d*:[1-9]\d*", users[-1]):
        yield "Dockerfile: the last USER is no number, or root's"
    if "PIP_ONLY_BINARY=:all:" not in text:
        yield "Dockerfile: packages may be built from source while they are installed"
    for line in re.findall(r"pip install ([^\n&]+)", text):
        if "--require-hashes" not in line and "/build/dist/" not in line:
            yield f"Dockerfile: installed without hashes: {line.strip()}"
    if "HEALTHCHECK" not in text:
        yield "Dockerfile: there is no HEALTHCHECK"
    for found in re.findall(r"^(?:ADD .*|.*(?:curl|wget) .*|ENV .*SECRET.*)$", text, re.MULTILINE):
        yield f"Dockerfile: {found.strip()}"


def of_compose(document: Json) -> Iterator[str]:
    """Yield what the services of a compose file lack, or have too much."""
    for name, service in document["services"].items():
        options = service.get("security_opt", [])
        if NO_NEW_PRIVILEGES not in options:
            yield f"{name}: it may gain privileges"
        yield from (f"{name}: {one}" for one in options if "unconfined" in one)
        yield from (f"{name}: {key} is set" for key in FORBIDDEN if key in service)
        for volume in service.get("volumes", []):
            if str(volume).startswith(("/var/run", "/run", "/etc", "/proc", "/:")):
                yield f"{name}: it sees {volume} of the machine"
        for port in service.get("ports", []):
            if not str(port).startswith("127.0.0.1:"):
                yield f"{name}: {port} is open to all; a TLS proxy stands in front of it"
        if name not in OURS:
            continue
        if service.get("cap_drop") != ["ALL"]:
            yield f"{name}: it keeps capabilities"
        if service.get("read_only") is not True:
            yield f"{name}: its root can be written"


def of_deployment(document: Json) -> Iterator[str]:
    """Yield what a Deployment of Kubernetes lacks, or has too much."""
    pod = document["spec"]["template"]["spec"]
    shell = pod.get("securityContext", {})
    wanted: Json = {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}
    for key, value in wanted.items():
        if shell.get(key) != value:
            yield f"pod: {key} is not {value}"
    if not shell.get("runAsUser"):
        yield "pod: runAsUser is root, or the image's choice"
    if pod.get("automountServiceAccountToken") is not False:
        yield "pod: it gets a token of the cluster"
    for key in ("hostNetwork", "hostPID", "hostIPC"):
        if pod.get(key):
            yield f"pod: {key} is set"
    yield from (f"pod: it sees {v['hostPath']}" for v in pod.get("volumes", ()) if "hostPath" in v)
    for container in (*pod["containers"], *pod.get("initContainers", ())):
        yield from (f"{container['name']}: {one}" for one in _container(container))


def _container(container: Json) -> Iterator[str]:
    context = container.get("securityContext", {})
    wanted: Json = {"allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True}
    for key, value in wanted.items():
        if context.get(key) is not value:
            yield f"{key} is not {value}"
    if context.get("capabilities") != {"drop": ["ALL"]}:
        yield "it keeps capabilities, or adds some"
    if context.get("privileged"):
        yield "it is privileged"
    if "memory" not in container.get("resources", {}).get("limits", {}):
        yield "its memory has no limit"
