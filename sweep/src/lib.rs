//! The pure core of deptune: what a sweep is, which trials it has, who may run them, and what
//! their results mean.
//!
//! Nothing here reads a clock, a file or the operating system's randomness; nothing here is
//! asynchronous. The coordinator's owner loop feeds [`scheduler::Scheduler`] with events and
//! carries out the [`scheduler::Step`]s that come back; the trainer and the command line use the
//! same [`spec`] and [`task`] code, so that a check before submission and the run itself agree.

pub mod answer;
pub mod child;
pub mod crash;
pub mod footprint;
pub mod hub;
pub mod id;
pub mod measure;
pub mod metric;
pub mod model;
pub mod mutation;
pub mod outcome;
pub mod points;
pub mod record;
pub mod scheduler;
pub mod space;
pub mod spec;
pub mod task;
