//! From a task's spec to its definition.

use std::collections::BTreeMap;

use super::builtin::{BuiltIn, Target};
use super::few_shot::KShot;
use super::label::TargetRule;
use super::shape::Shape;
use super::spec::{Format, TaskSpec};
use super::split::SplitRule;
use super::suggest::suggest;
use super::template::Template;
use super::{Recipe, Split, TaskError};
use crate::metric::{self, Gold, MetricError, MetricKind, Metrics};

/// A task with everything decided: which columns are read, how a row becomes texts, how answers
/// are judged, and how missing splits are made.
#[derive(Debug, Clone, PartialEq)]
pub struct TaskDef {
    pub(super) name: String,
    pub(super) recipe: Recipe,
    pub(super) metrics: Vec<MetricKind>,
    pub(super) classes: Vec<String>,
    pub(super) template: Template,
    pub(super) prefix: Option<String>,
    pub(super) fields: Vec<Field>,
    pub(super) label: Vec<String>,
    pub(super) target: TargetRule,
    pub(super) shape: Shape,
    pub(super) rule: SplitRule,
    pub(super) format: Format,
    pub(super) header: Option<bool>,
    pub(super) headerless: Vec<String>,
    /// Labels of rows that the annotators did not agree on.
    pub(super) undecided: Vec<String>,
    pub(super) keeps_undecided: bool,
    /// Whether rows with too few columns are left out.
    pub(super) ragged: bool,
    /// Most rows of the training part.
    pub(super) train_rows: Option<u64>,
    pub(super) k_shot: Option<KShot>,
    target_tokens: Option<usize>,
    /// Whether a test part without labels counts as none, as a dataset of the hub may have one
    /// that the spec cannot leave out.
    pub(super) drops_unlabelled_test: bool,
    limits: [Option<u64>; 3],
}

/// A text that a row has, and where the file may keep it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Field {
    pub(super) name: String,
    pub(super) columns: Vec<String>,
}

impl TaskSpec {
    /// Resolves the spec to one of the built-in tasks or the person's own.
    ///
    /// # Errors
    /// What is wrong with the spec; whether the files fit it shows only when they are read.
    pub fn resolve(&self, recipe: Recipe) -> Result<TaskDef, TaskError> {
        let mut def = match BuiltIn::find(&self.name) {
            Some(task) => self.built_in(task, recipe)?,
            None => self.own(recipe)?,
        };
        self.rename_columns(&mut def)?;
        if let Some(names) = &self.metrics {
            def.metrics =
                names.iter().map(|name| name.parse()).collect::<Result<_, _>>().map_err(
                    |source| TaskError::UnknownMetric { task: self.name.clone(), source },
                )?;
        }
        check_metrics(&def)?;
        def.k_shot = KShot::new(self, &def)?;
        for (split, limit) in Split::ALL.into_iter().zip(def.limits) {
            if limit == Some(0) {
                let key = ["train_limit", "validation_limit", "test_limit"][split as usize];
                return Err(TaskError::NoRows { task: def.name, key });
            }
        }
        self.check_files()?;
        Ok(def)
    }

    fn check_files(&self) -> Result<(), TaskError> {
        let task = || self.name.clone();
        match (&self.train[..], &self.validation[..], &self.test[..]) {
            ([], [], []) if self.dataset.is_some() => Ok(()),
            ([], [], []) => Err(TaskError::NoFiles { task: task() }),
            ([], [_, ..], [_, ..]) => Err(TaskError::NoTrain { task: task() }),
            _ => Ok(()),
        }
    }

    fn built_in(&self, task: &BuiltIn, recipe: Recipe) -> Result<TaskDef, TaskError> {
        let own = [
            ("template", self.template.is_some()),
            ("label", self.label.is_some()),
            ("labels", self.labels.is_some()),
        ];
        if let Some((key, _)) = own.into_iter().find(|(_, given)| *given) {
            return Err(TaskError::BuiltInHasOwn { task: self.name.clone(), key });
        }
        let reference = match recipe {
            Recipe::Default => None,
            Recipe::Reference => Some(&task.reference),
        };
        let texts = |list: &[&str]| list.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
        let target = match &task.target {
            Target::Ids(pairs) => TargetRule::Table(
                pairs.iter().map(|(value, id)| ((*value).to_owned(), (*id).to_owned())).collect(),
            ),
            Target::Score => match recipe {
                Recipe::Default => TargetRule::Score { steps: 5, single: false },
                Recipe::Reference => TargetRule::Score { steps: 10, single: true },
            },
            Target::Answers => TargetRule::Free,
        };
        let template =
            self.read_template(reference.and_then(|r| r.template).unwrap_or(task.template))?;
        // A shape needs its fields; otherwise only those that the template uses are read.
        let used = |name: &str| {
            task.shape != Shape::Plain || template.fields().iter().any(|field| field == name)
        };
        let prefix = reference.and_then(|r| r.prefix).unwrap_or(task.reference_name());
        Ok(TaskDef {
            name: task.name.to_owned(),
            recipe,
            metrics: reference.and_then(|r| r.metrics).unwrap_or(task.metrics).to_vec(),
            classes: target.classes(),
            prefix: self.add_prefix.then(|| prefix.to_owned()),
            fields: task
                .fields
                .iter()
                .filter(|(name, _)| used(name))
                .map(|(name, columns)| Field { name: (*name).to_owned(), columns: texts(columns) })
                .collect(),
            template,
            label: texts(task.label),
            target,
            shape: task.shape,
            rule: reference.and_then(|r| r.rule).unwrap_or(task.rule),
            format: self.format,
            header: self.header,
            headerless: texts(task.headerless),
            undecided: texts(task.undecided),
            keeps_undecided: reference.is_some_and(|r| r.keeps_undecided),
            ragged: task.ragged,
            train_rows: reference.and_then(|r| r.train_rows),
            k_shot: None,
            target_tokens: task.target_tokens,
            drops_unlabelled_test: self.dataset.is_some(),
            limits: [self.train_limit, self.validation_limit, self.test_limit],
        })
    }

    fn own(&self, recipe: Recipe) -> Result<TaskDef, TaskError> {
        let task = || self.name.clone();
        let missing = |key, example| TaskError::Missing { task: task(), key, example };
        let (template, label) = match (&self.template, &self.label) {
            (None, None) => {
                let suggestion = BuiltIn::nearest(&self.name).map(str::to_owned);
                return Err(TaskError::UnknownTask { name: task(), suggestion });
            }
            (None, _) => return Err(missing("template", "review: {text}")),
            (_, None) => return Err(missing("label", "label")),
            (Some(template), Some(label)) => (self.read_template(template)?, label.clone()),
        };
        let target = match &self.labels {
            None => TargetRule::Free,
            Some(labels) => TargetRule::from_labels(labels)
                .map_err(|reason| TaskError::Labels { task: task(), reason })?,
        };
        let fields = template
            .fields()
            .iter()
            .map(|name| Field { name: name.clone(), columns: vec![name.clone()] })
            .collect();
        Ok(TaskDef {
            name: task(),
            recipe,
            metrics: vec![MetricKind::Accuracy],
            classes: target.classes(),
            template,
            prefix: self.add_prefix.then(task),
            fields,
            label: vec![label],
            target,
            shape: Shape::Plain,
            rule: SplitRule::Small,
            format: self.format,
            header: Some(self.header.unwrap_or(true)),
            headerless: Vec::new(),
            undecided: Vec::new(),
            keeps_undecided: false,
            ragged: false,
            train_rows: None,
            k_shot: None,
            target_tokens: None,
            drops_unlabelled_test: self.dataset.is_some(),
            limits: [self.train_limit, self.validation_limit, self.test_limit],
        })
    }

    fn read_template(&self, text: &str) -> Result<Template, TaskError> {
        Template::parse(text)
            .map_err(|source| TaskError::Template { task: self.name.clone(), source })
    }

    /// Applies `columns`; the label goes by the name `label`, or by its own in an own task.
    fn rename_columns(&self, def: &mut TaskDef) -> Result<(), TaskError> {
        let label = self.label.clone().unwrap_or_else(|| "label".to_owned());
        for (field, column) in &self.columns {
            let mut known = false;
            for candidate in def.fields.iter_mut().filter(|known| known.name == *field) {
                candidate.columns = vec![column.clone()];
                known = true;
            }
            if *field == label {
                def.label = vec![column.clone()];
                known = true;
            }
            if !known {
                let mut fields: Vec<String> = def.fields.iter().map(|f| f.name.clone()).collect();
                fields.push(label);
                let suggestion = suggest(field, fields.iter().map(String::as_str));
                let suggestion = suggestion.map(str::to_owned);
                let (task, field) = (self.name.clone(), field.clone());
                return Err(TaskError::UnknownField { task, field, fields, suggestion });
            }
        }
        Ok(())
    }
}

fn check_metrics(def: &TaskDef) -> Result<(), TaskError> {
    let unfit = |metric: MetricKind, reason| {
        let task = def.name.clone();
        Err(TaskError::UnfitMetric { task, metric: metric.name(), reason })
    };
    if def.metrics.is_empty() {
        let task = def.name.clone();
        return Err(TaskError::Missing { task, key: "metrics", example: "accuracy" });
    }
    for (position, metric) in def.metrics.iter().enumerate() {
        if def.metrics.iter().take(position).any(|earlier| earlier == metric) {
            return unfit(*metric, "it is listed twice");
        }
        let numeric = || def.classes.iter().all(|text| text.parse::<f64>().is_ok());
        match metric {
            MetricKind::GroupExactMatch if def.shape != Shape::MultiRc => {
                return unfit(*metric, "only the rows of multirc come in groups");
            }
            MetricKind::F1 if def.classes.len() != 2 => {
                return unfit(*metric, "it needs 'labels' with two texts, the positive one last");
            }
            MetricKind::F1Multiclass if def.classes.is_empty() => {
                return unfit(*metric, "it needs 'labels'");
            }
            MetricKind::Pearson | MetricKind::Spearman if !numeric() => {
                return unfit(*metric, "it needs labels that are numbers");
            }
            _ => {}
        }
    }
    Ok(())
}

impl TaskDef {
    /// The built-in task's short name, or the person's own.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The recipe that it was resolved for.
    #[must_use]
    pub fn recipe(&self) -> Recipe {
        self.recipe
    }

    /// Metrics, at least one; checkpoints are selected by the first, larger is better.
    #[must_use]
    pub fn metrics(&self) -> &[MetricKind] {
        &self.metrics
    }

    /// The target texts in class order; empty where any text may be a target.
    #[must_use]
    pub fn classes(&self) -> &[String] {
        &self.classes
    }

    /// Most tokens of a target, end token included: longer ones are cut. None where classes bound
    /// it, or where the task is a person's own.
    #[must_use]
    pub fn target_tokens(&self) -> Option<usize> {
        self.target_tokens
    }

    /// Whether the training part depends on the trial's seed, see [`super::Dataset::sample`].
    #[must_use]
    pub fn depends_on_seed(&self) -> bool {
        self.k_shot.is_some()
    }

    /// Whether the label -1 stands for none, as in published test files: built-in tasks have no
    /// class of that name.
    pub(super) fn hides_labels(&self) -> bool {
        BuiltIn::find(&self.name).is_some() && !self.classes.is_empty()
    }

    /// Whether the rows of a group stay in one part of the data.
    pub(super) fn keeps_groups(&self) -> bool {
        match self.shape {
            Shape::MultiRc => self.recipe == Recipe::Default,
            Shape::Record => true,
            _ => false,
        }
    }

    /// Names of the texts that a source text is made of.
    pub fn fields(&self) -> impl Iterator<Item = &str> {
        self.fields.iter().map(|field| field.name.as_str())
    }

    /// The most rows of a split that are used.
    #[must_use]
    pub fn limit(&self, split: Split) -> Option<u64> {
        self.limits.get(split as usize).copied().flatten()
    }

    /// The source text for given field texts.
    ///
    /// # Errors
    /// Which field is missing, or what is wrong with one.
    pub fn source(&self, texts: &BTreeMap<String, String>) -> Result<String, String> {
        let texts = self
            .fields
            .iter()
            .map(|field| {
                let text = texts.get(&field.name).cloned();
                text.ok_or_else(|| format!("no text for the field '{}'", field.name))
            })
            .collect::<Result<Vec<_>, _>>()?;
        self.source_of(texts)
    }

    /// The source text for texts in the order of `fields`.
    pub(super) fn source_of(&self, mut texts: Vec<String>) -> Result<String, String> {
        self.shape.prepare(self.recipe, &mut texts)?;
        let text = self.template.render(|name| {
            let index = self.fields.iter().position(|field| field.name == name)?;
            texts.get(index).map(String::as_str)
        });
        Ok(match &self.prefix {
            Some(prefix) => format!("{prefix} {text}"),
            None => text,
        })
    }

    /// The task's metrics for predictions against golds, see [`metric::evaluate`].
    ///
    /// # Errors
    /// When their numbers differ.
    pub fn evaluate<P: AsRef<str>, T: Gold>(
        &self,
        predictions: &[P],
        golds: &[T],
    ) -> Result<Metrics, MetricError> {
        metric::evaluate(&self.metrics, &self.classes, self.recipe, predictions, golds)
    }

    /// The task's metrics for the best constant answer, see [`metric::constant_answer`].
    #[must_use]
    pub fn constant_answer<T: Gold>(&self, golds: &[T]) -> Metrics {
        metric::constant_answer(&self.metrics, &self.classes, self.recipe, golds)
    }
}

#[cfg(test)]
#[path = "define_tests.rs"]
mod tests;
