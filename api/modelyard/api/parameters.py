"""Query parameters no route knows are refused: a filter with a slip of the pen would answer with everything."""

from collections.abc import Sequence
from difflib import get_close_matches

from fastapi import Request
from fastapi.dependencies.models import Dependant

from modelyard.api.dependencies import AnyCaller
from modelyard.api.errors import ApiError


async def refuse_unknown_parameters(request: Request, caller: AnyCaller) -> None:
    """A dependency of routes. Raises `ApiError` 422 for the first parameter the route does not know."""
    if not request.scope["query_string"]:
        return
    known = sorted(_names(request.scope["route"].dependant))
    for name, value in request.query_params.items():
        if name not in known:
            raise ApiError(422, "unknown_parameter", _describe(name, known), field=f"query.{name}", value=value)


def _names(dependant: Dependant) -> set[str]:
    """Those of an endpoint, or of a dependency, and of all it depends on."""
    own = {parameter.alias for parameter in dependant.query_params}
    return own.union(*(_names(each) for each in dependant.dependencies))


def _describe(name: str, known: Sequence[str]) -> str:
    close = get_close_matches(name, known, 1)
    if close:
        return f"There is no parameter {name!r} here; did you mean {close[0]!r}?"
    return f"There is no parameter {name!r} here; " + (f"there are {', '.join(known)}" if known else "this route takes none")
