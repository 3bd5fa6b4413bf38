"""What the commands `serve` and `classify` do; each returns its exit status."""

from serving.arguments import Classify
from serving.settings import Settings


def serve(settings: Settings) -> int:
    from serving import server
    from serving.keys import Keys
    from serving.origin import Origin

    # What is wrong from the start is said here and now, in one line; the rest by /readyz.
    if not settings.wait_for_model:
        for place in settings.model:
            Origin(place).check()
    if settings.keys:
        Keys(settings.keys)
    return server.serve(settings)


def classify(options: Classify) -> int:
    from serving.client import classify

    return classify(options)
