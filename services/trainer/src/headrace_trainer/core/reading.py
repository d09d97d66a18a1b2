"""How much of its texts a version reads."""

from collections import Counter
from collections.abc import Sequence

from headrace_learning.evaluation import Labelled
from headrace_learning.features import Feature
from headrace_learning.language import FittedTokens


def cut_shares(features: Sequence[Feature], rows: Labelled) -> dict[str, float]:
    """Return cut/<feature>, the share of its texts of which the beginning alone is read; nothing where all are whole.

    A text that has more tokens than `train.network.length` is cut without a word, and of a pair that has more together
    the longer one: here they are counted.
    """
    readers = [feature.fitted for feature in features if isinstance(feature.fitted, FittedTokens)]
    cut, count = Counter[str](), 0
    for columns, truth in rows if readers else ():
        count += len(truth)
        for reader in readers:
            cut.update(reader.cut(columns))
    return {f"cut/{name}": held / count for name, held in cut.items() if held}
