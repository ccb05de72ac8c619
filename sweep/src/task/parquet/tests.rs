use std::ops::ControlFlow;

use proptest::prelude::*;
use serde_json::json;

use super::*;

const NESTED: &[u8] = include_bytes!("../../../tests/data/nested.parquet");
const SQUAD: &[u8] = include_bytes!("../../../tests/data/squad.parquet");
const SQUAD_V2: &[u8] = include_bytes!("../../../tests/data/squad_v2_zstd.parquet");
const CHOICES: &[u8] = include_bytes!("../../../tests/data/commonsense_qa.parquet");
const GZIP: &[u8] = include_bytes!("../../../tests/data/gzip.parquet");

fn rows(bytes: &[u8], wanted: &[&str]) -> Result<Vec<Value>, String> {
    let mut rows = Vec::new();
    let mut sink = |_, record: Result<Record, String>| {
        let Ok(Record::Object(row)) = record else { return ControlFlow::Break(()) };
        rows.push(Value::Object(row));
        ControlFlow::Continue(())
    };
    read(bytes, &wanted.iter().copied().collect(), &mut sink)?;
    Ok(rows)
}

#[test]
fn nested_columns_are_json_like() {
    let all = ["i", "f", "d", "b", "s", "ll", "ls", "r", "bin", "t"];
    let found = rows(NESTED, &all).unwrap();
    let wanted = [
        json!({"i": 1, "f": 3.8, "d": 0.1, "b": true, "s": "é\n", "ll": [[1, 2], [], [3]],
            "ls": [{"a": "p", "n": [1]}, {"a": null, "n": null}], "r": {"x": {"y": "z"}},
            "bin": null, "t": 0}),
        json!({"i": null, "f": null, "d": null, "b": null, "s": null, "ll": null, "ls": null,
            "r": null, "bin": null, "t": null}),
        json!({"i": -5, "f": 2.0, "d": -2.5, "b": false, "s": "", "ll": [], "ls": [],
            "r": {"x": null}, "bin": "ab", "t": 7}),
        json!({"i": 1i64 << 62, "f": 0.2, "d": 1e300, "b": false, "s": "q",
            "ll": [null, [null, 4]], "ls": [null, {"a": "w", "n": []}], "r": {"x": {"y": null}},
            "bin": "", "t": 8}),
    ];
    assert_eq!(found, wanted);
}

#[test]
fn columns_that_are_not_wanted_have_only_names() {
    let found = rows(NESTED, &["s"]).unwrap();
    assert_eq!((&found[3]["s"], &found[3]["i"]), (&json!("q"), &Value::Null));
    assert!(found[3].as_object().unwrap().contains_key("ls"));
}

#[test]
fn row_groups_pages_and_batches_join() {
    let found = rows(CHOICES, &["question", "choices"]).unwrap();
    assert_eq!(found.len(), 1500);
    assert_eq!(found[1499]["question"], "Q1499");
    assert_eq!(
        found[1001]["choices"]["text"],
        json!(["v1001", "w1001", "x1001", "y1001", "z1001"])
    );
    assert_eq!(rows(SQUAD, &["answers"]), rows(SQUAD_V2, &["answers"]));
}

#[test]
fn damaged_files_say_so() {
    let problem = |bytes: &[u8]| rows(bytes, &["context", "s"]).unwrap_err();
    assert_eq!(problem(b"PK"), "it does not begin with the mark of a parquet file");
    assert!(problem(&SQUAD[..SQUAD.len() - 1]).contains("may be cut short"));
    assert!(problem(&SQUAD[..100]).contains("may be cut short"));
    assert_eq!(
        problem(GZIP),
        "column 's' is compressed with GZIP(GzipLevel(6)); write it with snappy or zstd"
    );
    let mut footer = SQUAD.to_vec();
    let end = footer.len() - 8;
    footer[end..end + 4].copy_from_slice(&u32::MAX.to_le_bytes());
    assert!(problem(&footer).contains("at most 8388608 are read"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]
    /// Whatever is changed, there are rows or words, never a panic of our own.
    #[test]
    fn mutations_are_read_or_refused(
        file in prop::sample::select(vec![NESTED, SQUAD, SQUAD_V2]),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
    ) {
        let mut bytes = file.to_vec();
        for (place, byte) in changes {
            let place = place.index(bytes.len());
            bytes[place] = byte;
        }
        let all = ["i", "f", "d", "b", "s", "ll", "ls", "r", "bin", "t", "context", "answers"];
        if let Err(words) = rows(&bytes, &all) {
            prop_assert!(!words.is_empty());
        }
    }
}
