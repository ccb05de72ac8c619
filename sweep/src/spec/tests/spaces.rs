//! Spaces that are added to a sweep: what they take over, and what is wrong with them by the line
//! of their own text.

use super::{BASE, model, with};
use crate::spec::{Diagnostics, Format, Spec};

fn added(space: &str) -> Result<Spec, Diagnostics> {
    let spec = (BASE, Format::Toml);
    Spec::with_space(spec, (space, Format::Toml), Some(&model(192)))
}

fn problems(space: &str) -> String {
    added(space).unwrap_err().render("more.toml")
}

#[test]
fn an_axis_that_is_left_out_keeps_the_values_of_the_spec() {
    let spec = added("[space]\nprompt_lr = [0.6, 0.7, 0.8]\n").unwrap();
    let expected = with(&[("prompt_lr = [0.3, 0.4]", "prompt_lr = [0.6, 0.7, 0.8]")]);
    assert_eq!(spec, super::parse(&expected).unwrap());
    let json = r#"{"space": {"prompt_lr": [0.6, 0.7, 0.8]}}"#;
    let json = Spec::with_space((BASE, Format::Toml), (json, Format::Json), Some(&model(192)));
    assert_eq!(json.unwrap(), spec);
}

#[test]
fn a_training_setting_takes_the_place_of_the_one_in_train() {
    let spec = added("space = { steps = [100, 200], rank = 4 }").unwrap();
    assert_eq!(spec.total(), 2 * 24);
    let settings = spec.settings(0).unwrap();
    assert_eq!((settings.train.steps, settings.rank), (100, 4));
}

#[test]
fn problems_are_at_their_lines_of_the_added_text() {
    assert_eq!(
        problems("# more\n[space]\nprompt_lr = [0.6, -1]\nseed = 3\n"),
        "more.toml:3:19: space.prompt_lr[1] is -1, expected a learning rate: a number more than 0, \
         at most 1000\n\
         more.toml:4:1: unknown key 'seed' in [space]\n  hint: did you mean 'seeds'?"
    );
    // What stands in the spec has no line here.
    let wrong = problems("[space]\nprompt_length = 41\n");
    assert!(wrong.starts_with("more.toml: ") && wrong.contains("41"), "{wrong}");
    assert!(problems("[space\n").starts_with("more.toml:1:"));
}

#[test]
fn nothing_but_a_space_is_taken() {
    let only = "hint: an added space is a section [space] alone; all else stays as in the sweep's \
                spec";
    let wrong = problems("[train]\nsteps = 3\n[space]\nrank = 4\n");
    assert_eq!(wrong, format!("more.toml:1:2: 'train' has no place here\n  {only}"));
    for text in ["", "\n\n"] {
        let wrong = problems(text);
        assert!(wrong.contains("section [space] is missing"), "{wrong}");
    }
    assert!(problems("space = 3").contains("'space' is a whole number, expected a table"));
    assert!(problems("[space]").contains("[space] is empty"));
    let long = format!("[space]\nrank = 4 # {}", "x".repeat(crate::spec::MAX_SPACE_BYTES));
    assert!(problems(&long).contains("the space has"));
}
