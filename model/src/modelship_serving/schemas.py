# SPDX-License-Identifier: GPL-3.0-or-later
"""The schemas of the API, made from a release's signature (JSON Schema 2020-12, the dialect of OpenAPI 3.1)."""

from __future__ import annotations

import itertools
import typing as t

from .context import Context
from .release import TensorSpec
from .tensors import Field
from .v2_request import MOST_ID

Schema = dict[str, t.Any]

_NO_NUMBER = "`null` stands for what JSON has no number for, NaN and the infinities"
#: What rounds to infinity by dtype, where the signature gives no range: the greatest finite value and half a step.
_INFINITE = {"float16": 65520.0, "float32": 3.4028235677973366e38}


def schemas(context: Context) -> Schema:
    """Return the document's schemas by name."""
    fields = context.models.default.fields
    names = [field.name for field in fields]
    schemas: Schema = {f"input.{field.name}": input_schema(field) for field in fields}
    schemas["Sample"] = obj({name: ref(f"input.{name}") for name in names}, closed=True)
    bare = [ref(f"input.{names[0]}")] if len(names) == 1 else []
    schemas["PredictRequest"] = {"oneOf": [ref("Sample"), ref("Instances")]}
    # All as objects, or all bare: not some of each.
    kinds = [{"type": "array", "minItems": 1, "items": item} for item in [ref("Sample"), *bare]]
    schemas["Instances"] = obj({"instances": {"anyOf": kinds}}, closed=True)
    schemas["Prediction"] = obj(_prediction(context))
    release = {"type": "string", "pattern": "^sha256:[0-9a-f]{64}$"}
    schemas["PredictAnswer"] = {
        "anyOf": [
            {"allOf": [ref("Prediction"), obj({"release": release})]},
            obj({"predictions": {"type": "array", "minItems": 1, "items": ref("Prediction")}, "release": release}),
        ]
    }
    if context.settings.explain:
        number = {"type": "number"}
        schemas["Explanation"] = obj(
            {
                "method": {"type": "string"},
                "result": {"type": "integer", "description": "Index of the explained class."},
                "label": {"type": "string"},
                "score": {**number, "description": "The class's score for this input."},
                "baseline": {**number, "description": "Its score for an empty picture."},
                "grid": {
                    "type": "array",
                    "description": "Rows of cells that cover the picture; positive where they speak for the class.",
                    "items": {"type": "array", "items": number},
                },
                "runs": {"type": "integer", "description": "Inputs that the model was asked about."},
                "release": release,
            }
        )
    schemas["Error"] = obj({"error": {"type": "string", "description": "One line that names the field."}})
    return {**schemas, **_v2_schemas(context)}


def _prediction(context: Context) -> Schema:
    """Return the properties of the prediction for one sample: the class of a classifier, and all other outputs by name."""
    model = context.models.default
    signature = model.release.signature
    output = signature.class_output
    others = {spec.name: _output_schema(spec) for place, spec in enumerate(signature.outputs) if place != output}
    found: Schema = {"outputs": obj(others)} if others else {}
    if output is None:
        return found
    labels = signature.labels or ()
    count = len(labels)
    found["result"] = {"type": "integer", "minimum": 0, "maximum": count - 1, "description": "Index of the class."}
    found["label"] = {"enum": list(dict.fromkeys(labels))}
    # Probabilities, or other scores where they do not add up to 1.
    number: Schema = {"type": "number"}
    if model.gives_probabilities(output):
        name = "probabilities"
    else:
        name = "scores"
        number = {"type": ["number", "null"], "description": f"{_NO_NUMBER}."}
    found[name] = {"type": "array", "items": number, "minItems": count, "maxItems": count}
    return found


def _v2_schemas(context: Context) -> Schema:
    model = context.models.default
    outputs = list(zip(model.release.signature.outputs, model.output_datatypes, strict=True))
    text = {"type": "string"}
    parameters = {"type": ["object", "null"]}
    described = [
        {"name": field.name, "datatype": field.datatype, "shape": [-1, *field.shape]} for field in model.fields
    ]
    tensor = obj({"name": text, "datatype": text, "shape": {"type": "array", "items": {"type": "integer"}}})
    # No data where a binary output was asked for: it follows the JSON.
    given = {
        **tensor,
        "properties": {
            **tensor["properties"],
            "data": {"type": "array", "description": f"{_NO_NUMBER}; binary data has them."},
            "parameters": parameters,
        },
    }
    asked = obj({"name": {"enum": [spec.name for spec, _datatype in outputs]}}, optional={"parameters": parameters})
    inputs: Schema = {
        "type": "array",
        "minItems": len(model.fields),
        "maxItems": len(model.fields),
        "items": {"anyOf": [_v2_input(field) for field in model.fields]},
    }
    return {
        "Server": obj({"name": text, "version": text, "extensions": {"type": "array", "items": text}}),
        "Model": {
            **obj(
                {
                    "name": {"const": model.release.name},
                    "versions": {"type": "array", "items": text},
                    "platform": text,
                    "inputs": {"type": "array", "items": tensor},
                    "outputs": {"type": "array", "items": tensor},
                }
            ),
            "examples": [
                {
                    "name": model.release.name,
                    "versions": context.models.versions,
                    "platform": model.release.format,
                    "inputs": described,
                    "outputs": [
                        {"name": spec.name, "datatype": datatype, "shape": list(spec.shape)}
                        for spec, datatype in outputs
                    ],
                }
            ],
        },
        "InferRequest": obj(
            {"inputs": inputs},
            optional={
                "id": {"type": ["string", "null"], "maxLength": MOST_ID},
                "parameters": parameters,
                "outputs": {
                    "type": ["array", "null"],
                    "items": asked,
                    "maxItems": len(outputs),
                    "description": "Each at most once; all where none is named.",
                },
            },
        ),
        "InferAnswer": obj(
            {"model_name": text, "model_version": text, "outputs": {"type": "array", "items": given}},
            optional={"id": text, "parameters": parameters},
        ),
    }


def flat(values: t.Any) -> list[t.Any]:
    """Return nested lists as one list; a number as a list of it."""
    level = values if type(values) is list else [values]
    while level and type(level[0]) is list:
        level = list(itertools.chain.from_iterable(level))
    return level


def number_schema(field: Field) -> Schema:
    """Return the schema of one number of *field*."""
    if field.dtype.kind == "b":
        return {"type": "boolean"}
    whole = field.dtype.kind != "f"
    if field.range is not None:
        low, high = field.range
    elif whole:
        low = -(2 ** (8 * field.dtype.itemsize - 1)) if field.dtype.kind == "i" else 0
        high = 2 ** (8 * field.dtype.itemsize - (field.dtype.kind == "i")) - 1
    elif field.dtype.name in _INFINITE:
        limit = _INFINITE[field.dtype.name]
        return {"type": "number", "exclusiveMinimum": -limit, "exclusiveMaximum": limit}
    else:
        return {"type": "number"}
    limits = [int(low), int(high)] if whole else [low, high]
    return {"type": "integer" if whole else "number", "minimum": limits[0], "maximum": limits[1]}


def input_schema(field: Field) -> Schema:
    """Return the schema of one sample of *field*: its numbers flat or nested, axes of length 1 at the end left out or not."""
    number = number_schema(field)
    shapes = [(field.size,), field.shape]
    while shapes[-1] and shapes[-1][-1] == 1:
        shapes.append(shapes[-1][:-1])
    unique = list(dict.fromkeys(shapes)) if field.size > 1 else [(), *dict.fromkeys(shape for shape in shapes if shape)]
    return {"title": f"{field.name}: {field.describe()}", "anyOf": [_nested(number, shape) for shape in unique]}


def _nested(item: Schema, shape: tuple[int, ...]) -> Schema:
    for length in reversed(shape):
        item = {"type": "array", "items": item, **({} if length < 0 else {"minItems": length, "maxItems": length})}
    return item


def _output_schema(spec: TensorSpec) -> Schema:
    """Return the schema of one sample of an output; an axis of -1 is of any length."""
    if spec.dtype == "bool":
        return _nested({"type": "boolean"}, spec.shape[1:])
    if not spec.dtype.startswith("float"):
        return _nested({"type": "integer"}, spec.shape[1:])
    return {**_nested({"type": ["number", "null"]}, spec.shape[1:]), "description": f"{_NO_NUMBER}."}


def _v2_input(field: Field) -> Schema:
    """One tensor of a single sample: larger batches are taken too, but JSON Schema cannot tie *data* to *shape*."""
    number = number_schema(field)
    single = [_nested(number, (field.size,)), *([_nested(number, (1, *field.shape))] if field.shape else [])]
    return {
        "title": field.name,
        "type": "object",
        "required": ["name", "shape", "datatype", "data"],
        "properties": {
            "name": {"const": field.name},
            "shape": {
                "type": "array",
                "prefixItems": [{"const": length} for length in (1, *field.shape)],
                "minItems": 1 + len(field.shape),
                "maxItems": 1 + len(field.shape),
                "description": f"[batch, {', '.join(map(str, field.shape))}]; a batch of any size is taken.",
            },
            "datatype": {"const": field.datatype},
            "data": {"anyOf": single},
            "parameters": {"type": ["object", "null"]},
        },
    }


def ref(name: str, kind: str = "schemas") -> Schema:
    """Return a reference to a component."""
    return {"$ref": f"#/components/{kind}/{name}"}


def obj(properties: Schema, optional: Schema | None = None, closed: bool = False) -> Schema:
    """Return the schema of an object; *closed*: no other properties."""
    schema: Schema = {"type": "object", "required": list(properties), "properties": {**properties, **(optional or {})}}
    if closed:
        schema["additionalProperties"] = False
    return schema
