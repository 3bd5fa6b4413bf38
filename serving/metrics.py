"""What Prometheus can ask of a server: seconds, and labels whose values are few."""

import os

from prometheus_client import (
    REGISTRY,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    disable_created_metrics,
    generate_latest,
    multiprocess,
)

disable_created_metrics()

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)

REQUESTS = Counter("serving_requests", "Requests answered.", ["route", "method", "status"])
REQUEST_SECONDS = Histogram(
    "serving_request_seconds", "Time from a request's headers to its answer.", ["route"],
    buckets=SECONDS,
)  # fmt: skip
REFUSED = Counter("serving_refused", "Refused requests, by the error's code.", ["code"])
IMAGES = Counter("serving_pictures", "Images answered.", ["route"])
STAGE_SECONDS = Histogram(
    "serving_stage_seconds", "Time in each stage of an answer.", ["stage"], buckets=SECONDS
)
BATCH_VIEWS = Histogram(
    "serving_batch_views", "Views in one forward pass.", buckets=(1, 10, 20, 40, 80, 160, 320, 640)
)
QUEUE_VIEWS = Gauge(
    "serving_queue_views", "Views (crops of images) accepted and not yet answered.",
    multiprocess_mode="livesum",
)  # fmt: skip
CAPACITY_VIEWS = Gauge(
    "serving_queue_capacity_views", "Most views that the queue can hold.",
    multiprocess_mode="livesum",
)  # fmt: skip
DROPPED = Counter(
    "serving_dropped", "Requests given up because the client left or the deadline passed."
)
READY = Gauge("serving_ready", "1 while a model is loaded.", multiprocess_mode="livemin")
MODEL = Gauge(
    "serving_model", "1 for the model that answers.", ["name", "step", "sha256"],
    multiprocess_mode="livemax",
)  # fmt: skip
ACCURACY = Gauge(
    "serving_validation_accuracy", "Share of the validation images that the model that answers got "
    "right when it was published, of all images or as the mean of the classes; NaN: not known.",
    ["views", "mean"], multiprocess_mode="livemax",
)  # fmt: skip
RELOADS = Counter("serving_reloads", "Attempts to load a published model, by outcome.", ["outcome"])
RELOAD_FAILED = Gauge(
    "serving_reload_failed", "1 where the newest published model could not be loaded.",
    multiprocess_mode="livemax",
)  # fmt: skip
STORE_AWAY_S = Gauge(
    "serving_store_away_seconds", "Seconds since the object store that models come from last "
    "answered; 0 while it answers, and for models on disk.", multiprocess_mode="livemax",
)  # fmt: skip


def page() -> bytes:
    """All metrics as text for Prometheus: those of every process, where several share the port."""
    registry = REGISTRY
    if "PROMETHEUS_MULTIPROC_DIR" in os.environ:
        registry = CollectorRegistry()
        multiprocess.MultiProcessCollector(registry)
    return generate_latest(registry)
