"""Keeps the roles' documentation one thing: ``meta/argument_specs.yml`` is the source, ``defaults/main.yml`` must agree with it,
and the table between the ``<!-- options -->`` marks of each README is rendered from both.

``role_docs.py`` writes the tables, ``role_docs.py --check`` only reports; exit status 1 where something disagrees.
"""

from __future__ import annotations

import json
import re
import sys
import typing as t
from pathlib import Path

import yaml

ROLES = Path(__file__).resolve().parents[2] / "roles"
MARKS = re.compile(r"<!-- options -->.*?<!-- /options -->", re.DOTALL)


def flat(text: str | list[str]) -> str:
    """Return a description, given as text or list of texts, on one line without Ansible's markup."""
    line = " ".join(text) if isinstance(text, list) else text
    line = re.sub(r"\b[VOCI]\(([^)]*)\)", r"`\1`", " ".join(line.split()))
    return line.replace("|", "\\|")


def shown(value: t.Any) -> str:
    """Return a default as it is shown in the table."""
    return "`" + (value if isinstance(value, str) and value else json.dumps(value)).replace("|", "\\|") + "`"


def options_of(role: Path) -> dict[str, dict[str, t.Any]]:
    """Return the options of the role's main entry point."""
    specs = yaml.safe_load((role / "meta" / "argument_specs.yml").read_text())["argument_specs"]
    return t.cast("dict[str, dict[str, t.Any]]", specs["main"].get("options", {}))


def disagreements(role: Path) -> t.Iterator[str]:
    """Yield what is wrong between the role's options and its defaults."""
    options = options_of(role)
    defaults = yaml.safe_load((role / "defaults" / "main.yml").read_text()) or {}
    for name in sorted(defaults.keys() - options.keys()):
        yield f"{role.name}: {name} has a default but is not in meta/argument_specs.yml"
    for name, option in options.items():
        if name not in defaults and not option.get("required"):
            yield f"{role.name}: {name} is optional but has no default in defaults/main.yml"
        if "default" in option and option["default"] != defaults.get(name):
            yield f"{role.name}: {name} has default {option['default']!r} in the specs, {defaults.get(name)!r} in the defaults"
        if not name.startswith(f"{role.name}_"):
            yield f"{role.name}: {name} lacks the role's prefix"


def rendered(role: Path) -> str:
    """Return the role's README with its options table made anew."""
    defaults = yaml.safe_load((role / "defaults" / "main.yml").read_text()) or {}
    lines = ["<!-- options -->", "", "| variable | type | default | meaning |", "|---|---|---|---|"]
    for name, option in options_of(role).items():
        default = "required" if option.get("required") else shown(defaults.get(name))
        kind = option.get("type", "str") + (f" of {option['elements']}" if "elements" in option else "")
        choices = f" One of {', '.join(f'`{choice}`' for choice in option['choices'])}." if "choices" in option else ""
        lines.append(f"| `{name}` | {kind} | {default} | {flat(option['description'])}{choices} |")
    lines += ["", "<!-- /options -->"]
    text = (role / "README.md").read_text()
    if not MARKS.search(text):
        text = text.rstrip() + "\n\n## Variables\n\n<!-- options --><!-- /options -->\n"
    return MARKS.sub(lambda _match: "\n".join(lines), text)


def main() -> int:
    """Check every role, and write the READMEs unless ``--check`` is given."""
    problems: list[str] = []
    for role in sorted(path for path in ROLES.iterdir() if path.is_dir()):
        problems += disagreements(role)
        text = rendered(role)
        if text != (role / "README.md").read_text():
            if "--check" in sys.argv:
                problems.append(
                    f"{role.name}: README.md is not what meta/argument_specs.yml says: run {Path(__file__).name}"
                )
            else:
                (role / "README.md").write_text(text)
    print("\n".join(problems) or "role documentation agrees")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
