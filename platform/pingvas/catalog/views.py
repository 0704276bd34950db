"""Routes of the catalogue."""

from pingvas import db
from pingvas.catalog import entries
from pingvas.catalog.families import FAMILIES
from pingvas.catalog.models import CatalogEntry
from pingvas.web import auth, paging
from pingvas.web.api import Answer, Blueprint, Reply, endpoint
from pingvas.web.paging import Page, PageQuery

bp = Blueprint("catalog", tag="Models")


class ModelDefaults(Reply):
    """What a generate body gets when it does not say."""

    width: int
    height: int
    steps: int
    cfg_scale: float
    scheduler: str


class ModelReply(Reply):
    """A model; sides in pixels."""

    slug: str
    title: str
    family: str
    min_side: int
    max_side: int
    side_multiple: int
    schedulers: list[str]
    price_factor: float
    min_tier: str
    defaults: ModelDefaults


@bp.get("/models")
@endpoint(query=PageQuery, reply=Page[ModelReply])
def list_models(query: PageQuery) -> Answer:
    """List the models that your plan may use"""
    usable = entries.usable(auth.current().tier)
    with db.transaction() as session:
        return paging.paginate(session, usable, query, by=(CatalogEntry.slug,), item=_reply, ascending=True)


def _reply(entry: CatalogEntry) -> ModelReply:
    return ModelReply(
        slug=entry.slug,
        title=entry.title,
        family=entry.family,
        min_side=entry.min_side,
        max_side=entry.max_side,
        side_multiple=entry.side_multiple,
        schedulers=list(FAMILIES[entry.family].samplers),
        price_factor=entry.price_factor,
        min_tier=entry.min_tier,
        defaults=ModelDefaults(
            width=entry.default_side,
            height=entry.default_side,
            steps=entry.default_steps,
            cfg_scale=entry.default_cfg_scale,
            scheduler=entry.default_scheduler,
        ),
    )
