"""Names are camelCase for everybody: what plugins' plain models give and how it is described."""

from __future__ import annotations

from typing import Any, ClassVar

import pytest
from pydantic import BaseModel, ConfigDict, Field, computed_field, field_serializer
from pydantic.alias_generators import to_camel

from hub.config.expressions import model_shape
from hub.expressions import ObjectShape
from hub.model import jsontext
from hub.model.naming import PublicJsonSchema, spelled


class Wind(BaseModel):
    from_north: bool = True


class Report(BaseModel):
    """As somebody writes it who has not read that names are camelCase."""

    model_config = ConfigDict(extra="allow")

    is_warm: bool = True
    isDry: bool = True
    wind_now: Wind = Wind()
    wind_later: list[Wind] = [Wind(), Wind()]
    wind_by_day: dict[str, Wind | None] = {"next_day": Wind(), "later_on": None}
    raw_name: str = Field("x", serialization_alias="as_given")
    any_thing: Any = Wind()

    @computed_field  # type: ignore[prop-decorator]
    @property
    def half_warm(self) -> bool:
        return False


_WIND = {"fromNorth": True}
_EXPECTED = {
    "isWarm": True,
    "isDry": True,
    "windNow": _WIND,
    "windLater": [_WIND, _WIND],
    "windByDay": {"next_day": _WIND, "later_on": None},
    "as_given": "x",
    "anyThing": _WIND,
    "halfWarm": False,
}


def test_a_plain_model_is_given_in_camel_case() -> None:
    assert spelled(Report()) == _EXPECTED


def test_what_an_extra_name_is_stays() -> None:
    assert spelled(Report(own_name=1))["own_name"] == 1


def test_a_model_inside_plain_data_is_stored_in_camel_case() -> None:
    assert jsontext.loads(jsontext.dumps({"some_key": [Report()]})) == {"some_key": [_EXPECTED]}


def test_plain_data_is_spelled_as_its_model_says() -> None:
    given = {"is_warm": True, "wind_later": [{"from_north": True}], "wind_now": Wind(), "own_name": 1}
    given["wind_by_day"] = {"next_day": {"from_north": True}}
    assert spelled(given, Report) == {
        "isWarm": True,
        "windLater": [_WIND],
        "windNow": _WIND,
        "own_name": 1,
        "windByDay": {"next_day": _WIND},
    }
    assert spelled({"is_warm": True}) == {"is_warm": True}


def test_a_models_own_serializer_has_the_last_word() -> None:
    class Own(BaseModel):
        wind_now: Wind = Wind()

        @field_serializer("wind_now")
        def _as_text(self, value: Wind) -> str:
            return "north"

    assert spelled(Own()) == {"windNow": "north"}


def test_a_model_with_its_own_aliases_stays_as_it_is() -> None:
    class Loud(BaseModel):
        model_config = ConfigDict(alias_generator=str.upper)
        is_warm: bool = True

    assert spelled(Loud()) == {"IS_WARM": True}


def test_shapes_and_schemas_have_the_same_names_as_the_data() -> None:
    shape = model_shape(Report, "output")
    assert isinstance(shape, ObjectShape)
    assert set(shape.members) == set(_EXPECTED)
    inner = shape.members["windNow"]
    assert isinstance(inner, ObjectShape)
    assert set(inner.members) == {"fromNorth"}


@pytest.mark.parametrize("mode", ["validation", "serialization"])
def test_a_model_that_names_itself_has_the_schema_it_had(mode: Any) -> None:
    class Ours(BaseModel):
        model_config = ConfigDict(alias_generator=to_camel)
        kind: ClassVar[str] = "x"
        is_warm: bool = Field(True, description="Whether.")
        as_given: int = Field(1, alias="as_given")

    assert Ours.model_json_schema(mode=mode, schema_generator=PublicJsonSchema) == Ours.model_json_schema(
        mode=mode
    )
