"""What the commands `serve`, `classify` and `index` do; each returns its exit status."""

import os

from serving.arguments import Classify, Index
from serving.settings import Settings


def serve(settings: Settings) -> int:
    from alexnet import checkpoint
    from serving import server
    from serving.keys import Keys

    # What is wrong from the start is said here and now, in one line; the rest by /readyz.
    if not settings.wait_for_model:
        for path in settings.model:
            checkpoint.read_about(checkpoint.current(path))
    if settings.keys:
        Keys(settings.keys)
    return server.serve(settings)


def classify(options: Classify) -> int:
    from serving.client import classify

    return classify(options)


def index(options: Index) -> int:
    # By default threads that wait for each other spin: where other work has a core, they take up to
    # ten times the time. The libraries read this when they are loaded.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    from serving.index import build

    print(build(options.model, options.dataset, options.factory))
    return 0
