"""The default study, the JSON schema and the tables of settings, written from the configuration."""

import json
import textwrap
from typing import Any

import yaml
from pydantic import BaseModel

from isogloss.study.messages import sections_of
from isogloss.study.schema import Config


def schema() -> str:
    """The JSON schema of the configuration."""
    return json.dumps(Config.model_json_schema(), indent=1, sort_keys=True) + "\n"


def commented(config: BaseModel, indent: int = 0) -> str:
    """A configuration as YAML in which every key is preceded by its meaning."""
    pad, lines = " " * indent, []
    for name, field in type(config).model_fields.items():
        value = getattr(config, name)
        wrapped = textwrap.wrap(_meaning(field.description, field.annotation), 96 - indent)
        lines += [f"{pad}# {line}" for line in wrapped]
        if isinstance(value, BaseModel):
            lines += [f"{pad}{name}:", commented(value, indent + 2)]
        elif isinstance(value, dict) and any(isinstance(v, BaseModel) for v in value.values()):
            lines.append(f"{pad}{name}:")
            for key, entry in value.items():
                used = entry.model_dump(exclude_defaults=True, mode="json")
                text = yaml.safe_dump({key: used}, sort_keys=False, allow_unicode=True, width=96)
                lines.append(textwrap.indent(text.rstrip(), pad + "  "))
        elif isinstance(value, dict) and value:
            lines.append(f"{pad}{name}:")
            lines += [f"{pad}  {json.dumps(key)}: {json.dumps(v)}" for key, v in value.items()]
        else:
            text = yaml.safe_dump([value], default_flow_style=True, width=10**6)
            lines.append(f"{pad}{name}: {text.strip()[1:-1]}")
        if indent == 0:
            lines.append("")
    return "\n".join(lines).rstrip()


def _meaning(description: str | None, annotation: Any) -> str:
    choices = getattr(annotation, "__args__", ())
    plain = choices and all(isinstance(c, str) for c in choices)
    return f"{description} [{', '.join(choices)}]" if plain else str(description)


def tables() -> str:
    """Every key with its default and its meaning: a Markdown table per section."""
    lines: list[str] = []
    places = sections_of(Config)
    # A section in several places has its table at the first of the shallowest.
    by_depth = sorted(reversed(places), key=lambda at: -at[0].count("."))
    tabled = {section: place for place, section in by_depth}
    for place, section in places:
        if tabled[section] != place:
            continue
        lines += ["", f"## {f'`{place}`' if place else 'Top level'}", ""]
        lines += ["| key | default | meaning |", "| --- | --- | --- |"]
        for name, field in section.model_fields.items():
            default = "needed" if field.is_required() else _default(section, name)
            meaning = _meaning(field.description, field.annotation)
            meaning = meaning.replace("|", "\\|").replace("<", "\\<")
            lines.append(f"| `{name}` | {default} | {meaning} |")
    return "\n".join(lines).strip() + "\n"


def _default(section: type[BaseModel], name: str) -> str:
    """A default as code; of a section nothing, of a registry the names in it."""
    default = section.model_fields[name].get_default(call_default_factory=True)
    if isinstance(default, BaseModel):
        return ""
    if isinstance(default, dict) and any(isinstance(v, BaseModel) for v in default.values()):
        return ", ".join(f"`{key}`" for key in default)
    return f"`{json.dumps(default)}`"
