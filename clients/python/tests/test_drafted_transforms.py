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
