"""Reports: what is known of a dataset or a version, as one HTML page that asks for nothing from outside.

`facts` holds what a report is about, `sources` fetches it, `measures` counts, `svg` and `charts` draw, `dataset_page`
and `version_page` compose. Everything but `sources` is pure. Needs the extra `headrace-client[report]`.
"""
