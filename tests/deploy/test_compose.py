"""What docker-compose.yml may not lose: deploy/smoke.sh tries all of it in running containers."""

import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.conftest import ROOT

COMPOSE = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
GPU: dict[str, dict[str, Any]] = yaml.safe_load((ROOT / "docker-compose.gpu.yml").read_text())[
    "services"
]


class Loader(yaml.SafeLoader):
    """Reads what Compose alone understands: what stands in place of another file's."""


Loader.add_constructor("!override", lambda loader, node: loader.construct_sequence(node))
Loader.add_constructor("!reset", lambda loader, node: None)
BUCKET = yaml.load((ROOT / "docker-compose.s3.yml").read_text(), Loader)
RAY = {"token", "ray-head", "ray-worker", "submit", "jobs"}
PACK = {"pack", "imagenette"}


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_may_do_no_more_than_it_must(name: str) -> None:
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert not service.keys() & {"privileged", "cap_add", "user", "pid", "devices"}


def test_only_the_server_can_be_opened_to_other_machines() -> None:
    for name, service in SERVICES.items():
        for port in service.get("ports", ()):
            assert port.startswith("${API_HOST:-127.0.0.1}" if name == "api" else "127.0.0.1:")


def test_grafana_leaves_the_plugins_of_its_read_only_image_alone() -> None:
    """It unloads what it then cannot replace: the panels would have no source of data."""
    assert SERVICES["grafana"]["environment"]["GF_PLUGINS_PREINSTALL_DISABLED"] == "true"


def test_the_server_shares_no_network_and_no_secret_with_ray() -> None:
    api = SERVICES["api"]
    for name in RAY:
        assert not set(api["networks"]) & set(SERVICES[name].get("networks", ())), name
    assert COMPOSE["networks"]["ray"] == {"internal": True}
    assert [each for each in api["volumes"] if "models" in each] == ["models:/models:ro"]
    assert not any(each.startswith(("token", "runs", "datasets")) for each in api["volumes"])


def test_only_downloads_reach_other_machines() -> None:
    shut = {"internal": True}
    published = {"driver_opts": {"com.docker.network.bridge.enable_ip_masquerade": "false"}}
    networks = COMPOSE["networks"]
    ways_out = {name for name, options in networks.items() if options not in (shut, published)}
    assert ways_out == {"outside"}
    reaching = {name for name, each in SERVICES.items() if ways_out & {*each.get("networks", ())}}
    assert reaching == {"imagenette", "torchvision"}
    assert all("networks" in each or each["network_mode"] == "none" for each in SERVICES.values())


@pytest.mark.parametrize("name", sorted(PACK))
def test_what_decodes_foreign_files_has_nothing_to_steal(name: str) -> None:
    service = SERVICES[name]
    assert [each.split(":")[0] for each in service["volumes"]] == ["datasets", "${PHOTOGRAPHS"]
    assert not {key for key in service["environment"] if "TOKEN" in key or "ADDRESS" in key}
    assert "env_file" not in service


@pytest.mark.parametrize(
    ("model", "imports"), [("torchvision", True), ("demo", False), ("a; b", False), ("", False)]
)
def test_the_weights_are_downloaded_where_their_model_is_asked_for(
    model: str, imports: bool, tmp_path: Path
) -> None:
    """By the shell itself; the container of another model ends at once, and well."""
    service = SERVICES["torchvision"]
    assert service["restart"] == "no"
    assert "profiles" not in service
    assert service["environment"]["MODEL"] == "${MODEL:-demo}"
    python = tmp_path / "python"
    python.write_text('#!/bin/sh\necho "$@"\n')
    python.chmod(0o755)
    words = [word.replace("$$", "$") for word in service["entrypoint"]]
    path = f"{tmp_path}:{os.environ['PATH']}"
    done = subprocess.run(
        words, env={"MODEL": model, "PATH": path}, capture_output=True, text=True, check=True
    )
    assert done.stdout == ("-m trainer import torchvision\n" if imports else "")


def test_what_downloads_the_weights_has_nothing_to_steal() -> None:
    service = SERVICES["torchvision"]
    assert service["volumes"] == ["cache:/app/cache", "models:/app/models"]
    assert not {key for key in service["environment"] if "TOKEN" in key or "ADDRESS" in key}
    assert "env_file" not in service
    folders = re.findall(
        r"install -d -o alexnet -g alexnet (.*) &&", (ROOT / "deploy/Dockerfile").read_text()
    )
    assert {"cache", "models"} <= {*folders[0].split()}, "or the volumes are root's"


def test_the_server_comes_after_the_weights_and_without_them() -> None:
    """`up --wait` takes a container that has ended for a failure, but where one depends on it."""
    assert SERVICES["api"]["depends_on"] == {
        "torchvision": {"condition": "service_completed_successfully", "required": False}
    }


def test_the_server_has_bounds_and_sees_its_own_settings_alone() -> None:
    api = SERVICES["api"]
    assert {"mem_limit", "cpus", "pids_limit"} <= api.keys()
    assert api["env_file"] == [{"path": "serving.env", "required": False}]


def test_images_with_cuda_have_names_of_their_own() -> None:
    assert GPU.keys() == {*RAY, *PACK, "torchvision", "api", "tensorboard"}
    for name, service in GPU.items():
        assert service["image"] == SERVICES[name]["image"] + ":cuda"
        built = {"args": {"TORCH_INDEX": ""}} if "build" in SERVICES[name] else None
        assert service.get("build") == built


def test_gpus_are_those_of_one_worker_container() -> None:
    """Docker counts the GPUs of each container from the first: two containers would share them."""
    deployed = {name: each["deploy"] for name, each in GPU.items() if "deploy" in each}
    assert deployed["ray-worker"]["replicas"] == 1
    counts = {}
    for name, deploy in deployed.items():
        (device,) = deploy["resources"]["reservations"]["devices"]
        assert device["driver"] == "nvidia"
        counts[name] = device["count"]
    assert counts == {"ray-worker": "${GPU_COUNT:-1}", "api": 1}


def test_the_jpeg_engines_come_with_the_gpus() -> None:
    """Their libnvcuvid is among what NVIDIA calls video, which is not mounted unasked."""
    (asked,) = re.findall(
        r"^ENV NVIDIA_DRIVER_CAPABILITIES=(.*)$",
        (ROOT / "deploy/Dockerfile").read_text().split("AS ray")[1].split("\nFROM")[0],
        re.MULTILINE,
    )
    assert set(asked.split(",")) == {"compute", "utility", "video"}
    (device,) = GPU["ray-worker"]["deploy"]["resources"]["reservations"]["devices"]
    assert device["capabilities"] == ["gpu", *asked.split(",")]


def test_an_image_is_built_by_one_service() -> None:
    """Of several, each makes an image of its own, and `up --build` replaces what runs."""
    built = [service["image"] for service in SERVICES.values() if "build" in service]
    assert sorted(built) == ["alexnet-api", "alexnet-ray", "alexnet-weights"]
    for service in SERVICES.values():
        if service["image"] in built and "build" not in service:
            assert service["pull_policy"] == "never"


def test_the_example_of_settings_names_the_defaults() -> None:
    example = dict(re.findall(r"^# ([A-Z_]+)=(.*)$", (ROOT / ".env.example").read_text(), re.M))
    files = "".join((ROOT / f"docker-compose{name}.yml").read_text() for name in ("", ".s3"))
    used = re.findall(r"\$\{([A-Z_]+):?-([^{}]*)\}", files)
    dockerfile = (ROOT / "deploy/Dockerfile").read_text()
    used += re.findall(r"^FROM \$\{([A-Z_]+):-(.*)\} ", dockerfile, re.M)
    defaults = {name: value for name, value in used if value}
    assert defaults["PYTHON_IMAGE"]
    for name, value in defaults.items():
        assert example[name] == value or name in {"PHOTOGRAPHS", "API_KEYS"}, name


def test_with_a_bucket_no_data_is_shared() -> None:
    """Each container's cache is its own, an anonymous volume; the stand-in's data are its own."""
    for name in RAY - {"token"} | PACK | {"api"}:
        volumes = BUCKET["services"][name]["volumes"]
        assert "/app/cache" in volumes
        shared = {each.partition(":")[0] for each in volumes} - {"/app/cache", "token"}
        assert all(each.startswith("${") for each in shared), name  # of the user, and read only
    assert BUCKET["volumes"].keys() == {"store"}


def test_with_a_bucket_the_server_and_ray_see_the_store_and_not_each_other() -> None:
    services = BUCKET["services"]
    of_ray = {*services["ray-head"]["networks"], *services["ray-worker"]["networks"]}
    assert not of_ray & {*services["api"]["networks"]}
    assert {*services["store"]["networks"]} == {"ray-store", "web-store"}
    shut = {"internal": "${STORE_INTERNAL:-true}"}
    assert BUCKET["networks"] == {"ray-store": shut, "web-store": shut}
    assert "ports" not in services["store"]
    writer = services["ray-head"]["environment"]
    assert services["api"]["environment"]["AWS_ACCESS_KEY_ID"] != writer["AWS_ACCESS_KEY_ID"]


def test_the_stand_in_may_do_no_more_than_it_must() -> None:
    store = BUCKET["services"]["store"]
    assert (store["read_only"], store["cap_drop"], store["profiles"]) == (True, ["ALL"], ["s3"])
    assert store["security_opt"] == ["no-new-privileges:true"]
