"""What can go wrong with a draft.

InputInvalid (headrace_client.errors)
└── DraftImpossible      the sample holds nothing that a pipeline could be made of
    └── NothingDivides   no field is there by which rows could be divided into training and test
"""

from headrace_client.errors import InputInvalid


class DraftImpossible(InputInvalid):
    """The sample holds nothing that a pipeline could be made of; the text says what is missing."""


class NothingDivides(DraftImpossible):
    """No field of the sample could divide its rows into training and test."""
