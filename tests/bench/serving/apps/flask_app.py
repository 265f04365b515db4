"""Flask with LiteRT, for gunicorn: what the naive app becomes once its model is a light one."""

from __future__ import annotations

from threading import Lock
from typing import Any

from flask import Flask, jsonify, request
from litert_model import NAME, Model, v2_outputs

app = Flask(__name__)
model = Model()
#: gunicorn's threads share the interpreter, which is for one at a time.
lock = Lock()


@app.post("/predict")
def predict() -> Any:
    image = request.get_json()["image"]
    with lock:
        probabilities = model(image)
    return jsonify(result=int(probabilities.argmax()), probabilities=probabilities.tolist())


@app.post(f"/v2/models/{NAME}/infer")
def infer() -> Any:
    data = request.get_json()["inputs"][0]["data"]
    with lock:
        probabilities = model(data)
    return jsonify(model_name=NAME, outputs=v2_outputs(probabilities))
