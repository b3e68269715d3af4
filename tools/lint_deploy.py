"""Hold deploy/ to what judges it: the linters of its formats, Kubernetes' schemas, and Penstock.

How tightly the containers are shut in is judged by `tools/deploy_walls.py`.

The chart is rendered by Helm's own library, and every process of chart and compose file is put to
`penstock serve --check` with the environment and arguments that it would have. A linter that finds
nothing proves nothing, so each must first refuse something that is wrong.

What is not done here, because it takes a Docker daemon or a cluster: building the image, starting
the containers, admitting the manifests.
"""

import importlib.util
import json
import os
import re
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import deploy_walls

ROOT: Final = Path(__file__).resolve().parent.parent
DEPLOY: Final = ROOT / "deploy"
CHART: Final = DEPLOY / "helm" / "penstock"
COMPOSE: Final = DEPLOY / "compose.yaml"
SCRIPTS: Final = Path(sysconfig.get_path("scripts"))
KUBERNETES: Final = ("1.30.0", "1.37.0")
"""The oldest that the chart allows and the newest whose schemas there are."""

NEEDED: Final = ("yaml", "helm_python", "kubernetes_validate", "check_jsonschema", "yamllint")
"""requirements/deploy.txt; there is no Helm for every processor."""

YAML_RULES: Final = (
    "{extends: default, rules: {line-length: {max: 120}, document-start: disable, "
    "comments: {min-spaces-from-content: 1}}}"
)

SECRETS: Final = {
    "secret": "7f3a91c05be2d846e1b09d4477aa52c8",
    "database-url": "postgresql://penstock:password@db/penstock",
}
GOOD: Final[dict[str, Any]] = {
    "existingSecret": "penstock",
    "blobsUrl": "gs://jobs/penstock",
    "vertex": {"project": "acme", "bucket": "acme-batch"},
}
VALUES: Final[Mapping[str, dict[str, Any]]] = {
    "least": GOOD,
    "most": {
        **GOOD,
        "publicUrl": "https://penstock.example.com",
        "hostsAllowed": ["batch.example.com", "10.0.0.7"],
        "image": {"digest": "sha256:" + "0" * 64},
        "imagePullSecrets": [{"name": "registry"}],
        "settings": {"PENSTOCK_LIMITS_JOB_LINES_MAX": "5000"},
        "serviceAccount": {"annotations": {"iam.gke.io/gcp-service-account": "a@b.example"}},
        "api": {"autoscaling": {"enabled": True}, "nodeSelector": {"pool": "batch"}},
        "worker": {"replicas": 5, "tolerations": [{"key": "batch", "operator": "Exists"}]},
        "networkPolicy": {"enabled": True, "from": [{"podSelector": {}}]},
    },
    "least of the optional": {
        **GOOD,
        "serviceAccount": {"create": False, "name": "theirs"},
        "podDisruptionBudget": {"enabled": False},
        "api": {"preStopSeconds": 0},
    },
}
BAD_VALUES: Final[tuple[dict[str, Any], ...]] = (
    {},
    {**GOOD, "blobsUrl": "/var/lib"},
    {**GOOD, "settings": {"PENSTOCK_SECRET": "in the open"}},
    {**GOOD, "hostsAllowed": ["*"]},
    {**GOOD, "settings": {"PENSTOCK_HOSTS_ALLOWED": "any.example"}},
    {**GOOD, "typo": 1},
)

Finding = str


def main() -> int:
    """Run every judge, print what they found, return the exit code."""
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        print(f"deploy/ is not checked: {', '.join(missing)} cannot be had here")
        return 0
    findings = [*_dockerfile(), *_yaml(), *_compose(), *_chart()]
    for finding in findings:
        print(finding)
    return 1 if findings else 0


def _dockerfile() -> Iterator[Finding]:
    yield from _judge("hadolint", DEPLOY / "Dockerfile")
    yield from _must_refuse(
        "hadolint", "Dockerfile", "FROM x:latest\nRUN sudo cd /x; apt install y\n"
    )
    text = (DEPLOY / "Dockerfile").read_text("utf-8")
    yield from deploy_walls.of_dockerfile(text)
    for line in re.findall(r"^COPY (?!--from)(.+) \S+$", text, re.MULTILINE):
        for name in line.split():
            if not (ROOT / name).exists():
                yield f"deploy/Dockerfile copies {name}, which does not exist"


def _yaml() -> Iterator[Finding]:
    files = (COMPOSE, CHART / "values.yaml", CHART / "Chart.yaml")
    yield from _judge("yamllint", "--strict", "-d", YAML_RULES, *files)
    yield from _must_refuse("yamllint", "x.yaml", "a: 1\na: 2\n")


def _compose() -> Iterator[Finding]:
    schema = ("check-jsonschema", "--quiet", "--builtin-schema", "vendor.compose-spec")
    yield from _judge(*schema, COMPOSE)
    yield from _must_refuse(*schema, "x.yaml", "services: {a: {imagine: x}}\n")
    given = {"PENSTOCK_SECRET": SECRETS["secret"], "POSTGRES_PASSWORD": "0" * 32}
    for name, more in {"trial": {}, "google.env": _variables(DEPLOY / "google.env")}.items():
        document = _interpolated(_load(COMPOSE.read_text("utf-8")), {**given, **more})
        yield from (f"compose.yaml, {name}: {one}" for one in deploy_walls.of_compose(document))
        for service in ("api", "worker"):
            process = document["services"][service]
            found = _refused_by_penstock(process["command"], process["environment"])
            yield from (f"compose.yaml, {service}, {name}: {one}" for one in found)


def _chart() -> Iterator[Finding]:
    helm = importlib.import_module("helm_python")
    for name, values in VALUES.items():
        report = helm.lint(str(CHART), values)
        for message in report["messages"]:
            # An icon is for catalogues; severity 1 is a recommendation.
            if message["severity"] > 1:
                yield f"helm lint, {name}: {message['path']}: {message['error']}"
    with helm.Chart.load(str(CHART)) as chart:
        for values in BAD_VALUES:
            if not _is_refused(chart, values, helm.HelmError):
                yield f"values.schema.json accepts {json.dumps(values)}"
        for name, values in VALUES.items():
            rendered = chart.render(values, name="demo", namespace="prod")
            yield from (f"{name}: {one}" for one in _manifests(rendered))
    kubernetes = ("kubernetes-validate", "--strict", "--quiet", "-k", KUBERNETES[-1])
    yield from _must_refuse(
        *kubernetes, "x.yaml", "apiVersion: v1\nkind: Service\nspec: {port: 1}\n"
    )


def _is_refused(chart: Any, values: dict[str, Any], refusal: type[Exception]) -> bool:  # noqa: ANN401
    try:
        chart.validate_schema(values)
    except refusal:
        return True
    return False


def _manifests(rendered: dict[str, str]) -> Iterator[Finding]:
    texts = [text for name, text in rendered.items() if name.endswith(".yaml") and text.strip()]
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "manifests.yaml")
        file.write_text("\n---\n".join(texts), encoding="utf-8")
        for version in KUBERNETES:
            judge = ("kubernetes-validate", "--strict", "--quiet", "--no-warn", "-k", version)
            yield from _judge(*judge, file)
    for document in filter(None, _load_all("\n---\n".join(texts))):
        if document["kind"] == "Deployment":
            yield from _process(document)
            yield from deploy_walls.of_deployment(document)


def _process(deployment: dict[str, Any]) -> Iterator[Finding]:
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    environment = {}
    for variable in container["env"]:
        reference = variable.get("valueFrom", {}).get("secretKeyRef", {})
        environment[variable["name"]] = variable.get("value") or SECRETS[reference["key"]]
    for finding in _refused_by_penstock(container["args"], environment):
        yield f"{container['name']}: {finding}"
    if environment["PENSTOCK_PORT"] != str(container["ports"][0]["containerPort"]):
        yield f"{container['name']}: it listens on another port than it says"


def _refused_by_penstock(arguments: list[str], environment: Mapping[str, str]) -> list[Finding]:
    """Return what `penstock serve --check` says against such a process."""
    own = {name: text for name, text in os.environ.items() if not name.startswith("PENSTOCK_")}
    done = subprocess.run(
        [sys.executable, "-m", "penstock.cli.main", *arguments, "--check"],
        env={**own, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    return [done.stderr] if done.returncode else []


def _judge(*command: str | Path) -> list[Finding]:
    program, *arguments = map(str, command)
    done = subprocess.run(
        [str(SCRIPTS / program), *arguments], capture_output=True, text=True, check=False
    )
    return [f"{program}: {done.stdout}{done.stderr}"] if done.returncode else []


def _must_refuse(*command_name_text: str) -> Iterator[Finding]:
    """Put something wrong before a judge; it is a finding if nothing is found."""
    *command, name, text = command_name_text
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, name)
        file.write_text(text, encoding="utf-8")
        if not _judge(*command, file):
            yield f"{command[0]} finds nothing wrong with {text!r}"


def _variables(file: Path) -> dict[str, str]:
    lines = file.read_text("utf-8").splitlines()
    pairs = [line.partition("=") for line in lines if line and not line.startswith("#")]
    return {name: value for name, _, value in pairs}


def _interpolated(node: Any, given: Mapping[str, str]) -> Any:  # noqa: ANN401  # a YAML document
    """Put variables in as Docker Compose does: `${A:-b}`, `${A-b}`, `${A:?why}`."""
    if isinstance(node, dict):
        return {name: _interpolated(value, given) for name, value in node.items()}
    if isinstance(node, list):
        return [_interpolated(value, given) for value in node]

    def value(found: re.Match[str]) -> str:
        name, how, default = found["name"], found["how"], found["default"]
        known = given.get(name)
        if how == ":?" and not known:
            raise SystemExit(f"compose.yaml asks for {name}: {default}")
        is_taken = known is not None if how == "-" else bool(known)
        return str(known) if is_taken else default

    if not isinstance(node, str):
        return node
    return re.sub(r"\$\{(?P<name>\w+)(?P<how>:-|-|:\?)(?P<default>[^}]*)\}", value, node)


def _load(text: str) -> Any:  # noqa: ANN401  # a YAML document
    return importlib.import_module("yaml").safe_load(text)


def _load_all(text: str) -> list[Any]:
    return list(importlib.import_module("yaml").safe_load_all(text))


if __name__ == "__main__":
    sys.exit(main())
