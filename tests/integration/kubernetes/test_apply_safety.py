"""Runs that are killed, that meet another run, or that find something in their way; and removal."""

from __future__ import annotations

import os
import signal
import threading
import time
import traceback
import typing as t
import uuid
from collections.abc import Iterator

import pytest

from ansible_collections.modelship.core.plugins.module_utils._core.errors import ModelshipError
from ansible_collections.modelship.core.plugins.module_utils._core.progress import Progress
from ansible_collections.modelship.core.plugins.module_utils._kubernetes.lease import Lease
from ansible_collections.modelship.core.plugins.module_utils._kubernetes.prune import delete_all

from .deployer import KINDS, CountingApi, Deployer, Object, config, secret, service, workload

pytestmark = pytest.mark.integration

LEASE = ("coordination.k8s.io/v1", "Lease")


@pytest.fixture(scope="module")
def api(cluster: t.Any) -> Iterator[CountingApi]:
    with CountingApi(cluster.kubeconfig) as found:
        yield found


@pytest.fixture
def digits(cluster: t.Any, api: CountingApi) -> Iterator[Deployer]:
    with cluster.namespace() as name:
        yield Deployer(api, name)


@pytest.fixture
def fresh(api: CountingApi) -> Iterator[Deployer]:
    """A deployment whose namespace does not exist yet."""
    name = f"ms-test-{uuid.uuid4().hex[:8]}"
    yield Deployer(api, name)
    if space := api.get("v1", "Namespace", "", name):
        api.delete(space)


def space_of(deployer: Deployer) -> Object:
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": deployer.namespace}}


def first_revision(deployer: Deployer) -> list[Object]:
    return [space_of(deployer), workload("digits"), config("one", a="1"), secret("s", p="1"), service("digits")]


def second_revision(deployer: Deployer) -> list[Object]:
    policy = {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": "n"},
        "spec": {"podSelector": {}},
    }
    return [
        space_of(deployer),
        workload("digits", image="example.invalid/a:2"),
        config("two", a="2"),
        policy,
        service("digits"),
    ]


def killed_at(number: int, kubeconfig: str, deployer: Deployer, act: t.Callable[[Deployer], object]) -> bool:
    """Run *act* in a process of its own that dies with its write *number*; ``False`` if it had fewer."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            with CountingApi(
                kubeconfig, lambda count: os.kill(os.getpid(), signal.SIGKILL) if count == number else None
            ) as api:
                act(Deployer(api, deployer.namespace, deployer.name))
            status = 0
        except BaseException:  # noqa: BLE001 - the child must end here
            traceback.print_exc()
        finally:
            os._exit(status)
    _pid, ended = os.waitpid(child, 0)
    if os.WIFSIGNALED(ended):
        assert os.WTERMSIG(ended) == signal.SIGKILL
        return True
    assert os.WEXITSTATUS(ended) == 0, "the run failed before it was killed"
    return False


def test_a_run_killed_at_any_write_is_repaired_by_the_next(cluster: t.Any, digits: Deployer) -> None:
    wanted = second_revision(digits)
    digits.deploy(first_revision(digits))
    digits.deploy(wanted)
    # not the Lease: a dead run's is taken over by the next one that has something to write
    kinds = [*(kind for kind in KINDS if kind != LEASE), ("networking.k8s.io/v1", "NetworkPolicy")]
    expected = {key: _steady(obj) for key, obj in digits.state(*kinds).items()}
    number = 1
    while True:
        digits.deploy(first_revision(digits))
        if not killed_at(number, cluster.kubeconfig, digits, lambda run: run.deploy(wanted)):
            break
        digits.deploy(wanted)
        assert {key: _steady(obj) for key, obj in digits.state(*kinds).items()} == expected, f"killed at write {number}"
        assert not digits.deploy(wanted).changed
        number += 1
    assert number > 8  # Lease, record, the objects, what is pruned, record, Lease


def _steady(obj: Object) -> Object:
    """Without what counts how often something was done."""
    metadata = {name: value for name, value in obj["metadata"].items() if name != "annotations"}
    spec = {name: value for name, value in (obj.get("spec") or {}).items() if not name.startswith("clusterIP")}
    return {**obj, "metadata": metadata, "spec": spec}


def test_a_first_run_killed_at_any_write_leaves_nothing_that_removal_does_not_find(
    cluster: t.Any, fresh: Deployer
) -> None:
    number = 1
    # not every write: a namespace takes seconds to go
    while killed_at(number, cluster.kubeconfig, fresh, lambda run: run.deploy(first_revision(run))):
        fresh.remove()
        assert fresh.api.get("v1", "Namespace", "", fresh.namespace) is None, f"killed at write {number}"
        number += 3
    assert number > 6


def test_a_removal_killed_at_any_write_is_finished_by_the_next(cluster: t.Any, digits: Deployer) -> None:
    number = 1
    while True:
        digits.deploy(first_revision(digits))
        if not killed_at(number, cluster.kubeconfig, digits, lambda run: run.remove()):
            break
        digits.remove()
        assert digits.state(*KINDS) == {}, f"killed at write {number}"
        assert not digits.remove().changed
        number += 1
    assert digits.state(*KINDS) == {}
    assert number > 5


def test_of_two_runs_at_once_one_works_and_the_other_says_so(
    cluster: t.Any, digits: Deployer, api: CountingApi
) -> None:
    digits.deploy([config("c", a="1")])
    with Lease(api, digits.namespace, digits.name, "alice@ci", renew_s=0.2):
        writes = api.writes
        for act in (lambda run: run.deploy([config("c", a="2")]), lambda run: run.remove()):
            with CountingApi(cluster.kubeconfig) as other, pytest.raises(ModelshipError) as caught:
                act(Deployer(other, digits.namespace))
            assert caught.value.kind == "locked"
            assert "alice@ci, since " in caught.value.message
            assert other.writes == 0
        assert not digits.deploy([config("c", a="1")]).changed  # what is as declared needs no Lease
        assert (
            Deployer(api, digits.namespace, "shop").deploy([config("shop")]).changed
        )  # another deployment is no concern
        assert api.writes > writes
    digits.deploy([config("c", a="2")])
    assert digits.state(LEASE) == {}


def test_many_runs_at_once_end_as_one_of_them_declared(cluster: t.Any, digits: Deployer) -> None:
    ended: list[str] = []

    def run(number: int) -> None:
        with CountingApi(cluster.kubeconfig) as own:
            try:
                Deployer(own, digits.namespace).deploy(
                    [config(f"c{number}", a=str(number)), config("shared", a=str(number))]
                )
                ended.append("done")
            except ModelshipError as exc:
                ended.append(exc.kind)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(ended) == 5
    assert "done" in ended
    assert set(ended) <= {"done", "locked"}
    found = digits.state(("v1", "ConfigMap"))
    (winner,) = [key for key in found if key != "ConfigMap/shared"]
    assert found[winner]["data"] == found["ConfigMap/shared"]["data"]
    assert digits.state(LEASE) == {}


def test_a_dead_run_of_this_machine_is_taken_over_at_once(cluster: t.Any, digits: Deployer) -> None:
    if not os.path.exists("/proc/self/stat"):
        pytest.skip("needs /proc")
    assert killed_at(1, cluster.kubeconfig, digits, lambda run: Lease(run.api, run.namespace, run.name).__enter__())
    assert digits.state(LEASE)
    began = time.monotonic()
    with Lease(digits.api, digits.namespace, digits.name, duration_s=600.0):
        took = time.monotonic() - began
    assert took < 5.0  # its Lease lasts for 10 s


def test_a_dead_run_of_another_machine_is_taken_over_when_its_lease_ends(digits: Deployer) -> None:
    dead = Lease(digits.api, digits.namespace, digits.name, "bob@elsewhere", duration_s=2.0)
    dead._process = None
    dead._acquire()  # and never renewed
    began = time.monotonic()
    with Lease(digits.api, digits.namespace, digits.name):
        assert time.monotonic() - began >= 1.9
        live = digits.get("Lease", f"{digits.name}-modelship", LEASE[0]) or {}
        assert live["spec"]["holderIdentity"] != "bob@elsewhere"


def test_a_run_that_lost_its_lease_writes_no_more(digits: Deployer, api: CountingApi) -> None:
    with Lease(api, digits.namespace, digits.name, renew_s=0.1) as lease:
        lease.check()
        path = f"{api.path(*LEASE, digits.namespace)}/{digits.name}-modelship"
        taken = {"spec": {"holderIdentity": "mallory@elsewhere"}}
        api.request("PATCH", path, body=taken, content_type="application/merge-patch+json")
        deadline = time.monotonic() + 30
        with pytest.raises(ModelshipError, match="taken by mallory@elsewhere") as caught:
            while time.monotonic() < deadline:
                lease.check()
                time.sleep(0.05)
        assert caught.value.kind == "locked"
    assert digits.get("Lease", f"{digits.name}-modelship", LEASE[0]) is not None  # not ours to delete


def test_a_lease_that_somebody_deleted_is_made_again(digits: Deployer, api: CountingApi) -> None:
    with Lease(api, digits.namespace, digits.name, "alice@ci", renew_s=0.1) as lease:
        api.delete(digits.get("Lease", f"{digits.name}-modelship", LEASE[0]) or {})
        deadline = time.monotonic() + 30
        while not digits.state(LEASE) and time.monotonic() < deadline:
            time.sleep(0.05)
        lease.check()
        assert digits.state(LEASE)
    assert digits.state(LEASE) == {}


def test_removal_takes_all_with_it_and_says_so_once(fresh: Deployer) -> None:
    fresh.deploy(first_revision(fresh))
    checked = fresh.remove(check=True)
    assert fresh.state(("v1", "ConfigMap")) != {}
    done = fresh.remove()
    assert [str(key) for key in done.removed] == [str(key) for key in checked.removed]
    assert done.message == checked.message.replace("would be", "is")
    assert fresh.api.get("v1", "Namespace", "", fresh.namespace) is None
    again = fresh.remove()
    assert (again.changed, again.message) == (False, "digits is absent")


def test_a_namespace_is_kept_as_long_as_others_live_in_it(fresh: Deployer) -> None:
    fresh.deploy(first_revision(fresh))
    others = {**config("theirs"), "metadata": {"name": "theirs", "namespace": fresh.namespace}}
    path = fresh.api.path("v1", "ConfigMap", fresh.namespace)
    fresh.api.request("POST", path, body=others)
    kept = fresh.remove(check=True).kept
    assert kept == [f"Namespace {fresh.namespace} is kept because of ConfigMap {fresh.namespace}/theirs"]
    assert fresh.remove().kept == kept
    assert not fresh.remove().changed
    assert list(fresh.state(*KINDS)) == ["ConfigMap/theirs"]
    fresh.api.delete(others)
    assert fresh.remove().changed
    assert fresh.api.get("v1", "Namespace", "", fresh.namespace) is None


def test_a_namespace_that_existed_is_neither_marked_nor_deleted(digits: Deployer) -> None:
    before = digits.api.get("v1", "Namespace", "", digits.namespace)
    digits.deploy(first_revision(digits))
    digits.remove()
    assert digits.api.get("v1", "Namespace", "", digits.namespace) == before


def test_claims_to_keep_stay_with_their_namespace(fresh: Deployer) -> None:
    claim = {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": "data", "annotations": {"modelship.io/keep": "true"}},
        "spec": {
            "accessModes": ["ReadWriteOnce"],
            "resources": {"requests": {"storage": "1Gi"}},
            "storageClassName": "none",
        },
    }
    fresh.deploy([space_of(fresh), config("c"), claim])
    removal = fresh.remove()
    assert removal.kept[0] == f"PersistentVolumeClaim {fresh.namespace}/data is kept as declared"
    assert fresh.get("PersistentVolumeClaim", "data") is not None
    # and serves the next deployment of that name
    assert not any("data" in reason for reason in fresh.deploy([space_of(fresh), config("c"), claim]).reasons)


def test_what_is_held_by_a_finalizer_is_named(digits: Deployer) -> None:
    digits.deploy([{**config("c"), "metadata": {"name": "c", "finalizers": ["example.com/held"]}}])
    live = digits.get("ConfigMap", "c") or {}
    with pytest.raises(
        ModelshipError, match=f"ConfigMap {digits.namespace}/c waits for its finalizers example.com/held"
    ):
        delete_all(digits.api, [live], Progress(), deadline_s=0.5)
    path = digits.api.path("v1", "ConfigMap", digits.namespace, "c")
    freed = {"metadata": {"finalizers": None}}
    digits.api.request("PATCH", path, body=freed, content_type="application/merge-patch+json")
    delete_all(digits.api, [live], Progress(), deadline_s=30)
    assert digits.get("ConfigMap", "c") is None


def test_removal_waits_until_the_pods_are_gone(digits: Deployer) -> None:
    nodes = digits.api.list("v1", "Node", None)[0]
    names = [name for node in nodes for image in node["status"].get("images") or () for name in image["names"]]
    pause = next((name for name in names if "/pause" in name and "@" not in name), None)
    if pause is None:
        pytest.skip("no node has the image pause")
    digits.deploy([workload("digits", image=pause, replicas=2, imagePullPolicy="IfNotPresent", resources={})])
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        pods = digits.api.list("v1", "Pod", digits.namespace)[0]
        if len(pods) == 2 and all(pod["status"].get("phase") == "Running" for pod in pods):
            break
        time.sleep(0.2)
    else:
        pytest.fail("two pods of pause do not run")
    digits.remove()
    assert digits.api.list("v1", "Pod", digits.namespace)[0] == []
