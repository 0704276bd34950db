"""The plan table: right as shipped, and a bad file names what is wrong."""

from importlib import resources

import pytest

from pingvas.billing import plans
from pingvas.billing.plans import Tier
from pingvas.settings import SettingsError

SHIPPED = resources.files("pingvas.billing").joinpath("plans.toml").read_text()


def test_five_tiers_from_the_highest_to_the_lowest() -> None:
    table = plans.table()
    assert list(table) == ["enterprise", "studio", "pro", "starter", "free"]
    assert [tier.rank for tier in table] == [4, 3, 2, 1, 0]
    assert [plan.priority for plan in table.values()] == [10, 8, 6, 4, 2]


def test_what_the_price_list_says() -> None:
    table = plans.table()
    assert table[Tier.FREE].monthly_credits == 100
    assert (table[Tier.STARTER].price_monthly, table[Tier.STARTER].price_yearly) == (25, 250)
    assert table[Tier.STUDIO].max_concurrent_jobs == 3
    assert plans.limit(table[Tier.ENTERPRISE].max_queue_size) is None


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("\n[free\nweight = 1", "line 2"),
        (SHIPPED + "\n[gold]\nweight = 1\n", "[gold]"),
        (SHIPPED.replace("weight = 8", "weight = 0"), "[studio] weight"),
        (SHIPPED.replace("weight = 8", "wieght = 8"), "[studio] "),
        (SHIPPED.replace("monthly_credits = 100", 'monthly_credits = "100"'), "[free] monthly_credits"),
    ],
)
def test_a_bad_file_names_itself_and_the_place(text: str, named: str) -> None:
    with pytest.raises(SettingsError, match=r"plans\.toml") as caught:
        plans.parse(text)
    assert named in str(caught.value)
