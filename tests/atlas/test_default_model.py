"""The atlas of the real default model meets what the project promises of it."""

from __future__ import annotations

import pytest

from nmri3d.atlas import Atlas

pytestmark = pytest.mark.model


def test_quality(smollm2):
    quality = Atlas.build(smollm2, cache=False).quality
    assert quality["n_missing"] == 0
    assert quality["n_parcels"] == 302
    assert quality["connected_share"] == 1
    assert quality["area_error_max"] < 0.01
    assert quality["isoperimetric_median"] >= 0.8
    assert quality["depth_spearman"] >= 0.95
    # What the weights say is similar lies together: well above the same parcels with components shuffled.
    assert quality["trustworthiness"] > quality["trustworthiness_random"] + 0.2
    assert quality["knn_overlap"] > quality["knn_overlap_random"] + 0.15
