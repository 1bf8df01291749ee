"""The kinds of value a site spec is made of: names, paths, quantities. Pure."""

from __future__ import annotations

import ast
import inspect
import itertools
import textwrap
from typing import Annotated, Any

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetJsonSchemaHandler,
    StringConstraints,
    WithJsonSchema,
)
from pydantic_core import CoreSchema, PydanticCustomError

from orchestrator.errors import UserError
from orchestrator.units import Bytes, Seconds, parse_duration, parse_size

NAME = r"^[a-z]([a-z0-9-]{0,26}[a-z0-9])?$"
HOST_NAME = r"^[A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?$"
VARIABLE = r"^[A-Za-z_][A-Za-z0-9_]*$"
# In clear only within this host.
ENDPOINT = (
    r"^(https://[A-Za-z0-9.-]+|http://(127(\.[0-9]{1,3}){3}|localhost))(:[0-9]{1,5})?(/[A-Za-z0-9._~/-]*)?$"
)
IPV4 = r"^[0-9]{1,3}(\.[0-9]{1,3}){3}$"
ADDRESSES = r"^[0-9]{1,3}(\.[0-9]{1,3}){3} ?- ?[0-9]{1,3}(\.[0-9]{1,3}){3}$"
FQRN = r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?(\.[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)+$"


class Model(BaseModel):
    """Frozen, no unknown keys, and the text under each field is its description in the JSON Schema.

    pydantic would look for these texts, and build each model's validator, whenever a program starts.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)

    @classmethod
    def __get_pydantic_json_schema__(cls, core: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        found = handler(core)
        texts = _descriptions(cls)
        for name, schema in handler.resolve_ref_schema(found).get("properties", {}).items():
            schema.setdefault("description", texts[name])
        return found


def _descriptions(model: type[Model]) -> dict[str, str]:
    """Field → the text under it in the source of ``model``, or of the class that it has the field from."""
    found: dict[str, str] = {}
    for part in reversed(model.__mro__):
        if issubclass(part, Model):
            tree = ast.parse(textwrap.dedent(inspect.getsource(part))).body[0]
            for field, text in itertools.pairwise(ast.iter_child_nodes(tree)):
                match field, text:
                    case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(
                        value=ast.Constant(value=str(said))
                    ):
                        found[name] = inspect.cleandoc(said)
    return found


def _duration(value: Any) -> Seconds:
    return Seconds(_quantity(value, parse_duration, "duration", "6 h"))


def _size(value: Any) -> Bytes:
    return Bytes(round(_quantity(value, parse_size, "size", "100 GB")))


def _quantity(value: Any, parse: Any, what: str, example: str) -> float:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise PydanticCustomError("quantity", "this is not a {what}", {"what": what, "example": example})
    try:
        number = float(parse(value))
    except (UserError, OverflowError, ValueError) as error:
        raise PydanticCustomError(
            "quantity", "{value} is not a {what}", {"value": repr(value), "what": what, "example": example}
        ) from error
    if not 0 < number < 1e18:  # also refuses NaN and infinity
        raise PydanticCustomError("quantity", "a {what} is more than 0", {"what": what, "example": example})
    return number


# 28 letters: <site>-<group>-<n> then fits into the 63 of a DNS label (RFC 1035).
Name = Annotated[str, StringConstraints(pattern=NAME)]
HostName = Annotated[str, StringConstraints(pattern=HOST_NAME)]
Endpoint = Annotated[str, StringConstraints(pattern=ENDPOINT)]
Ipv4 = Annotated[str, StringConstraints(pattern=IPV4)]
Addresses = Annotated[str, StringConstraints(pattern=ADDRESSES)]
Fqrn = Annotated[str, StringConstraints(pattern=FQRN, max_length=253)]
Text = Annotated[str, StringConstraints(min_length=1, max_length=4096, pattern=r"^[^\x00-\x1f\x7f]+$")]
Count = Annotated[int, Field(strict=True, ge=0, le=1_000_000)]
Positive = Annotated[int, Field(strict=True, ge=1, le=1_000_000)]
Port = Annotated[int, Field(strict=True, ge=1, le=65535)]
Duration = Annotated[
    Seconds,
    BeforeValidator(_duration),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "string", "pattern": r"^\s*\d+(\.\d+)?\s*([sS]|ms|min|m|h|d|w)?\s*$"},
                {"type": "number", "exclusiveMinimum": 0},
            ],
            "examples": ["30 min", "12 h", "30 d", 3600],
        }
    ),
]
Size = Annotated[
    Bytes,
    BeforeValidator(_size),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "string", "pattern": r"^\s*\d+(\.\d+)?\s*([kKmMgGtTpP]?i?[bB]?)\s*$"},
                {"type": "number", "exclusiveMinimum": 0},
            ],
            "examples": ["100 GB", "8 GiB", 1000000000],
        }
    ),
]
