//! Training of DePT and prompt tuning on frozen T5 models with libtorch.
//!
//! A [`Pack`] trains K trials fused on one [`T5`]: [`Pack::step`] makes an update,
//! [`Pack::evaluate`] gives loss and greedy predictions, [`Pack::state`] and [`Pack::resume`]
//! carry a run over to another process.

pub mod batch;
pub mod config;
pub mod dropout;
pub mod generate;
pub mod method;
pub mod model;
mod optim;
pub mod pack;
pub mod schedule;
pub mod weights;

pub use batch::{Batch, Example, Padding};
pub use config::T5Config;
pub use method::{Adapter, LowRank, Method};
pub use model::T5;
pub use pack::{Member, Pack, Settings, StepReport, TrialState};
