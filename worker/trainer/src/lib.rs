//! Training of DePT and prompt tuning on frozen T5, GPT-2 and Llama models with libtorch.
//!
//! A [`Pack`] trains K trials fused on one [`Model`]: [`Pack::step`] makes an update,
//! [`Pack::evaluate`] gives loss and greedy predictions, [`Pack::state`] and [`Pack::resume`]
//! carry a run over to another process.

pub mod answer;
pub mod batch;
pub mod checkpoint;
mod collate;
pub mod data;
pub mod dropout;
pub mod evaluate;
pub mod generate;
pub mod method;
pub mod model;
pub mod optim;
pub mod order;
pub mod pack;
pub mod run;
pub mod schedule;
pub mod score;
pub mod tensors;
pub mod tokenize;
pub mod weights;

pub use batch::{Batch, Example, Padding};
pub use checkpoint::{Checkpoint, Identity};
pub use method::{Adapter, LowRank, Method, PromptInit};
pub use model::Model;
pub use optim::Optimizer;
pub use pack::{Member, Pack, Settings, StepReport, TrialState};
