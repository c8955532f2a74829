"""The service: one loaded model, shared by all visitors, and the work that is done on it. No web, no VTK, no torch.

`Service` loads, swaps, scans, predicts and remembers; `Service.run` starts worker threads and hands out a `Job`; `Log`
is one visitor's log; `nmri3d.service.events` are the small messages that listeners get.
"""

from nmri3d.results import Prediction
from nmri3d.service.core import Service
from nmri3d.service.log import Log
from nmri3d.service.model_slot import ServiceStatus
from nmri3d.service.runner import Job, Runner

__all__ = ["Job", "Log", "Prediction", "Runner", "Service", "ServiceStatus"]
