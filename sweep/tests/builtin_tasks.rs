//! The forms that the built-in tasks are published in, where the two recipes differ, and lists
//! and nested columns in a person's own task.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests")]

use deptune_sweep::task::{
    DataError, Dataset, Example, Recipe, SourceFile, Split, TaskDef, TaskSpec, load, parse_rows,
};

const BOTH: [Recipe; 2] = [Recipe::Default, Recipe::Reference];

fn own(toml: &str, recipe: Recipe) -> TaskDef {
    let mut spec: TaskSpec = toml::from_str(toml).unwrap();
    spec.train = vec!["a".into()];
    spec.resolve(recipe).unwrap()
}

fn def(task: &str, recipe: Recipe) -> TaskDef {
    own(&format!("name = '{task}'"), recipe)
}

fn parse(def: &TaskDef, name: &str, bytes: &[u8]) -> Result<Vec<Example>, DataError> {
    parse_rows(def, Split::Train, &[SourceFile { name, bytes }])
}

#[track_caller]
fn one(task: &str, recipe: Recipe, line: &str) -> (String, Vec<String>) {
    let rows = parse(&def(task, recipe), "a.jsonl", line.as_bytes()).unwrap();
    let [row] = &rows[..] else { panic!("{} rows", rows.len()) };
    assert_eq!(row.answers.first(), Some(&row.target));
    (row.source.clone(), row.answers.clone())
}

fn texts(list: &[&str]) -> Vec<String> {
    list.iter().map(|text| (*text).to_owned()).collect()
}

#[test]
fn answers_in_every_published_form() {
    let wanted = ("question: q ? context: c".to_owned(), texts(&["x , y", "z"]));
    for line in [
        r#"{"context":"c","question":"q?","answers":["x, y","z"]}"#,
        r#"{"context":"c","question":"q?","answers":{"text":["x, y","z"],"answer_start":[1,2]}}"#,
        r#"{"context":"c","question":"q?","answers":[{"text":"x, y"},{"text":"z"}]}"#,
        r#"{"context":"c","qas":[{"qid":"1","question":"q?","answers":["x, y","z"]}]}"#,
    ] {
        assert_eq!(one("nq", Recipe::Default, line), wanted, "{line}");
    }
    let header = b"{\"header\":{\"dataset\":\"NQ\"}}\n{\"context\":\"c\",\"qas\":[{\"question\":\"q\",\"answers\":[\"a\"]},{\"question\":\"r\",\"answers\":[\"b\"]}]}";
    let rows = parse(&def("nq", Recipe::Default), "a.jsonl", header).unwrap();
    assert_eq!(rows.iter().map(|row| row.target.as_str()).collect::<Vec<_>>(), ["a", "b"]);
    let error = parse(
        &def("nq", Recipe::Default),
        "a.jsonl",
        br#"{"context":"c","question":"q","answers":[]}"#,
    );
    assert!(error.unwrap_err().to_string().contains("has a label"));
}

#[test]
fn squad_reads_the_answer_that_the_authors_stringify() {
    for bytes in
        [&include_bytes!("data/squad.parquet")[..], include_bytes!("data/squad_v2_zstd.parquet")]
    {
        let rows = |recipe| parse(&def("squad", recipe), "a.parquet", bytes).unwrap();
        let row = &rows(Recipe::Default)[0];
        assert_eq!(row.source, "question: Where is it ? context: The tower ( 1889 ) is in Paris .");
        assert_eq!(row.answers, ["Paris", "in Paris"]);
        let row = &rows(Recipe::Reference)[0];
        assert_eq!(
            row.source,
            "question: Where is it ?  context: The tower ( 1889 ) is in Paris . "
        );
        assert_eq!(
            row.target,
            " { ' text ' : [ ' Paris ' , ' in Paris ' ] , ' answer_start ' : [ 22 , 19 ] } "
        );
        assert_eq!(rows(Recipe::Reference).len(), 3);
    }
}

#[test]
fn choices_from_parquet_and_from_the_authors_files() {
    let bytes = include_bytes!("data/commonsense_qa.parquet");
    let rows = parse(&def("commonsense_qa", Recipe::Default), "a", bytes).unwrap();
    assert_eq!((rows.len(), rows[7].row.line), (1500, 8));
    assert_eq!(
        rows[7].source,
        "question: Q7 choice1: v7 choice2: w7 choice3: x7 choice4: y7 choice5: z7"
    );
    assert_eq!(rows[7].target, "2");
    let line = r#"{"answerKey":"B","question":{"stem":"s","choices":[{"label":"A","text":"1"},{"label":"B","text":"2"},{"label":"C","text":"3"},{"label":"D","text":"4"},{"label":"E","text":"5"}]}}"#;
    let (source, answers) = one("commonsense_qa", Recipe::Default, line);
    assert_eq!(source, "question: s choice1: 1 choice2: 2 choice3: 3 choice4: 4 choice5: 5");
    assert_eq!(answers, ["1"]);
}

#[test]
fn the_default_mends_what_the_authors_overlooked() {
    let source = |task, line| BOTH.map(|recipe| one(task, recipe, line).0);
    assert_eq!(
        source("winogrande", r#"{"sentence":"S _","option1":"a","option2":"b","answer":"2"}"#),
        ["sentence: S _ option0: a option1: b", "sentence: S _ option0: a option1: a"]
    );
    assert_eq!(
        source("snli", r#"{"premise":"A","hypothesis":"B","label":1}"#),
        ["premise: A hypothesis: B", "premise: A hypothesis:  B"]
    );
    assert_eq!(
        source("piqa", r#"{"goal":"G","sol1":"one","sol2":"two","label":0}"#),
        ["question: G choice1: one choice2: two", "question: G choice1: o choice2: t"]
    );
    assert_eq!(
        source(
            "copa",
            r#"{"premise":"A","choice1":"B","choice2":"C","question":"cause","label":0}"#
        ),
        ["question: cause premise: A choice1: B choice2: C", "premise: A choice1: B choice2: C"]
    );
    for column in ["content", "context"] {
        let line = format!(r#"{{"title":"T","{column}":"C","label":1}}"#);
        let source = one("amazon_polarity", Recipe::Reference, &line).0;
        assert_eq!(source, "sentence: <title> T <context> C");
    }
    let metrics = BOTH.map(|recipe| def("multirc", recipe).metrics().len());
    assert_eq!(metrics, [2, 1]);
}

#[test]
fn record_judges_a_query_once_against_all_its_answers() {
    let hub = r#"{"passage":"Ann met Bob.\n@highlight\nBob left","query":"@placeholder left","entities":["Ann","Bob"],"answers":["Bob","Bobby"]}"#;
    let own = r#"{"passage":{"text":"Ann met Bob.\n@highlight\nBob left","entities":[{"start":8,"end":10},{"start":0,"end":2},{"start":24,"end":26}]},"qas":[{"query":"@placeholder left","answers":[{"text":"Bob"},{"text":"Bobby"},{"text":"Bob"}]}]}"#;
    let wanted =
        "record query: @placeholder left entities: Ann, Bob passage: Ann met Bob. Bob left";
    for line in [hub, own] {
        assert_eq!(
            one("record", Recipe::Default, line),
            (wanted.to_owned(), texts(&["Bob", "Bobby"]))
        );
        let rows = parse(&def("record", Recipe::Reference), "a.jsonl", line.as_bytes()).unwrap();
        let answers: Vec<&[String]> = rows.iter().map(|row| &row.answers[..]).collect();
        assert_eq!(answers, [["Bob"], ["Bobby"]]);
        assert!(rows.iter().all(|row| row.source == wanted && row.group == rows[0].group));
    }
    let bad = r#"{"passage":{"text":"x","entities":[{"start":0,"end":9}]},"qas":[]}"#;
    let error = parse(&def("record", Recipe::Default), "a.jsonl", bad.as_bytes()).unwrap_err();
    assert!(error.to_string().contains("outside of its text"), "{error}");
}

#[test]
fn undecided_and_ragged_rows_are_left_out_where_files_have_them() {
    let snli = "{\"premise\":\"A\",\"hypothesis\":\"B\",\"label\":-1}\n{\"premise\":\"C\",\"hypothesis\":\"D\",\"label\":2}";
    let targets = |recipe| -> Vec<String> {
        let rows = parse(&def("snli", recipe), "a.jsonl", snli.as_bytes()).unwrap();
        rows.into_iter().map(|row| row.target).collect()
    };
    assert_eq!(targets(Recipe::Default), ["2"]);
    assert_eq!(targets(Recipe::Reference), ["-1", "2"]);
    let qqp = "id\tquestion1\tquestion2\tis_duplicate\n1\ta\tb\t1\n2\ttorn\n3\tc\td\t0\n";
    assert_eq!(parse(&def("qqp", Recipe::Default), "a.tsv", qqp.as_bytes()).unwrap().len(), 2);
    let more = format!("{qqp}4\te\tf\t1\t1\n");
    assert!(parse(&def("qqp", Recipe::Default), "a.tsv", more.as_bytes()).is_err());
}

#[test]
fn hidden_labels_are_none() {
    let rows = br#"{"sentence":"a","label":-1}"#;
    let error = parse(&def("cola", Recipe::Default), "a.jsonl", rows).unwrap_err();
    assert!(matches!(error, DataError::Unlabelled { .. }), "{error}");
    // In a dataset that cannot be left out in part, such a test split counts as none.
    let spec =
        TaskSpec { name: "cola".into(), dataset: Some("org/cola".into()), ..TaskSpec::default() };
    let cola = spec.resolve(Recipe::Default).unwrap();
    let file = SourceFile { name: "a.jsonl", bytes: rows };
    assert_eq!(parse_rows(&cola, Split::Test, &[file]).unwrap(), []);
    assert!(parse_rows(&cola, Split::Train, &[file]).is_err());
    let labelled = lines(40, |i| format!(r#"{{"sentence":"{i}","label":{}}}"#, i % 2));
    let part = |split| (split, SourceFile { name: "b.jsonl", bytes: labelled.as_bytes() });
    let data =
        load(&cola, &[part(Split::Train), part(Split::Validation), (Split::Test, file)]).unwrap();
    assert_eq!((data.train.len(), data.validation.len(), data.test.len()), (40, 20, 20));
}

fn lines(n: usize, line: impl Fn(usize) -> String) -> String {
    (0..n).map(|i| line(i) + "\n").collect()
}

/// The three parts of files of the given numbers of rows.
fn parts(task: &str, recipe: Recipe, rows: [usize; 3], line: impl Fn(usize) -> String) -> Dataset {
    let contents = rows.map(|n| lines(n, &line));
    let files: Vec<(Split, SourceFile<'_>)> = Split::ALL
        .into_iter()
        .zip(&contents)
        .filter(|(_, text)| !text.is_empty())
        .map(|(split, text)| (split, SourceFile { name: "a.jsonl", bytes: text.as_bytes() }))
        .collect();
    load(&def(task, recipe), &files).unwrap()
}

fn sizes(data: &Dataset) -> [usize; 3] {
    Split::ALL.map(|split| data.split(split).len())
}

#[test]
fn splits_differ_where_the_authors_differ() {
    let pair = |i| format!(r#"{{"premise":"{i}","hypothesis":"h","label":{}}}"#, i % 2);
    let scitail = BOTH.map(|recipe| parts("scitail", recipe, [10, 8, 6], pair));
    assert_eq!(scitail.each_ref().map(sizes), [[10, 8, 6], [10, 4, 4]]);
    assert!(scitail[1].how.ends_with("the test file is not used"), "{}", scitail[1].how);
    let snli = BOTH.map(|recipe| sizes(&parts("snli", recipe, [3000, 8, 6], pair)));
    assert_eq!(snli, [[3000, 8, 6], [2000, 1000, 6]]);
    let goal = |i| format!(r#"{{"goal":"{i}","sol1":"a","sol2":"b","label":{}}}"#, i % 2);
    let piqa = BOTH.map(|recipe| parts("piqa", recipe, [10, 8, 0], goal));
    assert_eq!(piqa.each_ref().map(sizes), [[10, 4, 4], [10, 8, 8]]);
    assert_eq!(piqa[1].validation, piqa[1].test);
    let text = |i| format!(r#"{{"text":"{i}","label":{}}}"#, i % 2);
    let yelp = BOTH.map(|recipe| sizes(&parts("yelp_polarity", recipe, [102_000, 0, 5], text)));
    assert_eq!(yelp, [[101_000, 1000, 5], [100_000, 1000, 5]]);
}

#[test]
fn a_multirc_question_stays_in_one_part_by_default() {
    // Three answers to each of 40 questions.
    let row = |i| {
        format!(r#"{{"paragraph":"p","question":"{}","answer":"{i}","label":{}}}"#, i / 3, i % 2)
    };
    for recipe in BOTH {
        let data = parts("multirc", recipe, [3, 120, 0], row);
        assert_eq!(sizes(&data), [3, 60, 60]);
        let group = |row: &Example| row.group.unwrap();
        let torn = data
            .validation
            .iter()
            .any(|row| data.test.iter().any(|other| group(other) == group(row)));
        assert_eq!(torn, recipe == Recipe::Reference);
    }
    // A record's answers stay together in both.
    let query =
        |i| format!(r#"{{"passage":"p","query":"{i}","entities":["a"],"answers":["a","b"]}}"#);
    let data = parts("record", Recipe::Reference, [1500, 3, 0], query);
    assert_eq!(sizes(&data), [1000, 2000, 6]);
}

#[test]
fn own_templates_reach_into_lists_and_objects() {
    let mine = own(
        "name = 'mine'\ntemplate = '{q.0.text} {q.1.text} {a.b}'\nlabel = 'gold.names'\nmetrics = ['em', 'token_f1']",
        Recipe::Default,
    );
    let line = r#"{"q":[{"text":"x"},{"text":"y"}],"a":{"b":3},"gold":{"names":["n","m"]}}"#;
    let rows = parse(&mine, "a.jsonl", line.as_bytes()).unwrap();
    assert_eq!((rows[0].source.as_str(), &rows[0].answers[..]), ("x y 3", &texts(&["n", "m"])[..]));
    assert_eq!(mine.evaluate(&["m"], &rows).unwrap()[0].1.finite(), Some(100.0));
    let list = own("name = 'mine'\ntemplate = '{q}'\nlabel = 'l'", Recipe::Default);
    let error = parse(&list, "a.jsonl", br#"{"q":["a"],"l":"x"}"#).unwrap_err();
    assert_eq!(
        error.to_string(),
        "1 bad row: a.jsonl:1: column 'q' is a list, not a text; name one of its items, like 'q.0'"
    );
    let classes =
        own("name = 'mine'\ntemplate = '{q}'\nlabel = 'l'\nlabels = ['x', 'y']", Recipe::Default);
    let error = parse(&classes, "a.jsonl", br#"{"q":"a","l":["x"]}"#).unwrap_err();
    assert!(error.to_string().ends_with("the label is a list, not a text"), "{error}");
}
