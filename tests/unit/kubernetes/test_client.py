"""What our client does on the wire: retries, renewals, lost connections, and what it says when it gives up."""

from __future__ import annotations

import contextlib
import itertools
import json
import socket
import threading
import time
import typing as t
from pathlib import Path

import pytest

from ansible_collections.modelship.core.plugins.module_utils._core.errors import ModelshipError
from ansible_collections.modelship.core.plugins.module_utils._kubernetes import transport
from ansible_collections.modelship.core.plugins.module_utils._kubernetes.access import load_access
from ansible_collections.modelship.core.plugins.module_utils._kubernetes.client import Api, ApiError

from .scripted_server import Handler, Pki, Scripted, answer, cut, hang_up, refuse

CONFIG_MAP = {
    "apiVersion": "v1",
    "kind": "ConfigMap",
    "metadata": {"name": "settings", "namespace": "shop"},
    "data": {},
}


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("KUBECONFIG", "HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy", "NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))


Connect = t.Callable[..., Api]


@pytest.fixture
def connect(api_server: Scripted, pki: Pki) -> t.Iterator[Connect]:
    """Return a function that makes an ``Api`` of the scripted server; further options replace the usual ones."""
    made: list[Api] = []

    def make(timeout: float = 10, workers: int = 8, **options: t.Any) -> Api:
        options = {"api_server": api_server.url, "ca_path": str(pki.ca), "api_token": "good-token", **options}
        made.append(Api(load_access(options), timeout=timeout, workers=workers))
        return made[-1]

    yield make
    for api in made:
        api.close()


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport, "PATIENCE_S", 0.5)
    monkeypatch.setattr(transport, "FIRST_PATIENCE_S", 0.5)


def test_one_connection_serves_many_requests(api_server: Scripted, connect: Connect) -> None:
    api = connect()
    for _number in range(5):
        api.get("v1", "ConfigMap", "shop", "settings")
    assert [seen.path for seen in api_server.seen] == ["/api/v1/namespaces/shop/configmaps/settings"] * 5
    assert api_server.connections == 1
    assert api_server.seen[0].headers["authorization"] == "Bearer good-token"


def test_apply_is_a_strict_server_side_apply(api_server: Scripted, connect: Connect) -> None:
    connect().apply(CONFIG_MAP, force=True, dry_run=True)
    seen = api_server.seen[0]
    path, _mark, query = seen.path.partition("?")
    assert (seen.method, path) == ("PATCH", "/api/v1/namespaces/shop/configmaps/settings")
    assert sorted(query.split("&")) == ["dryRun=All", "fieldManager=modelship", "fieldValidation=Strict", "force=true"]
    assert seen.headers["content-type"] == "application/apply-patch+yaml"
    assert json.loads(seen.body) == CONFIG_MAP


def test_an_applied_text_is_the_same_in_yaml(api_server: Scripted, connect: Connect) -> None:
    import yaml

    text = "".join(chr(code) for code in range(0x20, 0x300)) + "\n\t\u2028\u2029\ufeff\U0001f600 'x': [y] # z"
    connect().apply({**CONFIG_MAP, "data": {"text": text}})
    assert yaml.safe_load(api_server.seen[0].body.decode())["data"]["text"] == text
    assert json.loads(api_server.seen[0].body)["data"]["text"] == text


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
def test_what_may_pass_is_tried_again(api_server: Scripted, connect: Connect, status: int) -> None:
    api_server.script = [refuse(status), refuse(status), answer({"kind": "ConfigMap"})]
    assert connect().apply(CONFIG_MAP)["kind"] == "ConfigMap"
    assert len(api_server.seen) == 3


def test_waits_between_tries_grow(api_server: Scripted, connect: Connect) -> None:
    api_server.script = [refuse(503)] * 5
    connect().get("v1", "ConfigMap", "shop", "settings")
    times = [seen.at for seen in api_server.seen]
    waits = [later - earlier for earlier, later in itertools.pairwise(times)]
    assert sum(waits[3:]) > 2 * sum(waits[:2])


def test_retry_after_is_obeyed(api_server: Scripted, connect: Connect) -> None:
    api_server.script = [refuse(429, Retry_After="1")]
    connect().get("v1", "ConfigMap", "shop", "settings")
    first, second = (seen.at for seen in api_server.seen)
    assert second - first >= 1


def test_a_server_that_stays_busy_is_an_error_in_the_end(
    api_server: Scripted, connect: Connect, impatient: None
) -> None:
    api_server.otherwise = refuse(503, "etcd is not ready", "ServiceUnavailable")
    with pytest.raises(ApiError) as caught:
        connect().apply(CONFIG_MAP)
    assert len(api_server.seen) > 1
    assert caught.value.status == 503
    assert caught.value.message == (
        f"{api_server.url} (option api_server) refused to apply configmaps/settings in namespace shop: etcd is not ready "
        "(503 ServiceUnavailable)"
    )


def test_a_refusal_is_final(api_server: Scripted, connect: Connect) -> None:
    api_server.otherwise = refuse(422, "spec.replicas: must not be negative", "Invalid", [{"field": "spec.replicas"}])
    with pytest.raises(ApiError, match=r"must not be negative \(422 Invalid\)") as caught:
        connect().apply(CONFIG_MAP)
    assert len(api_server.seen) == 1
    assert caught.value.causes == [{"field": "spec.replicas"}]


def test_a_field_conflict_is_final_and_tells_its_causes(api_server: Scripted, connect: Connect) -> None:
    cause = {"reason": "FieldManagerConflict", "message": 'conflict with "kubectl-scale"', "field": ".spec.replicas"}
    api_server.otherwise = refuse(409, "Apply failed with 1 conflict", "Conflict", [cause])
    with pytest.raises(ApiError) as caught:
        connect().apply(CONFIG_MAP)
    assert len(api_server.seen) == 1
    assert caught.value.kind == "conflict"
    assert caught.value.field_conflict
    assert caught.value.causes == [cause]


def test_a_lost_race_is_run_again_by_apply_but_not_by_an_update(api_server: Scripted, connect: Connect) -> None:
    modified = refuse(409, "the object has been modified; please apply your changes to the latest version", "Conflict")
    api_server.script = [modified]
    connect().apply(CONFIG_MAP)
    assert len(api_server.seen) == 2
    api_server.script = [modified]
    path = "/apis/coordination.k8s.io/v1/namespaces/shop/leases/x"
    with pytest.raises(ApiError) as caught:
        connect().request("PUT", path, body={"metadata": {"name": "x", "resourceVersion": "1"}})
    assert (caught.value.status, len(api_server.seen)) == (409, 3)
    api_server.script = [modified]
    with pytest.raises(ApiError):
        connect().apply({**CONFIG_MAP, "metadata": {**CONFIG_MAP["metadata"], "resourceVersion": "1"}})


@pytest.mark.parametrize("fault", [cut, hang_up])
def test_a_lost_connection_is_opened_again(
    api_server: Scripted, connect: Connect, fault: t.Callable[[Handler], None]
) -> None:
    api_server.script = [answer({}), fault, answer({"kind": "ConfigMap"})]
    api = connect()
    api.get("v1", "ConfigMap", "shop", "settings")
    assert api.apply(CONFIG_MAP)["kind"] == "ConfigMap"
    assert api_server.connections == 2


def test_what_cannot_be_repeated_safely_is_not(api_server: Scripted, connect: Connect) -> None:
    api_server.otherwise = cut
    with pytest.raises(ApiError, match=r"cannot create leases in namespace shop at .*: it closed the connection"):
        connect().request("POST", "/apis/coordination.k8s.io/v1/namespaces/shop/leases", body={"metadata": {}})
    api_server.otherwise = refuse(500)
    with pytest.raises(ApiError, match="500"):
        connect().request("POST", "/apis/coordination.k8s.io/v1/namespaces/shop/leases", body={"metadata": {}})
    assert len(api_server.seen) == 2


def test_a_cut_body_is_noticed(api_server: Scripted, connect: Connect) -> None:
    def half(handler: Handler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", "100")
        handler.end_headers()
        handler.wfile.write(b'{"kind": ')
        cut(handler)

    def half_a_chunk(handler: Handler) -> None:
        handler.send_response(200)
        handler.send_header("Transfer-Encoding", "chunked")
        handler.end_headers()
        handler.wfile.write(b"10\r\n{}")
        cut(handler)

    api_server.script = [half, half_a_chunk, answer({"kind": "ConfigMap"})]
    assert connect().request("GET", "/api/v1/x") == {"kind": "ConfigMap"}
    assert len(api_server.seen) == 3


def test_a_server_that_comes_back_is_waited_for(api_server: Scripted, connect: Connect, pki: Pki) -> None:
    api = connect()
    api.get("v1", "ConfigMap", "shop", "settings")
    api_server.stop()
    again: list[Scripted] = []
    timer = threading.Timer(1.0, lambda: again.append(Scripted(pki, api_server.port)))
    timer.start()
    try:
        results = api.each(api.apply, [CONFIG_MAP] * 20)
    finally:
        timer.join()
        again[0].stop()
    assert [result for result in results if isinstance(result, ModelshipError)] == []
    assert len(again[0].seen) == 20


@contextlib.contextmanager
def restarted(api_server: Scripted, api: Api, pki: Pki, *script: t.Any) -> t.Iterator[list[Scripted]]:
    """The server goes away and comes back with *script*, whose last action is repeated; yields it once it is there."""
    api.get("v1", "ConfigMap", "shop", "settings")
    api_server.stop()
    again: list[Scripted] = []

    def come_back() -> None:
        server = Scripted(pki, api_server.port)
        server.script, server.otherwise = list(script[:-1]), script[-1]
        again.append(server)

    timer = threading.Timer(0.5, come_back)
    timer.start()
    try:
        yield again
    finally:
        timer.join()
        again[0].stop()


NOBODY = refuse(403, 'configmaps "settings" is forbidden: User "me" cannot patch resource "configmaps"', "Forbidden")


def test_a_server_that_comes_back_may_refuse_everything_at_first(
    api_server: Scripted, connect: Connect, pki: Pki
) -> None:
    api = connect()
    script = [NOBODY, NOBODY, NOBODY, answer(b"ok"), answer({"kind": "ConfigMap"}), NOBODY]
    with restarted(api_server, api, pki, *script) as again:
        api.apply(CONFIG_MAP)
        names = [seen.path.partition("?")[0].rpartition("/")[2] for seen in again[0].seen]
        assert names == ["settings", "readyz", "settings", "readyz", "settings"]
        # now that it has said that it is ready, its word counts
        with pytest.raises(ApiError, match="cannot patch"):
            api.apply(CONFIG_MAP)
        assert len(again[0].seen) == 6


def test_a_server_that_was_away_between_two_requests_may_refuse_at_first_too(
    api_server: Scripted, connect: Connect, pki: Pki
) -> None:
    api = connect()
    api.get("v1", "ConfigMap", "shop", "settings")
    api_server.stop()
    again = Scripted(pki, api_server.port)
    again.script = [NOBODY, answer(b"ok"), answer({"kind": "ConfigMap"})]
    try:
        assert api.apply(CONFIG_MAP) == {"kind": "ConfigMap"}
    finally:
        again.stop()


def test_each_start_of_a_server_counts_for_itself(
    api_server: Scripted, connect: Connect, pki: Pki, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transport, "_START_S", 0.3)
    api = connect()
    script = [NOBODY, NOBODY, answer({"kind": "ConfigMap"})]
    with restarted(api_server, api, pki, *script) as again:
        api.apply(CONFIG_MAP)
        # it comes back later than that
        with restarted(again[0], api, pki, *script):
            api.apply(CONFIG_MAP)


def test_who_may_never_ask_whether_it_is_ready_is_refused_after_a_while(
    api_server: Scripted, connect: Connect, pki: Pki, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transport, "_START_S", 0.3)
    api = connect()
    with restarted(api_server, api, pki, NOBODY) as again:
        with pytest.raises(ApiError, match="403 Forbidden"):
            api.apply(CONFIG_MAP)
        asked = len(again[0].seen)
        with pytest.raises(ApiError, match="403 Forbidden"):
            api.apply(CONFIG_MAP)
        assert len(again[0].seen) == asked + 1


def test_a_server_that_stays_away_costs_its_patience_only_once(
    api_server: Scripted, connect: Connect, impatient: None
) -> None:
    api = connect(workers=2)
    api.get("v1", "ConfigMap", "shop", "settings")
    api_server.stop()
    began = time.monotonic()
    results = api.each(api.apply, [CONFIG_MAP] * 50)
    assert all(isinstance(result, ApiError) and result.unreachable for result in results)
    with pytest.raises(ApiError, match="connection refused"):
        api.get("v1", "ConfigMap", "shop", "settings")
    # of 51 requests none had a patience of its own
    assert time.monotonic() - began < 2 * transport.PATIENCE_S


def test_a_slow_server_is_a_timeout(api_server: Scripted, connect: Connect, impatient: None) -> None:
    api_server.otherwise = lambda _handler: time.sleep(2)
    with pytest.raises(
        ApiError, match=r"cannot read configmaps/settings in namespace shop at .*: no response within 0.6 s"
    ):
        connect(timeout=0.6).get("v1", "ConfigMap", "shop", "settings")


def test_a_token_file_is_read_again_after_a_401(
    api_server: Scripted, connect: Connect, pki: Pki, tmp_path: Path
) -> None:
    token = tmp_path / "token"
    token.write_text("old\n")

    def check(handler: Handler) -> None:
        good = handler.headers["Authorization"] == "Bearer new"
        (answer({"kind": "ConfigMap"}) if good else refuse(401, "Unauthorized", "Unauthorized"))(handler)

    api_server.otherwise = check
    api = connect(**_kubeconfig(api_server, pki, {"tokenFile": str(token)}))
    api.access.headers()
    token.write_text("new\n")
    results = api.each(api.apply, [CONFIG_MAP] * 16)
    assert not any(isinstance(result, ModelshipError) for result in results)
    refused = [seen for seen in api_server.seen if seen.headers["authorization"] == "Bearer old"]
    assert 1 <= len(refused) <= 8
    assert api.access.credentials.generation == 2


def test_credentials_that_stay_wrong_are_an_error_without_them(
    api_server: Scripted, connect: Connect, pki: Pki, tmp_path: Path
) -> None:
    (tmp_path / "token").write_text("s3cr3t-t0ken")
    api_server.otherwise = refuse(401, "the token s3cr3t-t0ken has expired", "Unauthorized")
    api = connect(**_kubeconfig(api_server, pki, {"tokenFile": str(tmp_path / "token")}))
    with pytest.raises(ApiError) as caught:
        api.get("v1", "ConfigMap", "shop", "settings")
    assert len(api_server.seen) == 2
    assert caught.value.message == (
        f"{api_server.url} (context dev of the given kubeconfig) does not accept the credentials of user 'me' (401 the token "
        "<redacted> has expired): they are wrong or have expired; log in again or give others"
    )


def test_a_pods_own_401_is_handed_on(api_server: Scripted, connect: Connect) -> None:
    api_server.otherwise = answer({"error": "who are you?"}, 401, X_Served_By="pod")
    status, headers, body = connect().raw("POST", "/api/v1/namespaces/shop/pods/digits:8080/proxy/x", body=b"abc")
    assert (status, headers["x-served-by"], body) == (401, "pod", b'{"error": "who are you?"}')
    assert (api_server.seen[0].body, len(api_server.seen)) == (b"abc", 1)


def test_the_client_certificate_is_shown(api_server: Scripted, connect: Connect, pki: Pki) -> None:
    user = {"client-certificate": str(pki.client), "client-key": str(pki.client_key)}
    connect(**_kubeconfig(api_server, pki, user)).get("v1", "ConfigMap", "shop", "settings")
    assert api_server.peers == ["tester"]


def test_a_wrong_authority_is_told_at_once(api_server: Scripted, connect: Connect, pki: Pki) -> None:
    began = time.monotonic()
    with pytest.raises(ApiError, match=f"{api_server.url} .*its certificate is not trusted .*ca_path"):
        connect(ca_path=str(pki.other_ca)).get("v1", "ConfigMap", "shop", "settings")
    assert time.monotonic() - began < transport.FIRST_PATIENCE_S
    api = connect(ca_path=str(pki.other_ca), validate_certs=False)
    assert api.get("v1", "ConfigMap", "shop", "settings") == {"kind": "Nothing"}


def test_a_wrong_name_is_told_at_once(api_server: Scripted, connect: Connect) -> None:
    with pytest.raises(ApiError, match=r"its certificate is not trusted .*tls_server_name"):
        connect(tls_server_name="kubernetes.example").get("v1", "ConfigMap", "shop", "settings")
    assert connect(tls_server_name="localhost").get("v1", "ConfigMap", "shop", "settings")
    with pytest.raises(ApiError, match=r"the name 'no.such.host.invalid' cannot be resolved"):
        connect(api_server="https://no.such.host.invalid").get("v1", "ConfigMap", "shop", "settings")


def test_a_wrong_port_is_told(api_server: Scripted, connect: Connect, impatient: None) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"https://127.0.0.1:{free.getsockname()[1]}"
    with pytest.raises(ApiError, match=f"cannot read x at {url} .*: connection refused") as caught:
        connect(api_server=url).request("GET", "/api/v1/x")
    assert caught.value.unreachable


def test_plain_http_where_tls_is_expected(connect: Connect) -> None:
    plain = Scripted(None)
    try:
        with pytest.raises(ApiError, match="it does not speak TLS there"):
            connect(api_server=plain.url.replace("http:", "https:")).request("GET", "/api/v1/x")
        access = load_access({"api_server": plain.url})
        with Api(access, timeout=5) as api:
            assert api.request("GET", "/api/v1/x") == {"kind": "Nothing"}
    finally:
        plain.stop()


def test_an_answer_that_ends_with_the_connection(api_server: Scripted, connect: Connect) -> None:
    def until_close(handler: Handler) -> None:  # as Go answers plain HTTP on a TLS port
        handler.wfile.write(b"HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTP request to an HTTPS server.\n")
        handler.close_connection = True

    api_server.script = [until_close]
    api = connect()
    with pytest.raises(ApiError, match=r"Client sent an HTTP request to an HTTPS server. \(400\)"):
        api.request("GET", "/api/v1/x")
    assert api.request("GET", "/api/v1/x") == {"kind": "Nothing"}
    assert api_server.connections == 2


def test_an_unknown_field_is_not_tried_again(api_server: Scripted, connect: Connect) -> None:
    # the API server's own words; it answers 500 where it means 400
    message = "failed to create typed patch object (shop/x; /v1, Kind=ConfigMap): .dato: field not declared in schema"
    api_server.otherwise = refuse(500, message)
    with pytest.raises(ApiError, match="field not declared in schema"):
        connect().apply(CONFIG_MAP)
    assert len(api_server.seen) == 1


def test_a_server_that_has_just_started_is_waited_for(api_server: Scripted, connect: Connect) -> None:
    message = 'configmaps "settings" is forbidden: not yet ready to handle request'
    api_server.script = [refuse(403, message, "Forbidden"), answer({"kind": "ConfigMap"})]
    assert connect().apply(CONFIG_MAP)["kind"] == "ConfigMap"


def test_a_large_body_that_is_refused_before_it_is_sent(api_server: Scripted, connect: Connect) -> None:
    def too_large(handler: Handler) -> None:
        refuse(413, "Request entity too large: limit is 3145728", "RequestEntityTooLarge")(handler)
        handler.close_connection = True

    api_server.otherwise = too_large
    with pytest.raises(ApiError, match=r"too large.*\(413 RequestEntityTooLarge\)"):
        connect().apply({**CONFIG_MAP, "data": {"a": "x" * (4 << 20)}})


def test_a_list_is_read_page_by_page(api_server: Scripted, connect: Connect) -> None:
    first = {"metadata": {"resourceVersion": "7", "continue": "more"}, "items": [{"metadata": {"name": "a"}}]}
    last = {"metadata": {"resourceVersion": "7"}, "items": [{"metadata": {"name": "b"}}]}
    api_server.script = [answer(first), answer(last)]
    items, version = connect().list("v1", "ConfigMap", None, labels="a=b")
    assert [item["metadata"]["name"] for item in items] == ["a", "b"]
    assert {(item["apiVersion"], item["kind"]) for item in items} == {("v1", "ConfigMap")}
    assert version == "7"
    assert api_server.seen[1].path == "/api/v1/configmaps?labelSelector=a%3Db&limit=500&continue=more"


def test_a_list_whose_pages_have_expired_begins_anew(api_server: Scripted, connect: Connect) -> None:
    first = {"metadata": {"resourceVersion": "7", "continue": "more"}, "items": [{"metadata": {"name": "a"}}]}
    whole = {"metadata": {"resourceVersion": "9"}, "items": [{"metadata": {"name": "a"}}, {"metadata": {"name": "b"}}]}
    api_server.script = [answer(first), refuse(410, "expired", "Expired"), answer(whole)]
    items, version = connect().list("v1", "ConfigMap", "shop")
    assert ([item["metadata"]["name"] for item in items], version) == (["a", "b"], "9")


def test_an_unknown_kind_is_looked_up_once_it_is_there(api_server: Scripted, connect: Connect) -> None:
    resources = [
        {"name": "boats/status", "kind": "Boat", "namespaced": True},
        {"name": "boats", "kind": "Boat", "namespaced": True},
        {"name": "rafts", "kind": "Raft", "namespaced": True},
    ]
    found = {"kind": "APIResourceList", "resources": resources}
    api_server.script = [refuse(404), refuse(404), answer(found), answer(found)]
    api = connect()
    assert not api.serves("sea.example/v1", "Boat")
    with pytest.raises(ModelshipError, match=r"does not serve Boat of sea.example/v1: .*CustomResourceDefinition"):
        api.resource("sea.example/v1", "Boat")
    assert api.serves("sea.example/v1", "Boat")
    assert api.path("sea.example/v1", "Boat", "shop", "argo") == "/apis/sea.example/v1/namespaces/shop/boats/argo"
    assert len(api_server.seen) == 3
    assert api.resource("sea.example/v1", "Boat").has_status
    assert not api.resource("sea.example/v1", "Raft").has_status


def test_delete_takes_only_the_object_it_knows(api_server: Scripted, connect: Connect) -> None:
    known = {**CONFIG_MAP, "metadata": {**CONFIG_MAP["metadata"], "uid": "u-1"}}
    assert connect().delete(known)
    body = json.loads(api_server.seen[0].body)
    assert body["preconditions"] == {"uid": "u-1"}
    assert body["propagationPolicy"] == "Background"
    api_server.script = [refuse(404), refuse(409, "the UID in the precondition (u-1) does not match", "Conflict")]
    assert not connect().delete(known)
    assert not connect().delete(known)


def test_each_keeps_the_order_and_hands_errors_over(api_server: Scripted, connect: Connect) -> None:
    def work(number: int) -> int:
        time.sleep(0.002 * (10 - number % 10))
        if number == 7:
            raise ModelshipError("seven")
        return number * 2

    results = connect().each(work, list(range(40)))
    assert [result for result in results if not isinstance(result, ModelshipError)] == [
        number * 2 for number in range(40) if number != 7
    ]
    assert str(results[7]) == "seven"
    with pytest.raises(ZeroDivisionError):
        connect().each(lambda number: 1 // number, [1, 0, 2])


def test_each_uses_as_many_connections_as_workers(api_server: Scripted, connect: Connect) -> None:
    api = connect(workers=4)
    api.each(api.apply, [CONFIG_MAP] * 60)
    assert 2 <= api_server.connections <= 4


def _kubeconfig(server: Scripted, pki: Pki, user: dict[str, t.Any]) -> dict[str, t.Any]:
    cluster = {"server": server.url, "certificate-authority": str(pki.ca)}
    config = {
        "current-context": "dev",
        "contexts": [{"name": "dev", "context": {"cluster": "c", "user": "me"}}],
        "clusters": [{"name": "c", "cluster": cluster}],
        "users": [{"name": "me", "user": user}],
    }
    return {"kubeconfig": config, "api_server": None, "ca_path": None, "api_token": None}
