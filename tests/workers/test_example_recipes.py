"""Every example recipe is a spec the platform takes, for a recipe that exists."""

from importlib.util import find_spec
from pathlib import Path

import pytest
import yaml

from modelyard.domain.specs import find_references, parse_spec
from modelyard.workers.registry import RECIPES

EXAMPLES = sorted((Path(__file__).parents[2] / "examples" / "recipes").glob("*.yaml"))


def test_every_kind_has_an_example() -> None:
    kinds = {yaml.safe_load(path.read_text(encoding="utf-8"))["spec"]["kind"] for path in EXAMPLES}
    assert kinds == set(RECIPES)


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_example_is_valid(path: Path) -> None:
    document = yaml.safe_load(path.read_text(encoding="utf-8"))
    spec = parse_spec(document["spec"])
    assert find_spec(RECIPES[document["spec"]["kind"]]) is not None
    assert set(document) <= {"spec", "inputs", "options"}
    wanted = {reference.path for reference in find_references(spec)}
    assert wanted <= set(document.get("inputs", {}))
