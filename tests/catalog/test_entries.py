"""Adding models to the catalogue: what is guessed, what is refused."""

import json
from pathlib import Path
from typing import Any

import pytest

from pingvas import db
from pingvas.catalog import entries
from pingvas.catalog.families import FAMILIES
from pingvas.errors import Conflict, Invalid, NotFound

pytestmark = pytest.mark.usefixtures("clean_db")


def model_folder(path: Path, pipeline: str = "StableDiffusionXLPipeline") -> Path:
    path.mkdir()
    (path / "model_index.json").write_text(json.dumps({"_class_name": pipeline}))
    return path


def test_the_built_in_model_is_there_from_the_start() -> None:
    assert [entry.slug for entry in entries.list_entries()] == ["tiny"]


def test_an_entry_is_known_also_after_the_unit_of_work_that_read_it_failed() -> None:
    def refused() -> None:
        with db.transaction():
            entries.find("tiny")
            raise Conflict

    with pytest.raises(Conflict):
        refused()
    found = entries.find("tiny")
    assert found is not None
    assert found.min_tier == "free"


@pytest.mark.parametrize(
    ("pipeline", "family"),
    [
        ("StableDiffusionPipeline", "sd15"),
        ("StableDiffusionXLPipeline", "sdxl"),
        ("FluxPipeline", "flux"),
        ("PixArtSigmaPipeline", "other"),
    ],
)
def test_a_folder_tells_its_family_and_the_family_the_rest(
    tmp_path: Path, pipeline: str, family: str
) -> None:
    folder = model_folder(tmp_path / "model", pipeline)
    entry = entries.add_entry("mine", str(folder))
    assert (entry.family, entry.location) == (family, str(folder))
    assert entry.price_factor == FAMILIES[family].price_factor
    assert entries.find("mine") is not None


def test_a_hub_id_is_kept_as_it_is() -> None:
    assert entries.add_entry("sdxl", "stabilityai/stable-diffusion-xl-base-1.0").family == "sdxl"


def test_a_slug_is_taken_once() -> None:
    entries.add_entry("mine", "owner/name")
    with pytest.raises(Conflict, match="mine"):
        entries.add_entry("mine", "owner/other")


@pytest.mark.parametrize(
    ("slug", "location", "options", "named"),
    [
        ("Mine!", "owner/name", {}, "slug"),
        ("mine", "no such place", {}, "no such place"),
        ("mine", "missing.safetensors", {}, "missing.safetensors"),
        ("mine", "owner/name", {"family": "dalle"}, "dalle"),
        ("mine", "owner/name", {"max_side": 32}, "--max-side"),
        ("mine", "owner/name", {"price_factor": 0.0}, "--price-factor"),
        ("mine", "owner/name", {"min_tier": "gold"}, "--min-tier"),
    ],
)
def test_what_cannot_be_a_model_is_refused_and_nothing_is_added(
    slug: str, location: str, options: dict[str, Any], named: str
) -> None:
    with pytest.raises(Invalid, match=named):
        entries.add_entry(slug, location, **options)
    assert len(entries.list_entries()) == 1


def test_a_single_file_must_be_one_and_tell_its_family(tmp_path: Path) -> None:
    file = tmp_path / "weights.safetensors"
    file.write_bytes(b"\x00" * 100)
    with pytest.raises(Invalid, match="no safetensors file"):
        entries.add_entry("mine", str(file))
    file.write_bytes((2).to_bytes(8, "little") + b"{}")
    with pytest.raises(Invalid, match="--family"):
        entries.add_entry("mine", str(file))
    assert entries.add_entry("mine", str(file), family="sdxl").location == str(file)


def test_a_model_can_be_taken_out_again() -> None:
    entries.add_entry("mine", "owner/name")
    entries.remove_entry("mine")
    assert entries.find("mine") is None
    with pytest.raises(NotFound, match="mine"):
        entries.remove_entry("mine")


def test_the_built_in_model_can_be_put_back_as_it_was() -> None:
    def told() -> dict[str, Any]:
        values = vars(entries.find("tiny")).items()
        return {name: value for name, value in values if not name.startswith("_") and name != "created_at"}

    before = told()
    entries.remove_entry("tiny")
    entries.add_entry("tiny", "builtin:tiny", title=before["title"])
    assert told() == before


def test_a_folder_without_an_index_is_no_model(tmp_path: Path) -> None:
    with pytest.raises(Invalid, match=r"model_index\.json"):
        entries.add_entry("mine", str(tmp_path))


def test_a_tier_sees_what_it_may_use() -> None:
    entries.add_entry("precious", "owner/name", min_tier="pro")
    assert [entry.slug for entry in entries.list_entries("starter")] == ["tiny"]
    assert [entry.slug for entry in entries.list_entries("studio")] == ["precious", "tiny"]
