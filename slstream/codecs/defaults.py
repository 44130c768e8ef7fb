"""Default chains."""

DEFAULT_FORWARD: list[dict[str, object]] = [{"id": "raw32"}]
DEFAULT_BACKWARD: list[dict[str, object]] = [{"id": "raw32"}]
DEFAULT_EVALUATION: list[dict[str, object]] = [{"id": "raw32"}]
