"""What is written is what was answered, in each format, and is read by other programs."""

import csv
import io
import json
import os
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from alexnet.classes import ClassLabel
from alexnet.command import UserError
from pipeline.sources.unlabelled import FILES, MEMBERS, Photograph
from tests.conftest import in_own_mounts
from trainer.prediction.table import (
    ROW_GROUP,
    schema,
    table,
    write_csv,
    write_jsonl,
    write_parquet,
    writer,
)

CLASSES = (ClassLabel(id="n0", name="=tench, Tinca"), ClassLabel(id="n1", name='a "quoted" ä'))
PROBABILITY_NT = np.array([[0.9, 0.1], [0, 0], [1 / 3, 1e-9]], np.float32)
ERROR = "the image is damaged,\nor so"


@pytest.fixture
def rows() -> pa.Table:
    photographs = [
        Photograph(os.fsdecode(b"caf\xe9/\n1.jpg"), None, FILES, ""),
        Photograph("=cmd().tar", "-1.jpg", MEMBERS, ""),
        Photograph("Ä.tar", "@b/1.jpg", MEMBERS, ""),
    ]
    label_NT = np.array([[1, 0], [0, 0], [0, 1]])
    errors, none_N = [None, ERROR, None], [False, True, True]
    return table(photographs, errors, CLASSES, label_NT, PROBABILITY_NT, none_N)


def test_parquet_has_them_in_types_and_few_groups(rows: pa.Table) -> None:
    file = io.BytesIO()
    many = pa.concat_tables([rows] * (ROW_GROUP // 8))
    write_parquet(file, schema(2), [many] * 4)
    found = parquet.ParquetFile(file)
    assert found.num_row_groups == 2
    whole = found.read()
    assert whole.schema.equals(schema(2), check_metadata=True)
    assert whole.slice(0, 3).equals(rows)
    assert len(whole) == 4 * len(many)
    assert rows.column("path").to_pylist() == ["caf\\xe9/\n1.jpg", "=cmd().tar", "Ä.tar"]
    assert rows.column("id1").to_pylist() == ["n1", None, "n0"]
    assert rows.column("probability1").to_pylist() == [
        PROBABILITY_NT[0, 0],
        None,
        PROBABILITY_NT[2, 0],
    ]
    assert rows.column("none_of_these").to_pylist() == [False, None, True]
    assert rows.column("error").to_pylist() == [None, ERROR, None]


def test_csv_holds_nothing_that_a_spreadsheet_would_compute(rows: pa.Table) -> None:
    file = io.BytesIO()
    write_csv(file, schema(2), [rows, rows])
    lines = list(csv.reader(io.StringIO(file.getvalue().decode(), newline="")))
    assert lines[0] == [
        "path", "member", "id1", "label1", "probability1", "id2", "label2", "probability2",
        "none_of_these", "error",
    ]  # fmt: skip
    assert lines[1:4] == lines[4:]
    assert lines[1] == [
        "caf\\xe9/\n1.jpg",
        "",
        "n1",
        'a "quoted" ä',
        "0.9",
        "n0",
        "'=tench, Tinca",
        "0.1",
        "false",
        "",
    ]
    assert lines[2] == ["'=cmd().tar", "'-1.jpg", *[""] * 7, ERROR]
    assert lines[3][8:] == ["true", ""]
    assert lines[3][:2] == ["Ä.tar", "'@b/1.jpg"]
    assert [np.float32(lines[3][n]) for n in (4, 7)] == PROBABILITY_NT[2].tolist()


def test_json_lines_answer_as_the_server_does(rows: pa.Table) -> None:
    file = io.BytesIO()
    write_jsonl(file, schema(2), [rows])
    first, second, third = map(json.loads, file.getvalue().decode().splitlines())
    assert first == {
        "path": "caf\\xe9/\n1.jpg",
        "member": None,
        "guesses": [
            {"id": "n1", "label": 'a "quoted" ä', "probability": 0.9},
            {"id": "n0", "label": "=tench, Tinca", "probability": 0.1},
        ],
        "none_of_these": False,
        "error": None,
    }
    assert second == {
        "path": "=cmd().tar",
        "member": "-1.jpg",
        "guesses": [],
        "none_of_these": None,
        "error": ERROR,
    }
    assert third["none_of_these"] is True
    assert np.float32(third["guesses"][1]["probability"]) == PROBABILITY_NT[2, 1]


def test_without_a_least_probability_nothing_is_said_of_it(rows: pa.Table) -> None:
    photograph = Photograph("1.jpg", None, FILES, "")
    label_NT = np.array([[1, 0]])
    plain = table([photograph], [None], CLASSES, label_NT, PROBABILITY_NT[:1], [None])
    assert plain.schema.equals(rows.schema)
    files = [io.BytesIO() for _ in range(3)]
    for write, file in zip((write_parquet, write_csv, write_jsonl), files, strict=True):
        write(file, schema(2), [plain])
    assert parquet.read_table(files[0]).column("none_of_these").to_pylist() == [None]
    assert files[1].getvalue().endswith(b",0.1,,\r\n")
    assert json.loads(files[2].getvalue())["none_of_these"] is None


def test_nothing_is_a_table_too() -> None:
    for write in (write_parquet, write_csv, write_jsonl):
        write(io.BytesIO(), schema(5), [])


@pytest.mark.parametrize("ending", ["parquet", "csv", "jsonl"])
def test_a_full_disk_is_one_line_and_leaves_nothing(tmp_path: Path, ending: str) -> None:
    code = """if True:
        import sys
        from pathlib import Path
        import numpy as np
        from alexnet import atomic
        from alexnet.command import UserError
        from pipeline.sources.unlabelled import FILES, Photograph
        from trainer.prediction.table import schema, table, writer
        out = Path(sys.argv[1])
        files = [Photograph(f"{n * 7919 ** 9:x}.jpg", None, FILES, "") for n in range(20_000)]
        errors = [photograph.path for photograph in files]
        zero_NT = np.zeros((len(files), 1), int)
        rows = table(files, errors, (), zero_NT[:, :0], zero_NT[:, :0], [None] * len(files))
        try:
            with atomic.writing(out) as file:
                writer(out)(file, schema(0), [rows] * 4)
        except UserError as error:
            print(error, [*out.parent.iterdir()])
    """
    script = 'mount -t tmpfs -o size=64k none "$3"; "$1" -W error -c "$2" "$3/answers.$4"'
    done = in_own_mounts(script, code, tmp_path, ending)
    text = f"answers.{ending}: the file cannot be written (No space left on device); no partial"
    assert text in done.stdout, done.stderr
    assert done.stdout.endswith(" []\n")


def test_an_unknown_ending_names_those_that_are_known() -> None:
    assert writer(Path("a.CSV")) is write_csv
    with pytest.raises(UserError, match=r"--out a\.xlsx: .* none of \.parquet, \.csv, \.jsonl"):
        writer(Path("a.xlsx"))
