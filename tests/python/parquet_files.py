"""Writes the parquet files of `sweep/tests/data`: run it there, with pyarrow installed."""

import pyarrow as pa
import pyarrow.parquet as pq


def squad():
    answers = pa.struct(
        [("text", pa.list_(pa.string())), ("answer_start", pa.list_(pa.int32()))]
    )
    columns = [(name, pa.string()) for name in ("id", "title", "context", "question")]
    rows = [
        {
            "id": "1",
            "title": "T",
            "context": "The tower (1889) is in Paris.",
            "question": "Where is it?",
            "answers": {"text": ["Paris", "in Paris"], "answer_start": [22, 19]},
        },
        {
            "id": "2",
            "title": "T",
            "context": "It's tall.",
            "question": "How tall's it?",
            "answers": {"text": ["tall"], "answer_start": [5]},
        },
        {
            "id": "3",
            "title": None,
            "context": "x",
            "question": "y",
            "answers": {"text": ["the"], "answer_start": [0]},
        },
    ]
    table = pa.Table.from_pylist(rows, schema=pa.schema([*columns, ("answers", answers)]))
    pq.write_table(table, "squad.parquet", compression="snappy", row_group_size=2)
    pq.write_table(table, "squad_v2_zstd.parquet", compression="zstd", data_page_version="2.0")


def commonsense_qa():
    choices = pa.struct([("label", pa.list_(pa.string())), ("text", pa.list_(pa.string()))])
    rows = [
        {
            "question": f"Q{i}",
            "choices": {"label": list("ABCDE"), "text": [f"{c}{i}" for c in "vwxyz"]},
            "answerKey": "ABCDE"[i % 5],
        }
        for i in range(1500)
    ]
    schema = pa.schema(
        [("question", pa.string()), ("choices", choices), ("answerKey", pa.string())]
    )
    table = pa.Table.from_pylist(rows, schema=schema)
    pq.write_table(table, "commonsense_qa.parquet", compression="zstd", row_group_size=1000)


def nested():
    item = pa.struct([("a", pa.string()), ("n", pa.list_(pa.int16()))])
    schema = pa.schema(
        [
            ("i", pa.int64()),
            ("f", pa.float32()),
            ("d", pa.float64()),
            ("b", pa.bool_()),
            ("s", pa.string()),
            ("ll", pa.list_(pa.list_(pa.int32()))),
            ("ls", pa.list_(item)),
            ("r", pa.struct([("x", pa.struct([("y", pa.string())]))])),
            ("bin", pa.binary()),
            ("t", pa.timestamp("us")),
        ]
    )
    rows = [
        (1, 3.8, 0.1, True, "é\n", [[1, 2], [], [3]],
         [{"a": "p", "n": [1]}, {"a": None, "n": None}], {"x": {"y": "z"}}, b"\xff", 0),
        (None, None, float("nan"), *[None] * 7),
        (-5, 2.0, -2.5, False, "", [], [], {"x": None}, b"ab", 7),
        (2**62, 0.2, 1e300, False, "q", [None, [None, 4]],
         [None, {"a": "w", "n": []}], {"x": {"y": None}}, b"", 8),
    ]
    rows = [dict(zip(schema.names, row)) for row in rows]
    table = pa.Table.from_pylist(rows, schema=schema)
    pq.write_table(table, "nested.parquet", compression="none")
    pq.write_table(table.select(["s", "i"]), "gzip.parquet", compression="gzip")


squad()
commonsense_qa()
nested()
