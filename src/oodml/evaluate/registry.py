"""Every metric of the package, which importing this module registers."""

from math import inf

from oodml.evaluate import clustering, retrieval, structure  # noqa: F401
from oodml.results.metrics import Metric, register_metric
from oodml.results.metrics import check_bounds as check_bounds
from oodml.results.metrics import find_metric as find_metric
from oodml.results.metrics import registered_metrics as registered_metrics
from oodml.results.metrics import sort_metrics as sort_metrics

register_metric(Metric("accuracy", "Accuracy", "classification"))
register_metric(Metric("names_known", "Accuracy, names known", "classification"))
for _name, _label in (
    ("queries", "Queries"),
    ("singletons", "Queries without a positive"),
    ("positives", "Positives per query"),
    ("gallery_size", "Images ranked per query"),
    ("epoch", "Epoch"),
):
    register_metric(Metric(_name, _label, "count", (0.0, inf), None))
for _name, _label, _higher in (
    ("auroc", "AUROC of known classes", True),
    ("aupr", "AUPR of known classes", True),
    ("fpr@95tpr", "FPR at 95% TPR", False),
    ("tar@0.05", "TAR at 5% FAR", True),
    ("dir@0.05", "DIR at 5% FAR", True),
    ("best_balanced_accuracy", "Best balanced accuracy", True),
    ("false_accepts", "False accepts", False),
    ("false_rejects", "False rejects", False),
    ("identified", "Accepted and identified", True),
    ("balanced_accuracy", "Balanced accuracy", True),
):
    register_metric(Metric(_name, _label, "open_set", (0.0, 1.0), _higher))
for _name, _label in (
    ("pca", "half the dimensions (PCA)"),
    ("int8", "int8"),
    ("binary", "binary"),
    ("rescored", "binary, rescored"),
    ("pq", "product quantization"),
):
    register_metric(Metric(f"recall@1_{_name}", f"Recall@1, {_label}", "compression"))
