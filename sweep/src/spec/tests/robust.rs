//! Texts that are no specs at all.

use proptest::prelude::*;

use super::{BASE, model, parse};
use crate::spec::{Format, MAX_SPEC_BYTES, Spec};

fn json(text: &str) -> String {
    Spec::parse(text, Format::Json, None).unwrap_err().render("s.json")
}

#[test]
fn syntax_errors_have_a_line() {
    let error = parse("name = \"a\"\nx = [1,\n\ny = 3\n").unwrap_err();
    assert_eq!(error.0[0].position.map(|p| p.line), Some(4), "{error}");
    assert!(error.0[0].message.starts_with("not valid TOML: "), "{error}");
    let error = parse("a = 1\na = 2\n").unwrap_err().render("s.toml");
    assert!(error.starts_with("s.toml:2:1: not valid TOML: duplicate key"), "{error}");
    assert!(json("{\n  \"name\": }").starts_with("s.json:2:11: not valid JSON: expected value"));
    assert!(
        json("{\"a\": 1,\n \"a\": 2}").starts_with("s.json:2:2: not valid JSON: duplicate key 'a'")
    );
    assert!(
        json("[1]").starts_with("s.json:1:1: not valid JSON: a spec is an object, found a list")
    );
    assert!(json("").starts_with("s.json:1:0: not valid JSON: EOF"));
}

#[test]
fn json_problems_have_a_line_too() {
    let text = "{\n \"name\": \"x\",\n \"space\": {\n  \"promt_lr\": [0.3]\n }\n}";
    let error = json(text);
    assert!(
        error.contains(
            "s.json:4:3: unknown key 'promt_lr' in [space]\n  hint: did you mean 'prompt_lr'?"
        ),
        "{error}"
    );
}

#[test]
fn a_huge_text_is_not_even_read() {
    let error = parse(&" ".repeat(MAX_SPEC_BYTES + 1)).unwrap_err().render("s.toml");
    assert_eq!(
        error,
        "s.toml: the spec has 262145 bytes, at most 262144 are accepted\n  \
         hint: shorten its lists; data go in files of their own"
    );
}

#[test]
fn deep_nesting_ends_in_an_error() {
    let deep = MAX_SPEC_BYTES / 2 - 10;
    let lists = format!("a = {}{}", "[".repeat(deep), "]".repeat(deep));
    assert!(parse(&lists).is_err());
    assert!(parse(&"[".repeat(deep)).is_err());
    let tables = format!("a = {}", "{a = ".repeat(deep / 5));
    assert!(parse(&tables).is_err());
    assert!(parse(&format!("{}x = 1", "a.".repeat(deep / 2))).is_err());
    json(&"[".repeat(deep));
    json(&"{\"a\":".repeat(deep / 5));
}

#[test]
fn long_wrong_lists_stay_short_in_print() {
    let list = vec!["-1"; 60_000].join(", ");
    let text = BASE.replace("[42, 43, 44]", &format!("[{list}]"));
    let error = parse(&text).unwrap_err();
    assert_eq!(error.0.len(), 101);
    assert_eq!(error.0[100].message, "59900 more problems are not shown");
}

#[test]
fn many_wrong_keys_take_little_time() {
    let keys: String = (0..16_000).map(|n| format!("stesp{n} = 1\n")).collect();
    let error = parse(&format!("{BASE}{keys}")).unwrap_err();
    assert_eq!(error.0.len(), 101);
    let long = "k".repeat(200_000);
    let error = parse(&format!("{BASE}{long} = 1\n")).unwrap_err().render("s.toml");
    assert!(error.len() < 500, "{error}");
    let garbage = "= [\n".repeat(50_000);
    assert!(parse(&garbage).unwrap_err().0.len() <= 20);
}

#[test]
fn texts_from_outside_stay_on_one_line() {
    let text = BASE.replace("name = \"rte\"", "name = \"a\\nb\"");
    let error = parse(&text).unwrap_err().render("s.toml");
    assert!(error.starts_with("s.toml:7:8: 'a\\nb' is no name for a task\n  hint: "), "{error}");
    let text = BASE.replace("rte-dept", "a\\u0007");
    let error = parse(&text).unwrap_err().render("s.toml");
    assert!(error.starts_with("s.toml:1:8: name has a control character in it"), "{error}");
}

#[test]
fn diagnostics_survive_json() {
    let error = parse("name = 3").unwrap_err();
    let text = serde_json::to_string(&error).unwrap();
    assert_eq!(serde_json::from_str::<crate::spec::Diagnostics>(&text).unwrap(), error);
    assert!(text.starts_with("[{\"path\":"), "{text}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// Any text gives an answer, and each problem of it a place within the text.
    #[test]
    fn no_text_panics(text in "\\PC{0,200}") {
        for format in [Format::Toml, Format::Json] {
            let _ = Spec::parse(&text, format, None);
        }
    }

    /// The base spec with a piece cut out and something else put in.
    #[test]
    fn no_damage_panics(from in 0..BASE.len(), cut in 0..40_usize, piece in "[\\[\\]{}=,.0-9a-z\"\n -]{0,12}") {
        let end = (from + cut).min(BASE.len());
        let text = format!("{}{piece}{}", &BASE[..from], &BASE[end..]);
        if let Err(error) = Spec::parse(&text, Format::Toml, Some(&model(192))) {
            prop_assert!(!error.0.is_empty());
            let lines = u32::try_from(text.lines().count()).unwrap() + 1;
            for one in error.0 {
                prop_assert!(one.position.is_none_or(|p| p.line >= 1 && p.line <= lines));
                prop_assert!(!one.message.is_empty());
            }
        }
    }
}
