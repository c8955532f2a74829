"""How good an atlas is, in figures. Every one is measured on the finished mesh, none is taken from the construction.

    area_error_mean, area_error_max   |area - target| / target over components with a place (on pial)
    n_parcels, n_missing              components with a place that have faces, and that have none
    connected_share                   share of parcels whose faces hang together across edges
    isoperimetric_median, _min        A (4 pi - A) / P^2 of a parcel on the unit sphere, or on a body as large as that
                                      sphere: 1 for a disk
    faces_min                         faces of the smallest parcel
    depth_spearman, _left, _right     rank correlation of layer and y of the sphere centroid; embedding, unembedding and
                                      bodies beside the cortex left out; NaN where it is not defined
    border_roughness                  length of all borders between parcels, on the unit sphere, over that of the same
                                      borders smoothed (`borders`): 1 where nothing is jagged
    trustworthiness, knn_share        of the neighborhoods (k = 10, fewer if there are fewer components), features
                                      against distance of sphere centroids, infinite between parts of the brain;
                                      knn_share is the share of a component's neighbors in one that are so in the other
    knn_overlap                       knn_share chance-corrected: 0 for random places, 1 for equal neighborhoods
    *_random                          the same after components were shuffled (mean of 5 draws): over all parcels, or,
                                      where the layout decides hemispheres by kind (`anatomical`), within theirs
    *_embedding                       of trustworthiness and knn_share: the same of the embedding before it was brought
                                      to the cortex (only where the layout has one)
    trustworthiness_corrected         (trustworthiness - 0.5) / (trustworthiness_embedding - 0.5): what of the
                                      embedding's order above chance is left on the cortex (only where it has one)

`describe` puts them in rows for people. Left out: Moran's I of scans, which needs scans (`moran`).

Sources: Venna and Kaski 2001 (trustworthiness); Osserman 1978 (isoperimetric inequality on the sphere).
"""

from __future__ import annotations

import numpy as np

from nmri3d.atlas.borders import border_roughness
from nmri3d.atlas.cutting import triangle_areas
from nmri3d.atlas.layout import centered
from nmri3d.atlas.subdivision import face_edges
from nmri3d.components import ComponentTable

N_NEIGHBORS = 10
_N_DRAWS = 5
_MAX_ANCHORS = 600


def measure_quality(
    *,
    components: ComponentTable,
    features: np.ndarray,
    direction: np.ndarray,
    faces: np.ndarray,
    face_component: np.ndarray,
    part_of_face: np.ndarray,
    area: np.ndarray,
    target_area: np.ndarray,
    embedding: np.ndarray | None,
    seed: int,
) -> dict[str, float]:
    """All figures by name; `direction` float64 [v, 3] are the vertices on the unit sphere, not shifted apart, or on a
    body's smooth surface; `part_of_face` int [f] numbers the parts of the brain: 0 left, 1 right, 2 and on the bodies.

    `embedding` float64 [n, 3]: unit vectors, where the layout has one.
    """
    rows = components.cortical
    n_faces = np.bincount(face_component[face_component >= 0], minlength=len(components))
    present = rows[n_faces[rows] > 0]
    error = np.abs(area[rows] - target_area[rows]) / target_area[rows]
    round_ = isoperimetric_quotient(direction, faces, face_component, len(components))[present]
    part_of = np.full(len(components), -1)
    part_of[face_component[face_component >= 0]] = part_of_face[face_component >= 0]
    part = part_of[present]
    centers = sphere_centers(direction, faces, face_component, len(components), part_of >= 2)[present]
    figures = {
        "n_parcels": float(len(present)),
        "n_missing": float(len(rows) - len(present)),
        "area_error_mean": float(error.mean()),
        "area_error_max": float(error.max()),
        "connected_share": float((count_pieces(faces, face_component, len(components))[present] == 1).mean()),
        "faces_min": float(n_faces[rows].min()),
        "isoperimetric_median": float(np.median(round_)),
        "isoperimetric_min": float(round_.min()),
        "border_roughness": border_roughness(direction, faces, face_component),
    }
    layer = components.layer[present].astype(np.float64)
    inner = (layer >= 0) & (part < 2)
    random = np.random.default_rng(seed)
    kept = part if embedding is None else np.zeros(len(present), dtype=np.int64)
    draws = [_shuffled(kept, random) for _ in range(_N_DRAWS)]
    for suffix, chosen in (("", inner), ("_left", inner & (part == 0)), ("_right", inner & (part == 1))):
        figures[f"depth_spearman{suffix}"] = spearman(layer[chosen], centers[chosen, 1])
    shuffled = [spearman(layer[draw][inner[draw]], centers[inner[draw], 1]) for draw in draws]
    figures["depth_spearman_random"] = float(np.mean(shuffled))
    anchors = np.sort(random.permutation(len(present))[:_MAX_ANCHORS])
    values = centered(features[present])
    found = neighborhood_preservation(values, centers, part, anchors)
    chance = np.mean([neighborhood_preservation(values[draw], centers, part, anchors) for draw in draws], axis=0)
    for name, value, baseline in zip(("trustworthiness", "knn_overlap"), found, chance, strict=True):
        figures[name], figures[f"{name}_random"] = float(value), float(baseline)
    by_chance = _neighbors_of(len(present)) / max(len(present) - 1, 1)
    for suffix, value in (("", found[1]), ("_random", chance[1])):
        figures[f"knn_share{suffix}"] = float(by_chance + (1 - by_chance) * value)
    if embedding is not None:
        everywhere = np.zeros(len(present), dtype=np.int64)
        trust, overlap = neighborhood_preservation(values, embedding[present], everywhere, anchors)
        figures["trustworthiness_embedding"] = trust
        figures["knn_share_embedding"] = by_chance + (1 - by_chance) * overlap
        figures["trustworthiness_corrected"] = (found[0] - 0.5) / (trust - 0.5)
    return figures


def _neighbors_of(n: int) -> int:
    """How many neighbors are compared where there are n components; under 1 where there are too few."""
    return min(N_NEIGHBORS, (n - 1) // 3)


def _shuffled(part: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """int64 [k]: a permutation that keeps every component on its part of the brain, int [k]."""
    order = np.arange(len(part))
    for one in np.unique(part):
        inside = part == one
        order[inside] = random.permutation(order[inside])
    return order


def count_pieces(faces: np.ndarray, face_component: np.ndarray, n_components: int) -> np.ndarray:
    """int64 [n]: connected pieces (across edges) that the faces of each component form."""
    import scipy.sparse as sparse
    from scipy.sparse.csgraph import connected_components

    n_vertices = int(faces.max()) + 1
    _, edge_of_face = face_edges(faces, n_vertices)
    order = np.argsort(edge_of_face.ravel(), kind="stable")
    face = np.repeat(np.arange(len(faces)), 3)[order]
    edge = edge_of_face.ravel()[order]
    twin = np.flatnonzero((edge[1:] == edge[:-1]) & (face_component[face[1:]] == face_component[face[:-1]]))
    graph = sparse.coo_matrix((np.ones(len(twin)), (face[twin], face[twin + 1])), shape=(len(faces), len(faces)))
    _, piece = connected_components(graph, directed=False)
    first = np.unique(piece, return_index=True)[1]
    owner = face_component[first]
    return np.bincount(owner[owner >= 0], minlength=n_components)


def isoperimetric_quotient(
    direction: np.ndarray, faces: np.ndarray, face_component: np.ndarray, n_components: int
) -> np.ndarray:
    """float64 [n]: A (4 pi - A) / P^2 on the unit sphere; NaN for a component without faces."""
    placed = face_component >= 0
    size = np.bincount(face_component[placed], triangle_areas(direction, faces)[placed], n_components)
    edges, edge_of_face = face_edges(faces, len(direction))
    order = np.argsort(edge_of_face.ravel(), kind="stable")
    sides = np.repeat(face_component, 3)[order].reshape(-1, 2)
    length = np.linalg.norm(direction[edges[:, 0]] - direction[edges[:, 1]], axis=1)
    differs = sides[:, 0] != sides[:, 1]
    perimeter = np.zeros(n_components)
    for side in sides.T:
        owned = differs & (side >= 0)
        perimeter += np.bincount(side[owned], length[owned], n_components)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(perimeter > 0, size * (4 * np.pi - size) / perimeter**2, np.nan)


def sphere_centers(
    direction: np.ndarray,
    faces: np.ndarray,
    face_component: np.ndarray,
    n_components: int,
    on_body: np.ndarray | None = None,
) -> np.ndarray:
    """float64 [n, 3]: unit vectors to the centroids of the parcels on the sphere, or the centroids themselves of the
    components `on_body`, bool [n]; NaN for one without faces."""
    placed = face_component >= 0
    row, size = face_component[placed], triangle_areas(direction, faces)[placed]
    middle = direction[faces[placed]].mean(axis=1)
    moment = np.column_stack([np.bincount(row, size * middle[:, k], n_components) for k in range(3)])
    scale = np.linalg.norm(moment, axis=1)
    if on_body is not None:
        scale = np.where(on_body, np.bincount(row, size, n_components), scale)
    with np.errstate(invalid="ignore"):
        return moment / scale[:, None]


def spearman(first: np.ndarray, second: np.ndarray) -> float:
    """Rank correlation, ties at their mean rank; NaN where either side does not vary."""
    if len(first) < 2:
        return float("nan")
    a, b = _ranks(first), _ranks(second)
    scale = np.sqrt((a**2).sum() * (b**2).sum())
    return float((a * b).sum() / scale) if scale > 0 else float("nan")


def _ranks(values: np.ndarray) -> np.ndarray:
    """float64 [k]: ranks, ties at their mean, less the mean of all. (scipy.stats takes longer to import than this.)"""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - (counts - 1) / 2)[inverse] - (len(values) + 1) / 2


def neighborhood_preservation(
    values: np.ndarray, centers: np.ndarray, part: np.ndarray, anchors: np.ndarray
) -> tuple[float, float]:
    """Trustworthiness and chance-corrected overlap of neighborhoods, over the components number `anchors`.

    values float64 [k, d] features, centers float64 [k, 3], part int [k] (the part of the brain). Neighbors on the brain
    are those of the own part only; a component with fewer than N_NEIGHBORS there is compared over the fewer. NaN where
    there are too few components for the question.
    """
    n = len(values)
    k = _neighbors_of(n)
    if k < 1:
        return float("nan"), float("nan")
    square = (values**2).sum(axis=1)
    feature = square[anchors, None] + square - 2 * values[anchors] @ values.T
    far = ((centers[anchors, None] - centers) ** 2).sum(axis=-1)
    far[part[anchors, None] != part] = np.inf
    mine = np.arange(len(anchors))
    feature[mine, anchors] = far[mine, anchors] = np.inf
    order = np.argsort(feature, axis=1, kind="stable")
    rank = np.empty_like(order)
    np.put_along_axis(rank, order, np.broadcast_to(np.arange(1, n + 1), order.shape), axis=1)
    near = np.argsort(far, axis=1, kind="stable")[:, :k]
    counted = np.isfinite(np.take_along_axis(far, near, axis=1))
    near_rank = np.take_along_axis(rank, near, axis=1)
    penalty = np.where(counted, np.maximum(near_rank - k, 0), 0).sum()
    trust = 1 - 2 * penalty / (len(anchors) * k * (2 * n - 3 * k - 1))
    overlap = ((near_rank <= k) & counted).sum() / max(counted.sum(), 1)
    by_chance = k / (n - 1)
    return float(trust), float((overlap - by_chance) / (1 - by_chance))
