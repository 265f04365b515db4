"""The playbooks on an inventory of several hosts: this machine trains and builds, another one serves, a third is no one's."""

from __future__ import annotations

import re
import tempfile
import typing as t
from collections.abc import Iterator
from pathlib import Path

import pytest

from .conftest import ROOT, free_port
from .systemd_host import Run, SystemdHost, play, systemd_image

__all__ = ["systemd_image"]

pytestmark = [pytest.mark.integration, pytest.mark.line, pytest.mark.long]

NAME = "groups-test"


class Site:
    """The inventory and what its playbooks are run with."""

    def __init__(self, directory: Path, host: SystemdHost, trainer_python: str) -> None:
        self.directory = directory
        self.host = host
        port = free_port()
        # the address of this machine that the other one reaches, too
        gateway = host.shell("ip route show default | cut -d' ' -f3").strip()
        local = {"ansible_connection": "local", "ansible_python_interpreter": "{{ ansible_playbook_python }}"}
        remote = {**host.variables, "ansible_become": True, "modelship_home": "/var/lib/modelship"}
        local["modelship_home"] = str(directory / "home")
        self.inventory: dict[str, t.Any] = {
            "build_hosts": {"hosts": {"builder": local}},
            "docker_hosts": {"hosts": {host.name: remote}},
            # nothing may be done here: it cannot even be reached
            "databases": {
                "hosts": {"unrelated": {"ansible_host": "192.0.2.1", "ansible_ssh_common_args": "-o ConnectTimeout=2"}}
            },
        }
        self.variables: dict[str, t.Any] = {
            "modelship_name": NAME,
            "modelship_project": str(ROOT / "model/examples/digits_mlp"),
            "modelship_gates": {"accuracy": 0.9, "latency_p99_ms": 10000},
            "modelship_registry": f"{gateway}:{port}",
            "modelship_registry_plain_http": True,
            "registry_address": gateway,
            "registry_port": port,
            "docker_config": {"insecure-registries": [f"{gateway}:{port}"]},
            "trainer_home": str(Path(trainer_python).parents[2]),
            "modelship_trainer_python": trainer_python,
        }

    def run(self, playbook: str, **options: t.Any) -> Run:
        return play(
            self.directory, f"modelship.core.{playbook}", self.inventory, become=False, **{**self.variables, **options}
        )


@pytest.fixture(scope="module")
def site(systemd_image: str, trainer_python: str) -> Iterator[Site]:
    with tempfile.TemporaryDirectory(prefix="modelship-groups-") as name:
        directory = Path(name)
        directory.chmod(0o755)
        host = SystemdHost(directory, systemd_image)
        try:
            made = Site(directory, host, trainer_python)
            yield made
            made.run("destroy", tags="deployments,registry,docker,monitoring,home")
        finally:
            host.remove()


def test_check_mode_on_bare_hosts_changes_nothing(site: Site) -> None:
    told = site.run("site", check=True)
    assert told.ok, told.text
    assert not (site.directory / "home").exists()
    assert not site.host.exists("/var/lib/modelship")


def test_a_registry_that_the_serving_host_cannot_pull_from_is_refused_before_training(site: Site) -> None:
    plain = site.run("provision", tags="preflight", modelship_registry="registry.example:5000", docker_config={})
    assert not plain.ok
    text = " ".join(plain.text.split())
    assert "The registry registry.example:5000 has no TLS" in text
    assert 'docker_config: {insecure-registries: ["registry.example:5000"]}' in text.replace('\\"', '"')
    assert "registry_tls_certificate" in text
    for registry in ("127.0.0.1:5001", "localhost:5001"):
        own = site.run("provision", tags="preflight", modelship_registry=registry)
        assert not own.ok
        assert f"cannot pull what builder pushes to {registry}" in " ".join(own.text.split())
    # what is declared for the Engine is enough, as is a registry with TLS
    declared = {"insecure-registries": ["registry.example:5000"]}
    assert site.run(
        "provision", tags="preflight", modelship_registry="registry.example:5000", docker_config=declared
    ).ok
    assert site.run(
        "provision", tags="preflight", modelship_registry="registry.example", modelship_registry_plain_http=False
    ).ok


def test_one_host_builds_another_serves_and_the_rest_is_left_alone(site: Site) -> None:
    made = site.run("site")
    assert made.ok, made.text
    assert set(made.changes) == {"builder", site.host.name}, "nothing runs on hosts outside the groups"
    assert re.search(r"verified +\d+ golden answers", made.text), made.text
    # each host has what its group needs, and nothing else
    assert not site.host.exists("/var/lib/modelship/trainer")
    assert not site.host.exists("/var/lib/modelship/registry")
    assert not (site.directory / "home/monitoring").exists()
    assert not (site.directory / "home/docker").exists()
    # the digest and the golden set were handed over
    release = re.findall(r"release +sha256:(\w{64})", made.text)[-1]
    assert site.host.exists(f"/var/lib/modelship/golden/{release}/release.json")
    image = re.findall(r"image +\S+@(sha256:\w{64})", made.text)[-1]
    assert image in (site.directory / f"home/images/{NAME}/index.json").read_text()


def test_the_second_run_changes_nothing(site: Site) -> None:
    again = site.run("site")
    assert again.ok, again.text
    assert again.changed == 0, again.text


def test_deploy_alone_takes_the_newest_image_of_the_build_host(site: Site) -> None:
    again = site.run("deploy")
    assert again.ok, again.text
    assert again.changed == 0, again.text
    assert re.search(r"verified +\d+ golden answers", again.text), again.text


def test_a_missing_golden_set_is_refused_before_deploying(site: Site) -> None:
    """As on a serving host whose inventory has no build host: the image is named, its release is on no host."""
    layout = (site.directory / f"home/images/{NAME}/index.json").read_text()
    image = re.search(r"sha256:\w{64}", layout)
    assert image
    site.host.shell("mv /var/lib/modelship/golden /var/lib/modelship/golden.away")
    inventory = {"docker_hosts": site.inventory["docker_hosts"]}
    options = {
        **site.variables,
        "modelship_image": f"{site.variables['modelship_registry']}/{NAME}@{image[0]}",
        "modelship_proxy": False,
        "modelship_name": "other",
        "modelship_port": 5005,
    }
    try:
        refused = play(site.directory, "modelship.core.deploy", inventory, become=False, **options)
        assert not refused.ok
        assert "Nothing was deployed" in refused.text
        assert not site.host.shell("docker ps --all --quiet --filter label=io.modelship.deployment=other").strip()
    finally:
        site.host.shell("mv /var/lib/modelship/golden.away /var/lib/modelship/golden")
    # with it the same command deploys: the release is known by the label of the image that the Engine has pulled
    deployed = play(site.directory, "modelship.core.deploy", inventory, become=False, **options)
    assert deployed.ok, deployed.text
    assert re.search(r"verified +\d+ golden answers", deployed.text), deployed.text


def test_prometheus_watches_all_deployments_of_the_host(site: Site) -> None:
    targets = site.host.shell("cat /var/lib/modelship/monitoring/targets/*.json")
    assert f'"deployment": "{NAME}"' in targets
    assert '"deployment": "other"' in targets


def test_a_port_of_another_deployment_is_refused_before_training(site: Site) -> None:
    refused = site.run("site", modelship_name="third", modelship_parameters={"max_iter": 3})
    assert not refused.ok
    assert re.search(rf"port 5000 .* taken by .*{NAME}", refused.text), refused.text
    assert not (site.directory / "home/releases/third").exists()
    assert "TASK [modelship.core.modelship : Train]" not in refused.text


def test_what_deployments_that_stay_came_from_is_not_removed(site: Site) -> None:
    gone = site.run("destroy", modelship_deployments=["gone-already"])
    assert gone.ok, gone.text
    assert gone.changed == 0, gone.text
    assert f"which {NAME}, other came from" in re.sub(r"\s+", " ", gone.text)
    left = site.host.shell("docker ps --all --format '{{.Label \"io.modelship.deployment\"}}'").split()
    assert set(left) == {NAME, "other"}
    assert site.host.exists("/var/lib/modelship/monitoring")
    assert (site.directory / "home/registry").is_dir(), "on the build host, too"


def test_what_only_a_tag_leaves_out_is_not_forgotten(site: Site) -> None:
    assert site.run("destroy", tags="home").ok
    assert site.host.exists(f"/var/lib/modelship/deployments/{NAME}")


def test_destroy_finds_deployments_by_label_and_reports_the_others(site: Site) -> None:
    site.host.shell("docker network create --label io.modelship.deployment=stranger stranger-net")
    image = site.host.shell(
        "docker inspect --format '{{.Config.Image}}' $(docker ps -q --filter label=io.modelship.deployment=other)"
    )
    site.host.shell(
        f"docker run --detach --name stranger-g1-1 --label io.modelship.deployment=stranger --network none --entrypoint sleep "
        f"{image.strip()} 1000 || true"
    )
    told = site.run("destroy", check=True, tags="deployments")
    assert told.ok, told.text
    gone = site.run("destroy", tags="deployments")
    assert gone.ok, gone.text
    assert "stay: stranger" in re.sub(r"\s+", " ", gone.text)
    left = site.host.shell("docker ps --all --format '{{.Label \"io.modelship.deployment\"}}'").split()
    assert set(left) <= {"stranger"}
    assert not site.host.shell("ls /var/lib/modelship/monitoring/targets").strip()
    site.host.shell("docker rm --force stranger-g1-1; docker network rm stranger-net")


def test_destroy_without_the_privileges_says_so(site: Site) -> None:
    remote = {**site.inventory["docker_hosts"]["hosts"][site.host.name], "ansible_become": False}
    inventory = {"docker_hosts": {"hosts": {site.host.name: remote}}}
    refused = play(site.directory, "modelship.core.destroy", inventory, become=False, **site.variables)
    assert not refused.ok
    assert "needs root: become: true" in refused.text
    assert "No Docker Engine" not in refused.text


def test_destroy_removes_what_was_made_on_each_host(site: Site) -> None:
    gone = site.run("destroy", tags="deployments,registry,docker,monitoring,home")
    assert gone.ok, gone.text
    assert set(gone.changes) == {"builder", site.host.name}
    assert not (site.directory / "home").exists()
    assert not site.host.exists("/var/lib/modelship")
    again = site.run("destroy", tags="deployments,registry,docker,monitoring,home")
    assert again.changed == 0, again.text
