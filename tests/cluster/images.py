"""The cluster's container images: one static program each, made by image_build and pushed by image_push."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from typing import Any

from . import settings
from .engine import play
from .programs import Programs

_TAGS = {
    "etcd": settings.ETCD,
    "coredns": settings.COREDNS,
    "metrics-server": settings.METRICS_SERVER,
    "pause": settings.PAUSE,
    **dict.fromkeys(("kube-apiserver", "kube-controller-manager", "kube-scheduler", "kube-proxy"), settings.KUBERNETES),
}
_PLACE = "/usr/local/bin"
#: What alternatives would link, but that no script of a package runs in image_build.
_IPTABLES = [
    {"dest": f"/usr/sbin/{name}{part}", "link": "xtables-nft-multi"}
    for name in ("iptables", "ip6tables")
    for part in ("", "-save", "-restore")
]


@dataclasses.dataclass(frozen=True)
class Image:
    """One image: repository below the registry, tag, and the options of image_build."""

    name: str
    tag: str
    options: dict[str, Any]

    @property
    def repository(self) -> str:
        """Repository without the registry."""
        return f"kubernetes/{self.name}"


class Images:
    """All images of the cluster, in one OCI layout of the cache."""

    def __init__(self, programs: Programs) -> None:
        self.images = [_image(name, tag, programs) for name, tag in _TAGS.items()]
        spec = json.dumps([dataclasses.asdict(image) for image in self.images], sort_keys=True)
        #: Names programs and options. The programs' folders are named by what they were built of.
        self.key = hashlib.sha256(spec.encode()).hexdigest()[:16]
        self._layout = settings.cache() / "images" / self.key
        self._record = self._layout / "digests.json"

    def build(self) -> None:
        """Build the images unless the cache has them.

        :raises ClusterError: image_build failed.
        """
        if not self._record.exists():
            play("images.yml", {"step": "build", **self._variables(), "record": str(self._record)})

    def push(self, registry: str) -> None:
        """Push the images to the registry at *registry* (``host:port``).

        :raises ClusterError: image_push failed.
        """
        digests = json.loads(self._record.read_text())
        pushed = [
            {"name": i.name, "repository": i.repository, "tag": i.tag, "digest": digests[i.name]} for i in self.images
        ]
        play("images.yml", {"step": "push", **self._variables(), "registry": registry, "pushed": pushed})

    def _variables(self) -> dict[str, Any]:
        built = [{"name": image.name, **image.options} for image in self.images]
        return {"layout": str(self._layout), "cache": str(settings.cache() / "oci"), "built": built}


def _image(name: str, tag: str, programs: Programs) -> Image:
    base: dict[str, Any] = {"scratch": True}
    files: list[dict[str, str]] = [{"dest": f"{_PLACE}/{name}", "src": str(programs.path(name))}]
    config: dict[str, Any] = {"user": "0:0", "entrypoint": [f"{_PLACE}/{name}"]}
    if name == "kube-proxy":
        base = {"bootstrap": {"packages": ["iptables"]}}
        files += _IPTABLES
    if name in ("metrics-server", "pause"):
        config["user"] = "65532:65532"
    return Image(name, tag, {"base": base, "files": files, "config": config})
