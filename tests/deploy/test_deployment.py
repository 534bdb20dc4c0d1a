"""The files in ops/deploy, each judged by the tool that would use it. Nothing is started, and no network is used."""

import re
import subprocess
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from tests.deploy.conftest import DEPLOY, run, tool
from worker.config import Settings, variable

KUBERNETES = "1.37"
RESTRICTED = {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}
MODULES = {"web": "8000", "worker": "8001", "relay": "8001"}
EXPOSURE = "20"
"""Of 100, by `systemd-analyze security`: what a unit may still do. Ordinary services have more than 90."""

NOT_YET = {
    "../monitoring/dashboards", "../monitoring/rules.yaml",
    "WITHDRAWALS_HEALTH_PORT", "WITHDRAWALS_PUBLIC_URL", "WITHDRAWALS_TRUSTED_PROXIES",
}  # fmt: skip


def render(folder: str) -> list[dict[str, Any]]:
    """What kustomize makes of a folder."""
    return list(yaml.safe_load_all(run("kubectl", "kustomize", DEPLOY / "kubernetes" / folder)))


def read(path: str) -> Any:
    """One YAML file of ops/deploy."""
    return yaml.safe_load((DEPLOY / path).read_text(encoding="utf-8"))


def files(pattern: str) -> list[Path]:
    """Files of ops/deploy, without the secrets of somebody who tries it."""
    found = [path for path in DEPLOY.rglob(pattern) if path.is_file() and "secrets" not in path.parts]
    assert found, pattern
    return sorted(found)


def test_the_images_are_built_as_hadolint_recommends() -> None:
    run("hadolint", *files("Containerfile"))


def test_the_image_installs_by_hash_and_runs_as_nobody() -> None:
    text = (DEPLOY / "Containerfile").read_text(encoding="utf-8")
    installs = re.findall(r"pip install .*", text)
    assert all("--no-deps" in line and ("--require-hashes" in line or "--no-index" in line) for line in installs)
    stages = re.split(r"^FROM ", text, flags=re.MULTILINE)[1:]
    assert [stage.split()[2] for stage in stages][-1] == "service"
    assert all("USER 10001:10001" in stage for stage in stages if "CMD" in stage)
    copied = set(re.findall(r"^COPY (?!--)(\S+)", text, re.MULTILINE))
    allowed = (DEPLOY / "Containerfile.dockerignore").read_text(encoding="utf-8").splitlines()
    assert {f"!{path.split('/')[0]}" for path in copied} <= set(allowed)


def test_the_shell_scripts_are_as_shellcheck_recommends() -> None:
    run("shellcheck", DEPLOY / "compose" / "make-secrets", *files("*.sh"))


def test_every_yaml_file_is_as_yamllint_recommends() -> None:
    run("yamllint", "--strict", "-c", DEPLOY / ".yamllint", DEPLOY)


def test_compose_reads_the_file_and_finds_every_file_that_it_names(tmp_path: Path) -> None:
    said = run("podman-compose", "-f", DEPLOY / "compose.yaml", "config")
    assert "registry" not in said
    composed = read("compose.yaml")
    subprocess.run([tool("bash"), DEPLOY / "compose" / "make-secrets", tmp_path / "secrets"], check=True, timeout=600)
    made = {path.name for path in (tmp_path / "secrets").iterdir()}
    assert made == composed["secrets"].keys()
    assert all(entry == {"file": f"compose/secrets/{name}"} for name, entry in composed["secrets"].items())
    for service in composed["services"].values():
        mounts = [mount.split(":")[0] for mount in service.get("volumes", []) if mount.startswith(".")]
        assert not [mount for mount in mounts if not (DEPLOY / mount).exists()]
        assert set(service.get("secrets", [])) <= made


def test_secrets_are_made_once_and_differ(tmp_path: Path) -> None:
    def make() -> dict[str, str]:
        subprocess.run([tool("bash"), DEPLOY / "compose" / "make-secrets", tmp_path], check=True, timeout=600)
        return {path.name: path.read_text(encoding="utf-8") for path in tmp_path.iterdir()}

    first = make()
    assert make() == first
    assert len(set(first.values())) == len(first)
    assert first["login_password"].strip() in first["database_url"]


def test_every_container_of_the_service_is_hardened() -> None:
    for name, service in read("compose.yaml")["services"].items():
        if name != "postgres":  # its image changes its user at the start
            assert service["read_only"] is True, name
            assert service["cap_drop"] == ["ALL"], name


@pytest.mark.parametrize("folder", ["migrate", "reconcile", "example"])
def test_kustomize_makes_what_kubernetes_takes(folder: str) -> None:
    rendered = render(folder)
    ours = [item for item in rendered if item["kind"] != "ScaledObject"]
    for item in ours:
        kubernetes_validate.validate(item, KUBERNETES, strict=True)
    assert {item["metadata"].get("namespace", "withdrawals") for item in rendered} == {"withdrawals"}


@pytest.mark.parametrize("folder", ["migrate", "reconcile", "example"])
def test_every_pod_keeps_the_restricted_standard(folder: str) -> None:
    specs = [item["spec"] for item in render(folder) if item["kind"] in ("Deployment", "Job", "CronJob")]
    pods = [spec.get("jobTemplate", {"spec": spec})["spec"]["template"]["spec"] for spec in specs]
    assert pods
    for pod in pods:
        assert RESTRICTED.items() <= pod["securityContext"].items()
        assert pod["enableServiceLinks"] is False
        assert pod["automountServiceAccountToken"] is False
        for container in pod["containers"]:
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }
            assert container["resources"]["limits"]["memory"]


def test_each_process_has_probes_a_budget_and_its_port() -> None:
    rendered = render("example")
    named = {(item["kind"], item["metadata"]["name"]): item for item in rendered}
    for module, port in MODULES.items():
        template = named["Deployment", f"withdrawals-{module}"]["spec"]["template"]
        (container,) = template["spec"]["containers"]
        (declared,) = container["ports"]
        assert str(declared["containerPort"]) == port == template["metadata"]["annotations"]["prometheus.io/port"]
        for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
            assert container[probe]["httpGet"]["port"] == declared["name"]
        budget = named["PodDisruptionBudget", f"withdrawals-{module}"]["spec"]
        assert budget["selector"]["matchLabels"].items() <= template["metadata"]["labels"].items()


def test_workers_are_scaled_by_a_metric_that_exists() -> None:
    rendered = {(item["kind"], item["metadata"]["name"]): item for item in render("example")}
    scaled = rendered["ScaledObject", "withdrawals-worker"]["spec"]
    target = rendered["Deployment", scaled["scaleTargetRef"]["name"]]["spec"]
    assert "replicas" not in target, "two would set it"
    (trigger,) = scaled["triggers"]
    metric = re.findall(r"withdrawals_\w+", trigger["metadata"]["query"])
    code = "".join(path.read_text(encoding="utf-8") for path in (DEPLOY.parents[1] / "worker").rglob("*.py"))
    assert metric
    assert all(f'"{name}"' in code for name in metric)


def test_systemd_accepts_the_units_and_finds_them_hardened(tmp_path: Path) -> None:
    for unit in (*files("*.service"), *files("*.target"), *files("*.timer")):
        text = unit.read_text(encoding="utf-8").replace("/opt/withdrawals/bin/withdrawals", "/bin/true")
        (tmp_path / unit.name).write_text(text, encoding="utf-8")
    names = ("withdrawals.target", "withdrawals@web.service", "withdrawals-migrate.service")
    units = [f"./{name}" for name in (*names, "withdrawals-reconcile@acme.timer", "withdrawals-reconcile@acme.service")]
    said = run("systemd-analyze", "verify", "--man=no", "--recursive-errors=no", *units, cwd=tmp_path)
    assert "withdrawals" not in said, said
    for unit in files("*.service"):
        run("systemd-analyze", "security", "--offline=true", f"--threshold={EXPOSURE}", f"./{unit.name}", cwd=tmp_path)


def test_nginx_accepts_its_configuration(tmp_path: Path) -> None:
    certificate, key = tmp_path / "tls.crt", tmp_path / "tls.key"
    subprocess.run(
        [tool("openssl"), "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
         "-keyout", key, "-out", certificate, "-days", "2", "-subj", "/CN=withdrawals.example.com"],
        check=True, capture_output=True, timeout=600,
    )  # fmt: skip
    text = (DEPLOY / "nginx" / "withdrawals.conf").read_text(encoding="utf-8")
    text = text.replace("/etc/nginx/withdrawals.crt", str(certificate)).replace("/etc/nginx/withdrawals.key", str(key))
    (tmp_path / "withdrawals.conf").write_text(text, encoding="utf-8")
    whole = f"pid {tmp_path}/pid; error_log stderr; events {{}} http {{ include {tmp_path}/withdrawals.conf; }}"
    (tmp_path / "nginx.conf").write_text(whole, encoding="utf-8")
    run("nginx", "-t", "-c", tmp_path / "nginx.conf")


def test_caddy_accepts_its_configuration() -> None:
    caddyfile = DEPLOY / "caddy" / "Caddyfile"
    run("caddy", "validate", "--adapter", "caddyfile", "--config", caddyfile)
    run("caddy", "fmt", "--diff", caddyfile)


def test_prometheus_accepts_its_configuration() -> None:
    run("promtool", "check", "config", "--syntax-only", DEPLOY / "compose" / "prometheus.yml")


def test_the_login_of_the_deployment_is_the_one_that_the_pages_describe() -> None:
    page = (DEPLOY.parent / "pooler.md").read_text(encoding="utf-8")
    made = (DEPLOY / "compose" / "postgres" / "make-logins.sh").read_text(encoding="utf-8")
    pattern = r"SET (\w+) = '(\w+)'"
    assert set(re.findall(pattern, page)) == set(re.findall(pattern, made))


def test_every_setting_that_the_files_name_exists() -> None:
    known = {variable(field) for field in Settings.model_fields} | {"WITHDRAWALS_LOCAL_DIR"}
    known |= {f"{name}_FILE" for name in known}
    named = {
        name
        for path in files("*")
        for name in re.findall(r"\b(?:WITHDRAWALS|DATABASE|BROKER)_[A-Z_]+", path.read_text(encoding="utf-8"))
    }
    assert named
    assert named <= known
