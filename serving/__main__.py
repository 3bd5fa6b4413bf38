"""python -m serving: a published model to answers over HTTP."""

import argparse
import os
import sys
from pathlib import Path

from alexnet.command import Parser, run

URL = "http://127.0.0.1:8000"
KINDS = """kinds: Flat is exact and takes 4 bytes a hidden unit, 16 KB a picture at full width; a
search reads all of it. SQfp16 takes half and finds 99.9 % of the same six, SQ8 a quarter and
98.8 %; IVF1024,SQ8 reads a sixteenth of that and finds 99.3 %. Flat is right up to some 100,000
pictures; for ImageNet's 1.28 million IVF4096,SQ8: 5.3 GB where Flat takes 21. Each list needs 39
pictures or more. `python -m serving.similar_bench` measures them."""


def main(arguments: list[str] | None = None) -> int:
    arguments = sys.argv[1:] if arguments is None else arguments
    parsers = {"classify": _client_parser, "index": _index_parser}
    if arguments and arguments[0] in parsers:
        return run(parsers[arguments[0]](), arguments[1:])
    return run(_server_parser(), arguments)


def _serve(options: argparse.Namespace) -> int:
    from alexnet import checkpoint
    from serving.keys import Keys
    from serving.server import serve
    from serving.settings import Settings

    given = {name: value for name, value in vars(options).items() if value is not None}
    given.pop("run")
    settings = Settings(**given)
    # What is wrong from the start is said here and now, in one line; the rest by /readyz.
    if not settings.wait_for_model:
        for path in settings.model:
            checkpoint.read_about(checkpoint.current(path))
    if settings.keys:
        Keys(settings.keys)
    return serve(settings)


def _classify(options: argparse.Namespace) -> int:
    from serving.client import classify

    return classify(options)


def _index(options: argparse.Namespace) -> int:
    # By default threads that wait for each other spin: where other work has a core, they take up to
    # ten times the time. The libraries read this when they are loaded.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    from serving.index import build

    print(build(options.model, options.dataset, options.factory))
    return 0


def _server_parser() -> Parser:
    parser = Parser(
        prog="python -m serving",
        description=__doc__,
        epilog="Each option is also an environment variable: SERVING_MODEL, SERVING_PORT, ...; "
        "serving/settings.py lists them all. `python -m serving classify --help` for the client, "
        "`python -m serving index --help` for the index of similar pictures.",
    )
    parser.set_defaults(run=_serve)
    parser.add_argument(
        "--model", action="append", type=Path,
        help="models/NAME, or models/NAME/STEP; several answer together",
    )  # fmt: skip
    parser.add_argument(
        "--wait-for-model", action="store_true", default=None,
        help="start without a published model and take the first that appears",
    )  # fmt: skip
    parser.add_argument("--host", help="address to listen on (127.0.0.1)")
    parser.add_argument("--port", help="(8000)")
    parser.add_argument("--workers", help="server processes that share the port (1)")
    parser.add_argument("--threads", help="of one forward pass on a CPU (half the cores)")
    parser.add_argument("--keys", help="file of API keys, one a line (none: anybody may ask)")
    parser.add_argument("--queue-pictures", help="that may wait; beyond them 429 (64)")
    parser.add_argument("--max-upload-bytes", help="larger requests are refused (20000000)")
    return parser


def _client_parser() -> Parser:
    parser = Parser(
        prog="python -m serving classify", description="Ask a running server what is in photos."
    )
    parser.set_defaults(run=_classify)
    parser.add_argument("photos", type=Path, nargs="+", metavar="PHOTO")
    parser.add_argument("--url", default=URL, help="(%(default)s)")
    parser.add_argument(
        "--wait", type=float, default=0, metavar="S", help="seconds to wait for a server (0)"
    )
    parser.add_argument("--top-k", type=int, default=5, metavar="K", help="(%(default)s)")
    parser.add_argument("--key", help="API key; better in the environment: SERVING_KEY")
    parser.add_argument("--json", action="store_true", help="a line of JSON for each photo")
    return parser


def _index_parser() -> Parser:
    parser = Parser(
        prog="python -m serving index",
        description="Index a model's training pictures, for its server to find similar ones among.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog=KINDS,
    )
    parser.set_defaults(run=_index)
    parser.add_argument("model", type=Path, help="models/NAME, or models/NAME/STEP")
    parser.add_argument("dataset", type=Path, help="the packed dataset that it was trained on")
    parser.add_argument(
        "--factory", default="Flat", metavar="KIND", help="as FAISS writes it (%(default)s)"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
