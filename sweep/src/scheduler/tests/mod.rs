//! Tests of the scheduler: single behaviours, and random worlds against a model of the store.

mod behaviour;
mod budget;
mod control;
mod memory;
mod model;
mod packing;
mod placement;
mod quarantine;
mod share;
mod world;
