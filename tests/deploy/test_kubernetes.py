"""deploy/kubernetes against Kubernetes' own schemas, and against what the rest of the project says.

Of KubeRay's objects the fields: those that ray.io/v1 (ray-operator/apis/ray/v1) had before 1.5.1
and has in 1.7, and authOptions, which is of 1.5.1. Inside them are pods, whose schema is
Kubernetes'.
"""

import shlex
from collections.abc import Iterator
from copy import deepcopy
from typing import Any

import pytest
import yaml
from kubernetes_validate import ValidationError, validate

from alexnet import console
from serving.settings import Settings
from tests.conftest import ROOT
from trainer.arguments import COMMANDS, Train
from trainer.on_ray.jobs import STOPPING

FOLDER = ROOT / "deploy" / "kubernetes"
VERSIONS = ("1.30", "1.37")
"""Versions of Kubernetes."""
FIELDS = {
    "RayCluster": "apiVersion kind metadata spec",
    "RayCluster.spec": "headGroupSpec workerGroupSpecs rayVersion enableInTreeAutoscaling "
    "autoscalerOptions headServiceAnnotations suspend authOptions",
    "RayCluster.spec.authOptions": "mode",
    "RayCluster.spec.autoscalerOptions": "resources image imagePullPolicy env envFrom "
    "volumeMounts securityContext idleTimeoutSeconds upscalingMode",
    "RayCluster.spec.headGroupSpec": "serviceType headService enableIngress rayStartParams "
    "template",
    "RayCluster.spec.workerGroupSpecs": "groupName replicas minReplicas maxReplicas numOfHosts "
    "rayStartParams template scaleStrategy",
    "RayJob": "apiVersion kind metadata spec",
    "RayJob.spec": "activeDeadlineSeconds backoffLimit rayClusterSpec submitterPodTemplate "
    "metadata clusterSelector submitterConfig managedBy deletionStrategy entrypoint "
    "runtimeEnvYAML jobId submissionMode entrypointResources entrypointNumCpus "
    "entrypointNumGpus ttlSecondsAfterFinished shutdownAfterJobFinishes suspend",
}

BUCKET = FOLDER / "object-storage"
FILES = {
    path
    for path in FOLDER.rglob("*.yaml")
    if path.name != "kustomization.yaml" and path.parent != BUCKET
}
OBJECTS = [each for path in sorted(FILES) for each in yaml.safe_load_all(path.read_text())]
CORE = [each for each in OBJECTS if each["apiVersion"] != "ray.io/v1"]


def the(kind: str) -> dict[str, Any]:
    (found,) = (each for each in OBJECTS if each["kind"] == kind)
    return found


SERVER = the("Deployment")["spec"]["template"]
CLUSTER = the("RayCluster")["spec"]
NODES = [CLUSTER["headGroupSpec"], *CLUSTER["workerGroupSpecs"]]
PODS = [each["template"] for each in NODES] + [SERVER]
HARDENED = {
    "allowPrivilegeEscalation": False,
    "readOnlyRootFilesystem": True,
    "capabilities": {"drop": ["ALL"]},
}


def check(thing: dict[str, Any]) -> None:
    for version in VERSIONS:
        validate(thing, version, strict=True)


def strangers(part: Any, path: str) -> Iterator[str]:
    """Keys of one of KubeRay's objects that it does not know."""
    for each in part if isinstance(part, list) else [part]:
        for key, value in each.items() if path in FIELDS else ():
            if key not in FIELDS[path].split():
                yield f"{path}.{key}"
            yield from strangers(value, f"{path}.{key}")


@pytest.mark.parametrize("thing", CORE, ids=lambda it: f"{it['kind']} {it['metadata']['name']}")
def test_kubernetes_takes_it(thing: dict[str, Any]):
    check(thing)
    with pytest.raises(ValidationError, match="speck"):
        check(thing | {"speck": {}})


def test_kuberay_takes_its_objects():
    for kind in ("RayCluster", "RayJob"):
        assert list(strangers(the(kind), kind)) == []
    assert list(strangers({"spec": {"entrypiont": ""}}, "RayJob")) == ["RayJob.spec.entrypiont"]
    for node in NODES:
        assert all(isinstance(value, str) for value in node["rayStartParams"].values())
        spec = node["template"]["spec"]
        told = {each["name"]: each["value"] for each in spec["containers"][0]["env"]}
        drain_s = int(told["RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S"])
        assert spec["terminationGracePeriodSeconds"] > drain_s


@pytest.mark.parametrize("pod", PODS, ids=lambda it: it["spec"]["containers"][0]["name"])
def test_a_pod_is_valid_and_may_do_no_more_than_it_must(pod: dict[str, Any]):
    check({"apiVersion": "v1", "kind": "Pod"} | pod)
    spec, user = pod["spec"], pod["spec"]["securityContext"]
    assert (user["runAsNonRoot"], user["runAsUser"], user["runAsGroup"]) == (True, 10001, 10001)
    assert user["seccompProfile"] == {"type": "RuntimeDefault"}
    assert spec["automountServiceAccountToken"] is False
    containers = [*spec["containers"], *spec.get("initContainers", ())]
    if pod is PODS[0]:
        containers.append(CLUSTER["autoscalerOptions"])  # KubeRay's, in the head's pod
    for container in containers:
        assert container["securityContext"] == HARDENED
        assert container["resources"]["limits"].keys() >= {"cpu", "memory"}
        mounted = {mount["name"] for mount in container["volumeMounts"]}
        assert mounted <= {volume["name"] for volume in spec["volumes"]}


def test_the_server_does_not_reach_ray():
    policies = {p["metadata"]["name"]: p["spec"] for p in OBJECTS if p["kind"] == "NetworkPolicy"}
    nothing = policies.pop("nothing-by-default")
    assert nothing == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}

    def picks(selector: dict[str, Any], pod: dict[str, Any]) -> bool:
        return selector.get("matchLabels", {}).items() <= pod["metadata"]["labels"].items()

    assert [picks(policies["ray"]["podSelector"], pod) for pod in PODS] == [True, True, True, False]
    here = [policy for policy in policies.values() if picks(policy["podSelector"], SERVER)]
    (names,) = [rule for policy in here for rule in policy.get("egress", ())]
    assert {port["port"] for port in names["ports"]} == {53}
    for rule in policies["ray"]["ingress"]:
        for peer in rule["from"]:
            assert not picks(peer.get("podSelector", {"matchLabels": {"": ""}}), SERVER)
            assert peer.get("namespaceSelector") != {}


def test_no_pod_reaches_just_any_host() -> None:
    for policy in OBJECTS:
        if policy["kind"] == "NetworkPolicy":
            for rule in policy["spec"].get("egress", ()):
                assert rule["to"], policy["metadata"]["name"]
                blocks = [peer["ipBlock"]["cidr"] for peer in rule["to"] if "ipBlock" in peer]
                assert all(block.endswith("/32") for block in blocks)


def test_every_file_is_in_a_kustomization_and_every_image_is_one_of_composes():
    listed, renamed = set(), set()
    for path in FOLDER.rglob("kustomization.yaml"):
        if path.parent == BUCKET:
            continue
        kustomization = yaml.safe_load(path.read_text())
        listed |= {path.parent / name for name in kustomization["resources"]}
        renamed |= {image["name"] for image in kustomization.get("images", ())}
        assert kustomization["namespace"] == the("Namespace")["metadata"]["name"]
    assert listed == FILES
    services = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"].values()
    used = {container["image"] for pod in PODS for container in pod["spec"]["containers"]}
    assert used == renamed <= {service["image"] for service in services if "build" in service}


def test_the_server_is_told_what_it_knows_and_has_the_time_to_drain():
    (api,) = SERVER["spec"]["containers"]
    told = {each["name"].removeprefix("SERVING_").lower(): each["value"] for each in api["env"]}
    settings = Settings(**told)  # refuses what it does not know
    (_, before_s) = api["lifecycle"]["preStop"]["exec"]["command"]
    assert SERVER["spec"]["terminationGracePeriodSeconds"] > int(before_s) + settings.drain_s


def test_the_job_is_sent_as_the_trainer_sends_one():
    job = the("RayJob")["spec"]
    assert yaml.safe_load(job["runtimeEnvYAML"]) == {"env_vars": STOPPING}
    assert job["clusterSelector"] == {"ray.io/cluster": the("RayCluster")["metadata"]["name"]}
    assert not job.keys() & {"suspend", "backoffLimit"}  # refused beside clusterSelector
    *start, command = job["entrypoint"].split(" ", 4)
    assert start == ["python", "-m", "trainer", "train"]
    options = console.parsed("train", COMMANDS, shlex.split(command))
    assert isinstance(options, Train)
    assert (options.name, options.resumption) == (job["metadata"]["run"], "if-any")


def patched(thing: dict[str, Any], file: str) -> dict[str, Any]:
    """As Kustomize would: `add` and `replace` of RFC 6902."""
    thing = deepcopy(thing)
    for patch in yaml.safe_load((BUCKET / file).read_text()):
        *way, last = (
            int(part) if part.isdigit() else part for part in patch["path"].split("/")[1:]
        )
        place: Any = thing
        for part in way:
            place = place[part]
        if last == "-":
            place.append(patch["value"])
        else:
            assert patch["op"] == "add" or place[last]
            place[last] = patch["value"]
    return thing


def test_with_a_bucket_no_claim_is_left():
    kustomization = yaml.safe_load((BUCKET / "kustomization.yaml").read_text())
    assert kustomization["resources"] == ["..", "network.yaml"]
    assert {patch["path"] for patch in kustomization["patches"]} == {
        path.name for path in BUCKET.glob("*.yaml")
    } - {"kustomization.yaml", "network.yaml"}
    claim = yaml.safe_load((BUCKET / "no-claim.yaml").read_text())
    assert claim.pop("$patch") == "delete"
    base = the("PersistentVolumeClaim")
    assert claim == {key: base[key] for key in ("apiVersion", "kind")} | {
        "metadata": base["metadata"]
    }
    server = patched(the("Deployment"), "api.yaml")
    cluster = patched(the("RayCluster"), "ray.yaml")
    check(server)
    check(yaml.safe_load((BUCKET / "network.yaml").read_text()))
    assert list(strangers(cluster, "RayCluster")) == []
    nodes = [cluster["spec"]["headGroupSpec"], *cluster["spec"]["workerGroupSpecs"]]
    for pod in [each["template"] for each in nodes] + [server["spec"]["template"]]:
        check({"apiVersion": "v1", "kind": "Pod"} | pod)
        (container,) = pod["spec"]["containers"]
        volumes = {volume["name"]: volume for volume in pod["spec"]["volumes"]}
        assert not any("persistentVolumeClaim" in volume for volume in volumes.values())
        assert {mount["name"] for mount in container["volumeMounts"]} <= volumes.keys()
        assert {"name": "ALEXNET_CACHE", "value": "/cache"} in container["env"]
        (secret,) = container["envFrom"]
        reader = pod is server["spec"]["template"]
        assert secret["secretRef"]["name"] == "object-storage" + "-reader" * reader
    told = {
        each["name"]: each["value"]
        for each in server["spec"]["template"]["spec"]["containers"][0]["env"]
    }
    assert told["SERVING_MODEL"] == "s3://BUCKET/models/demo"


def test_with_a_bucket_pods_reach_it_and_no_private_network():
    policy = yaml.safe_load((BUCKET / "network.yaml").read_text())
    (rule,) = policy["spec"]["egress"]
    (peer,) = rule["to"]
    assert {"10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "169.254.0.0/16"} <= {
        *peer["ipBlock"]["except"]
    }
    assert [port["port"] for port in rule["ports"]] == [443]
