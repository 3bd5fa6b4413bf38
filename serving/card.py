"""The model card."""

from serving.models import Models, Served
from serving.schemas import Card, IndexName, Input, ModelName, Reload
from serving.service import Service

LIMITS = (
    "max_upload_bytes", "max_files", "max_pixels", "max_aspect", "formats",
    "read_s", "deadline_s",
)  # fmt: skip


def card(service: Service) -> Card:
    """What is known of the model, and what the server allows. Raises NotReadyError."""
    served = service.models.ready()
    predictor, neighbours = served.predictor, served.neighbours
    about = predictor.about
    return Card(
        model=served.name,
        models=[ModelName.of(member) for member in predictor.abouts],
        classes=list(about.classes),
        dataset=about.dataset,
        accuracy=list(about.accuracy) if len(predictor.abouts) == 1 else [],
        calibrated=list(predictor.calibrated),
        calibrations=list(about.calibrations) if len(predictor.abouts) == 1 else [],
        network=about.network,
        recipe=about.recipe,
        trained_at=about.trained_at,
        versions=about.versions,
        picture=Input(size=about.size, crop=predictor.crop, framing=about.rule.framing),
        device=predictor.device_name,
        similar=IndexName(pictures=neighbours.about.pictures, dataset=neighbours.about.dataset)
        if neighbours
        else None,
        keys=service.keys is not None,
        limits=service.settings.model_dump(mode="json", include=set(LIMITS))
        | {
            "max_whole_pixels": service.settings.pixels_of(""),
            "max_request_pixels": service.settings.pixels_of_request,
            "queue_pictures": service.queue_pictures,
        },
        reload=_reload(service.models, served),
    )


def _reload(models: Models, served: Served) -> Reload:
    return Reload(
        loaded_at=served.loaded_at,
        failed=models.failed,
        away=next((origin.away for origin in models.origins if origin.away), None),
        asked_at=min(
            (origin.answered_at for origin in models.origins if origin.answered_at), default=None
        ),
    )
