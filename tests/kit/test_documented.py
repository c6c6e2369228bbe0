"""Fields described by the docstrings below them."""

from pydantic import Field

from modelyard.kit.documented import Documented


class Engine(Documented):
    """What drives something."""

    power: float = 0.0
    """In kilowatts,
    at the shaft."""
    maker: str = Field(default="", description="Who built it.")
    """Not this."""
    silent: bool = False


class Locomotive(Engine):
    """An engine on rails."""

    power: float = 1.0
    """At the wheels."""
    class_: str = Field(default="", alias="class")
    """How railways call it."""


class Train(Documented):
    """Some engines."""

    first: Locomotive
    """The one in front."""
    others: list[Engine] = []


def described(model: type[Documented]) -> dict[str, str | None]:
    """What the JSON schema of a model says of its fields."""
    return {name: shown.get("description") for name, shown in model.model_json_schema()["properties"].items()}


class TestDescribe:
    def test_its_own_fields(self) -> None:
        assert described(Engine) == {"power": "In kilowatts,\nat the shaft.", "maker": "Who built it.", "silent": None}

    def test_inherited_overridden_and_renamed_ones(self) -> None:
        expected = {"power": "At the wheels.", "maker": "Who built it.", "silent": None, "class": "How railways call it."}
        assert described(Locomotive) == expected

    def test_models_in_models(self) -> None:
        schema = Train.model_json_schema()
        assert schema["properties"]["first"]["description"] == "The one in front."
        assert schema["$defs"]["Engine"]["properties"]["power"]["description"] == "In kilowatts,\nat the shaft."
