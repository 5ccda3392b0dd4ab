"""What a decision costs near the training classes and far from them: tables of the report."""

import pandas as pd

SIZES = {"pca": 1 / 2, "int8": 1 / 4, "pq": 1 / 32, "rescored": 1 / 32, "binary": 1 / 32}
"""The codes of studies, and their size relative to float32."""
OPEN_SET = ("auroc", "false_accepts", "false_rejects", "tar@0.05")


def near_and_far(curves: pd.DataFrame, names: tuple[str, ...]) -> pd.DataFrame:
    """The means of metrics on the splits of smallest and largest shift.

    Args:
        curves: the table `curves` of the report.
        names: metrics.

    Returns:
        One row per method that has all metrics: `method` and, for each metric, `NAME_near` and
        `NAME_far`; empty with a single split.
    """
    chosen = curves[curves["metric"].isin(names)] if len(curves) else curves
    rows = []
    for method, part in chosen.groupby("method", sort=False) if len(chosen) else ():
        ends = part["shift"].min(), part["shift"].max()
        values: dict[str, object] = {"method": method}
        for side, shift in zip(("near", "far"), ends, strict=True):
            at = part[part["shift"] == shift].set_index("metric")["mean"]
            values |= {f"{name}_{side}": at[name] for name in names if name in at}
        if ends[0] < ends[1] and len(values) == 1 + 2 * len(names):
            rows.append(values)
    return pd.DataFrame(rows)


def open_set_table(curves: pd.DataFrame) -> pd.DataFrame:
    """Errors at the threshold that was chosen on validation classes, and when choosing it again.

    `rechosen_false_rejects_far` is the share of known queries rejected on the hardest split at the
    threshold that accepts 5% of its own unknown queries.
    """
    table = near_and_far(curves, OPEN_SET)
    if table.empty:
        return table
    return table.assign(rechosen_false_rejects_far=1 - table["tar@0.05_far"])


def compression_table(curves: pd.DataFrame) -> pd.DataFrame:
    """The loss of Recall@1 by each code on the splits of smallest and largest shift.

    Returns:
        One row per method and code: `method`, `code`, `size` (relative to float32), `near`, `far`
        (Recall@1), `loss_near`, `loss_far`, and their `ratio` if the first is positive.
    """
    rows = []
    for code, size in SIZES.items():
        name = f"recall@1_{code}"
        for one in near_and_far(curves, ("recall@1", name)).to_dict("records"):
            losses = [one[f"recall@1_{side}"] - one[f"{name}_{side}"] for side in ("near", "far")]
            ratio = losses[1] / losses[0] if losses[0] > 0 else float("nan")
            values = one[f"{name}_near"], one[f"{name}_far"], *losses, ratio
            rows.append((one["method"], name, size, *values))
    columns = ["method", "code", "size", "near", "far", "loss_near", "loss_far", "ratio"]
    return pd.DataFrame(rows, columns=columns)
