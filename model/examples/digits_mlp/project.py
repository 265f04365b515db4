"""A multi-layer perceptron that scales its raw pixels (0..255) itself."""

from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import Normalizer, StandardScaler


def build(parameters: dict, signature: dict) -> Pipeline:  # noqa: ARG001 - the collection calls it with both
    """Return the unfitted estimator; it gets one row of 784 pixels a sample."""
    network = MLPClassifier(
        hidden_layer_sizes=(500,),
        batch_size=parameters["batch_size"],
        learning_rate_init=parameters["learning_rate"],
        alpha=parameters["alpha"],
        max_iter=parameters["epochs"],
        random_state=parameters["seed"],
    )
    # Each image to 0..1 by its brightest pixel, then each pixel centred: scaling pixels one by one would blow up the
    # noise at the border.
    return Pipeline([("scale", Normalizer("max")), ("centre", StandardScaler(with_std=False)), ("network", network)])
