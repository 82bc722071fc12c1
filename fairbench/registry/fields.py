"""Field types of registry entries."""

import re
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationInfo,
    field_validator,
)
from pydantic_core import PydanticCustomError

NAME = re.compile(r"[a-z0-9][a-z0-9-]*")
"""Lower-case letters, digits and hyphens, because names become parts of paths."""

_NUMBER = re.compile(r"\s*([-+]?[0-9.]+(?:[eE][-+]?[0-9]+)?)\s*(?:/\s*([0-9.]+(?:[eE][-+]?[0-9]+)?)\s*)?")
_WHOLE = re.compile(r"\s*[-+]?[0-9]{1,40}\s*")


def wrong(message: str, *path: str | int) -> PydanticCustomError:
    """The error for a mistake at `path`, relative to the value that is validated."""
    return PydanticCustomError("fault", "{message}", {"message": message, "path": path})


def parse_number(value: Any) -> Any:
    """The float of a text such as "8/255", "0.031" or "1e-3"; any other value unchanged."""
    match = _NUMBER.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        return value
    try:
        return float(match[1]) / float(match[2] or 1)
    except (ValueError, ZeroDivisionError):
        return value


def parse_whole(value: Any) -> Any:
    """The whole number of a text such as "30"; any other value unchanged."""
    return int(value) if isinstance(value, str) and _WHOLE.fullmatch(value) else value


def parse_norm(value: Any) -> Any:
    """The norm in the spelling of fairbench, "linf" or "l2", of "Linf", "L_inf", "l-2" and the like."""
    if not isinstance(value, str):
        return value
    plain = re.sub(r"[-_\s]", "", value).casefold().replace("\u221e", "inf").replace("infinity", "inf")
    plain = plain.replace("infty", "inf").removeprefix("l")
    return f"l{plain}" if plain in ("inf", "2") else value


def check_pixel_units(value: float, info: ValidationInfo) -> float:
    """`value`; raises PydanticCustomError when it is outside [0, 1]."""
    if value < 0:
        raise wrong(f"expected a number of at least 0, got {value:g}")
    if value > 1:
        close = f"; {value:g} looks like {value:g}/255: write {value:g}/255" if value <= 255 else ""
        raise wrong(f"{info.field_name} is in units of [0, 1]{close}")
    return value


def _keys_back_from_json(milestones: Any) -> Any:
    if not isinstance(milestones, dict):
        return milestones
    return {int(key) if str(key).isdecimal() else key: factor for key, factor in milestones.items()}


Number = Annotated[float, BeforeValidator(parse_number)]
PixelNumber = Annotated[Number, AfterValidator(check_pixel_units)]
Milestones = Annotated[dict[int, Annotated[Number, Field(gt=0)]], BeforeValidator(_keys_back_from_json)]


def split_text(value: Any) -> Any:
    """The list of a text such as "trix, dafa"; any other value unchanged."""
    return [part for part in re.split(r"[,\s]+", value) if part] if isinstance(value, str) else value


Texts = Annotated[tuple[str, ...], Field(strict=False)]
Terms = Annotated[Texts, BeforeValidator(split_text)]
Target = Annotated[str, Field(pattern=r"^[^:\s]([^:]*[^:\s])?(:[A-Za-z_][A-Za-z0-9_]*)?$")]


class Model(BaseModel):
    """Base of all entries: frozen, with strict types, and without unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False, defer_build=True)

    @field_validator("*", mode="before")
    @classmethod
    def _whole_number_in_quotes(cls, value: Any, info: ValidationInfo) -> Any:
        whole = cls.model_fields[info.field_name or ""].annotation in (int, int | None)
        return parse_whole(value) if whole else value


def added_later(default: Any, **options: Any) -> Any:
    """A field that is younger than the first results: at its default it is left out of identities."""
    return Field(default=default, json_schema_extra={"added_later": True}, **options)


def no_setting(default: Any, **options: Any) -> Any:
    """A field that describes an entry and changes no result: it is part of no identity."""
    return Field(default=default, json_schema_extra={"no_setting": True}, **options)


TAGS = no_setting((), description="words to choose the entry by, as in `tag:WORD`")


def identity_settings(model: BaseModel, **options: Any) -> dict[str, Any]:
    """The settings of `model` as an identity holds them: JSON values, without neutral fields added later.

    Fields that are no settings are left out too.

    `options` are those of `model_dump`. A new setting therefore changes no id while it has its default.
    """
    settings = model.model_dump(mode="json", **options)
    _leave_out_neutral(model, settings)
    return settings


def _leave_out_neutral(model: BaseModel, settings: dict[str, Any]) -> None:
    for name, field in type(model).model_fields.items():
        value, extra = getattr(model, name), field.json_schema_extra
        extra = extra if isinstance(extra, dict) else {}
        if extra.get("no_setting") or (extra.get("added_later") and value == field.default):
            settings.pop(name, None)
        elif isinstance(value, BaseModel) and isinstance(settings.get(name), dict):
            _leave_out_neutral(value, settings[name])


class RegistryEntry(Model):
    """An entry with a name: a method, data set, network, attack, protocol or suite."""

    name: str = Field(description="the key of the entry in registry.yaml; not repeated inside it")


def distinct(values: tuple[Any, ...]) -> tuple[Any, ...]:
    """`values`; raises PydanticCustomError when one occurs twice."""
    for index, value in enumerate(values):
        if value in values[:index]:
            raise wrong(f"{value!r} is given twice", index)
    return values
