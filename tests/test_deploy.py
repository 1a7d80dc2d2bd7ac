"""deploy/k8s: the files that the deployment guide lists, and what they promise."""

import re
import subprocess

import kubernetes_validate
import pytest
import yaml
from conftest import ROOT, SANDLOT

FOLDER = ROOT / "deploy/k8s"
# From the oldest Kubernetes that is promised to the newest whose schema is at hand.
VERSIONS = [f"1.{minor}" for minor in range(24, 34)]
FILES = [
    "00-namespace.yaml", "01-configmap.yaml", "02-secret.yaml", "03-serviceaccount.yaml", "04-role.yaml",
    "05-control-plane-deployment.yaml", "06-hpa.yaml", "07-minio-deployment.yaml", "08-mariadb-deployment.yaml",
    "09-runtime-namespace.yaml",
]


def objects(name: str = "*"):
    """All objects of the files of this name."""
    return [one for path in sorted(FOLDER.glob(name)) for one in yaml.safe_load_all(path.read_text()) if one]


def kinds(kind: str):
    return [one for one in objects() if one["kind"] == kind]


def named(kind: str, name: str):
    return next(one for one in kinds(kind) if one["metadata"]["name"] == name)


def pods():
    """What the workloads run, by their names."""
    return {one["metadata"]["name"]: one["spec"]["template"] for one in objects() if one["kind"] in ("Deployment", "Job")}


def containers():
    return [(f"{name}/{one['name']}", one) for name, pod in pods().items() for one in pod["spec"]["containers"]]


def test_the_files_are_those_of_the_guide():
    assert sorted(path.name for path in FOLDER.iterdir()) == FILES


@pytest.mark.parametrize("version", VERSIONS)
def test_every_object_is_valid(version):
    for one in objects():
        kubernetes_validate.validate(one, version, strict=True)


def test_a_misspelt_field_would_be_found():
    deployment = named("Deployment", "minio")
    deployment["spec"]["replica"] = 1
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(deployment, "1.24", strict=True)


def test_it_scales_as_promised():
    scaler = named("HorizontalPodAutoscaler", "sandbox-control-plane")["spec"]
    goals = {one["resource"]["name"]: one["resource"]["target"]["averageUtilization"] for one in scaler["metrics"]}
    assert (scaler["minReplicas"], scaler["maxReplicas"], goals) == (2, 10, {"cpu": 70, "memory": 80})
    # What is used is a share of what is requested: without requests nothing would ever scale.
    assert all({"cpu", "memory"} <= set(one["resources"]["requests"]) for _, one in containers())
    assert named("Deployment", "sandbox-control-plane")["spec"]["replicas"] >= 2
    assert named("PodDisruptionBudget", "sandbox-control-plane")["spec"]["minAvailable"] == 1


def test_what_the_guide_asks_for_is_set():
    config = named("ConfigMap", "sandbox-config")["data"]
    secret = named("Secret", "sandbox-secrets")["stringData"]
    assert (config["ENVIRONMENT"], config["DEFAULT_TIMEOUT"], config["MAX_TIMEOUT"], config["DISABLE_BWRAP"]) == ("production", "300", "3600", "true")
    assert config["DATABASE_URL"] and secret["S3_ENDPOINT_URL"] and secret["S3_BUCKET"] == "sandbox-workspace"
    assert {one["metadata"]["name"] for one in kinds("Namespace")} == {"sandbox-system", "sandbox-runtime"}


def test_no_password_is_written_down():
    for path in FOLDER.iterdir():
        assert not re.search(r"minioadmin|password: *\S|-ppassword", path.read_text(), re.IGNORECASE), path
    secret = named("Secret", "sandbox-secrets")["stringData"]
    assert not {name for name in secret if "KEY" in name or "PASSWORD" in name or "TOKEN" in name}
    assert "@" not in re.sub(r"^\w+://[^:@]+@", "", named("ConfigMap", "sandbox-config")["data"]["DATABASE_URL"])
    for name, container in containers():
        for variable in container.get("env", []):
            asks = "PASSWORD" in variable["name"] and "RANDOM" not in variable["name"]
            assert not (asks and "value" in variable), f"{name}: {variable}"


@pytest.mark.parametrize("name", sorted(pods()))
def test_every_pod_is_nobody_special(name):
    pod = pods()[name]["spec"]
    assert pod["securityContext"]["runAsNonRoot"] and pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert not any("hostPath" in volume for volume in pod.get("volumes", []))
    for container in pod["containers"]:
        context = container["securityContext"]
        assert context["allowPrivilegeEscalation"] is False and context["readOnlyRootFilesystem"] is True
        assert context["capabilities"] == {"drop": ["ALL"]}
        assert {"cpu", "memory"} <= set(container["resources"]["limits"])


def test_only_those_who_speak_to_the_api_have_a_token():
    for name, pod in pods().items():
        speaks = name in ("sandbox-control-plane", "sandbox-prepare")
        account = named("ServiceAccount", pod["spec"]["serviceAccountName"]) if "serviceAccountName" in pod["spec"] else {}
        mounts = pod["spec"].get("automountServiceAccountToken", account.get("automountServiceAccountToken", True))
        assert mounts is speaks, name


@pytest.mark.parametrize("name", sorted(one["metadata"]["name"] for one in kinds("Deployment")))
def test_every_server_is_probed(name):
    for container in pods()[name]["spec"]["containers"]:
        assert {"startupProbe", "livenessProbe", "readinessProbe"} <= set(container), container["name"]


def test_rights_are_few_and_named():
    for role in kinds("ClusterRole") + kinds("Role"):
        for rule in role["rules"]:
            assert "*" not in rule["verbs"] + rule["resources"] + rule["apiGroups"], role["metadata"]["name"]
            if "secrets" in rule["resources"]:
                assert role["metadata"]["name"] == "sandbox-prepare"
                assert rule["verbs"] == ["create"] or (rule["verbs"] == ["get"] and rule["resourceNames"])
    bound = [one["roleRef"]["name"] for one in kinds("ClusterRoleBinding")]
    assert bound == ["sandbox-prepare"], "nothing that stays has rights in the whole cluster"


def test_what_is_referred_to_is_there():
    there = {(one["kind"], one["metadata"]["name"]) for one in objects()} | {("Secret", "sandbox-credentials")}
    for name, pod in pods().items():
        spec = pod["spec"]
        if "serviceAccountName" in spec:
            assert ("ServiceAccount", spec["serviceAccountName"]) in there
        for volume in spec.get("volumes", []):
            if "configMap" in volume:
                assert ("ConfigMap", volume["configMap"]["name"]) in there
            if "persistentVolumeClaim" in volume:
                assert ("PersistentVolumeClaim", volume["persistentVolumeClaim"]["claimName"]) in there
        volumes = {volume["name"] for volume in spec.get("volumes", [])}
        for container in spec["containers"]:
            assert {mount["name"] for mount in container.get("volumeMounts", [])} <= volumes
            ports = {port["name"] for port in container.get("ports", [])}
            for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
                asked = container.get(probe, {})
                assert asked.get("httpGet", asked.get("tcpSocket", {"port": None}))["port"] in ports | {None}
            for source in container.get("envFrom", []):
                kind, reference = next(iter(source.items()))
                assert ({"configMapRef": "ConfigMap", "secretRef": "Secret"}[kind], reference["name"]) in there
            for variable in container.get("env", []):
                for kind, reference in variable.get("valueFrom", {}).items():
                    if kind != "fieldRef":
                        assert ({"configMapKeyRef": "ConfigMap", "secretKeyRef": "Secret"}[kind], reference["name"]) in there
    for service in kinds("Service"):
        wanted = service["spec"]["selector"]
        behind = [pod for pod in pods().values() if wanted.items() <= pod["metadata"]["labels"].items()]
        ports = {port["name"] for pod in behind for one in pod["spec"]["containers"] for port in one.get("ports", [])}
        assert {port["targetPort"] for port in service["spec"]["ports"]} <= ports, service["metadata"]["name"]
    for binding in kinds("RoleBinding") + kinds("ClusterRoleBinding"):
        assert (binding["roleRef"]["kind"], binding["roleRef"]["name"]) in there
        assert all(("ServiceAccount", one["name"]) in there for one in binding["subjects"])


def test_every_key_of_the_configuration_is_one_that_is_heard():
    said = subprocess.run([SANDLOT, "gateway", "--help"], capture_output=True, text=True, timeout=60, check=True).stdout
    known = set(re.findall(r"\b[A-Z][A-Z0-9_]{2,}\b", said))
    given = set(named("ConfigMap", "sandbox-config")["data"]) | set(named("Secret", "sandbox-secrets")["stringData"])
    assert given <= known, f"nobody reads {given - known}"


def test_code_in_sessions_reaches_neither_the_control_plane_nor_the_network_around_it():
    policies = {(one["metadata"]["namespace"], one["metadata"]["name"]): one["spec"] for one in kinds("NetworkPolicy")}
    sessions = policies["sandbox-runtime", "sessions"]
    assert sessions["podSelector"] == {} and set(sessions["policyTypes"]) == {"Ingress", "Egress"}
    (come_in,) = sessions["ingress"]
    assert [port["port"] for port in come_in["ports"]] == [50051]
    outside = [to["ipBlock"] for rule in sessions["egress"] for to in rule["to"] if "ipBlock" in to]
    assert {"10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "169.254.0.0/16"} <= set(outside[0]["except"])
    assert policies["sandbox-system", "nobody-comes-in"] == {"podSelector": {}, "policyTypes": ["Ingress"]}
    for name in ("mariadb", "minio"):
        (callers,) = policies["sandbox-system", name]["ingress"]
        assert callers["from"] == [{"podSelector": {"matchLabels": {"app": "sandbox-control-plane"}}}]
        assert policies["sandbox-system", name]["egress"] == []
