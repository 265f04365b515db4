"""MLServer with LiteRT: a custom runtime, which speaks V2 by itself, and its custom handler for ``/predict``.

orjson is what MLServer itself uses.
"""

from __future__ import annotations

import orjson
from litert_model import Model
from mlserver import MLModel
from mlserver.codecs import NumpyCodec
from mlserver.handlers import custom_handler
from mlserver.types import InferenceRequest, InferenceResponse
from starlette.requests import Request
from starlette.responses import Response


class Digits(MLModel):
    async def load(self) -> bool:
        self.model = Model()
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        probabilities = self.model(NumpyCodec.decode_input(payload.inputs[0]))
        output = NumpyCodec.encode_output("probabilities", probabilities[None])
        return InferenceResponse(model_name=self.name, outputs=[output])

    @custom_handler(rest_path="/predict")
    async def simple(self, request: Request) -> Response:
        probabilities = self.model(orjson.loads(await request.body())["image"])
        answer = {"result": int(probabilities.argmax()), "probabilities": probabilities.tolist()}
        return Response(orjson.dumps(answer), media_type="application/json")
