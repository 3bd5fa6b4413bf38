"""The log on stderr: JSON, a line an event; on a terminal, text."""

import logging.config
import sys

from pythonjsonlogger.core import RESERVED_ATTRS


def configure() -> None:
    json = {
        "()": "pythonjsonlogger.json.JsonFormatter",
        "fmt": "%(asctime)s %(levelname)s %(name)s %(message)s",
        "reserved_attrs": [*RESERVED_ATTRS, "color_message"],  # uvicorn's, for terminals
        "rename_fields": {"asctime": "time", "levelname": "level", "name": "logger"},
    }
    text = {"format": "%(asctime)s %(levelname)s %(message)s", "datefmt": "%H:%M:%S"}
    logging.config.dictConfig(
        {
            "version": 1,
            "disable_existing_loggers": False,
            "formatters": {"line": text if sys.stderr.isatty() else json},
            "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "line"}},
            "root": {"handlers": ["stderr"], "level": "INFO"},
            # Tells at each start which processors it was not built for.
            "loggers": {"faiss.loader": {"level": "WARNING"}},
        }
    )
