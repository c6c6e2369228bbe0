"""Models whose fields are described by the docstrings below them, read when somebody asks for the JSON schema.

pydantic's `use_attribute_docstrings` reads them when a class is made, a seventh of the API's start, and every runner would
pay for what only the API reference shows.
"""

import ast
import inspect
import sys
from collections.abc import Iterator
from functools import cache
from itertools import pairwise

from pydantic import BaseModel, GetJsonSchemaHandler
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema


class Documented(BaseModel):
    """A model whose JSON schema says of each field what the docstring below it says."""

    @classmethod
    def __get_pydantic_json_schema__(cls, core_schema: CoreSchema, handler: GetJsonSchemaHandler, /) -> JsonSchemaValue:
        """Add the descriptions to what pydantic makes."""
        schema = handler(core_schema)
        properties = handler.resolve_ref_schema(schema).get("properties", {})
        for name, text in describe_fields(cls).items():
            field = cls.model_fields[name]
            shown = next((alias for alias in (name, field.alias, field.serialization_alias) if alias in properties), None)
            if shown is not None:
                properties[shown].setdefault("description", text)
        return schema


def describe_fields(model: type[BaseModel]) -> dict[str, str]:
    """The docstrings below the fields of a model, its own before those of the classes it is made from."""
    found: dict[str, str] = {}
    for each in reversed(model.__mro__):
        found |= _describe_classes(each.__module__).get(each.__name__, {}) if issubclass(each, BaseModel) else {}
    return {name: text for name, text in found.items() if name in model.model_fields}


@cache
def _describe_classes(module: str) -> dict[str, dict[str, str]]:
    try:
        tree = ast.parse(inspect.getsource(sys.modules[module]))
    except (OSError, TypeError):  # shipped without its source
        return {}
    return {node.name: dict(_docstrings_in(node)) for node in ast.walk(tree) if isinstance(node, ast.ClassDef)}


def _docstrings_in(node: ast.ClassDef) -> Iterator[tuple[str, str]]:
    for field, text in pairwise(node.body):
        match field, text:
            case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(words))):
                yield name, inspect.cleandoc(words)
