"""What one writes first: a Flask app that calls Keras' ``model.predict`` for each request. The bench's point of comparison.

``naive_app.py MODEL.keras PORT`` answers ``POST /predict`` with ``{"image": [numbers]}``.
"""

from __future__ import annotations

import sys
from typing import Any

import keras
import numpy as np
from flask import Flask, jsonify, request

app = Flask(__name__)
model: Any = keras.models.load_model(sys.argv[1])


@app.post("/predict")
def predict() -> Any:
    image = np.array(request.get_json(force=True)["image"], "float32").reshape(1, *model.input_shape[1:])
    probabilities = model.predict(image, verbose=0)[0]
    return jsonify(result=int(probabilities.argmax()), probabilities=probabilities.tolist())


if __name__ == "__main__":
    app.run("127.0.0.1", int(sys.argv[2]), threaded=True)
