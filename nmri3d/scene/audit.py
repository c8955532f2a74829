"""Which actors of a scene a browser would not show: trame-vtk drops, silently, what its serializer does not know.

Convention. The lists are those of trame-vtk 2.11 (trame_vtk/modules/vtk/serializers/initialize.py); a test compares
them with the installed version.

Left out: whether a known actor looks the same in vtk.js; shading there is simpler.
"""

from __future__ import annotations

from typing import Any

KNOWN_PROPS = frozenset({"vtkActor", "vtkOpenGLActor", "vtkPVLODActor", "vtkVolume", "vtkCubeAxesActor"}) | {
    "vtkScalarBarActor",
    "vtkAxesActor",
}
KNOWN_MAPPERS = frozenset(
    {
        "vtkMapper",
        "vtkDataSetMapper",
        "vtkPolyDataMapper",
        "vtkImageDataMapper",
        "vtkOpenGLPolyDataMapper",
        "vtkCompositePolyDataMapper2",
        "vtkCompositePolyDataMapper",
        "vtkVolumeMapper",
        "vtkFixedPointVolumeRayCastMapper",
        "vtkGPUVolumeRayCastMapper",
        "vtkOpenGLGPUVolumeRayCastMapper",
        "vtkSmartVolumeMapper",
    }
)


def dropped_actors(renderer: Any, names: dict[str, str]) -> list[str]:
    """Names of the visible props of a vtkRenderer that vtk.js would not show, each with its reason.

    names: name by GetAddressAsString of a prop; a prop without one is called by its VTK class.
    """
    result = []
    props = renderer.GetViewProps()
    for number in range(props.GetNumberOfItems()):
        prop = props.GetItemAsObject(number)
        reason = _reason(prop) if prop.GetVisibility() else ""
        if reason:
            result.append(f"{names.get(prop.GetAddressAsString(''), prop.GetClassName())}: {reason}")
    return result


def _reason(prop: Any) -> str:
    if prop.GetClassName() not in KNOWN_PROPS:
        return f"{prop.GetClassName()} is not sent"
    if hasattr(prop, "GetMapper") and prop.GetMapper() is not None:
        mapper = prop.GetMapper().GetClassName()
        if mapper not in KNOWN_MAPPERS:
            return f"its mapper {mapper} is not sent"
    if hasattr(prop, "GetProperty"):
        properties = prop.GetProperty()
        if getattr(properties, "GetRenderLinesAsTubes", lambda: False)():
            return "lines as tubes are not drawn; send tube geometry"
        if getattr(properties, "GetRenderPointsAsSpheres", lambda: False)():
            return "points as spheres are not drawn; send sphere geometry"
    return ""
