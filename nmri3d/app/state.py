"""The page's state: what the server tells the browser, with its defaults, and checks for what the browser tells the server.

Convention. Each field of `PageState` is one variable of trame's state, written by the server only; the browser keeps what
a person changes (token, threshold, surface, ...) to itself. Arrays go as bytes, little-endian. Nothing that comes from a
browser is trusted: it passes one of the `require_*` functions, which raise InputError, before it is used.

Left out: what the values mean (payloads.py, facts.py) and when they change (page.py).
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from nmri3d.errors import InputError
from nmri3d.results import MODES

AGGREGATIONS = ("l2_norm", "max", "mean")
"""Ways to reduce a write to one number that the page offers."""

LONGEST_TEXT = 200_000
"""Characters of a prompt or name that are read at all; the model's context is far shorter."""

FARTHEST = 1e5
"""Millimeters from the origin that a camera may stand; the brain is 200 mm long."""


@dataclass
class PageState:
    """Variables of trame's state and what they hold before anything has happened.

    status        {"state", "name", "share", "what", "error"}: where the model stands, as `ServiceStatus`
    model         facts of the model that is shown, None before there is one
    catalog       [{"group", "entries": [{"value", "label"}]}] of the model menu
    memory        memory in use, in words
    mode          the open tab
    palettes      {variant: {mode: uint8 [256, 3]}}
    geometry      components and cortex, once a model; see `payloads.geometry_payload`
    scan_t1, scan_t2, scan_fmri, scan_dti, scan_flair   one scan each; see `payloads.scan_payload`
    job           {"mode", "share", "what"} while a scan or another long piece of work is under way
    errors        {place: sentence}; places are "model", "prompt", "corrupt", "picture", "edit", "trace", ..., and modes
    facts         the selected component; see `facts.component_facts`
    neurons       {"row", "step", "items"}: strongest neurons of a selected MLP, on demand
    neuron_job    {"share", "what"} while the neurons are given their places
    prediction    {"prompt", "tokens"}; see `findings.prediction_finding`
    subject       the prompt that experiments are about; see `findings.subject_finding`
    painting      {"what", "palette", "payload"}: what is painted instead of a tab's own scan
    edits         [{"number", "text", "title"}], the stack of edits
    edit_job      {"kind"} while an edit is measured
    comparison    before and after the edits; see `findings.comparison_finding`
    paths         the DTI scan in figures; see `findings.paths_finding`
    edge_check    one edge, {"source", "target", "slot", "busy", "measured"}
    attention     {"layer", "head", "tokens", "pattern"}: one head's attention
    head_kinds    scores of all heads; see `findings.kinds_finding`
    flair         the FLAIR scan in figures; see `findings.flair_finding`
    own_effect    what one component alone does to the lens; see `findings.own_effect_finding`
    lens          the logit lens; see `findings.lens_finding`
    trace, sweep  results of the long runs; see `findings`
    estimates     {"trace" | "sweep": {"seconds", "detail"} or {"error"}}: how long a run would take
    ask           {"what", "seconds", "detail"}: a run that waits for a yes
    generated     {"number", "token", "values"}: the newest token of a generation
    layers        how many layers the model has
    log_tail      newest lines of the log, numbered
    aggregation   how fMRI reduces a write
    statistic     which statistic T2 paints
    statistics    [[name, label]] of the statistics that T2 can paint
    layout        the cortical layout and its figures; see `layouts.layout_finding`
    moran         {"prompt", "index", "expected", "spread", "z", "p", "n_parcels", "n_steps"}: Moran's I of an fMRI scan
    placing       {"share", "what"} while a model is mapped onto the cortex
    flight        {"center", "radius", "epoch"}: where the parcels of the next brain lie, while it waits to be shown
    letters       orientation letters of a picture that the server draws
    recording     {"on", "id", "events": how many are written}; None where nothing can be recorded
    sessions      [{"id", "title", "created", "changed", "events", "bytes", "model"}], None before they were asked for
    replay        the session that is replayed; see parts/replaying.py, as for the next
    replayed      the moment of it that is shown
    remote        whether the server draws
    """

    status: dict[str, Any] = field(
        default_factory=lambda: {"state": "empty", "name": "", "share": 0.0, "what": "", "error": None}
    )
    model: dict[str, Any] | None = None
    catalog: list[dict[str, Any]] = field(default_factory=list)
    memory: str = ""
    mode: str = "T1"
    palettes: dict[str, dict[str, bytes]] | None = None
    geometry: dict[str, Any] | None = None
    scan_t1: dict[str, Any] | None = None
    scan_t2: dict[str, Any] | None = None
    scan_fmri: dict[str, Any] | None = None
    scan_dti: dict[str, Any] | None = None
    scan_flair: dict[str, Any] | None = None
    job: dict[str, Any] | None = None
    errors: dict[str, str] = field(default_factory=dict)
    facts: dict[str, Any] | None = None
    neurons: dict[str, Any] | None = None
    neuron_job: dict[str, Any] | None = None
    prediction: dict[str, Any] | None = None
    subject: dict[str, Any] | None = None
    painting: dict[str, Any] | None = None
    edits: list[dict[str, Any]] = field(default_factory=list)
    edit_job: dict[str, Any] | None = None
    comparison: dict[str, Any] | None = None
    paths: dict[str, Any] | None = None
    edge_check: dict[str, Any] | None = None
    attention: dict[str, Any] | None = None
    head_kinds: dict[str, Any] | None = None
    flair: dict[str, Any] | None = None
    own_effect: dict[str, Any] | None = None
    lens: dict[str, Any] | None = None
    trace: dict[str, Any] | None = None
    sweep: dict[str, Any] | None = None
    estimates: dict[str, Any] = field(default_factory=dict)
    ask: dict[str, Any] | None = None
    generated: dict[str, Any] | None = None
    layers: int = 0
    log_tail: list[dict[str, Any]] = field(default_factory=list)
    aggregation: str = AGGREGATIONS[0]
    statistic: str = "std"
    statistics: list[list[str]] = field(default_factory=list)
    layout: dict[str, Any] | None = None
    moran: dict[str, Any] | None = None
    placing: dict[str, Any] | None = None
    flight: dict[str, Any] | None = None
    letters: dict[str, str] = field(default_factory=dict)
    recording: dict[str, Any] | None = None
    sessions: list[dict[str, Any]] | None = None
    replay: dict[str, Any] | None = None
    replayed: dict[str, Any] | None = None
    remote: bool = False

    def as_dict(self) -> dict[str, Any]:
        """All variables by name."""
        return asdict(self)


def require_text(value: Any, name: str) -> str:
    """A text of bearable length."""
    if not isinstance(value, str) or len(value) > LONGEST_TEXT:
        raise InputError(f"the {name} must be a text of at most {LONGEST_TEXT:,} characters; shorten it")
    return value


def require_mode(value: Any) -> str:
    """One of the five modes."""
    return require_choice(value, MODES, "mode")


def require_choice(value: Any, known: tuple[str, ...], name: str) -> str:
    """One of the known names."""
    if not isinstance(value, str) or value not in known:
        raise InputError(f"there is no {name} {value!r}; choose one of {', '.join(known)}")
    return value


def require_index(value: Any, count: int, name: str) -> int:
    """A whole number from 0 to count - 1. A bool is refused, and so is a float that is not whole."""
    return require_whole(value, 0, count - 1, name)


def require_whole(value: Any, low: int, high: int, name: str) -> int:
    """A whole number from low to high. A bool is refused, and so is a float that is not whole."""
    if isinstance(value, float) and value.is_integer():  # JSON knows one kind of number
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise InputError(f"the {name} must be a whole number from {low} to {high}, not {value!r}")
    return value


def require_message(value: Any) -> dict[str, Any]:
    """Named options."""
    if not isinstance(value, dict):
        raise InputError("this needs named options; reload the page and try again")
    return value


def require_share(value: Any, name: str) -> float:
    """A number from 0 to 1."""
    return require_number(value, 0, 1, name)


def require_number(value: Any, low: float, high: float, name: str) -> float:
    """A finite number from low to high."""
    # Integers are compared before they are converted: one of any length fits into a message, but not into a float.
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        raise InputError(f"the {name} must be a number from {low:g} to {high:g}, not {value!r}")
    return float(value)


def require_vector(value: Any, name: str) -> tuple[float, float, float]:
    """Three finite numbers, mm from the origin, of bearable size."""
    if not isinstance(value, list | tuple) or len(value) != 3:
        raise InputError(f"the {name} must be three numbers, not {value!r}")
    x, y, z = (require_number(one, -FARTHEST, FARTHEST, name) for one in value)
    return x, y, z
