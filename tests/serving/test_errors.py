"""Refusals and their documentation."""

import re

from serving.errors import SETTING, STATUS
from serving.settings import Settings
from tests.conftest import ROOT

ROW = re.compile(r"^\| ([\d, ]+) \| (`.*?`) \|", re.MULTILINE)


def test_the_documentation_lists_every_code_with_its_status() -> None:
    listed = {}
    for statuses, codes in ROW.findall((ROOT / "docs/serving.md").read_text()):
        status, code = re.findall(r"\d+", statuses), re.findall(r"`(.*?)`", codes)
        listed |= dict(zip(code, status * (len(code) // len(status)), strict=True))
    assert listed == {code: str(status) for code, status in STATUS.items()}


def test_settings_of_limits_exist() -> None:
    assert SETTING.keys() <= STATUS.keys()
    known = {f"SERVING_{name.upper()}" for name in Settings.model_fields}
    assert set(SETTING.values()) <= known
