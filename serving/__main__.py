"""python -m serving: a published model to answers over HTTP."""

import argparse
import signal
import sys
from pathlib import Path

from alexnet.command import Parser, run

URL = "http://127.0.0.1:8000"
KINDS = """TODO"""


def main(arguments: list[str] | None = None) -> int:
    arguments = sys.argv[1:] if arguments is None else arguments
    if arguments[:1] == ["classify"]:
        return run(_client_parser(), arguments[1:])
    if arguments[:1] == ["index"]:
        return run(_index_parser(), arguments[1:])
    return run(_server_parser(), arguments)


def _serve(options: argparse.Namespace) -> int:
    import uvicorn

    from alexnet.checkpoint import load
    from serving.app import create_app
    from serving.predictor import Predictor
    from serving.settings import Settings

    given = {name: value for name, value in vars(options).items() if value is not None}
    given.pop("run")
    settings = Settings(**given)
    app = create_app(settings, Predictor(load(settings.model)))
    # After its graceful shutdown uvicorn raises the signal again: an orderly end is status 0.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    uvicorn.run(
        app,
        host=settings.host,
        port=settings.port,
        timeout_graceful_shutdown=settings.drain_s,
        access_log=False,
    )
    return 0


def _classify(options: argparse.Namespace) -> int:
    from serving.client import classify

    classify(options.photos, options.url, options.wait)
    return 0


def _index(options: argparse.Namespace) -> int:
    from serving.index import build

    print(build(options.model, options.dataset, options.factory))
    return 0


def _server_parser() -> Parser:
    parser = Parser(
        prog="python -m serving",
        description=__doc__,
        epilog="Each option is also an environment variable: SERVING_MODEL, SERVING_PORT, ... "
        "`python -m serving classify --help` for the client.",
    )
    parser.set_defaults(run=_serve)
    parser.add_argument("--model", help="models/NAME, or models/NAME/STEP")
    parser.add_argument("--host", help="address to listen on (127.0.0.1)")
    parser.add_argument("--port", help="(8000)")
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
