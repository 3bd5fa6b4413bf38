"""What the command `index` does; apart from trainer/commands.py, which loads torch at once."""

import os

from trainer.arguments import Index


def index(options: Index) -> int:
    # By default threads that wait for each other spin: where other work has a core, they take up to
    # ten times the time. The libraries read this when they are loaded.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    from trainer.publishing.similar_index import publish_index

    print(publish_index(options.model, options.data, options.factory, options.damage))
    return 0
