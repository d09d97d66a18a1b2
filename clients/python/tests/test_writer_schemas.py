"""The schemas that records were written with are told of a dataset."""


def test_datasets_name_the_schemas_of_their_records(headrace, registry, canned):
    registry.datasets = [canned.dataset()]
    registry.datasets[0].frozen.writer_schemas.extend([canned.digest("5"), canned.digest("6")])
    told = f"written with schema {'5' * 12}, {'6' * 12}"
    assert f"dataset {'d' * 12} {told}" in headrace("get", "datasets", "digits").stdout
