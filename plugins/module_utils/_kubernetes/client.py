# Copyright: (c) 2026, the modelship authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A Kubernetes API server as functions: get, list, apply, delete, watch, and many of them at once."""

from __future__ import annotations

import json
import re
import threading
import typing as t
import urllib.parse

from .._core.errors import ModelshipError
from .access import Access
from .discovery import Resource, built_in, found, group_path
from .errors import ApiError
from .transport import Answer, Request, Transport

__all__ = ["Api", "ApiError", "Resource"]

Object = dict[str, t.Any]
Item = t.TypeVar("Item")
Result = t.TypeVar("Result")
Results = list[Result | ModelshipError]

_PAGE = 500
#: What JSON may hold as it is but YAML must not; apply sends JSON as YAML.
_NOT_IN_YAML = re.compile("[\x7f-\x9f\u2028\u2029\ufeff\ufffe\uffff]")


class Api:
    """Requests to the API server of *access*. All of it may be used by several threads at once.

    What may pass (a lost connection, 429, 5xx) is tried again for up to 30 s where that is safe; expired credentials are
    renewed once. What remains is an :class:`ApiError` that names the server and the reason.

    :param timeout: seconds to wait for one answer.
    :param workers: how many requests :meth:`each` has under way at once.
    """

    def __init__(self, access: Access, *, timeout: float = 60, workers: int = 16) -> None:
        self.access = access
        self._workers = workers
        self._transport = Transport(access, timeout)
        self._resources: dict[tuple[str, str], Resource] = {}

    def close(self) -> None:
        """Close the connections."""
        self._transport.close()

    def __enter__(self) -> Api:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.close()

    def request(
        self,
        method: str,
        path: str,
        *,
        query: t.Mapping[str, t.Any] | None = None,
        body: t.Any = None,
        content_type: str = "application/json",
        retry: bool = True,
    ) -> t.Any:
        """Send a request and return the decoded JSON of its answer.

        :param body: an object that is sent as JSON.
        :param retry: ``False``: nothing is tried again, whatever the answer.
        :raises ApiError: the server refuses, or cannot be reached.
        """
        data = _encoded(body) if body is not None else b""
        request = Request(
            method,
            _with_query(path, query),
            data,
            _headers("application/json", content_type if data else ""),
            repeatable=method in ("GET", "HEAD") or _is_guarded(method, body),
        )
        return _decoded(self._answer(request, patient=retry))

    def text(self, path: str, *, query: t.Mapping[str, t.Any] | None = None) -> str:
        """Return the text at *path* (a log).

        :raises ApiError: as :meth:`request`.
        """
        request = Request("GET", _with_query(path, query), headers=_headers("*/*"), repeatable=True)
        return self._answer(request).body.decode("utf-8", "replace")

    def raw(
        self,
        method: str,
        path: str,
        *,
        body: bytes | None = None,
        headers: t.Mapping[str, str] | None = None,
    ) -> tuple[int, dict[str, str], bytes]:
        """Send a request as it is and return status, headers (lower-case names) and body, whatever the status.

        Meant for what pods answer through the API server's proxy. Nothing is tried again but a GET whose kept connection
        had been closed.

        :raises ApiError: no answer came.
        """
        request = Request(
            method, path, body or b"", tuple((headers or {}).items()), repeatable=method in ("GET", "HEAD")
        )
        answer = self._transport.ask(request, patient=False)
        return answer.status, answer.headers, answer.body

    def resource(self, api_version: str, kind: str) -> Resource:
        """Return how the server serves *kind*: from a table where it is built in, else as the server tells.

        :raises ModelshipError: it does not serve it; the message names what is missing.
        :raises ApiError: it cannot be asked.
        """
        known = built_in(api_version, kind) or self._resources.get((api_version, kind))
        if known is None:
            known = self._discovered(api_version, kind)
            if known is None:
                raise ModelshipError(
                    f"{self.access.name} does not serve {kind} of {api_version}: is the name right, and is its "
                    "CustomResourceDefinition installed?",
                    kind="kubernetes",
                )
            self._resources[api_version, kind] = known
        return known

    def serves(self, api_version: str, kind: str) -> bool:
        """Tell whether the server serves *kind*. What it does not serve is asked for anew every time.

        :raises ApiError: it cannot be asked.
        """
        try:
            self.resource(api_version, kind)
        except ApiError:
            raise
        except ModelshipError:
            return False
        return True

    def path(self, api_version: str, kind: str, namespace: str | None, name: str | None = None) -> str:
        """Return the path of an object, or of all objects of a kind without *name*.

        *namespace* is not looked at for a cluster-scoped kind; empty or ``None`` means all namespaces.
        """
        resource = self.resource(api_version, kind)
        parts = [group_path(api_version)]
        if resource.namespaced and namespace:
            parts += ["namespaces", urllib.parse.quote(namespace, safe="")]
        parts.append(resource.plural)
        if name:
            parts.append(urllib.parse.quote(name, safe=""))
        return "/".join(parts)

    def get(self, api_version: str, kind: str, namespace: str | None, name: str) -> Object | None:
        """Return an object, or ``None`` if there is none.

        :raises ApiError: as :meth:`request`.
        """
        return self._or_none(self.path(api_version, kind, namespace, name))

    def list(
        self, api_version: str, kind: str, namespace: str | None, *, labels: str = "", fields: str = ""
    ) -> tuple[list[Object], str]:
        """Return the objects of *kind* in *namespace* (``None``: in all), and the resourceVersion to watch from.

        :param labels: label selector.
        :param fields: field selector.
        :raises ApiError: as :meth:`request`.
        """
        path = self.path(api_version, kind, namespace)
        query: Object = {"labelSelector": labels, "fieldSelector": fields, "limit": _PAGE}
        items: list[Object] = []
        while True:
            try:
                page = self.request("GET", path, query=query)
            except ApiError as exc:
                if exc.status != 410 or "continue" not in query:
                    raise
                del query["continue"]  # the list took so long that the server forgot where it began
                items.clear()
                continue
            items += page.get("items") or []
            query["continue"] = page["metadata"].get("continue")
            if not query["continue"]:
                break
        for item in items:  # a list names its kind only once
            item.setdefault("apiVersion", api_version)
            item.setdefault("kind", kind)
        return items, str(page["metadata"].get("resourceVersion") or "")

    def apply(self, obj: Object, *, force: bool = False, dry_run: bool = False, manager: str = "modelship") -> Object:
        """Apply *obj* on the server's side and return the object as it is then (``dry_run``: as it would be).

        :param force: take declared fields over that another manager owns.
        :raises ApiError: as :meth:`request`; kind C(conflict) with its ``causes`` where other managers own fields.
        """
        query = {"fieldManager": manager, "fieldValidation": "Strict"}
        if force:
            query["force"] = "true"
        if dry_run:
            query["dryRun"] = "All"
        return t.cast(
            Object,
            _decoded(
                self._answer(
                    Request(
                        "PATCH",
                        _with_query(self._path_of(obj), query),
                        _encoded(obj),
                        _headers("application/json", "application/apply-patch+yaml"),
                        repeatable=True,
                        contended=not {"uid", "resourceVersion"} & obj["metadata"].keys(),
                        verb="apply",
                    )
                )
            ),
        )

    def delete(self, obj: Object, *, propagation: str = "Background", dry_run: bool = False) -> bool:
        """Delete *obj*, if it is the one with its uid where *obj* has one; ``False`` if that was gone already.

        :raises ApiError: as :meth:`request`.
        """
        options: Object = {"apiVersion": "v1", "kind": "DeleteOptions", "propagationPolicy": propagation}
        uid = obj["metadata"].get("uid")
        if uid:
            options["preconditions"] = {"uid": uid}
        if dry_run:
            options["dryRun"] = ["All"]
        request = Request(
            "DELETE",
            self._path_of(obj),
            _encoded(options),
            _headers("application/json", "application/json"),
            repeatable=True,
        )
        try:
            self._answer(request)
        except ApiError as exc:
            if exc.status == 404 or (exc.status == 409 and uid and exc.reason == "Conflict"):
                return False
            raise
        return True

    def watch(
        self,
        api_version: str,
        kind: str,
        namespace: str | None,
        *,
        labels: str = "",
        fields: str = "",
        resource_version: str,
        stop: threading.Event,
    ) -> t.Iterator[tuple[str, Object]]:
        """Yield what happens after *resource_version*, until *stop* is set: C(ADDED), C(MODIFIED), C(DELETED) and the object.

        An ended or broken stream goes on from the last event. If the server does not remember that any more, all is
        listed anew and comes as one (C(SYNC), C({"items": […], "metadata": …})): what is not in it is gone.

        :raises ApiError: the server refuses, or is away for more than a minute.
        """
        from .watch import Watch

        path = self.path(api_version, kind, namespace)
        selectors = {"labelSelector": labels, "fieldSelector": fields}

        def query(version: str, seconds: int) -> str:
            return _with_query(
                path,
                {
                    **selectors,
                    "watch": 1,
                    "allowWatchBookmarks": "true",
                    "resourceVersion": version,
                    "timeoutSeconds": seconds,
                },
            )

        def relist() -> Object:
            items, version = self.list(api_version, kind, namespace, labels=labels, fields=fields)
            return {"items": items, "metadata": {"resourceVersion": version}}

        return Watch(self._transport, query, relist, resource_version, stop).events()

    def each(self, function: t.Callable[[Item], Result], items: t.Sequence[Item]) -> Results[Result]:
        """Call *function* for all *items*, several at once; return results, or the errors in their places, in order.

        After the server could not be reached for one item, the others that have not begun get the same error.
        """
        results: list[t.Any] = [None] * len(items)
        if len(items) <= 1:
            for index, item in enumerate(items):
                results[index] = _result(function, item)
            return results
        numbers = iter(range(len(items)))
        lost: list[ApiError] = []
        failures: list[BaseException] = []

        def work() -> None:
            for index in numbers:
                if failures:
                    return
                if lost:
                    results[index] = lost[0]
                    continue
                try:
                    result = results[index] = _result(function, items[index])
                except BaseException as exc:  # noqa: BLE001 - raised again in the calling thread
                    failures.append(exc)
                    return
                if isinstance(result, ApiError) and result.unreachable:
                    lost.append(result)

        threads = [threading.Thread(target=work, daemon=True) for _number in range(min(self._workers, len(items)))]
        for thread in threads:
            thread.start()
        try:
            for thread in threads:
                thread.join()
        except BaseException as exc:
            failures.append(exc)  # an interrupt: what has not begun is not begun any more
            raise
        if failures:
            raise failures[0]
        return results

    def _answer(self, request: Request, *, patient: bool = True) -> Answer:
        answer = self._transport.ask(request, patient=patient)
        if answer.status >= 300:
            raise self._transport.refusal(request, answer)
        return answer

    def _or_none(self, path: str) -> Object | None:
        try:
            return t.cast(Object, self.request("GET", path))
        except ApiError as exc:
            if exc.status == 404:
                return None
            raise

    def _discovered(self, api_version: str, kind: str) -> Resource | None:
        known = self._or_none(group_path(api_version))
        return found(api_version, kind, known.get("resources") or []) if known else None

    def _path_of(self, obj: Object) -> str:
        metadata = obj["metadata"]
        namespace = metadata.get("namespace") or self.access.namespace
        return self.path(obj["apiVersion"], obj["kind"], namespace, metadata["name"])


def _result(function: t.Callable[[Item], Result], item: Item) -> Result | ModelshipError:
    try:
        return function(item)
    except ModelshipError as exc:
        return exc


def _headers(accept: str, content_type: str = "") -> tuple[tuple[str, str], ...]:
    accepted = (("Accept", accept),)
    return (*accepted, ("Content-Type", content_type)) if content_type else accepted


def _with_query(path: str, query: t.Mapping[str, t.Any] | None) -> str:
    pairs = [(name, value) for name, value in (query or {}).items() if value not in (None, "")]
    return f"{path}?{urllib.parse.urlencode(pairs)}" if pairs else path


def _is_guarded(method: str, body: t.Any) -> bool:
    """Tell whether a repeated request is refused if its first try was carried out."""
    metadata = body.get("metadata") or {} if isinstance(body, dict) else {}
    return (method == "PUT" and bool(metadata.get("resourceVersion"))) or method == "DELETE"


def _encoded(body: t.Any) -> bytes:
    """JSON that YAML reads alike: no surrogate pairs, and none of the characters that YAML forbids or folds."""
    try:
        text = json.dumps(body, ensure_ascii=False, separators=(",", ":"))
        if not text.isascii() or "\x7f" in text:
            text = _NOT_IN_YAML.sub(lambda match: f"\\u{ord(match[0]):04x}", text)
        return text.encode()
    except (TypeError, ValueError) as exc:  # UnicodeEncodeError: a lone surrogate
        raise ModelshipError(f"what is to be sent cannot be written as JSON: {exc}") from exc


def _decoded(answer: Answer) -> t.Any:
    try:
        return json.loads(answer.body) if answer.body else None
    except ValueError as exc:
        raise ApiError(f"the API server's answer is not JSON: {exc}", status=answer.status) from exc
