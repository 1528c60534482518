"""Pluggy's error body: a message, the HTTP number, usually a code name and an id for support."""

from typing import Any


class ApiError(Exception):
    """An answer other than 200; the server turns it into JSON."""

    def __init__(
        self, status: int, message: str, code_description: str | None = None, **more: Any
    ) -> None:
        super().__init__(message)
        self.status = status
        self.headers: dict[str, str] = {}
        self.body: dict[str, Any] = {"message": message, "code": status}
        if code_description is not None:
            self.body["codeDescription"] = code_description
        self.body |= more


def not_found(what: str, code_description: str) -> ApiError:
    return ApiError(404, f"{what} not found", code_description)


def bad_request(message: str) -> ApiError:
    """Validation errors come without codeDescription."""
    return ApiError(400, message)
