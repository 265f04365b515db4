# Copyright: (c) 2026, the modelship authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Recognition of secrets in values: passwords in URLs and connection strings, named secrets in JSON, YAML and options, keys."""

from __future__ import annotations

import base64
import json
import re
import typing as t
import urllib.parse

from .secret_names import is_secret_name

#: Start and end of a part of a text.
Span = tuple[int, int]

_PATTERNS = (
    # user and password in a URL; the second for those with "/", "?" or "#", which drivers of databases accept
    re.compile(r"://[^\s/?#:@\[]*:(?P<secret>[^\s/?#]{1,512})@"),
    re.compile(r"://[^\s/?#:@\[\"']{1,200}:(?!\d{1,5}(?:[/?#,]|$))(?P<secret>[^\s@\"']{1,512})@"),
    # a token as the user of a URL
    re.compile(r"://(?P<secret>(?=[^\s/?#:@]{0,100}\d)[^\s/?#:@]{16,512})@"),
    re.compile(r"(?m)(?:^|(?<=[\s\"'=]))[\w.+-]{1,100}:(?P<secret>[^\s@:/]{1,512})@(?:tcp|unix)\("),
    re.compile(r"\bjdbc:oracle:\w+:[^\s/@:]+/(?P<secret>[^\s@]{1,512})@"),
    re.compile(
        r"-----BEGIN [A-Z ]{0,40}PRIVATE KEY(?: BLOCK)?-----(?s:.*?)(?:-----END [A-Z ]{0,40}PRIVATE KEY(?: BLOCK)?-----\n?|\Z)"
    ),
    re.compile(
        r"(?i)\bauthorization\\?[\"']?\s*[:=]\s*\\?[\"']?(?:basic|bearer|token|apikey)(?:\s|%20)+(?P<secret>[^\s\"',;\\]{1,8192})"
    ),
    re.compile(
        r"\"auth\\?\"\s*:\s*\\?\"(?P<secret>[A-Za-z0-9+/]{8,4096}={0,2})\\?\""
    ),  # of a registry, in Docker's configuration
    # the tokens of well-known services
    re.compile(
        r"(?<![A-Za-z0-9])(?:gh[pousr]_[A-Za-z0-9]{30,255}|github_pat_\w{22,255}|glpat-[\w-]{20,255}|hf_[A-Za-z0-9]{30,255}"
        r"|sk-(?=[\w-]{0,255}\d)[A-Za-z0-9_-]{32,255}|xox[abeoprs]-[A-Za-z0-9-]{10,255}|npm_[A-Za-z0-9]{36}|AIza[\w-]{35}"
        r"|pypi-AgE[\w-]{50,}|eyJ[\w-]{8,}\.eyJ[\w-]{4,}\.[\w-]{8,})"
    ),
    re.compile(r"\bhooks\.slack\.com/services/(?P<secret>[\w/]{8,})"),
)
#: The whole text is the value of a header, or a proxy without a scheme.
_HEADER = re.compile(r"(?i)(?P<scheme>basic|bearer|token) (?P<secret>[A-Za-z0-9+/=._~-]{8,})")
_SCHEME = re.compile(r"(?i)basic|bearer|token|apikey")
_PROXY = re.compile(r"(?!mailto:|sips?:|acct:|xmpp:|ssh:|git:)[\w.+-]+:(?P<secret>[^\s/@:]+)@[\w.-]+:\d{1,5}/?")
#: C(name=value), and C("name": value) as in JSON and YAML; a backslash where that is inside of a string.
_KEY = re.compile(r"(?<![\w.])(?P<key>[A-Za-z_][\w.-]{0,100}+)(?:\s{0,20}=\s*|\\?[\"']\s{0,20}[:=]\s*|:[ \t]+)")
_VALUE = re.compile(
    r"(?:\\\"(?P<inner>[^\"\\]*)\\\"|\"(?P<double>(?:[^\"\\]|\\.)*)\"|'(?P<single>[^']*)'"
    r"|(?![{\[])(?P<plain>(?:[^;&\s,\"'\\]|,(?!\s*[\w.\"'-]+\s*[:=]))+))"
)
_NAMED = (
    # the next argument of a command line or of a list
    re.compile(r"(?<![\w-])--?(?P<key>[A-Za-z][\w-]{1,100}+)[\"']?,?\s{1,20}[\"']?(?![-\"'])(?P<secret>[^\s\"',\]]+)"),
    # items with a name and a value, in YAML, JSON or XML
    re.compile(
        r"\b(?:name|key)[\"']?\s{0,9}[:=]\s{0,9}[\"']?(?P<key>[\w.-]{1,100}+)[\"']?,?\s{1,99}[\"']?value[\"']?\s{0,9}[:=]\s{0,9}"
        r"(?:\"(?P<double>[^\"]*)\"|'(?P<single>[^']*)'|(?P<secret>[^\s\"',}]+))"
    ),
    re.compile(r"<(?P<key>[A-Za-z][\w.-]{0,100}+)>(?P<secret>[^<]+)</"),
)
_ARGUMENT = re.compile(r"--?(?P<key>[A-Za-z][\w-]*)")
#: A line C(key: value) or C(key = value) of YAML, TOML or INI, whose value may have spaces.
_LINE = re.compile(
    r"(?P<indent>[ \t]*(?:- +)*)(?:export +)?[\"']?(?P<key>[\w.-]+)[\"']?(?:\s*:(?:\s+|$)|\s+=\s+|(?<=\w)=)(?P<value>.*)"
)
#: Further parameters after the first.
_FURTHER = re.compile(r"[;&]|\s[\w-]+\s*=")
#: Values of a key whose own value follows in deeper lines.
_FOLLOWS = re.compile(r"([|>][-+0-9]*|[{\[])?\s*(#.*)?")
#: Another variable's value is put there by Kubernetes, a shell, a template or a library.
_REFERENCE = re.compile(r"\$\(\w+\)|\$\{[^}]*\}|\$[A-Z_][A-Z0-9_]*|<[^>]*>|\*+|%\(\w+\)s|\{\{.*")
_SWITCHES = frozenset(("true", "false", "yes", "no", "on", "off", ""))
_NOTHING = frozenset(("null", "none", "~", "{}", "[]"))
#: Names of parameters that are no secret's elsewhere, and the other way round.
_PARAMETERS = frozenset(("sig", "signature", "x-amz-signature", "x-goog-signature"))
_ELSEWHERE = frozenset(("key", "keys"))
#: A file beside which nothing else has such a name.
_FILE = re.compile(
    r"(~|\.{1,2})?(/[\w.@-]+)*/[\w@-][\w.@-]*\.(key|pem|crt|cer|der|json|txt|pub|p12|pfx|jks|toml|ya?ml)"
)


def is_secret(name: str, value: t.Any) -> bool:
    """Tell whether the variable *name* with *value* holds a secret, as far as its name or its value shows.

    A switch (C(ALLOW_EMPTY_PASSWORD=yes)) and the path of a key or a file of credentials are none.
    """
    text = str(value)
    if is_secret_name(name) and text.lower() not in _SWITCHES and not _FILE.fullmatch(text):
        return True
    return is_secret_value(text)


def is_secret_value(value: str) -> bool:
    """Tell whether there is a secret in the text *value*; see :func:`secret_spans`."""
    return bool(secret_spans(value))


def passwords_in(value: str) -> set[str]:
    """Return the secrets in the text *value*, as they are written, and decoded; see :func:`secret_spans`."""
    found = {value[begin:end] for begin, end in secret_spans(value)}
    for text in list(found):
        lines = [line.strip() for line in text.splitlines() if not line.strip().startswith("-----")]
        found |= {line for line in lines if line}
        found |= {match["value"] for line in lines if (match := _LINE.fullmatch(line)) and match["value"]}
    return found | {plain for text in found for plain in decoded(text)}


def secret_values(variables: t.Mapping[str, t.Any]) -> set[str]:
    """Return the values of *variables* that are secret by name or shape, and the passwords in them."""
    found = {str(value) for name, value in variables.items() if value not in (None, "") and is_secret(name, value)}
    return found | {password for value in found for password in passwords_in(value)}


def replaced(text: str, hide: t.Callable[[str], str]) -> str:
    """Return *text* with what *hide* returns for each secret in it; see :func:`secret_spans`."""
    parts, rest = [], 0
    for begin, end in secret_spans(text):
        parts += [text[rest:begin], hide(text[begin:end])]
        rest = end
    return "".join([*parts, text[rest:]])


def is_option(argument: t.Any) -> bool:
    """Tell whether *argument* is an option whose value, a secret, is the next argument (C(--password))."""
    match = _ARGUMENT.fullmatch(str(argument))
    return bool(match) and is_secret_name(t.cast("re.Match[str]", match)["key"])


def secret_spans(text: str) -> list[Span]:
    """Return where secrets are in *text*, in order and without overlaps.

    These are passwords in URLs, connection strings and Authorization headers, private keys, tokens of well-known services,
    and the values of secret names in JSON, YAML, INI, queries and command lines.
    """
    found = [match.span("secret" if match.re.groups else 0) for each in _PATTERNS for match in each.finditer(text)]
    if (header := _HEADER.fullmatch(text)) and _is_header(header["scheme"].lower(), header["secret"]):
        found.append(header.span("secret"))
    if proxy := _PROXY.fullmatch(text):
        found.append(proxy.span("secret"))
    for key in _KEY.finditer(text):
        if _is_secret_parameter(key["key"]) and (match := _VALUE.match(text, key.end())):
            group = t.cast(str, match.lastgroup)
            begin, end = match.span(group)
            if _SCHEME.fullmatch(match[group]):  # of an Authorization header, which has a pattern of its own
                continue
            if group == "plain":
                end = begin + len(text[begin:end].rstrip("}])" if text[begin] not in "$<{" else ""))
            found.append((begin, end))
    for each in _NAMED:
        found += [
            match.span(match.lastgroup or 0) for match in each.finditer(text) if _is_secret_parameter(match["key"])
        ]
    if ":" in text or "=" in text:
        found += _in_lines(text)
    return _united([span for span in found if _is_content(text[slice(*span)])])


def _in_lines(text: str) -> list[Span]:
    """Return the values of secret keys that are whole lines, and the deeper lines below such keys."""
    found: list[Span] = []
    offset = 0
    column: int | None = None  # of a secret key whose value follows in deeper lines
    for line in text.splitlines(keepends=True):
        content = line.strip()
        begin = offset + len(line) - len(line.lstrip())
        offset += len(line)
        if column is not None and (not content or begin - (offset - len(line)) > column):
            found += [(begin, begin + len(content))] if content else []
            continue
        column = None
        match = _LINE.fullmatch(line.rstrip("\r\n"))
        if match and _is_secret_parameter(match["key"]):
            value = match["value"]
            if _FOLLOWS.fullmatch(value):
                column = len(match["indent"])
            elif (quoted := _VALUE.match(value)) and quoted.lastgroup != "plain":
                continue  # found already, without what follows it
            elif "=" not in line[: match.start("value")].rstrip()[-1:] or not _FURTHER.search(value):
                value = value.rstrip().rstrip(",")
                start = offset - len(line) + match.start("value")
                found.append((start, start + len(value)))
    return found


def _united(spans: list[Span]) -> list[Span]:
    united: list[Span] = []
    for begin, end in sorted(spans):
        if united and begin < united[-1][1]:
            united[-1] = (united[-1][0], max(end, united[-1][1]))
        elif end > begin:
            united.append((begin, end))
    return united


def _is_secret_parameter(name: str) -> bool:
    lower = name.lower()
    return lower in _PARAMETERS or (is_secret_name(name) and lower not in _ELSEWHERE)


def _is_content(text: str) -> bool:
    """Tell whether *text* can be a secret: no switch, no reference to another value, no path of a file."""
    text = text.strip().strip("\"'")
    lower = text.lower()
    return (
        lower not in _SWITCHES
        and lower not in _NOTHING
        and not _FILE.fullmatch(text)
        and not _REFERENCE.fullmatch(text)
    )


def _is_header(scheme: str, text: str) -> bool:
    """Tell whether C(scheme text) is a header's value, and no words of a language ("token classification")."""
    if scheme == "basic":
        return any(":" in plain for plain in _base64(text))
    return scheme == "bearer" or any(letter.isdigit() for letter in text)


def decoded(text: str) -> set[str]:
    """Return the secret *text* without quotes, escapes, percent-encoding and the base64 of C(user:password)."""
    bare = text.strip("\"'")
    found = {bare, urllib.parse.unquote(bare)}
    if header := _HEADER.fullmatch(bare):
        found |= {header["secret"], *decoded(header["secret"])}
    found |= {password for plain in _base64(bare) if (password := plain.partition(":")[2])}
    if "\\" in bare:
        try:
            found.add(str(json.loads(f'"{bare}"')))
        except ValueError:
            return found
    return {each for each in found if each}


def _base64(text: str) -> set[str]:
    try:
        return {base64.b64decode(text, validate=True).decode()}
    except ValueError:  # binascii.Error and UnicodeDecodeError are two
        return set()
