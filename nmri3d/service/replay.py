"""A session measured again on the loaded model: is every number what was recorded?

Convention. Each recorded result is measured anew (nothing that the service keeps is used) and compared number by number: equal
means equal to the last bit, NaN where NaN was. The same weights on another machine, or with another number of threads, may
differ in the last digits; the difference says by how much. A session may come from another machine: what its data ask for is
checked like any request.

Left out: showing a session as it was seen, which is the page's.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal

import numpy as np

from nmri3d.errors import BusyError, Cancelled, InputError, Nmri3dError
from nmri3d.models.backend import Backend, Progress, no_progress
from nmri3d.models.progress import part
from nmri3d.results import Comparison, Heatmap, Scan, Sweep
from nmri3d.service.core import Service
from nmri3d.service.sessions import Result, Session, SessionEvent

MEASURED = ("scan", "edit", "trace", "sweep", "generate")
"""Events that come from a measurement; "undo" and "reset" do where they have a result."""

_NOT_OPTIONS = frozenset({"model", "mode", "prompt", "clean", "corrupt", "progress", "confirm"})
"""Arguments that are no options; a sweep's "corrupt" is one."""


@dataclass(frozen=True)
class ReplayedEvent:
    """What became of one event.

    state       "equal"; "differs"; "skipped": it was not measured again, or there is nothing to compare it with
    difference  the largest |difference| of two numbers; None where they cannot be compared
    array       the array of the result in which that is: "values", "details/kl", …
    reason      a sentence where it is not equal, else ""
    """

    number: int
    kind: str
    state: Literal["equal", "differs", "skipped"]
    difference: float | None = None
    array: str = ""
    reason: str = ""


def replay(service: Service, session: Session, progress: Progress = no_progress) -> list[ReplayedEvent]:
    """Measure everything again that a session measured, in its order, and compare.

    Raises BusyError and ModelError as `Service.require_backend`, and Cancelled. What else goes wrong with an event is its
    reason.
    """
    fingerprint = service.require_backend().info.fingerprint
    events = session.events
    chosen = [at for at, event in enumerate(events) if event.kind in MEASURED or event.result]
    replayed = []
    for done, at in enumerate(chosen):
        report = part(progress, done / len(chosen), (done + 1) / len(chosen))
        report(0.0, f"event {events[at].number}, {events[at].kind}")
        replayed.append(_replayed(service, session, at, fingerprint, report))
    return replayed


def _replayed(service: Service, session: Session, at: int, fingerprint: str, progress: Progress) -> ReplayedEvent:
    event = session.events[at]
    try:
        recorded = session.result(event)
        if recorded is None:
            return _skipped(event, "No result was recorded with it.")
        made_on = recorded.provenance.fingerprint
        if made_on != fingerprint:
            return _skipped(
                event, f"It was measured on another model, {recorded.provenance.model_id} ({made_on[:12]})."
            )
        return _compared(event, recorded, _measured_again(service, event, recorded, progress))
    except (Cancelled, BusyError):
        raise
    except Nmri3dError as error:
        return _skipped(event, str(error))
    except (TypeError, ValueError, KeyError, AttributeError) as error:  # data of a wrong type, from who knows where
        return _skipped(event, f"What was recorded cannot be asked for ({error}).")


def _measured_again(service: Service, event: SessionEvent, recorded: Result, progress: Progress) -> Result:
    """The same measurement on the loaded model. Raises what it raises."""
    data = event.data
    if event.kind == "generate":
        return _generated_again(service, data, progress)

    def measure(model: Backend) -> Result:
        from nmri3d import perturbation, scans

        match recorded:
            case Comparison():
                edits = [_edit(record) for record in recorded.edits]
                return perturbation.perturb(model, str(recorded.provenance.prompt), edits, progress=progress)
            case Heatmap():
                corrupt, options = data.get("corrupt"), _options(data)
                return perturbation.trace(model, data["clean"], corrupt, progress=progress, **options)
            case Sweep():
                return perturbation.ablate_all(model, data["prompt"], progress=progress, **_options(data, "corrupt"))
        scan = scans.scan_neurons if data.get("level") == "neuron" else scans.scan
        options = _scan_options(data, recorded)
        return scan(model, data["mode"], data.get("prompt"), progress=progress, **options)

    return service.measure_anew(measure, progress=progress)


def _generated_again(service: Service, data: Mapping[str, Any], progress: Progress) -> Result:
    tokens = data["tokens"]
    again = service.generate(
        data["prompt"],
        len(tokens),
        lambda step: None,
        temperature=data["temperature"],
        seed=data["seed"],
        progress=progress,
    )
    written = [token.token_id for token in again.tokens]
    if written != tokens:
        raise InputError(f"The model wrote other tokens: {written[:20]} instead of {tokens[:20]}.")
    return again.scan


def _options(data: Mapping[str, Any], *also: str) -> dict[str, Any]:
    """The recorded options. Raises InputError for a name that would take the place of an argument."""
    options = dict(data.get("options") or {})
    if wrong := _NOT_OPTIONS.difference(also).intersection(options):
        raise InputError(f"{', '.join(sorted(wrong))} cannot be an option of a measurement.")
    return options


def _scan_options(data: Mapping[str, Any], recorded: Scan) -> dict[str, Any]:
    options = _options(data, *(("corrupt",) if data.get("mode") == "DTI" else ()))
    if options.get("template") == "ready":  # what was ready then decides, not what is ready now
        options["template"] = "off" if recorded.provenance.config.get("template") is None else "auto"
    return options


def _edit(record: Mapping[str, Any]) -> Any:
    from nmri3d.perturbation import Edit

    known = {field.name for field in fields(Edit)}
    if unknown := set(record) - known:
        raise InputError(f"An edit has no {', '.join(sorted(unknown))}.")
    return Edit(**record)


def _skipped(event: SessionEvent, reason: str) -> ReplayedEvent:
    return ReplayedEvent(event.number, event.kind, "skipped", reason=reason)


def _compared(event: SessionEvent, recorded: Result, measured: Result) -> ReplayedEvent:
    before, after = dict(_arrays(recorded)), dict(_arrays(measured))
    worst, worst_name = 0.0, ""
    for name in [*before, *(name for name in after if name not in before)]:
        if name not in before or name not in after or before[name].shape != after[name].shape:
            reason = f"{name} has another shape than it had, or is not there."
            return ReplayedEvent(event.number, event.kind, "differs", None, name, reason)
        difference = _difference(before[name], after[name])
        if difference is None:
            reason = f"{name} holds other texts, or has numbers in other places."
            return ReplayedEvent(event.number, event.kind, "differs", None, name, reason)
        if difference > worst:
            worst, worst_name = difference, name
    if worst == 0:
        return ReplayedEvent(event.number, event.kind, "equal", 0.0)
    reason = f"The largest difference, in {worst_name}, is {worst:.3g}."
    return ReplayedEvent(event.number, event.kind, "differs", worst, worst_name, reason)


def _difference(before: np.ndarray, after: np.ndarray) -> float | None:
    """The largest |difference|; None for texts that are not the same, and where one is NaN or infinite and the other is not."""
    if not np.issubdtype(before.dtype, np.number) or not np.issubdtype(after.dtype, np.number):
        return 0.0 if np.array_equal(before, after) else None
    first, second = before.astype(np.float64), after.astype(np.float64)
    numbers = np.isfinite(first)
    if not np.array_equal(first[~numbers], second[~numbers], equal_nan=True) or not np.isfinite(second[numbers]).all():
        return None
    return float(np.abs(first[numbers] - second[numbers]).max(initial=0.0))


def _arrays(result: Result) -> Iterable[tuple[str, np.ndarray]]:
    """Everything that was measured, as named arrays."""
    match result:
        case Scan():
            yield from {"values": result.values, "tokens": np.array(result.tokens, dtype=str)}.items()
            yield from ((f"details/{name}", array) for name, array in result.details.items())
            if result.tracts is not None:
                for name in ("source", "target", "slot", "score"):
                    yield f"tracts/{name}", getattr(result.tracts, name)
        case Comparison():
            yield from {"before": result.values_before, "after": result.values_after}.items()
            answer = [result.kl, result.logit_before, result.logit_after, result.probability_after]
            yield "answer", np.array(answer, dtype=np.float64)  # NaN for what signals have not
        case Heatmap():
            yield from {"values": result.values, "stderr": result.stderr}.items()
            yield "metric", np.array([result.clean_metric, result.corrupt_metric])
        case Sweep():
            yield from {"values": result.values, "metric": np.array([result.clean_metric])}.items()
