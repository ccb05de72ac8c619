//! What only a file on a disk can get wrong.

mod opening;
mod outside;
mod query;
mod trouble;
