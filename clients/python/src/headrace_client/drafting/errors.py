"""What can go wrong with a draft.

InputInvalid (headrace_client.errors)
└── DraftImpossible   the sample holds nothing that a pipeline could be made of
"""

from headrace_client.errors import InputInvalid


class DraftImpossible(InputInvalid):
    """The sample holds nothing that a pipeline could be made of; the text says what is missing."""
