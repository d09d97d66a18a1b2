"""How much of its texts a version reads."""

from collections.abc import Sequence

from headrace_learning.evaluation import Labelled
from headrace_learning.features import Feature
from headrace_learning.language import FittedTokens


def cut_shares(features: Sequence[Feature], rows: Labelled) -> dict[str, float]:
    """Return cut/<feature>, the share of its texts of which the beginning alone is read; nothing where all are whole.

    A text that has more tokens than `train.network.length` is cut without a word: here it is counted.
    """
    texts = {feature.name: feature.fitted for feature in features if isinstance(feature.fitted, FittedTokens)}
    cut, count = dict.fromkeys(texts, 0), 0
    for columns, truth in rows if texts else ():
        count += len(truth)
        for name, fitted in texts.items():
            cut[name] += fitted.cut(columns[name])
    return {f"cut/{name}": held / count for name, held in cut.items() if held}
