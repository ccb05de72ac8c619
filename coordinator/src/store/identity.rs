//! Who a coordinator is.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Who a coordinator is, for the one that finds the database in use.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// Process id on its host.
    pub pid: u32,
    /// Host name.
    pub host: String,
    /// Where clients reach it.
    pub address: String,
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "with process id {} on {} at {}", self.pid, self.host, self.address)
    }
}
