"""What the best metric is called in a file, whatever its format: a tensor's name, an attribute, a member."""

BEST_METRIC = "best_metric"
BEST_METRIC_MEANING = f"{BEST_METRIC}_meaning"
BEST_METRIC_MEMBER = f"{BEST_METRIC}.json"
