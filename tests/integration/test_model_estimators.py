"""Every estimator that skl2onnx converts passes the default pipeline: train, then compress without the key ``compress``."""

from __future__ import annotations

import json
import typing as t
from pathlib import Path

import pytest

from .model_side import ModelSide

pytestmark = pytest.mark.integration

MODEL_YML = """\
name: table
framework: sklearn
code: project.py
data: {source: npz, path: data.npz, test: 60}
labels: [a, b, c]
parameters: {estimator: LogisticRegression, seed: 1}
"""

#: Expression of ``build()`` -> whether int8 weights make its model smaller.
ESTIMATORS = {
    # linear
    "LogisticRegression()": False,
    "LogisticRegressionCV(Cs=2, cv=2)": False,
    "SGDClassifier(loss='log_loss')": False,
    "SGDClassifier(loss='modified_huber')": False,
    "LinearDiscriminantAnalysis()": False,
    "QuadraticDiscriminantAnalysis(reg_param=0.1)": False,
    # trees
    "DecisionTreeClassifier()": False,
    "ExtraTreeClassifier()": False,
    "RandomForestClassifier(9)": False,
    "ExtraTreesClassifier(9)": False,
    "GradientBoostingClassifier(n_estimators=5)": False,
    "HistGradientBoostingClassifier(max_iter=5)": False,
    "AdaBoostClassifier(n_estimators=5)": False,
    "BaggingClassifier(n_estimators=3)": False,
    # neighbours, support vectors, Bayes, networks
    "KNeighborsClassifier()": False,
    "SVC(probability=True)": False,
    "NuSVC(probability=True)": False,
    "GaussianNB()": False,
    "BernoulliNB()": False,
    "make_pipeline(MinMaxScaler(), MultinomialNB())": False,
    "make_pipeline(MinMaxScaler(), ComplementNB())": False,
    "make_pipeline(KBinsDiscretizer(4, encode='ordinal'), CategoricalNB(min_categories=4))": False,
    "MLPClassifier((200, 100), max_iter=30)": True,
    "make_pipeline(StandardScaler(), MLPClassifier((200, 100), max_iter=30))": True,
    # one around others
    "CalibratedClassifierCV(LinearSVC())": False,
    "OneVsRestClassifier(LogisticRegression())": False,
    "VotingClassifier([('a', LogisticRegression()), ('b', GaussianNB())], voting='soft')": False,
    "StackingClassifier([('a', LogisticRegression()), ('b', RandomForestClassifier(3))])": False,
    "GridSearchCV(LogisticRegression(), {'C': [0.1, 1]}, cv=2)": False,
    "RandomizedSearchCV(LogisticRegression(), {'C': [0.1, 1]}, n_iter=2, cv=2)": False,
    # pipelines
    "make_pipeline(StandardScaler(), LogisticRegression())": False,
    "make_pipeline(StandardScaler(), RandomForestClassifier(9))": False,
    "make_pipeline('passthrough', LogisticRegression())": False,
    "make_pipeline(RobustScaler(), SVC(probability=True))": False,
    "make_pipeline(MaxAbsScaler(), KNeighborsClassifier())": False,
    "make_pipeline(Normalizer(), LogisticRegression())": False,
    "make_pipeline(Binarizer(), BernoulliNB())": False,
    "make_pipeline(QuantileTransformer(n_quantiles=20), LogisticRegression())": False,
    "make_pipeline(PowerTransformer(), LogisticRegression())": False,
    "make_pipeline(PolynomialFeatures(2), LogisticRegression())": False,
    "make_pipeline(SimpleImputer(), LogisticRegression())": False,
    "make_pipeline(SelectKBest(k=4), LogisticRegression())": False,
    "make_pipeline(SelectFromModel(LogisticRegression()), LogisticRegression())": False,
    "make_pipeline(RFE(LogisticRegression(), n_features_to_select=4), LogisticRegression())": False,
    "make_pipeline(VarianceThreshold(), LogisticRegression())": False,
    "make_pipeline(FunctionTransformer(), LogisticRegression())": False,
    "make_pipeline(PCA(4), LogisticRegression())": False,
    "make_pipeline(TruncatedSVD(4), LogisticRegression())": False,
    "make_pipeline(GaussianRandomProjection(4), LogisticRegression())": False,
    "make_pipeline(make_union(PCA(3), SelectKBest(k=3)), LogisticRegression())": False,
    "make_pipeline(ColumnTransformer([('a', StandardScaler(), [0, 1])], remainder='passthrough'), GaussianNB())": False,
    "make_pipeline(StandardScaler(), make_pipeline(PCA(4), LogisticRegression()))": False,
}

PROJECT_PY = """\
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import ColumnTransformer
from sklearn.decomposition import PCA, TruncatedSVD
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis, QuadraticDiscriminantAnalysis
from sklearn.ensemble import (
    AdaBoostClassifier, BaggingClassifier, ExtraTreesClassifier, GradientBoostingClassifier,
    HistGradientBoostingClassifier, RandomForestClassifier, StackingClassifier, VotingClassifier,
)
from sklearn.feature_selection import RFE, SelectFromModel, SelectKBest, VarianceThreshold
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression, LogisticRegressionCV, SGDClassifier
from sklearn.model_selection import GridSearchCV, RandomizedSearchCV
from sklearn.multiclass import OneVsRestClassifier
from sklearn.naive_bayes import BernoulliNB, CategoricalNB, ComplementNB, GaussianNB, MultinomialNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline, make_union
from sklearn.preprocessing import *
from sklearn.random_projection import GaussianRandomProjection
from sklearn.svm import SVC, LinearSVC, NuSVC
from sklearn.tree import DecisionTreeClassifier, ExtraTreeClassifier


def build(parameters, signature):
    return eval(parameters["estimator"])
"""

MAKE_DATA = """
import sys, numpy
from sklearn.datasets import make_classification
x, y = make_classification(300, 8, n_informative=6, n_classes=3, class_sep=2.0, random_state=0)
numpy.savez(sys.argv[1], x=x.astype("float32"), y=y)
"""

#: How far the release's ONNX answers are from the estimator's own, given their releases.
COMPARE = """
import json, sys, numpy, onnxruntime
from modelship_model import sklearn_models

x = numpy.load(sys.argv[1])["x"]
far = {}
for name, (trained, compressed) in json.loads(sys.argv[2]).items():
    session = onnxruntime.InferenceSession(compressed + "/model/model.onnx")
    (answers,) = session.run(None, {session.get_inputs()[0].name: x})
    far[name] = float(abs(answers - sklearn_models.predict(sklearn_models.load(trained + "/model/model.skops"), x)).max())
print(json.dumps(far))
"""


class Line(t.NamedTuple):
    """The outcome of the default pipeline for each estimator: the last events of train and compress."""

    side: ModelSide
    data: str
    ends: dict[str, tuple[dict[str, t.Any], dict[str, t.Any]]]


@pytest.fixture(scope="module")
def line(trainer_python: str, tmp_path_factory: pytest.TempPathFactory) -> Line:
    side = ModelSide(trainer_python, tmp_path_factory.mktemp("estimators"))
    project = side.home / "table"
    project.mkdir()
    (project / "model.yml").write_text(MODEL_YML)
    (project / "project.py").write_text(PROJECT_PY)
    side.python_script(MAKE_DATA, str(project / "data.npz"))
    stores = {"project": str(project), **side.stores("table")}
    trained = side.run_many(*(("train", {**stores, "parameters": {"estimator": name}}) for name in ESTIMATORS))
    made = [event["result"]["release"]["path"] if event["event"] == "result" else "" for event in trained]
    small = side.run_many(*(("compress", {**stores, "release": path}) for path in made))
    return Line(side, str(project / "data.npz"), dict(zip(ESTIMATORS, zip(trained, small, strict=True), strict=True)))


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_the_default_pipeline_passes_for_an_estimator_that_skl2onnx_converts(line: Line, estimator: str) -> None:
    trained, compressed = line.ends[estimator]
    assert trained["event"] == "result", trained
    assert compressed["event"] == "result", compressed
    release = compressed["result"]["release"]
    assert release["manifest"]["model"]["format"] == "onnx"
    facts = release["manifest"]["compression"]
    assert facts["size_ratio"] <= 1
    if ESTIMATORS[estimator]:
        assert facts["methods"] == ["quantize"]
        assert "skipped" not in facts
        assert facts["size_ratio"] < 0.5
        return
    # What does not apply is left out, and said: in an event and in the release.
    assert facts["methods"] == []
    reason = facts["skipped"]["quantize"]
    assert f"quantize skipped: {reason}" in compressed["stages"]
    assert facts["accuracy_drop"] == 0
    assert (Path(release["path"]) / "model" / "model.onnx").stat().st_size == facts["reference_size"]


def test_what_was_not_quantized_answers_as_the_estimator_does(line: Line) -> None:
    pairs = {
        name: (trained["result"]["release"]["path"], compressed["result"]["release"]["path"])
        for name, (trained, compressed) in line.ends.items()
        if not ESTIMATORS[name]
    }
    far = json.loads(line.side.python_script(COMPARE, line.data, json.dumps(pairs)))
    assert {name: distance for name, distance in far.items() if distance > 1e-4} == {}


def test_every_release_can_be_loaded_and_run_by_the_serving_runtime(line: Line) -> None:
    np = pytest.importorskip("numpy")
    pytest.importorskip("onnxruntime")
    from modelship_serving.backends import load_backend
    from modelship_serving.release import load_release

    x = np.load(line.data)["x"]
    for name, (_trained, compressed) in line.ends.items():
        backend = load_backend(load_release(compressed["result"]["release"]["path"]), threads=1)
        (together,) = backend.run([x])
        assert together.shape == (len(x), 3), name
        assert together.dtype == np.float32, name


def test_a_release_whose_quantization_was_skipped_can_be_compressed_otherwise(line: Line) -> None:
    name = "make_pipeline(StandardScaler(), LogisticRegression())"
    _trained, compressed = line.ends[name]
    request = {"release": compressed["result"]["release"]["path"], "samples": line.data, **line.side.stores("again")}
    again, other = line.side.run_many(
        ("compress", {**request, "methods": ["quantize"]}), ("compress", {**request, "methods": ["float16"]})
    )
    for end, method in ((again, "quantize"), (other, "float16")):
        assert end["event"] == "result", end
        assert list(end["result"]["release"]["manifest"]["compression"]["skipped"]) == [method]


def test_an_estimator_without_probabilities_is_refused_before_it_is_fitted(line: Line) -> None:
    request = {"project": str(line.side.home / "table"), **line.side.stores("refused")}
    refused, followed = line.side.run_many(
        ("train", {**request, "parameters": {"estimator": "LinearSVC()"}}),
        # as the message advises
        ("train", {**request, "parameters": {"estimator": "CalibratedClassifierCV(LinearSVC())"}}),
    )
    assert refused["event"] == "error"
    assert "LinearSVC of build() gives no probabilities: wrap it in" in refused["message"]
    assert "CalibratedClassifierCV" in refused["message"]
    assert not any("fitting" in str(stage) for stage in refused["stages"])
    assert followed["event"] == "result", followed
