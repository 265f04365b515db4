"""LitServe with LiteRT: ``litserve_app.py PORT``; one worker on the processor, beside the process that speaks HTTP."""

from __future__ import annotations

import sys
from typing import Any

import litserve
from litert_model import Model


class Digits(litserve.LitAPI):
    def setup(self, device: str) -> None:  # noqa: ARG002
        self.model = Model()

    def decode_request(self, request):  # type: ignore[no-untyped-def]  # LitServe reads annotations, and wants none here
        return request["image"]

    def predict(self, x: Any) -> Any:
        return self.model(x)

    def encode_response(self, output: Any) -> dict[str, Any]:
        return {"result": int(output.argmax()), "probabilities": output.tolist()}


if __name__ == "__main__":
    server = litserve.LitServer(Digits(), accelerator="cpu", workers_per_device=1, fast_queue=True)
    server.run(host="127.0.0.1", port=int(sys.argv[1]), log_level="warning", generate_client_file=False)
