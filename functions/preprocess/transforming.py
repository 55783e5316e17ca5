"""The column transformer: numbers are imputed and scaled, texts become one column a category."""

import io

import joblib
import numpy as np
from sklearn.compose import ColumnTransformer
from sklearn.impute import SimpleImputer
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from sluice.ml.table import Table


def fit_transformer(train: Table) -> bytes:
    """A ColumnTransformer fitted on the training rows, pickled by joblib.

    It is fitted on float32, which is what the served model gets. A column whose training rows are
    all missing is kept and imputed with 0. Missing texts are the empty text, a category like
    others: ONNX can not impute strings.
    """
    positions: dict[str, list[int]] = {"number": [], "boolean": [], "string": []}
    for position, column in enumerate(train.columns):
        positions[column.kind].append(position)
    parts = [
        ("numbers", _imputed("median"), positions["number"]),
        ("booleans", _imputed("most_frequent"), positions["boolean"]),
        ("texts", _one_hot(), positions["string"]),
    ]
    transformer = ColumnTransformer([part for part in parts if part[2]], sparse_threshold=0)
    transformer.fit(train.matrix(np.float32))
    buffer = io.BytesIO()
    joblib.dump(transformer, buffer, compress=3)
    return buffer.getvalue()


def _imputed(strategy: str) -> Pipeline:
    imputer = SimpleImputer(strategy=strategy, keep_empty_features=True)
    return Pipeline([("impute", imputer), ("scale", StandardScaler())])


def _one_hot() -> OneHotEncoder:
    return OneHotEncoder(handle_unknown="ignore", sparse_output=False, dtype=np.float32)
