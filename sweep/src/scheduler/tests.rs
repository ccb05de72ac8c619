//! Unit and property tests of the scheduler.
