"""Texts of mails: `templates/<language>/<template>.txt`, Jinja2, the first line `Subject: …`."""

from collections.abc import Mapping
from functools import cache
from typing import Final

from jinja2 import Environment, PackageLoader, StrictUndefined, meta

from pingvas import settings
from pingvas.mail.port import Language

LANGUAGES: Final[tuple[Language, ...]] = ("en", "ko")
ALWAYS: Final = frozenset({"web_url"})
"""Names that every template can use."""

_SUBJECT: Final = "Subject: "


@cache
def _environment() -> Environment:
    # Plain text: nothing is to be escaped, and a name without a value is an error.
    return Environment(
        loader=PackageLoader("pingvas.mail"),
        undefined=StrictUndefined,
        autoescape=False,  # noqa: S701
        trim_blocks=True,
        lstrip_blocks=True,
    )


def render(template: str, language: Language, values: Mapping[str, object]) -> tuple[str, str]:
    """Return subject and text.

    Raises:
        jinja2.TemplateError: there is no such template, or a value it uses is missing.
    """
    found = _environment().get_template(f"{language}/{template}.txt")
    head, _, text = found.render(web_url=settings.get().web_url.rstrip("/"), **values).partition("\n")
    # A header is one line: what a customer called himself must not become a second one.
    subject = " ".join(head.removeprefix(_SUBJECT).split())
    return subject, text.strip() + "\n"


@cache
def names_in(template: str, language: Language) -> frozenset[str]:
    """Return the names of the values that a template needs.

    Raises:
        jinja2.TemplateNotFound: there is no such template.
    """
    environment = _environment()
    loader = environment.loader
    assert loader is not None
    source, _, _ = loader.get_source(environment, f"{language}/{template}.txt")
    return frozenset(meta.find_undeclared_variables(environment.parse(source))) - ALWAYS
