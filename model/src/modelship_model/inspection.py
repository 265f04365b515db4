# Copyright: (c) 2026, the modelship authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Checks of foreign model files before a framework builds anything of them: exact lists of what they may name.

These checks are the first of two lines; the second is that foreign models are read by a confined process (docs/security.md).
"""

from __future__ import annotations

import json
import os
import re
import typing as t
import zipfile

from .errors import ModelError, first_line

# --- skops ---

#: Types that fitted scikit-learn estimators hold besides those that skops trusts by itself (its own lists are exact, too).
SKOPS_TYPES = frozenset(
    {
        "numpy.dtype",
        "scipy.interpolate._bsplines.BSpline",
        "sklearn.calibration._CalibratedClassifier",
        "sklearn.calibration._SigmoidCalibration",
        "sklearn.cluster._bisect_k_means._BisectingTree",
        "sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor",
        "sklearn.gaussian_process._gpc._BinaryGaussianProcessClassifierLaplace",
        "sklearn.gaussian_process.kernels.CompoundKernel",
        "sklearn.gaussian_process.kernels.ConstantKernel",
        "sklearn.gaussian_process.kernels.DotProduct",
        "sklearn.gaussian_process.kernels.ExpSineSquared",
        "sklearn.gaussian_process.kernels.Exponentiation",
        "sklearn.gaussian_process.kernels.Matern",
        "sklearn.gaussian_process.kernels.Product",
        "sklearn.gaussian_process.kernels.RBF",
        "sklearn.gaussian_process.kernels.RationalQuadratic",
        "sklearn.gaussian_process.kernels.Sum",
        "sklearn.gaussian_process.kernels.WhiteKernel",
        "sklearn.metrics._dist_metrics.EuclideanDistance64",
        "sklearn.metrics._dist_metrics.ManhattanDistance64",
        "sklearn.metrics._dist_metrics.MinkowskiDistance64",
        "sklearn.metrics._scorer._PassthroughScorer",
        "sklearn.model_selection._split.KFold",
        "sklearn.model_selection._split.StratifiedKFold",
        "sklearn.neighbors._ball_tree.BallTree",
        "sklearn.neighbors._kd_tree.KDTree",
        "sklearn.neural_network._stochastic_optimizers.AdamOptimizer",
        "sklearn.neural_network._stochastic_optimizers.SGDOptimizer",
        "sklearn.tree._tree.Tree",
        "sklearn.utils._bunch.Bunch",
    }
)
#: Functions that an estimator may name: the scores of SelectKBest and its kind. No other function is accepted.
SKOPS_FUNCTIONS = frozenset(
    f"sklearn.feature_selection._univariate_selection.{name}"
    for name in ("chi2", "f_classif", "f_regression", "r_regression")
)
#: The kinds of entries of skops's ``schema.json`` that hold data or objects of trusted types.
_SKOPS_NODES = frozenset(
    {
        "BytearrayNode",
        "BytesNode",
        "CachedNode",
        "DTypeNode",
        "DefaultDictNode",
        "DictNode",
        "FunctionNode",
        "JsonNode",
        "ListNode",
        "LossNode",
        "MaskedArrayNode",
        "NdArrayNode",
        "ObjectNode",
        "RandomGeneratorNode",
        "RandomStateNode",
        "SetNode",
        "SliceNode",
        "SparseMatrixNode",
        "TreeNode",
        "TupleNode",
        "TypeNode",
    }
)


#: A ``schema.json`` beyond this describes no estimator, whose arrays are files of their own: bytes.
_SKOPS_SCHEMA = 256 << 20


def check_skops(path: str) -> None:
    """Check the entries of a ``.skops`` file: no functions, methods or calls, no types that are not listed.

    :raises ModelError: it is damaged or names something else (kind ``release``).
    """
    import skops.io

    try:
        with zipfile.ZipFile(path) as archive:
            large = archive.getinfo("schema.json").file_size > _SKOPS_SCHEMA
            schema = None if large else json.loads(archive.read("schema.json"))
    except (OSError, KeyError, ValueError, RecursionError, zipfile.BadZipFile, NotImplementedError, EOFError) as exc:
        raise ModelError("release", f"{path} is not a skops file: {first_line(exc)}") from exc
    if large:
        limit = _SKOPS_SCHEMA >> 20
        raise ModelError(
            "release", f"the schema.json of {path} is larger than {limit} MiB: no estimator needs that much"
        )
    if not isinstance(schema, dict) or schema.get("protocol") not in (0, 1, 2, 3, 4) or schema["protocol"] is True:
        raise ModelError("release", f"{path} is not a skops file of a known protocol: save it with a current skops")
    for node in _dicts(schema):
        loader = node.get("__loader__")
        if loader is None:
            continue
        name = f"{node.get('__module__')}.{node.get('__class__')}"
        if not isinstance(loader, str) or loader not in _SKOPS_NODES:
            raise ModelError(
                "release",
                f"{path} holds types that are not trusted: {name} ({loader}, which calls what the file names)",
            )
        if loader == "FunctionNode" and name not in SKOPS_FUNCTIONS:
            raise ModelError(
                "release",
                f"{path} holds the function {name}: functions are not accepted; save the estimator without it",
            )
    try:
        unknown = set(skops.io.get_untrusted_types(file=path)) - SKOPS_TYPES - SKOPS_FUNCTIONS
    except Exception as exc:
        raise ModelError("release", f"skops cannot read {path}: {first_line(exc)}") from exc
    if unknown:
        names = ", ".join(sorted(unknown)[:5])
        raise ModelError(
            "release",
            f"{path} holds types that are not trusted: {names}; only scikit-learn's own estimators and what they "
            "consist of are",
        )


def _dicts(value: t.Any) -> t.Iterator[dict[str, t.Any]]:
    """Yield every mapping in a parsed JSON document, without recursion."""
    rest = [value]
    while rest:
        item = rest.pop()
        if isinstance(item, dict):
            yield item
            rest.extend(item.values())
        elif isinstance(item, list):
            rest.extend(item)


# --- Keras ---

#: Layers that run code or read files that the model names.
_KERAS_REFUSED = frozenset(
    {
        "FlaxLayer",
        "JaxLayer",
        "Lambda",
        "TFSMLayer",
        "TorchModuleWrapper",
        "__lambda__",
        "__typespec__",
        "function",
    }
)
_KERAS_MODULES = frozenset(
    {
        "builtins",
        "keras",
        "keras.activations",
        "keras.constraints",
        "keras.dtype_policies",
        "keras.initializers",
        "keras.layers",
        "keras.losses",
        "keras.metrics",
        "keras.models",
        "keras.optimizers",
        "keras.optimizers.schedules",
        "keras.quantizers",
        "keras.random",
        "keras.regularizers",
    }
)
#: Operations of the functional API (``keras.ops``) are saved by where they are defined.
_KERAS_OPERATIONS = re.compile(
    r"keras\.src\.(ops\.[a-z_]+|models\.(functional|sequential|model)|layers(\.[a-z0-9_]+)+)"
)
#: A ``config.json`` beyond this is no architecture: bytes.
_KERAS_CONFIG = 64 << 20


def check_keras(path: str) -> None:
    """Check the architecture in a ``.keras`` file: Keras's own layers only, none that runs code or reads files.

    :raises ModelError: it is not such a file or names something else (kind ``release``).
    """
    try:
        with zipfile.ZipFile(path) as archive:
            large = archive.getinfo("config.json").file_size > _KERAS_CONFIG
            config = None if large else json.loads(archive.read("config.json"))
    except (OSError, KeyError, ValueError, RecursionError, zipfile.BadZipFile, NotImplementedError, EOFError) as exc:
        raise ModelError(
            "release",
            f"{path} is not a keras file of Keras 3 ({first_line(exc)}): write it again with model.save() of Keras 3",
        ) from exc
    if not isinstance(config, dict):
        raise ModelError("release", f"{path} holds no architecture of a usual size: save the model with Keras 3 again")
    for node in _dicts(config):
        name, module = node.get("class_name"), node.get("module")
        if name is not None and (not isinstance(name, str) or name in _KERAS_REFUSED):
            raise ModelError("release", f"Keras cannot load {path}: {_refusal(name)}")
        if name is not None and (module is not None or "registered_name" in node):
            known = isinstance(module, str) and (module in _KERAS_MODULES or bool(_KERAS_OPERATIONS.fullmatch(module)))
            if not known or not _is_builtin(node.get("registered_name"), name):
                raise ModelError(
                    "release",
                    f"Keras cannot load {path}: it has '{name}', which is not Keras's own: a custom layer cannot be "
                    f"imported: {_EXPORT}",
                )
        vocabulary = node.get("vocabulary")
        if isinstance(vocabulary, str):
            raise ModelError(
                "release", f"{path} reads its vocabulary from the file {vocabulary}: save it with the words inside"
            )


#: A SavedModel holds operations instead of Python code.
_EXPORT = "export the model with model.export() and import that"


def _refusal(name: t.Any) -> str:
    if name == "function":
        return f"it has a custom function, whose code is missing: use one of keras.ops, or {_EXPORT}"
    article = "an" if str(name)[:1] in "AEIOU" else "a"
    return (
        f"it has {article} {name} layer, whose code would run: replace it by a layer of Keras, or {_EXPORT}"
        if name in ("Lambda", "__lambda__")
        else f"it has {article} {name}, which runs code or reads files that it names: replace it by a layer of Keras"
    )


def _is_builtin(registered: t.Any, name: str) -> bool:
    return registered is None or registered == name


# --- SavedModel ---

#: Stateful operations that a model for answering may hold. All other stateful ones are refused, as are unknown ones.
_STATEFUL = frozenset(
    """
    AnonymousHashTable AnonymousMutableHashTable Assert AssignAddVariableOp AssignSubVariableOp AssignVariableOp Case
    CheckNumerics CheckNumericsV2 CudnnRNN CudnnRNNV2 CudnnRNNV3 DeepCopy DestroyResourceOp DeviceIndex DisableCopyOnRead
    Empty GuaranteeConst HashTable HashTableV2 If InitializeTableV2 LookupTableExportV2 LookupTableFindV2
    LookupTableImportV2 LookupTableInsertV2 LookupTableRemoveV2 LookupTableSizeV2 Multinomial MutableDenseHashTableV2
    MutableHashTableOfTensorsV2 MutableHashTableV2 NonDeterministicInts ParameterizedTruncatedNormal RandomGamma
    RandomPoisson RandomPoissonV2 RandomShuffle RandomStandardNormal RandomUniform RandomUniformInt ReadVariableOp
    ResourceGather ResourceGatherNd ResourceScatterAdd ResourceScatterUpdate ResourceStridedSliceAssign RngReadAndSkip
    RngSkip Stack StackCloseV2 StackPopV2 StackPushV2 StackV2 StatefulPartitionedCall StatefulStandardNormal
    StatefulStandardNormalV2 StatefulTruncatedNormal StatefulUniform StatefulUniformFullInt StatefulUniformInt
    StatelessRandomGetAlg TemporaryVariable TensorArray TensorArrayCloseV3 TensorArrayConcatV3 TensorArrayGatherV3
    TensorArrayReadV3 TensorArrayScatterV3 TensorArraySizeV3 TensorArraySplitV3 TensorArrayV2 TensorArrayV3
    TensorArrayWriteV3 Timestamp TruncatedNormal VarHandleOp VarIsInitializedOp Variable VariableShape VariableV2 While
    """.split()  # noqa: SIM905
)
#: Operations without state that reach files, processes, devices or the network.
_REACHING = re.compile(
    r"_.*|.*(Dataset|Iterator|File|Reader|Summary|PyFunc|Py|Debug|Remote|TPU|Xla|Collective|Nccl|Save|Restore|Checkpoint"
    r"|Load|Sql|LMDB|Record|Snapshot|Sharded|Rpc|Print|Plugin|Custom|Register|Proto).*"
    r"|ImmutableConst|GenerateVocabRemapping|Copy|CopyHost|Send|Recv"
)
#: What the graph's own part for saving and loading variables may hold besides.
_SAVER = frozenset({"MergeV2Checkpoints", "RestoreV2", "Save", "SaveSlices", "SaveV2", "Restore", "RestoreSlice",
                    "ShardedFilename", "ShardedFilespec"})  # fmt: skip


def check_saved_model(path: str) -> None:
    """Check the operations of a SavedModel, in its graphs and in every function: none that reaches outside.

    The graph's own operations for its variables (``SaveV2``, ``RestoreV2``) may stand where the saver uses them, and
    nowhere else.

    :raises ModelError: it is damaged or holds something else (kind ``release``).
    """
    from tensorflow.core.protobuf import saved_model_pb2

    model = saved_model_pb2.SavedModel()
    file = os.path.join(path, "saved_model.pb")
    try:
        with open(file, "rb") as stream:
            model.ParseFromString(stream.read())
    except OSError as exc:
        raise ModelError("release", f"{path} is not a SavedModel: cannot read {file}: {exc.strerror}") from exc
    except Exception as exc:
        raise ModelError("release", f"{file} is damaged: {first_line(exc)}") from exc
    for graph in model.meta_graphs:
        _check_graph(path, graph)


def _check_graph(path: str, graph: t.Any) -> None:
    nodes = {node.name: node for node in graph.graph_def.node}
    functions = {function.signature.name: function for function in graph.graph_def.library.function}
    saver = graph.saver_def
    ends = {_node_name(each) for each in (saver.filename_tensor_name, saver.save_tensor_name, saver.restore_op_name)}
    used_by_saver = _slice(nodes, ends - {""})
    # What is run for an answer or at loading is not the saver's, wherever it stands.
    starts = {_node_name(info.name) for each in graph.signature_def.values() for info in each.outputs.values()}
    for name, collection in graph.collection_def.items():
        if "op" in name or "init" in name:
            starts |= {_node_name(each) for each in collection.node_list.value}
    answering = _slice(nodes, starts)
    saving = [node for name, node in nodes.items() if name in used_by_saver - answering]
    private = _reachable(saving, functions)
    others = [node for name, node in nodes.items() if name not in used_by_saver or name in answering]
    shared = _reachable(others, functions)
    roots = [name for name in graph.object_graph_def.concrete_functions if name in functions]
    for name in roots:
        shared |= {name} | _reachable(functions[name].node_def, functions)
    for node in others:
        _check_operation(path, node.op, functions, ())
    for node in saving:
        _check_operation(path, node.op, functions, _SAVER)
    for name, function in functions.items():
        allowed = _SAVER if name in private - shared else frozenset()
        for node in function.node_def:
            _check_operation(path, node.op, functions, allowed, name)
    for asset in graph.asset_file_def:
        if os.path.basename(asset.filename) != asset.filename or asset.filename in ("", ".", ".."):
            raise ModelError("release", f"{path} names the asset {asset.filename!r}, which lies outside of it")


def _check_operation(
    path: str, operation: str, functions: t.Collection[str], allowed: t.Collection[str], function: str = ""
) -> None:
    from tensorflow.python.framework import op_def_registry

    if operation in allowed or operation in _STATEFUL:
        return
    known = op_def_registry.get(operation)
    if known is None and operation in functions:  # a function may be called by its name, as an operation
        return
    if known is not None and not known.is_stateful and not _REACHING.fullmatch(operation):
        return
    where = f" in the function {function}" if function else ""
    raise ModelError(
        "release",
        f"the SavedModel {path} holds the operation {operation}{where}, which is not accepted: a model may compute, but not "
        "reach files, processes or the network; export it without",
    )


def _node_name(tensor: str) -> str:
    return tensor.removeprefix("^").split(":")[0]


def _slice(nodes: dict[str, t.Any], ends: t.Iterable[str]) -> set[str]:
    """Return the names of the nodes that *ends* depend on, themselves included."""
    found: set[str] = set()
    rest = [name for name in ends if name in nodes]
    while rest:
        name = rest.pop()
        if name not in found:
            found.add(name)
            rest += [each for each in map(_node_name, nodes[name].input) if each in nodes]
    return found


def _reachable(nodes: t.Iterable[t.Any], functions: dict[str, t.Any]) -> set[str]:
    """Return the names of all functions that *nodes* call, directly or not."""
    found: set[str] = set()
    rest = list(nodes)
    while rest:
        node = rest.pop()
        names = {node.op}
        for value in node.attr.values():
            names.add(value.func.name)
            names |= {each.name for each in value.list.func}
        for name in names & functions.keys() - found:
            found.add(name)
            rest += functions[name].node_def
    return found
