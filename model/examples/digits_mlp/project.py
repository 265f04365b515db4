"""A multi-layer perceptron that scales its raw pixels (0..255) itself."""

from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import MinMaxScaler


def build(parameters: dict, signature: dict) -> Pipeline:
    """Return the unfitted estimator; it gets one row of 784 pixels a sample."""
    return Pipeline(
        [
            ("scale", MinMaxScaler()),
            (
                "network",
                MLPClassifier(
                    hidden_layer_sizes=(500,),
                    batch_size=parameters["batch_size"],
                    learning_rate_init=parameters["learning_rate"],
                    alpha=parameters["alpha"],
                    max_iter=parameters["epochs"],
                    random_state=parameters["seed"],
                ),
            ),
        ]
    )
