"""Values of options that are mappings of text, wherever there are such options."""

from __future__ import annotations

import typing as t

import pytest

from ansible_collections.modelship.core.plugins.module_utils._core.errors import ModelshipError
from ansible_collections.modelship.core.plugins.module_utils._core.values import texts, variables
from ansible_collections.modelship.core.plugins.module_utils._kubernetes.declared import KubernetesOptions
from ansible_collections.modelship.core.plugins.module_utils._oci.settings import image_settings
from ansible_collections.modelship.core.plugins.module_utils._service.config import Config
from ansible_collections.modelship.core.plugins.module_utils._service.service import Service


def test_scalars_become_text_and_null_is_left_out() -> None:
    given = {"A": None, "B": True, "C": False, "D": 1, "E": 1.5, "F": "", "G": "x=y\nz"}
    expected = {"B": "true", "C": "false", "D": "1", "E": "1.5", "F": "", "G": "x=y\nz"}
    assert texts(given, "environment") == variables(given, "environment") == expected
    assert texts(None, "environment") == {}


def _kubernetes(option: str) -> t.Callable[[dict[str, t.Any]], t.Any]:
    def read(given: dict[str, t.Any]) -> t.Any:
        options = KubernetesOptions.from_parameters({"name": "digits", "kubernetes": {option: given}})
        return getattr(options, option)

    return read


def _image(option: str) -> t.Callable[[dict[str, t.Any]], t.Any]:
    def read(given: dict[str, t.Any]) -> t.Any:
        found = image_settings(
            {},
            {option: given},
            name="x",
            python=None,
            serves=False,
            libraries=False,
            release_digest="",
            release_name="",
        )
        if option == "labels":
            return found["Labels"]
        return dict(item.partition("=")[::2] for item in found["Env"])

    return read


def _service(given: dict[str, t.Any]) -> t.Any:
    return Service.parse({"name": "x", "folder": "/x", "command": ["true"], "environment": given}).environment


def _config(option: str) -> t.Callable[[dict[str, t.Any]], t.Any]:
    def read(given: dict[str, t.Any]) -> t.Any:
        config = Config.parse({"folder": "/x", option: given})
        assert config is not None
        return getattr(config, option)

    return read


#: Whatever reads a mapping of text; names that each takes.
READERS: dict[str, tuple[t.Callable[[dict[str, t.Any]], t.Any], str]] = {
    "kubernetes.secrets": (_kubernetes("secrets"), "A"),
    "kubernetes.config_files": (_kubernetes("config_files"), "/etc/a"),
    "kubernetes.secret_files": (_kubernetes("secret_files"), "/etc/a"),
    "kubernetes.annotations": (_kubernetes("annotations"), "a"),
    "kubernetes.pod_annotations": (_kubernetes("pod_annotations"), "a"),
    "kubernetes.namespace_labels": (_kubernetes("namespace_labels"), "a"),
    "kubernetes.node_selector": (_kubernetes("node_selector"), "a"),
    "config.env": (_image("env"), "A"),
    "config.labels": (_image("labels"), "a"),
    "environment": (_service, "A"),
    "config.files": (_config("files"), "a"),
    "config.secrets": (_config("secrets"), "a"),
}


@pytest.mark.parametrize("option", READERS)
@pytest.mark.parametrize(("value", "words"), [([1, "two"], "a list"), ({"a": True}, "a mapping")])
def test_what_is_not_text_is_refused_by_its_name_in_every_option(option: str, value: object, words: str) -> None:
    read, name = READERS[option]
    with pytest.raises(ModelshipError) as caught:
        read({name: value})
    assert f"{option}.{name} is {words}: give a string, a number or a boolean" in caught.value.message
    assert "two" not in caught.value.message  # it may be secret


@pytest.mark.parametrize("option", READERS)
def test_text_that_has_no_utf_8_form_is_refused_by_its_name_in_every_option(option: str) -> None:
    read, name = READERS[option]
    with pytest.raises(ModelshipError) as caught:
        read({name: "secret\udcff"})
    assert f"{option}.{name} has half of a surrogate pair" in caught.value.message
    assert "secret" not in caught.value.message.replace(option, "")
    with pytest.raises(ModelshipError, match=r"is not valid Unicode|cannot be the name"):
        read({f"{name}\udcff": "x"})


@pytest.mark.parametrize("option", READERS)
def test_scalars_are_text_and_null_is_left_out_in_every_option(option: str) -> None:
    read, name = READERS[option]
    assert read({name: True})[name] == "true"
    assert read({name: 7})[name] == "7"
    assert name not in read({name: None})


@pytest.mark.parametrize("option", ["kubernetes.secrets", "config.env", "environment"])
@pytest.mark.parametrize("name", ["A=B", "", "1A", "A B", "Ä"])
def test_what_cannot_name_a_variable_is_refused_in_every_environment(option: str, name: str) -> None:
    read, _name = READERS[option]
    with pytest.raises(
        ModelshipError, match=f"{option}: '{name.replace('=B', '=…')}' cannot be the name of a variable"
    ):
        read({name: "x"})
