use super::*;
use crate::task::{Recipe, TaskSpec};

fn def(toml: &str) -> TaskDef {
    let mut spec: TaskSpec = toml::from_str(toml).unwrap();
    spec.train.push("train.jsonl".into());
    spec.resolve(Recipe::Default).unwrap()
}

fn parse(def: &TaskDef, files: &[(&str, &str)]) -> Result<Vec<Example>, DataError> {
    let files: Vec<SourceFile<'_>> =
        files.iter().map(|(name, text)| SourceFile { name, bytes: text.as_bytes() }).collect();
    parse_rows(def, Split::Train, &files)
}

/// (source, target, line) of each example.
fn rows(def: &TaskDef, files: &[(&str, &str)]) -> Vec<(String, String, u64)> {
    let examples = parse(def, files).unwrap();
    examples.into_iter().map(|e| (e.source, e.target, e.row.line)).collect()
}

fn row(source: &str, target: &str, line: u64) -> (String, String, u64) {
    (source.to_owned(), target.to_owned(), line)
}

fn problem(def: &TaskDef, name: &str, text: &str) -> String {
    parse(def, &[(name, text)]).unwrap_err().to_string()
}

const OWN: &str = "name = 'reviews'\ntemplate = 'review: {text}'\nlabel = 'label'\n";

#[test]
fn own_jsonl_with_labels_of_every_kind() {
    let def = def(&format!("{OWN}labels = ['bad', 'good']"));
    let text = "{\"text\":\"a\",\"label\":\"good\"}\n\n{\"text\":\"b\",\"label\":0}\r\n{\"text\":3,\"label\":true}";
    assert_eq!(
        rows(&def, &[("t.jsonl", text)]),
        [row("review: a", "good", 1), row("review: b", "bad", 3), row("review: 3", "good", 4)]
    );
}

#[test]
fn own_csv_is_quoted_and_tsv_is_not() {
    let def = def(OWN);
    let csv = "text,label\n\"one, \"\"two\"\"\nthree\",x\nfour,y\n";
    assert_eq!(
        rows(&def, &[("t.csv", csv)]),
        [row("review: one, \"two\"\nthree", "x", 2), row("review: four", "y", 4)]
    );
    let tsv = "\u{feff}\"text\"\tlabel\r\n\"open\tx\r\n";
    assert_eq!(rows(&def, &[("t.tsv", tsv)]), [row("review: \"open", "x", 2)]);
}

#[test]
fn columns_are_mapped_by_name_number_and_path() {
    let named = def(&format!("{OWN}columns = {{ text = 'body.plain', label = 'stars' }}"));
    let text = r#"{"body":{"plain":"a"},"stars":5}"#;
    assert_eq!(rows(&named, &[("x", text)]), [row("review: a", "5", 1)]);
    let numbered = def(&format!("{OWN}header = false\ncolumns = {{ text = '2', label = '1' }}"));
    assert_eq!(rows(&numbered, &[("x", "y\ta b")]), [row("review: a b", "y", 1)]);
}

#[test]
fn a_missing_column_names_what_there_is() {
    let def = def("name = 'reviews'\ntemplate = '{txt}'\nlabel = 'label'");
    assert_eq!(
        problem(&def, "train.jsonl", r#"{"id":1,"text":"a","label":"x"}"#),
        "column 'txt' not found in train.jsonl; columns are: id, label, text; did you mean 'text'?"
    );
}

#[test]
fn bad_rows_are_listed_with_file_and_line() {
    let def = def(&format!("{OWN}labels = ['bad', 'good']"));
    let good = r#"{"text":"a","label":"good"}"#;
    let text = format!(
        "{good}\n{{\"text\":\"a\"}}\n{{\"text\":\"a\",\"label\":\"godo\"}}\n{{\"text\": oops}}\n[1]\n{{\"label\":\"bad\"}}\n{{\"text\":null,\"label\":\"bad\"}}\n{{\"text\":\"a\",\"label\":\" \"}}\n{good}"
    );
    let DataError::BadRows { rows, total } = parse(&def, &[("t.jsonl", &text)]).unwrap_err() else {
        panic!("not a list of bad rows");
    };
    assert_eq!(total, 7);
    let rows: Vec<String> = rows.iter().map(ToString::to_string).collect();
    assert_eq!(
        rows,
        [
            "t.jsonl:2: no label in column 'label'",
            "t.jsonl:3: label 'godo' is none of bad, good, 0, 1, false, true, did you mean 'good'?",
            "t.jsonl:4: no JSON object, at column 10: expected value",
            "t.jsonl:5: a JSON list; write one object per line",
            "t.jsonl:6: no column 'text'",
            "t.jsonl:7: column 'text' is null, not a text",
            "t.jsonl:8: no label in column 'label'",
        ]
    );
}

#[test]
fn bad_rows_of_several_files_come_together_and_are_counted() {
    let def = def(OWN);
    let many = format!("text\tlabel\na\tx\n{}", "a\n".repeat(30));
    let error =
        parse(&def, &[("a.tsv", &many), ("b.tsv", "text\tlabel\na\tx\ty\na\tx")]).unwrap_err();
    let DataError::BadRows { rows, total } = &error else { panic!("{error}") };
    assert_eq!((rows.len(), *total), (DataError::MAX_ROWS, 31));
    let text = error.to_string();
    assert!(text.starts_with("31 bad rows: a.tsv:3: 1 columns where the file has 2; a.tsv:4"));
    assert!(text.ends_with("; and 11 more"), "{text}");
}

#[test]
fn a_file_without_labels_says_so_once() {
    let def = def(OWN);
    let text = "{\"text\":\"a\",\"idx\":1}\n{\"text\":\"b\",\"idx\":2}";
    assert_eq!(
        problem(&def, "test.jsonl", text),
        "no row of test.jsonl has a label: column 'label' is absent or empty, columns are: idx, \
         text; the train split needs labels, so name their column or leave the file out"
    );
}

#[test]
fn empty_files_are_typed() {
    let def = def(OWN);
    for (name, text) in [("a.jsonl", "\n \n"), ("a.tsv", "text\tlabel\n"), ("a.csv", "")] {
        let error = parse(&def, &[(name, text)]).unwrap_err();
        assert_eq!(error, DataError::EmptyFile { file: name.into() });
    }
    assert_eq!(parse(&def, &[]).unwrap_err(), DataError::EmptySplit { split: Split::Train });
    let error = parse(&def, &[("data", "text,label\n")]).unwrap_err();
    assert_eq!(error, DataError::UnknownFormat { file: "data".into() });
}

#[test]
fn invalid_utf8_names_the_line() {
    let def = def(OWN);
    let file = SourceFile { name: "a.jsonl", bytes: b"{\"text\":\"a\",\"label\":\"x\"}\n\xff\n" };
    let error = parse_rows(&def, Split::Train, &[file]).unwrap_err();
    assert_eq!(error.to_string(), "1 bad row: a.jsonl:2: not UTF-8; save the file as UTF-8");
}

#[test]
fn an_overlong_line_is_a_bad_row() {
    let def = def(OWN);
    let text = format!("text\tlabel\n{}\tx\na\tx", "a".repeat(DataError::MAX_LINE));
    let error = problem(&def, "a.tsv", &text);
    assert_eq!(error, "1 bad row: a.tsv:2: the row has 1048578 bytes; at most 1048576 are read");
}

#[test]
fn cola_and_paws_come_with_and_without_header() {
    let cola = def("name = 'cola'");
    let expected = [row("sentence: A b.", "1", 1)];
    assert_eq!(rows(&cola, &[("dev.tsv", "gj04\t1\t\tA b.\n")]), expected);
    assert_eq!(rows(&cola, &[("dev.tsv", "sentence\tlabel\nA b.\t1")])[0].0, expected[0].0);
    let paws = def("name = 'paws'");
    let text = "id\tsentence1\tsentence2\tlabel\r\n1\ta\tb\t0\r\n";
    let expected = [row("sentence1: a sentence2: b", "0", 2)];
    assert_eq!(rows(&paws, &[("dev.tsv", text)]), expected);
    let without = rows(&paws, &[("dev.tsv", "1\ta\tb\t0\r\n")]);
    assert_eq!(without[0].0, expected[0].0);
}

#[test]
fn wic_pairs_sentences_with_gold_labels() {
    let def = def("name = 'wic'");
    let data = ("x/train.data.txt", "go\tV\t2-6\ta b\tc d\nin\tN\t0-0\te\tf\n");
    let gold = ("x/train.gold.txt", "F\nT\n");
    let expected = [
        row("sentence1: a b sentence2: c d word: go", "0", 1),
        row("sentence1: e sentence2: f word: in", "1", 2),
    ];
    assert_eq!(rows(&def, &[data, gold]), expected);
    assert_eq!(rows(&def, &[gold, data]), expected);
    let error = parse(&def, &[data]).unwrap_err();
    assert_eq!(error.to_string(), "x/train.data.txt needs x/train.gold.txt in the same list");
    assert!(matches!(parse(&def, &[gold]), Err(DataError::Unpaired { .. })));
    let short = parse(&def, &[data, (gold.0, "F\n")]).unwrap_err().to_string();
    assert_eq!(short, "1 bad row: x/train.data.txt:2: no label on line 2 of x/train.gold.txt");
    let long = parse(&def, &[data, (gold.0, "F\nT\nT\n")]).unwrap_err().to_string();
    assert_eq!(long, "1 bad row: x/train.gold.txt:3: a label without its row in x/train.data.txt");
}

#[test]
fn multirc_is_flattened_and_its_problems_have_lines() {
    let def = def("name = 'multirc'");
    let line = r#"{"passage":{"text":"P<br>q","questions":[{"question":"Q","answers":[{"text":"a","label":1},{"text":"b","label":0}]}]}}"#;
    let text = format!("{line}\n{}", r#"{"passage":{"text":"P"}}"#);
    let error = problem(&def, "a.jsonl", &text);
    assert_eq!(error, "1 bad row: a.jsonl:2: the passage has no list 'questions'");
    assert_eq!(
        rows(&def, &[("a.jsonl", line)]),
        [
            row("question: Q answer: a paragraph: P q", "1", 1),
            row("question: Q answer: b paragraph: P q", "0", 1),
        ]
    );
}
