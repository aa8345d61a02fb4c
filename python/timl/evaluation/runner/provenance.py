"""What results depend on and come from: digests, versions, settings, data."""

from __future__ import annotations

import hashlib
import json
import platform
from datetime import datetime, timezone
from typing import Any

from timl.data import LabelledData
from timl.meta.configuration import versions


def software_versions() -> dict[str, str]:
    """Return the versions of what computes, scikit-learn's too."""
    import sklearn

    return {**versions(), "scikit-learn": str(sklearn.__version__)}


def digest(described: Any) -> str:
    """Return 16 hexadecimal digits of the SHA-256 of what JSON can hold."""
    text = json.dumps(described, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def provenance(data: LabelledData, settings: dict[str, Any]) -> dict[str, Any]:
    """Return what an experiment that starts now comes from, as JSON takes it.

    Returns
    -------
    dict
        "started", "settings" as given, "versions", "platform", and "data": checksum, kind of
        NDVI, number of labelled training series.
    """
    return {
        "started": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "settings": settings,
        "versions": software_versions(),
        "platform": platform.platform(),
        "data": {
            "checksum": data.checksum,
            "ndvi": data.ndvi,
            "training_series": int((data.labels["position"] >= 0).sum()),
        },
    }
