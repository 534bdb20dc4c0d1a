"""What the service tells about itself: metrics, request ids, traces, reports of errors, a health port."""

from worker.config import Settings
from worker.telemetry import error_reports, metrics, tracing


def start(settings: Settings, process: str) -> None:
    """Begin, at the start of a process and before its first connection. `process`: `web`, `worker` or `relay`.

    Raises:
        SettingsError: something is wanted whose package is not installed, or its address cannot be read.
    """
    metrics.begin(process)
    tracing.start(settings, process)
    error_reports.start(settings, process)


def stop() -> None:
    """Send what is still to be sent."""
    tracing.stop()
    error_reports.stop()
