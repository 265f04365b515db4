"""Two small convolutions and a hidden layer: some 55,000 weights, a run of a few hundredths of a millisecond as int8."""

import keras
from keras import layers


def build(parameters: dict, signature: dict) -> keras.Model:
    """Return the compiled network; it takes raw pixels (0..255)."""
    model = keras.Sequential(
        [
            keras.Input(signature["inputs"][0]["shape"][1:], name="image"),
            layers.Rescaling(1 / 255),
            layers.Conv2D(8, 3, activation="relu"),
            layers.MaxPooling2D(),
            layers.Conv2D(16, 3, activation="relu"),
            layers.MaxPooling2D(),
            layers.Flatten(),
            layers.Dense(128, activation="relu"),
            layers.Dense(len(signature["labels"]), activation="softmax"),
        ]
    )
    model.compile(optimizer="adam", loss="sparse_categorical_crossentropy", metrics=["accuracy"])
    return model
