"""FastAPI with LiteRT, for uvicorn: typed bodies and answers, and the model in the event loop (no thread pool to pay for)."""

from __future__ import annotations

from fastapi import FastAPI
from litert_model import NAME, Model, v2_outputs
from pydantic import BaseModel

app = FastAPI()
model = Model()


class Sample(BaseModel):
    image: list[float]


class Answer(BaseModel):
    result: int
    probabilities: list[float]


class Tensor(BaseModel):
    name: str
    shape: list[int]
    datatype: str
    data: list[float]


class InferRequest(BaseModel):
    id: str | None = None
    inputs: list[Tensor]


class InferAnswer(BaseModel):
    model_name: str
    id: str | None = None
    outputs: list[Tensor]


@app.post("/predict")
async def predict(sample: Sample) -> Answer:
    probabilities = model(sample.image)
    return Answer(result=int(probabilities.argmax()), probabilities=probabilities.tolist())


@app.post(f"/v2/models/{NAME}/infer")
async def infer(request: InferRequest) -> InferAnswer:
    outputs = v2_outputs(model(request.inputs[0].data))
    return InferAnswer(model_name=NAME, id=request.id, outputs=[Tensor(**output) for output in outputs])
