"""Codecs by id: an explicit table of those that are built in, and entry points for users' own.

A package adds a codec by an entry point in the group ``slstream.codecs`` whose name is the id and
whose object is the class. Neither a built-in codec nor an entry point is imported before a config
names it: a party that sends ``raw32`` loads no compiler.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points

from slstream.codecs.contract import BytesCodec, Codec, TensorCodec
from slstream.codecs.parameters import nearest
from slstream.errors import CodecConfigError, UnknownCodec

ENTRY_POINT_GROUP = "slstream.codecs"

_BUILT_IN = {
    "bf16": ("slstream.codecs.casts", "Bf16"),
    "delta": ("slstream.codecs.delta", "Delta"),
    "ecsq": ("slstream.codecs.ecsq", "Ecsq"),
    "ecsq_signs": ("slstream.codecs.ecsq_signs", "EcsqSigns"),
    "fp16": ("slstream.codecs.casts", "Fp16"),
    "fp8": ("slstream.codecs.fp8", "Fp8"),
    "klt": ("slstream.codecs.klt", "Klt"),
    "kmeans": ("slstream.codecs.kmeans", "KMeans"),
    "lz4": ("slstream.codecs.lz4", "Lz4"),
    "mask": ("slstream.codecs.mask", "Mask"),
    "q2row": ("slstream.codecs.row_integers", "Q2Row"),
    "q4row": ("slstream.codecs.row_integers", "Q4Row"),
    "q8row": ("slstream.codecs.row_integers", "Q8Row"),
    "randomk": ("slstream.codecs.randomk", "RandomK"),
    "randtopk": ("slstream.codecs.randtopk", "RandTopK"),
    "raw32": ("slstream.codecs.raw32", "Raw32"),
    "topk": ("slstream.codecs.topk", "TopK"),
    "zstd": ("slstream.codecs.zstd", "Zstd"),
    "zstd_shuffled": ("slstream.codecs.zstd_shuffled", "ZstdShuffled"),
}
"""id -> (module, class). An id is a promise: never reuse one for another format."""

_COMPOSED = {"split": ("slstream.codecs.split", "Split")}
"""Those that stand in schemas, but that nobody chooses: they follow from other choices."""


def built_in_ids() -> tuple[str, ...]:
    """Ids of the codecs that slstream ships, in alphabetical order."""
    return tuple(sorted(_BUILT_IN))


def known_ids() -> tuple[str, ...]:
    """Ids of all codecs that are installed, in alphabetical order; imports none of them."""
    users = {point.name for point in entry_points(group=ENTRY_POINT_GROUP)}
    return tuple(sorted(users | set(_BUILT_IN)))


def readable_ids() -> tuple[str, ...]:
    """Ids that a schema may hold for this installation to read it, in alphabetical order."""
    return tuple(sorted({*known_ids(), *_COMPOSED}))


@cache
def codec_class(codec_id: str) -> type[Codec]:
    """The class registered under an id. A built-in id cannot be taken over by an entry point.

    Raises:
        UnknownCodec: nothing is registered under it; the message names the nearest known id.
        CodecConfigError: an entry point that cannot be loaded or is not a codec of this id.
    """
    own = _BUILT_IN.get(codec_id) or _COMPOSED.get(codec_id)
    if own is not None:
        module, name = own
        found = getattr(import_module(module), name)
    else:
        points = list(entry_points(group=ENTRY_POINT_GROUP, name=codec_id))
        if not points:
            known = known_ids()
            raise UnknownCodec(
                f"no codec is registered under id {codec_id!r} (known: {', '.join(known)})"
                f"{nearest(codec_id, known)}"
            )
        if len(points) > 1:
            raise CodecConfigError(
                f"codec id {codec_id!r} is claimed by {len(points)} entry points "
                f"({', '.join(point.value for point in points)}); uninstall all but one"
            )
        found = _load(points[0])
    if (
        not isinstance(found, type)
        or not issubclass(found, TensorCodec | BytesCodec)
        or getattr(found, "id", None) != codec_id
    ):
        raise CodecConfigError(
            f"entry point {codec_id!r} of group {ENTRY_POINT_GROUP!r} must be a TensorCodec or "
            f"BytesCodec class whose id is {codec_id!r}; got {found!r}"
        )
    if found.__abstractmethods__ or not hasattr(found, "__dataclass_fields__"):
        missing = ", ".join(sorted(found.__abstractmethods__))
        lack = f"it has no {missing}" if missing else "it is no dataclass"
        raise CodecConfigError(
            f"entry point {codec_id!r} must be a frozen dataclass with all methods of "
            f"{'TensorCodec' if issubclass(found, TensorCodec) else 'BytesCodec'}; {lack}"
        )
    return found


def _load(point: EntryPoint) -> object:
    try:
        return point.load()
    except Exception as exc:  # whatever the user's module raises when it is imported
        raise CodecConfigError(
            f"entry point {point.name!r} of group {ENTRY_POINT_GROUP!r} cannot be loaded from "
            f"{point.value!r}: {type(exc).__name__}: {exc}; repair or uninstall its package"
        ) from exc


def codec_from_config(config: Mapping[str, object]) -> Codec:
    """Build the codec that a JSON config describes.

    Raises:
        UnknownCodec: no codec has this id.
        CodecConfigError: no id, an unknown parameter, or a value out of range.
    """
    if not isinstance(config, Mapping):
        raise CodecConfigError(f"a codec config must be a JSON object with an id; got {config!r}")
    codec_id = config.get("id")
    if not isinstance(codec_id, str):
        raise CodecConfigError(f'a codec config needs a text "id"; got {dict(config)!r}')
    return codec_class(codec_id).from_config(config)
