"""The documentation page: Swagger UI from an installed package, so that it works without a network."""

from importlib.util import find_spec
from pathlib import Path

from flask import Blueprint, Flask, Response, send_from_directory

PATH = "/api/docs"
SPEC_PATH = "/api/openapi.json"
_CSP = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_FILES = {
    "swagger-ui.css": "css/swagger-ui.css",
    "swagger-ui-bundle.js": "js/swagger-ui-bundle.js",
    "swagger.svg": "images/swagger.svg",
}
_PAGE = f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Pingvas API</title>
<link rel="icon" href="{PATH}/swagger.svg">
<link rel="stylesheet" href="{PATH}/swagger-ui.css">
</head>
<body>
<div id="swagger-ui"></div>
<script src="{PATH}/swagger-ui-bundle.js"></script>
<script src="{PATH}/start.js"></script>
</body>
</html>
"""
# A file of its own, because the policy above forbids inline scripts.
_START = f"""const csrf = () => (document.cookie.match(/(?:^|; )csrf_token=([^;]*)/) || [])[1];
SwaggerUIBundle({{
  url: "{SPEC_PATH}",
  dom_id: "#swagger-ui",
  deepLinking: true,
  presets: [SwaggerUIBundle.presets.apis],
  requestInterceptor: (request) => {{
    if (csrf()) request.headers["X-CSRF-Token"] = csrf();
    return request;
  }},
}});
"""


def init_app(app: Flask) -> None:
    """Serve the page at `/api/docs`."""
    bp = Blueprint("docs", __name__, url_prefix=PATH)
    bp.add_url_rule("", view_func=_page)
    bp.add_url_rule("/start.js", view_func=_start)
    bp.add_url_rule("/<any({}):name>".format(", ".join(f"'{name}'" for name in _FILES)), view_func=_file)
    app.register_blueprint(bp)


def _page() -> Response:
    return Response(_PAGE, mimetype="text/html", headers={"Content-Security-Policy": _CSP})


def _start() -> Response:
    return Response(_START, mimetype="text/javascript")


def _file(name: str) -> Response:
    return send_from_directory(_folder(), _FILES[name], max_age=86_400)


def _folder() -> Path:
    # Only its files are of interest: importing the package would pull in the framework it plugs into.
    found = find_spec("flask_openapi3_swagger")
    if found is None or not found.submodule_search_locations:
        raise RuntimeError("the package flask-openapi3-swagger is not installed")
    return Path(found.submodule_search_locations[0]) / "templates" / "swagger"
