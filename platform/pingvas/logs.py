"""One record of the log is one entry to whoever reads it: what users write cannot forge another."""

import logging
import re

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")


class LineFormatter(logging.Formatter):
    """Writes control characters of a message as escapes, and sets the lines of a traceback in."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 (the library's name)
        """Return the record's line."""
        record.message = escape(record.message)
        return super().formatMessage(record)

    def formatException(self, ei: object) -> str:  # noqa: N802 (the library's name)
        """Return a traceback; the text of an exception may hold what a user sent."""
        text = super().formatException(ei)  # type: ignore[arg-type]
        return "\n".join(f"  {_CONTROL.sub(_name, line)}" for line in text.split("\n"))


def escape(text: str) -> str:
    """Return text on one line, with no escape sequence that a terminal would follow."""
    return _CONTROL.sub(_name, text)


def apply(logger: logging.Logger, form: str) -> None:
    """Let the handlers of a logger write like this."""
    for handler in logger.handlers:
        handler.setFormatter(LineFormatter(form))


def _name(found: "re.Match[str]") -> str:
    return found[0].encode("unicode_escape").decode()
