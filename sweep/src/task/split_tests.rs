use proptest::prelude::*;

use super::*;
use crate::task::{RowId, TaskSpec};

fn def(name: &str, recipe: Recipe, limits: [Option<u64>; 3]) -> TaskDef {
    let spec = TaskSpec {
        name: name.into(),
        train: vec!["t".into()],
        train_limit: limits[0],
        validation_limit: limits[1],
        test_limit: limits[2],
        ..TaskSpec::default()
    };
    spec.resolve(recipe).unwrap()
}

fn examples(split: Split, n: usize) -> Vec<Example> {
    let row = |line| Example {
        source: format!("{split} {line}"),
        target: "0".into(),
        answers: vec!["0".into()],
        group: None,
        row: RowId { split, file: 0, line },
    };
    (1..=n as u64).map(row).collect()
}

fn given(counts: [usize; 3]) -> BTreeMap<Split, Vec<Example>> {
    Split::ALL
        .into_iter()
        .zip(counts)
        .filter(|(_, n)| *n > 0)
        .map(|(split, n)| (split, examples(split, n)))
        .collect()
}

fn sizes(name: &str, recipe: Recipe, counts: [usize; 3]) -> Result<[usize; 3], DataError> {
    let data = assemble(&def(name, recipe, [None; 3]), given(counts))?;
    Ok([data.train.len(), data.validation.len(), data.test.len()])
}

#[test]
fn missing_parts_follow_the_task() {
    use Recipe::{Default, Reference};
    for recipe in [Default, Reference] {
        assert_eq!(sizes("rte", recipe, [2490, 277, 0]).unwrap(), [2490, 138, 139]);
        assert_eq!(sizes("rte", recipe, [2490, 277, 5]).unwrap(), [2490, 277, 5]);
        assert_eq!(sizes("sst2", recipe, [67349, 872, 0]).unwrap(), [66349, 1000, 872]);
        assert_eq!(sizes("paws", recipe, [50, 8, 8]).unwrap(), [50, 8, 8]);
        assert_eq!(sizes("boolq", recipe, [0, 3270, 0]).unwrap(), [2616, 327, 327]);
        assert_eq!(sizes("rte", recipe, [0, 0, 3]).unwrap(), [1, 1, 1]);
        assert_eq!(sizes("rte", recipe, [0, 3, 3]), Err(DataError::NoTrain));
    }
    assert_eq!(sizes("sst2", Default, [2000, 0, 7]).unwrap(), [1800, 200, 7]);
    assert_eq!(sizes("sst2", Reference, [2000, 0, 7]).unwrap(), [1000, 1000, 7]);
    assert_eq!(sizes("rte", Default, [2, 0, 0]), Err(DataError::TooFewRows { rows: 2, parts: 3 }));
}

#[test]
fn halves_and_held_out_rows_come_in_the_permuted_order() {
    let lines = |rows: &[Example]| rows.iter().map(|e| e.row.line as u32 - 1).collect::<Vec<_>>();
    let order = permutation(277, 42);
    let rte = def("rte", Recipe::Reference, [None; 3]);
    let data = assemble(&rte, given([5, 277, 0])).unwrap();
    assert_eq!(lines(&data.validation), order[..138]);
    assert_eq!(lines(&data.test), order[138..]);
    assert_eq!(lines(&data.train), [0, 1, 2, 3, 4]);
    let order = permutation(3000, 42);
    let sst2 = def("sst2", Recipe::Reference, [None; 3]);
    let data = assemble(&sst2, given([3000, 5, 0])).unwrap();
    assert_eq!(lines(&data.validation), order[..1000]);
    assert_eq!(lines(&data.train), order[1000..]);
    assert_eq!(lines(&data.test), [0, 1, 2, 3, 4]);
}

#[test]
fn one_file_is_split_the_same_every_time() {
    let def = def("cola", Recipe::Default, [None; 3]);
    let first = assemble(&def, given([1043, 0, 0])).unwrap();
    assert_eq!(first, assemble(&def, given([1043, 0, 0])).unwrap());
    // The first rows that the permutation puts forward are the validation rows.
    let lines: Vec<u64> = first.validation.iter().take(3).map(|e| e.row.line).collect();
    assert_eq!(lines, [912, 409, 814]);
}

#[test]
fn a_larger_limit_keeps_the_rows_of_a_smaller() {
    let rows = |limit| {
        let data = assemble(&def("rte", Recipe::Default, limit), given([100, 40, 40])).unwrap();
        [data.train, data.validation, data.test]
            .map(|part| part.into_iter().map(|e| e.row.line).collect::<Vec<_>>())
    };
    let (small, large) = (rows([Some(10); 3]), rows([Some(30), Some(1000), None]));
    for (small, large) in small.iter().zip(&large) {
        assert_eq!(small.len(), 10);
        assert!(small.iter().all(|line| large.contains(line)));
    }
    assert_eq!(large[0][..10], small[0]);
    assert_eq!((large[0].len(), large[1].len()), (30, 40));
}

#[test]
fn a_lone_validation_row_cannot_be_halved() {
    let paws = def("paws", Recipe::Default, [None; 3]);
    let error = assemble(&paws, given([3, 1, 0])).unwrap_err();
    assert!(matches!(error, DataError::TooFewRows { rows: 1, parts: 2 }), "{error:?}");
}

proptest! {
    #[test]
    fn parts_are_disjoint_and_complete(
        counts in [0usize..60, 0..60, 0..60],
        task in prop::sample::select(vec!["rte", "sst2", "paws"]),
        reference in any::<bool>(),
    ) {
        let recipe = if reference { Recipe::Reference } else { Recipe::Default };
        let all: Vec<Example> = given(counts).into_values().flatten().collect();
        let Ok(data) = assemble(&def(task, recipe, [None; 3]), given(counts)) else {
            // Only where there is nothing to train on, or a file has fewer rows than the parts
            // that it is divided into: at most three, from a file of any split.
            prop_assert!(counts[0] == 0 || counts.iter().any(|rows| (1..3).contains(rows)));
            return Ok(());
        };
        prop_assert!(Split::ALL.iter().all(|split| !data.split(*split).is_empty()));
        let mut parts: Vec<Example> = [data.train, data.validation, data.test].concat();
        parts.sort_by_key(|e| e.row);
        prop_assert_eq!(parts, all);
    }
}
