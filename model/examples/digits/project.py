"""A convolutional network for images of one digit, and a smaller student to distill it into."""

import keras
from keras import layers


def build(parameters: dict, signature: dict) -> keras.Model:
    """Return the compiled network; it takes raw pixels (0..255) and scales them itself."""
    steps = parameters["epochs"] * -(-signature["samples"] // parameters["batch_size"])
    model = network(signature, filters=(24, 48), kernel=5, units=128, dropout=parameters["dropout"])
    model.compile(
        optimizer=keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(parameters["learning_rate"], steps)),
        loss="sparse_categorical_crossentropy",
        metrics=["accuracy"],
    )
    return model


def student(parameters: dict, signature: dict) -> keras.Model:
    """Return a network of about a fifth of the weights; compiling is the distillation's job."""
    return network(signature, filters=(12, 24), kernel=5, units=48, dropout=parameters["dropout"] / 4)


def network(signature: dict, filters: tuple, kernel: int, units: int, dropout: float) -> keras.Model:
    """Shift and turn a little (in training only), two convolutions, one hidden layer."""
    stack = [
        keras.Input(signature["inputs"][0]["shape"][1:], name=signature["inputs"][0]["name"]),
        layers.Rescaling(1 / 255),
        layers.RandomTranslation(0.12, 0.12, fill_mode="constant", seed=1),
        layers.RandomRotation(0.06, fill_mode="constant", seed=2),
    ]
    for count in filters:
        stack += [layers.Conv2D(count, kernel, padding="same", activation="relu"), layers.MaxPooling2D()]
    stack += [
        layers.Flatten(),
        layers.Dropout(dropout, seed=3),
        layers.Dense(units, activation="relu"),
        layers.Dropout(dropout, seed=4),
        layers.Dense(len(signature["labels"]), activation="softmax"),
    ]
    return keras.Sequential(stack)
