"""Which transforms a drafted pipeline has, and the reason that it gives."""

import json

from headrace_client.drafting import draft_pipeline
from headrace_data.spec import load_pipeline


def test_transforms_suit_tables_and_say_why() -> None:
    records = [
        {
            "id": f"o-{number}",
            "city": f"city {number % 9 * (number % 11)}",
            "price": 2.0 ** (number % 20),
            "below": -(2.0 ** (number % 20)),
            "even": number / 7,
            "paid": number % 2 == 0,
        }
        for number in range(300)
    ]
    text = draft_pipeline("orders", [json.dumps(record).encode() for record in records], "paid").text
    transforms = {name: one.plain() for name, one in load_pipeline(text).prepare.transform.items()}

    assert transforms["city"] == {"encode": {"kind": "onehot", "maxCategories": 20}}
    assert [transforms[name]["scale"] for name in ("price", "below", "even")] == ["log", "standard", "standard"]
    (city,) = (line for line in text.splitlines() if "    city: {encode" in line)
    assert city.endswith("values: the 20 most frequent have an input each, all others one together")
    assert "    price: {scale: log} # most are small and some very large: their logarithm tells more" in text


def test_moments_become_hours_and_days_and_dates_are_left_out() -> None:
    records = [
        {
            "id": f"o-{number}",
            "created_at": 1_760_000_000_000 + 37_000_113 * number,
            "seenTime": 1_760_000_000.5 + 3_700 * number if number % 3 else None,
            "day": 20_260_101 + number % 28,
            "population": 1_760_000_000 + 1_000 * number,
            "paid": number % 2 == 0,
        }
        for number in range(300)
    ]
    drafted = draft_pipeline("orders", [json.dumps(record).encode() for record in records], "paid")
    transforms = {name: one.plain() for name, one in load_pipeline(drafted.text).prepare.transform.items()}

    assert transforms["created_at"] == {"encode": {"kind": "cyclic", "periods": [86_400_000, 604_800_000]}}
    assert transforms["seenTime"] == {"impute": "median", "encode": {"kind": "cyclic", "periods": [86_400, 604_800]}}
    assert transforms["population"] == {"scale": "standard"}
    assert "# a moment, in milliseconds since 1970, which never comes again" in drafted.text
    (left_out,) = drafted.roles.left_out
    assert (left_out.name, left_out.reason.split(":")[0]) == ("day", "a date as a number")


def test_a_moment_is_not_guessed_to_be_the_label() -> None:
    records = [{"id": f"o-{n}", "x": n / 7, "amount": n / 3, "sent_at": 1_760_000_000 + 60 * n} for n in range(100)]
    drafted = draft_pipeline("orders", [json.dumps(record).encode() for record in records])
    assert drafted.roles.label.field.name == "amount"
