"""The atlas of the real default model meets what the project promises of it."""

from __future__ import annotations

import numpy as np
import pytest

import nmri3d
from nmri3d.atlas import LAYOUTS, Atlas, spatial_clustering
from nmri3d.atlas.moran import BAND
from nmri3d.bench.prompts import PROMPTS
from nmri3d.template import functional_features, template_of

pytestmark = pytest.mark.model


@pytest.fixture(scope="module")
def features_by_weights(smollm2):
    """Computed once: they take some seconds."""
    return smollm2.circuit_features()


@pytest.fixture(scope="module")
def features_by_activity(smollm2):
    """From the user's cache, or measured."""
    return functional_features(smollm2)


def test_quality(smollm2):
    quality = Atlas.build(smollm2, cache=False).quality
    assert quality["n_missing"] == 0
    assert quality["n_parcels"] == 302
    assert quality["connected_share"] == 1
    assert quality["area_error_max"] < 0.01
    assert quality["isoperimetric_median"] >= 0.8
    assert quality["border_roughness"] <= 1.15
    assert quality["depth_spearman"] >= 0.95
    # What the weights say is similar lies together: well above the same parcels with components shuffled.
    assert quality["trustworthiness"] > quality["trustworthiness_random"] + 0.2
    assert quality["knn_overlap"] > quality["knn_overlap_random"] + 0.15


@pytest.mark.parametrize("area", ["parameters", "equal"])
@pytest.mark.parametrize("layout", ["umap", "spectral"])
def test_layouts_by_weights(smollm2, features_by_weights, layout, area):
    quality = Atlas.build(smollm2, layout, area=area, features=features_by_weights, cache=False).quality
    assert quality["n_parcels"] == 302
    assert quality["connected_share"] == 1
    assert quality["area_error_max"] < 0.03
    assert quality["isoperimetric_median"] >= 0.5
    assert quality["border_roughness"] <= 1.15
    assert quality["trustworthiness_corrected"] >= 0.85
    assert quality["knn_share"] >= 5 * quality["knn_share_random"]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_activity_on_other_prompts_is_clustered_on_layouts_by_activity(smollm2, features_by_activity, layout):
    atlas = Atlas.build(smollm2, layout, features=features_by_activity, cache=False)
    template = template_of(smollm2)
    found = []
    for pair in (pair for pairs in PROMPTS.values() for pair in pairs[:4]):
        values = nmri3d.scan(smollm2, "fMRI", pair.clean).values
        found.append(template.fmri_z(values, np.arange(len(values)))[1:])
    moran = spatial_clustering(atlas, np.concatenate(found))
    assert moran.z >= 3
    # The same activity on components that changed places within kind and band is not.
    components, random = atlas.components, np.random.default_rng(0)
    order = np.arange(len(components))
    stratum = [f"{kind} {layer // BAND}" for kind, layer in zip(components.kind, components.layer, strict=True)]
    for name in set(stratum):
        inside = np.flatnonzero([text == name for text in stratum])
        order[inside] = random.permutation(inside)
    assert abs(spatial_clustering(atlas, np.concatenate(found)[:, order]).z) < 4
    if layout != "anatomical":
        assert atlas.quality["trustworthiness_corrected"] >= 0.85
        assert atlas.quality["knn_share"] >= 5 * atlas.quality["knn_share_random"]
