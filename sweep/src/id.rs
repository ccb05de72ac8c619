//! Identifiers. Distinct types, so that ids of different things cannot be swapped.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// A sweep: numbered from 1 in the order of submission to one store.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, Default,
)]
#[serde(transparent)]
pub struct SweepId(pub u64);

impl fmt::Display for SweepId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A text that is no sweep's number.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is no number of a sweep")]
pub struct NoSweepId(pub String);

impl FromStr for SweepId {
    type Err = NoSweepId;

    /// Digits and nothing else.
    fn from_str(text: &str) -> Result<Self, NoSweepId> {
        let digits = text.bytes().all(|b| b.is_ascii_digit());
        let number = text.parse().ok().filter(|_| digits);
        number.map(SweepId).ok_or_else(|| NoSweepId(text.chars().take(64).collect()))
    }
}

/// Whether a name could be taken for the number of a sweep, or of a trial: digits, or digits, a dot
/// and digits.
#[must_use]
pub fn reads_as_number(name: &str) -> bool {
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    match name.split_once('.') {
        Some((sweep, index)) => digits(sweep) && digits(index),
        None => digits(name),
    }
}

/// A trial: its sweep and its index within the sweep's enumeration. Written `sweep.index`, as in
/// `3.17`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TrialId {
    /// The sweep.
    pub sweep: SweepId,
    /// Index in 0..total, from which the configuration and the seed are computed.
    pub index: u64,
}

impl fmt::Display for TrialId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.sweep, self.index)
    }
}

/// A text that is no trial id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is no trial id (expected SWEEP.INDEX, as in 3.17)")]
pub struct NoTrialId(pub String);

impl FromStr for TrialId {
    type Err = NoTrialId;

    fn from_str(text: &str) -> Result<Self, NoTrialId> {
        let wrong = || NoTrialId(text.chars().take(64).collect());
        let (sweep, index) = text.split_once('.').ok_or_else(wrong)?;
        Ok(TrialId {
            sweep: sweep.parse().map_err(|_| wrong())?,
            index: index.parse().map_err(|_| wrong())?,
        })
    }
}

impl Serialize for TrialId {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for TrialId {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// The fencing token of a trial: rises each time the trial is leased again or cancelled. Only the
/// holder of the current epoch can record the trial's outcome. 0 = never leased.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, Default,
)]
#[serde(transparent)]
pub struct Epoch(pub u32);

impl Epoch {
    /// The epoch after this one.
    #[must_use]
    pub fn next(self) -> Epoch {
        Epoch(self.0.saturating_add(1))
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// One run of a worker agent. A restarted agent is another worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct WorkerId(pub Uuid);

impl fmt::Display for WorkerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Chosen by the caller of a mutation: the same id again gives the same answer and no second
/// effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RequestId(pub Uuid);

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Content hash of an artifact: 64 lower-case hexadecimal digits of blake3.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct ArtifactHash(String);

/// A text that is no artifact hash.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not an artifact hash (expected 64 lower-case hexadecimal digits)")]
pub struct NoArtifactHash;

impl ArtifactHash {
    /// The hash of `content`.
    #[must_use]
    pub fn of(content: &[u8]) -> ArtifactHash {
        ArtifactHash(blake3::hash(content).to_hex().to_string())
    }

    /// The hash whose 32 bytes are given.
    #[must_use]
    pub fn from_digest(digest: &[u8; 32]) -> ArtifactHash {
        ArtifactHash(blake3::Hash::from_bytes(*digest).to_hex().to_string())
    }

    /// The hexadecimal digits.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for ArtifactHash {
    type Err = NoArtifactHash;

    fn from_str(text: &str) -> Result<Self, NoArtifactHash> {
        let digits = text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        if text.len() == 64 && digits {
            Ok(ArtifactHash(text.to_owned()))
        } else {
            Err(NoArtifactHash)
        }
    }
}

impl fmt::Display for ArtifactHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl<'de> Deserialize<'de> for ArtifactHash {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trial_ids_read_back_as_written() {
        let id = TrialId { sweep: SweepId(3), index: 17 };
        assert_eq!(id.to_string(), "3.17");
        assert_eq!("3.17".parse(), Ok(id));
        assert!("3".parse::<TrialId>().is_err());
        assert!("3.-1".parse::<TrialId>().is_err());
    }

    #[test]
    fn a_sweep_s_number_has_digits_only_and_a_name_never_reads_as_one() {
        assert_eq!("12".parse(), Ok(SweepId(12)));
        for text in ["", "+3", "-3", "3 ", "3.0", "x", "99999999999999999999"] {
            assert!(text.parse::<SweepId>().is_err(), "{text}");
        }
        for name in ["7", "007", "7.12", "99999999999999999999"] {
            assert!(reads_as_number(name), "{name}");
        }
        for name in ["", "7b", "7.", ".7", "1.2.3", "-7", "rte-7"] {
            assert!(!reads_as_number(name), "{name}");
        }
    }

    #[test]
    fn only_full_lower_case_hashes_are_hashes() {
        let hash = ArtifactHash::of(b"x");
        assert_eq!(hash.as_str().parse(), Ok(hash.clone()));
        assert!(hash.as_str().to_uppercase().parse::<ArtifactHash>().is_err());
        assert!("../../etc/passwd".parse::<ArtifactHash>().is_err());
    }
}
