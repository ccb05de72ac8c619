//! Training, validation and test parts, made where the files do not give them.

use std::collections::BTreeMap;

use super::permute::permutation;
use super::{DataError, Example, Recipe, SourceFile, Split, TaskDef, parse_rows};

/// Seed of every permutation that makes a split, the same for all sweeps.
const SEED: u32 = 42;

/// Rows held out of the training rows for validation, at most.
const HELD_OUT: usize = 1000;

/// What a task does for splits that it has no files for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SplitRule {
    /// Without a test file, the validation rows are halved.
    Small,
    /// Without a test file, the validation file is the test split and rows of train are held out.
    Large,
    /// The task comes in three files.
    Given,
    /// The validation rows are halved even where there is a test file, which is not used.
    Halved,
    /// Rows of train are held out even where there are validation and test files; the validation
    /// file is not used then.
    HeldOut,
    /// Without a test file, the validation rows are the test rows too.
    Same,
}

/// A task's rows in three parts, none of them empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dataset {
    /// Rows to learn from.
    pub train: Vec<Example>,
    /// Rows that checkpoints and configurations are chosen on.
    pub validation: Vec<Example>,
    /// Rows read once, at the end.
    pub test: Vec<Example>,
    /// How the parts were made, for people.
    pub how: String,
}

impl Dataset {
    /// The rows of one part.
    #[must_use]
    pub fn split(&self, split: Split) -> &[Example] {
        match split {
            Split::Train => &self.train,
            Split::Validation => &self.validation,
            Split::Test => &self.test,
        }
    }
}

/// Reads all files of a task and makes its three parts. The order of files within a split counts.
///
/// # Errors
/// The first problem found, in the order train, validation, test.
pub fn load(def: &TaskDef, files: &[(Split, SourceFile<'_>)]) -> Result<Dataset, DataError> {
    let mut rows = BTreeMap::new();
    for split in Split::ALL {
        let of_split: Vec<SourceFile<'_>> =
            files.iter().filter(|(of, _)| *of == split).map(|(_, file)| *file).collect();
        if !of_split.is_empty() {
            rows.insert(split, parse_rows(def, split, &of_split)?);
        }
    }
    assemble(def, rows)
}

/// Makes the three parts of a task from the rows that its files gave, and applies its limits.
///
/// # Errors
/// When there is nothing to train on, or too few rows to make the missing parts.
pub fn assemble(
    def: &TaskDef,
    mut rows: BTreeMap<Split, Vec<Example>>,
) -> Result<Dataset, DataError> {
    let train = rows.remove(&Split::Train);
    let mut validation = rows.remove(&Split::Validation);
    // Only a test part without labels comes without rows.
    let mut test = rows.remove(&Split::Test).filter(|rows| !rows.is_empty());
    let mut unused = "";
    match def.rule {
        SplitRule::Halved if train.is_some() && validation.is_some() && test.take().is_some() => {
            unused = "; the test file is not used";
        }
        SplitRule::HeldOut if train.is_some() && test.is_some() && validation.take().is_some() => {
            unused = "; the validation file is not used";
        }
        _ => {}
    }
    let large = matches!(def.rule, SplitRule::Large | SplitRule::HeldOut);
    // Files that are used whole keep their order; every other part comes out of a permutation.
    let whole = [
        train.is_some() && validation.is_some() && (test.is_some() || !large),
        validation.is_some() && (test.is_some() || def.rule == SplitRule::Same),
        test.is_some() && train.is_some()
            || validation.is_some() && train.is_some() && (large || def.rule == SplitRule::Same),
    ];
    let mut data = match (train, validation, test) {
        (Some(train), Some(validation), Some(test)) => {
            Dataset { train, validation, test, how: "as given".to_owned() }
        }
        (Some(train), Some(validation), None) if def.rule == SplitRule::Same => {
            let how = "the validation file is the test part too".to_owned();
            Dataset { train, test: validation.clone(), validation, how }
        }
        (Some(train), Some(validation), None) if large => {
            let (held_out, train) = hold_out(def, train)?;
            let how = "rows held out of train for validation; the validation file is the test part";
            Dataset { train, validation: held_out, test: validation, how: how.to_owned() }
        }
        (Some(train), Some(validation), None) => {
            let (validation, test) = halve(def, validation)?;
            let how = format!("validation file halved for the test part{unused}");
            Dataset { train, validation, test, how }
        }
        (Some(train), None, Some(test)) => {
            let (validation, train) = hold_out(def, train)?;
            let how = format!("rows held out of train for validation{unused}");
            Dataset { train, validation, test, how }
        }
        (Some(only), None, None) | (None, Some(only), None) | (None, None, Some(only)) => {
            in_three(def, only)?
        }
        (None, Some(_), Some(_)) | (None, None, None) => return Err(DataError::NoTrain),
    };
    if let Some(rows) = def.train_rows.and_then(|rows| usize::try_from(rows).ok()) {
        data.train.truncate(rows);
    }
    let parts = [&mut data.train, &mut data.validation, &mut data.test];
    for ((split, part), in_file_order) in Split::ALL.into_iter().zip(parts).zip(whole) {
        if part.is_empty() {
            return Err(DataError::EmptySplit { split });
        }
        limit(part, def.limit(split), in_file_order)?;
    }
    Ok(data)
}

/// Rows that stay in one part: usually a row alone.
type Unit = Vec<Example>;

/// First half (rounded down) for validation, the rest for test, after a permutation.
fn halve(def: &TaskDef, rows: Vec<Example>) -> Result<(Vec<Example>, Vec<Example>), DataError> {
    let units = units(def, rows, 2)?;
    let first = units.len() / 2;
    cut(units, first)
}

/// Validation rows held out of train, and the rest in permuted order.
fn hold_out(def: &TaskDef, rows: Vec<Example>) -> Result<(Vec<Example>, Vec<Example>), DataError> {
    let units = units(def, rows, 2)?;
    let tenth = (units.len() / 10).clamp(1, HELD_OUT);
    let first = match def.recipe {
        Recipe::Default => tenth,
        // The authors hold out 1000 of any number; where that leaves nothing, a tenth.
        Recipe::Reference if units.len() > HELD_OUT => HELD_OUT,
        Recipe::Reference => tenth,
    };
    cut(units, first)
}

/// A tenth (at least one unit) each for validation and test, after a permutation.
fn in_three(def: &TaskDef, rows: Vec<Example>) -> Result<Dataset, DataError> {
    let units = units(def, rows, 3)?;
    let tenth = (units.len() / 10).max(1);
    let (mut held_out, train) = permuted(units, 2 * tenth)?;
    let test = held_out.split_off(tenth.min(held_out.len()));
    let rows = |units: Vec<Unit>| units.into_iter().flatten().collect();
    Ok(Dataset {
        train: rows(train),
        validation: rows(held_out),
        test: rows(test),
        how: "one file split 80:10:10".to_owned(),
    })
}

/// The rows in units that are not torn apart, at least `parts` of them, in the order of their
/// first rows.
fn units(def: &TaskDef, rows: Vec<Example>, parts: usize) -> Result<Vec<Unit>, DataError> {
    let units: Vec<Unit> = if def.keeps_groups() {
        let mut places = BTreeMap::new();
        let mut units: Vec<Unit> = Vec::new();
        for row in rows {
            let place = row.group.map(|group| *places.entry(group).or_insert(units.len()));
            match place.and_then(|place| units.get_mut(place)) {
                Some(unit) => unit.push(row),
                None => units.push(vec![row]),
            }
        }
        units
    } else {
        rows.into_iter().map(|row| vec![row]).collect()
    };
    if units.len() < parts {
        let (rows, parts) = (units.len() as u64, parts as u64);
        return Err(DataError::TooFewRows { rows, parts });
    }
    Ok(units)
}

/// Permutes units and cuts them after the `first`.
fn cut(units: Vec<Unit>, first: usize) -> Result<(Vec<Example>, Vec<Example>), DataError> {
    let (first, rest) = permuted(units, first)?;
    Ok((first.into_iter().flatten().collect(), rest.into_iter().flatten().collect()))
}

/// The first `first` of a permutation, and the rest.
fn permuted<T>(items: Vec<T>, first: usize) -> Result<(Vec<T>, Vec<T>), DataError> {
    let n = u32::try_from(items.len())
        .map_err(|_| DataError::TooManyRows { rows: items.len() as u64 })?;
    let mut items: Vec<Option<T>> = items.into_iter().map(Some).collect();
    let order = permutation(n, SEED);
    let mut items: Vec<T> =
        order.iter().filter_map(|&i| items.get_mut(i as usize)?.take()).collect();
    let rest = items.split_off(first.min(items.len()));
    Ok((items, rest))
}

/// Keeps the first `limit` rows of a permutation, so that a larger limit keeps all of a smaller's.
fn limit(
    rows: &mut Vec<Example>,
    limit: Option<u64>,
    in_file_order: bool,
) -> Result<(), DataError> {
    if let Some(limit) = limit.and_then(|limit| usize::try_from(limit).ok())
        && limit < rows.len()
    {
        if in_file_order {
            *rows = permuted(std::mem::take(rows), limit)?.0;
        }
        rows.truncate(limit);
    }
    Ok(())
}

#[cfg(test)]
#[path = "split_tests.rs"]
mod tests;
