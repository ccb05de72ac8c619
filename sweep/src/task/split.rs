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
    pub how: &'static str,
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
    let validation = rows.remove(&Split::Validation);
    let test = rows.remove(&Split::Test);
    // Files that are used whole keep their order; every other part comes out of a permutation.
    let whole = [
        train.is_some() && validation.is_some() && (test.is_some() || def.rule != SplitRule::Large),
        validation.is_some() && test.is_some(),
        test.is_some() && train.is_some()
            || validation.is_some() && train.is_some() && def.rule == SplitRule::Large,
    ];
    let mut data = match (train, validation, test) {
        (Some(train), Some(validation), Some(test)) => {
            Dataset { train, validation, test, how: "as given" }
        }
        (Some(train), Some(validation), None) => match def.rule {
            SplitRule::Small | SplitRule::Given => {
                let (validation, test) = halve(validation)?;
                Dataset { train, validation, test, how: "validation file halved for the test part" }
            }
            SplitRule::Large => {
                let (validation_part, train) = hold_out(def, train)?;
                let how =
                    "rows held out of train for validation; the validation file is the test part";
                Dataset { train, validation: validation_part, test: validation, how }
            }
        },
        (Some(train), None, Some(test)) => {
            let (validation, train) = hold_out(def, train)?;
            Dataset { train, validation, test, how: "rows held out of train for validation" }
        }
        (Some(only), None, None) | (None, Some(only), None) | (None, None, Some(only)) => {
            in_three(only)?
        }
        (None, Some(_), Some(_)) | (None, None, None) => return Err(DataError::NoTrain),
    };
    let parts = [&mut data.train, &mut data.validation, &mut data.test];
    for ((split, part), in_file_order) in Split::ALL.into_iter().zip(parts).zip(whole) {
        if part.is_empty() {
            return Err(DataError::EmptySplit { split });
        }
        limit(part, def.limit(split), in_file_order)?;
    }
    Ok(data)
}

/// First half (rounded down) for validation, the rest for test, after a permutation.
fn halve(rows: Vec<Example>) -> Result<(Vec<Example>, Vec<Example>), DataError> {
    let first = at_least(&rows, 2)? / 2;
    cut(rows, first)
}

/// Validation rows held out of train, and the rest in permuted order.
fn hold_out(def: &TaskDef, rows: Vec<Example>) -> Result<(Vec<Example>, Vec<Example>), DataError> {
    let n = at_least(&rows, 2)?;
    let tenth = (n / 10).clamp(1, HELD_OUT);
    let first = match def.recipe {
        Recipe::Default => tenth,
        // The authors hold out 1000 of any number; where that leaves nothing, a tenth.
        Recipe::Reference if n > HELD_OUT => HELD_OUT,
        Recipe::Reference => tenth,
    };
    cut(rows, first)
}

/// A tenth (at least one row) each for validation and test, after a permutation.
fn in_three(rows: Vec<Example>) -> Result<Dataset, DataError> {
    let tenth = (at_least(&rows, 3)? / 10).max(1);
    let (held_out, train) = cut(rows, 2 * tenth)?;
    let mut validation = held_out;
    let test = validation.split_off(tenth);
    Ok(Dataset { train, validation, test, how: "one file split 80:10:10" })
}

fn at_least(rows: &[Example], parts: usize) -> Result<usize, DataError> {
    if rows.len() < parts {
        let (rows, parts) = (rows.len() as u64, parts as u64);
        return Err(DataError::TooFewRows { rows, parts });
    }
    Ok(rows.len())
}

/// Permutes rows and cuts them after the `first`.
fn cut(rows: Vec<Example>, first: usize) -> Result<(Vec<Example>, Vec<Example>), DataError> {
    let mut rows = permuted(rows)?;
    let rest = rows.split_off(first.min(rows.len()));
    Ok((rows, rest))
}

fn permuted(rows: Vec<Example>) -> Result<Vec<Example>, DataError> {
    let n = u32::try_from(rows.len())
        .map_err(|_| DataError::TooManyRows { rows: rows.len() as u64 })?;
    let mut rows: Vec<Option<Example>> = rows.into_iter().map(Some).collect();
    let order = permutation(n, SEED);
    Ok(order.iter().filter_map(|&i| rows.get_mut(i as usize)?.take()).collect())
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
            *rows = permuted(std::mem::take(rows))?;
        }
        rows.truncate(limit);
    }
    Ok(())
}

#[cfg(test)]
#[path = "split_tests.rs"]
mod tests;
