"""POST /api/export: a scan as a picture, a movie, a 3D file or a table; the answer is the file itself.

Convention. A wish has the words of `nmri3d.Brain`. Files come as attachments, a .vtm with its folder as one zip. A movie plays
a scan of several tokens through, and turns the brain once for any other; it takes minutes, so ask for it with
`Prefer: respond-async`. The measurement is that of the same scan elsewhere, kept where it was made before.

Left out: the drawing itself, which the top hands over (picturing.py), and an animation's finer choices (`nmri3d movie`).
"""

from __future__ import annotations

import io
import re
from pathlib import PurePath
from typing import Annotated, Any, Literal

from fastapi import APIRouter
from pydantic import ConfigDict, Field
from starlette.requests import Request
from starlette.responses import Response

from nmri3d.api.answers import Index, responses
from nmri3d.api.context import Context
from nmri3d.api.picturing import Exported, ExportWish
from nmri3d.api.representations import RESULT_FILE
from nmri3d.api.routes.maps import Area, Features, Layout, Surface, drawn_by
from nmri3d.api.scan_wish import Mode, ScanOptions, ScanWish, no_options
from nmri3d.api.schema import Body, Prompt
from nmri3d.errors import InputError
from nmri3d.models.backend import Progress
from nmri3d.results import Scan

MOST_PIXELS = {"png": 3840 * 2160, "mp4": 1920 * 1080, "gif": 1280 * 720}
SIZES = {"png": (1920, 1080), "mp4": (1280, 720), "gif": (800, 450)}

MEDIA_TYPES = {
    "png": "image/png",
    "glb": "model/gltf-binary",
    "html": "text/html; charset=utf-8",
    "vtm": "application/zip",
    "mp4": "video/mp4",
    "gif": "image/gif",
}
TABLE_TYPES = {
    "npz": RESULT_FILE,
    "csv": "text/csv; charset=utf-8",
    "parquet": "application/vnd.apache.parquet",
    "netcdf": "application/x-netcdf",
}
SUFFIXES = {"npz": ".npz", "csv": ".csv", "parquet": ".parquet", "netcdf": ".nc"}

Form = Surface | Literal["stack", "radial", "network"]
View = Literal[
    "lateral_left", "lateral_right", "medial_left", "medial_right", "dorsal", "ventral", "anterior", "posterior"
]


class ExportBody(Body):
    """What is drawn, and as what."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"format": "png", "mode": "fMRI", "prompt": "The capital of France is", "view": "lateral_left"}
            ]
        }
    )

    format: Literal["png", "glb", "html", "vtm", "mp4", "gif"]
    mode: Mode | None = Field(None, description="scan that is shown; null: the bare brain (png, glb, html, vtm)")
    prompt: Prompt | None = Field(None, description="for fMRI, DTI and FLAIR")
    options: ScanOptions = Field(default_factory=no_options, description="of the scan")
    step: Index = Field(-1, description="token that is shown, negative from the end; html and vtm hold all of them")
    layout: Layout = "anatomical"
    area: Area = "parameters"
    features: Features = "weights"
    form: Form = Field("pial", description="surface of the cortex, or layout of balls")
    view: View = Field("lateral_left", description="of pictures and movies; what is flat is always seen from above")
    size: Annotated[list[Annotated[int, Field(ge=16, le=4096)]], Field(min_length=2, max_length=2)] | None = Field(
        None,
        description="[width, height] in pixels, of pictures (at most 3840 x 2160 in all) and movies (mp4 1920 x 1080, even "
        "numbers; gif 1280 x 720); null: 1920 x 1080, 1280 x 720, 800 x 450",
    )
    title: str = Field("", max_length=200, description="names the file, and heads a picture of a scan")


class DataBody(ScanWish):
    """Which scan is wanted as a table, and in which format."""

    format: Literal["npz", "csv", "parquet", "netcdf"]


def router(context: Context) -> APIRouter:
    """Routes under /api/export."""
    routes = APIRouter(prefix="/api/export", tags=["export"])
    service = context.service

    @routes.post("", response_class=Response, responses=responses(404) | _files(MEDIA_TYPES))
    async def export(body: ExportBody, request: Request) -> Response:
        """A scan of the loaded model, drawn on its brain, as a file."""
        picturing, size = drawn_by(context), picture_size(body)
        if body.mode is None and (body.prompt is not None or body.options.model_fields_set):
            raise InputError(
                "A prompt and options belong to a scan; name its mode, or leave them out for the bare brain."
            )

        def work(progress: Progress) -> Response:
            scan = None
            if body.mode is not None:
                wish = ScanWish(mode=body.mode, prompt=body.prompt, options=body.options)
                scan = wish.measure(service, lambda share, what: progress(0.3 * share, what))
            exported = picturing.export(
                ExportWish(
                    format=body.format,
                    scan=scan,
                    step=body.step,
                    layout=body.layout,
                    features=body.features,
                    area=body.area,
                    form=body.form,
                    view=body.view,
                    size=size,
                    title=body.title,
                ),
                lambda share, what: progress(0.3 + 0.7 * share, what),
            )
            return attachment(exported)

        return await context.calls.respond(request, work, name="The export")

    @routes.post("/data", response_class=Response, responses=responses() | _files(TABLE_TYPES))
    async def export_data(body: DataBody, request: Request) -> Response:
        """The values of a scan as a file: npz (all of it, for nmri3d.open_scan), or a table of values."""

        def work(progress: Progress) -> Response:
            scan = body.measure(service, progress)
            name = f"{filename(PurePath(scan.provenance.model_id).name)}-{scan.mode}{SUFFIXES[body.format]}"
            return attachment(Exported(table_bytes(scan, body.format), TABLE_TYPES[body.format], name))

        return await context.calls.respond(request, work, name="The export")

    return routes


def picture_size(body: ExportBody) -> tuple[int, int]:
    """Width and height in pixels. Raises InputError for too many of them."""
    default = SIZES.get(body.format, SIZES["png"])
    width, height = default if body.size is None else (body.size[0], body.size[1])
    most = MOST_PIXELS.get(body.format, MOST_PIXELS["png"])
    if width * height > most:
        raise InputError(
            f"{width} x {height} are {width * height:,} pixels, and a {body.format} file made here has at most {most:,}; take "
            "a smaller size, or draw it where you are with nmri3d.Brain."
        )
    return width, height


def table_bytes(scan: Scan, form: str) -> bytes:
    """A scan as a file: npz is the whole scan, the others its values, csv and parquet one row a step and component.

    Parquet and NetCDF hold the unit and where the values come from, too. NetCDF is version 3, which has no 64-bit integers:
    counts of parameters are doubles there, exact up to 2**53.
    """
    if form == "npz":
        return scan.to_bytes()
    if form == "csv":
        return scan.to_pandas().to_csv(index=False).encode()
    if form == "parquet":
        table = scan.to_pandas()
        table.attrs = {"units": scan.units, "mode": scan.mode, **scan.provenance.as_attributes()}
        file = io.BytesIO()
        table.to_parquet(file, index=False)
        return file.getvalue()
    data = scan.to_xarray().to_dataset(name="values")
    counts = {name: array.astype("float64") for name, array in data.variables.items() if array.dtype == "int64"}
    return bytes(data.assign(counts).to_netcdf(engine="scipy"))


def attachment(exported: Exported) -> Response:
    """A file to be kept, not shown."""
    headers = {"Content-Disposition": f'attachment; filename="{exported.filename}"'}
    return Response(exported.content, media_type=exported.media_type, headers=headers)


def filename(text: str) -> str:
    """A text as a file's name without its suffix: ASCII letters and digits only; never empty, never a path."""
    return re.sub(r"[^A-Za-z0-9]+", "-", text).strip("-")[:80] or "brain"


def _files(media_types: dict[str, str]) -> dict[int | str, dict[str, Any]]:
    """The OpenAPI description of an answer that is one of several kinds of files."""
    kinds = {kind.partition(";")[0] for kind in media_types.values()}
    return {
        200: {
            "description": "The file, as an attachment.",
            "content": {kind: {"schema": {"type": "string", "format": "binary"}} for kind in sorted(kinds)},
        }
    }
