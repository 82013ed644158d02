"""What the best metric is called in a file, whatever its format: a tensor's name, an attribute, a member."""

import json
from collections.abc import Mapping
from typing import Any

BEST_METRIC = "best_metric"
BEST_METRIC_MEANING = f"{BEST_METRIC}_meaning"
BEST_METRIC_MEMBER = f"{BEST_METRIC}.json"


def meaning_text(meaning: Mapping[str, Any]) -> str:
    """What is stored beside a best: JSON in UTF-8, keys sorted. Raises ValueError for NaN or an infinity in it."""
    text = json.dumps(dict(meaning), sort_keys=True, ensure_ascii=False, allow_nan=False)
    # A path or an argument may have bytes that are no UTF-8; as Python spells them JSON does too.
    return text.encode("utf-8", "backslashreplace").decode()
