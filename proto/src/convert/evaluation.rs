//! Evaluations and results.

use deptune_sweep::child::{ClassReport, Evaluation, Predictions, TrialResult};
use deptune_sweep::metric::Number;

use super::error::InvalidField;
use super::field;
use crate::v1;

/// Most metrics of one evaluation.
const MAX_METRICS: usize = 64;
/// Most files of predictions: one per split.
const MAX_PREDICTIONS: usize = 2;
/// Most classes of one evaluation.
const MAX_CLASSES: usize = 1024;

fn metrics_to_wire(metrics: Vec<(String, Number)>) -> Vec<v1::Metric> {
    let wire = |(name, value): (String, Number)| v1::Metric { name, value: value.get() };
    metrics.into_iter().map(wire).collect()
}

fn metrics_from_wire(
    metrics: Vec<v1::Metric>,
    field: &str,
) -> Result<Vec<(String, Number)>, InvalidField> {
    field::at_most(metrics.len(), field, MAX_METRICS)?;
    let read = |(at, metric): (usize, v1::Metric)| {
        let name = field::name(metric.name, &format!("{field}[{at}].name"))?;
        Ok((name, Number::from(metric.value)))
    };
    metrics.into_iter().enumerate().map(read).collect()
}

impl From<Evaluation> for v1::Evaluation {
    fn from(evaluation: Evaluation) -> Self {
        Self {
            step: evaluation.step,
            split: evaluation.split,
            loss: evaluation.loss.get(),
            train_loss: evaluation.train_loss.map(Number::get),
            metrics: metrics_to_wire(evaluation.metrics),
            constant: metrics_to_wire(evaluation.constant),
            rows: evaluation.rows,
            seconds: evaluation.seconds,
            per_class: evaluation.per_class.into_iter().map(Into::into).collect(),
        }
    }
}

impl TryFrom<v1::Evaluation> for Evaluation {
    type Error = InvalidField;

    fn try_from(wire: v1::Evaluation) -> Result<Self, InvalidField> {
        Ok(Evaluation {
            step: field::count(wire.step, "step")?,
            split: field::split(wire.split, "split")?,
            loss: wire.loss.into(),
            train_loss: wire.train_loss.map(Number::from),
            metrics: metrics_from_wire(wire.metrics, "metrics")?,
            constant: metrics_from_wire(wire.constant, "constant")?,
            rows: field::count(wire.rows, "rows")?,
            seconds: field::amount(wire.seconds, "seconds")?,
            per_class: classes_from_wire(wire.per_class)?,
        })
    }
}

impl From<ClassReport> for v1::ClassReport {
    fn from(report: ClassReport) -> Self {
        let ClassReport { label, precision, recall, f1, support } = report;
        Self { label, precision, recall, f1, support }
    }
}

fn classes_from_wire(classes: Vec<v1::ClassReport>) -> Result<Vec<ClassReport>, InvalidField> {
    field::at_most(classes.len(), "per_class", MAX_CLASSES)?;
    let read = |(at, report): (usize, v1::ClassReport)| {
        let path = |part: &str| format!("per_class[{at}].{part}");
        Ok(ClassReport {
            label: field::text(report.label, &path("label"), field::MAX_NAME)?,
            precision: field::amount(report.precision, &path("precision"))?,
            recall: field::amount(report.recall, &path("recall"))?,
            f1: field::amount(report.f1, &path("f1"))?,
            support: field::count(report.support, &path("support"))?,
        })
    };
    classes.into_iter().enumerate().map(read).collect()
}

impl From<TrialResult> for v1::TrialResult {
    fn from(result: TrialResult) -> Self {
        Self {
            metric_name: result.metric_name,
            metric: result.metric.get(),
            best_step: result.best_step,
            test: result.test.map(Into::into),
            constant_metric: result.constant_metric.get(),
            steps: result.steps,
            stopped_early: result.stopped_early,
            trainable_parameters: result.trainable_parameters,
            train_seconds: result.train_seconds,
            peak_memory_bytes: result.peak_memory_bytes,
            mean_utilization: result.mean_utilization,
            mean_power_watts: result.mean_power_watts,
            predictions: result.predictions.into_iter().map(Into::into).collect(),
        }
    }
}

impl From<Predictions> for v1::Predictions {
    fn from(predictions: Predictions) -> Self {
        Self { split: predictions.split, hash: predictions.hash.to_string() }
    }
}

impl TryFrom<v1::Predictions> for Predictions {
    type Error = InvalidField;

    fn try_from(wire: v1::Predictions) -> Result<Self, InvalidField> {
        Ok(Predictions {
            split: field::split(wire.split, "split")?,
            hash: field::hash(&wire.hash, "hash")?,
        })
    }
}

impl TryFrom<v1::TrialResult> for TrialResult {
    type Error = InvalidField;

    fn try_from(wire: v1::TrialResult) -> Result<Self, InvalidField> {
        let test = wire.test.map(Evaluation::try_from).transpose();
        Ok(TrialResult {
            metric_name: field::name(wire.metric_name, "metric_name")?,
            metric: wire.metric.into(),
            best_step: field::count(wire.best_step, "best_step")?,
            test: test.map_err(|e| e.within("test"))?,
            constant_metric: wire.constant_metric.into(),
            steps: field::count(wire.steps, "steps")?,
            stopped_early: wire.stopped_early,
            trainable_parameters: field::count(wire.trainable_parameters, "trainable_parameters")?,
            train_seconds: field::amount(wire.train_seconds, "train_seconds")?,
            peak_memory_bytes: wire
                .peak_memory_bytes
                .map(|bytes| field::count(bytes, "peak_memory_bytes"))
                .transpose()?,
            mean_utilization: wire
                .mean_utilization
                .map(|mean| field::fraction(mean, "mean_utilization"))
                .transpose()?,
            mean_power_watts: wire
                .mean_power_watts
                .map(|mean| field::watts(mean, "mean_power_watts"))
                .transpose()?,
            predictions: field::list(wire.predictions, "predictions", MAX_PREDICTIONS)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_evaluation_with_nan_survives_the_wire() {
        let evaluation = Evaluation {
            step: 7,
            split: "validation".to_owned(),
            loss: Number::NaN,
            train_loss: Some(Number::Infinity),
            metrics: vec![("accuracy".to_owned(), Number::Finite(12.5))],
            constant: vec![("accuracy".to_owned(), Number::Finite(50.0))],
            rows: 8,
            seconds: 0.25,
            per_class: vec![ClassReport {
                label: "1".to_owned(),
                precision: 50.0,
                recall: 25.0,
                f1: 33.3,
                support: 8,
            }],
        };
        let wire = v1::Evaluation::from(evaluation.clone());
        assert_eq!(Evaluation::try_from(wire), Ok(evaluation));
    }

    #[test]
    fn a_device_is_busy_at_most_all_the_time_and_draws_what_a_device_can() {
        let wire = |utilization, watts| {
            TrialResult::try_from(v1::TrialResult {
                metric_name: "accuracy".to_owned(),
                mean_utilization: utilization,
                mean_power_watts: watts,
                ..Default::default()
            })
        };
        for utilization in [-0.1, 1.01, f64::NAN, f64::INFINITY] {
            let refused = wire(Some(utilization), None).unwrap_err();
            assert_eq!(refused.field, "mean_utilization", "{utilization}");
        }
        for watts in [-1.0, 1e7, f64::NAN, f64::INFINITY] {
            let refused = wire(None, Some(watts)).unwrap_err();
            assert_eq!(refused.field, "mean_power_watts", "{watts}");
        }
        let taken = wire(Some(1.0), Some(700.0)).unwrap();
        assert_eq!((taken.mean_utilization, taken.mean_power_watts), (Some(1.0), Some(700.0)));
        assert_eq!(wire(None, None).unwrap().mean_utilization, None);
    }

    #[test]
    fn a_nameless_metric_is_named_by_its_place() {
        let wire = v1::Evaluation {
            split: "test".to_owned(),
            metrics: vec![v1::Metric::default()],
            ..Default::default()
        };
        assert_eq!(Evaluation::try_from(wire).unwrap_err().field, "metrics[0].name");
    }
}
