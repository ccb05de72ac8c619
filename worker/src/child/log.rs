//! A child's standard error: into a file of bounded length, with its last line at hand.

use std::fs::File;
use std::io::{Read, Write};

/// Longest log of one attempt, in bytes; what follows is dropped.
pub const MAX_LOG: u64 = 16 << 20;

/// Longest last line that is quoted.
const MAX_WORDS: usize = 400;

/// Copies a child's words into its log until it closes the pipe. Returns the last line that is
/// not blank. Reads on when the log is full or cannot be written, so that the child never blocks
/// on it.
pub(super) fn copy(mut from: impl Read, mut log: File) -> String {
    let mut written = 0;
    let mut full = false;
    let mut tail: Vec<u8> = Vec::new();
    let mut chunk = [0; 16 << 10];
    loop {
        let text = match from.read(&mut chunk) {
            Ok(0) => break,
            Ok(n) => chunk.get(..n).unwrap_or_default(),
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(_) => break,
        };
        tail.extend_from_slice(text);
        // Twice the longest line: enough to find the last one whole.
        let excess = tail.len().saturating_sub(2 * MAX_WORDS);
        tail.drain(..excess);
        if full {
            continue;
        }
        let text = if written + text.len() as u64 > MAX_LOG {
            full = true;
            &b"\n[the log is cut here: it has grown too long]\n"[..]
        } else {
            text
        };
        written += text.len() as u64;
        full |= log.write_all(text).is_err();
    }
    let tail = String::from_utf8_lossy(&tail);
    let last = tail.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or_default();
    last.trim().chars().take(MAX_WORDS).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_log_is_cut_and_its_last_line_found() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let text = std::io::repeat(b'x').take(MAX_LOG + 5);
        let last = copy(text.chain(&b"\nthe end\n \n"[..]), File::create(&path).unwrap());
        assert_eq!(last, "the end");
        let length = std::fs::metadata(&path).unwrap().len();
        assert!(length <= MAX_LOG + 100, "{length}");
        assert!(std::fs::read_to_string(&path).unwrap().ends_with("too long]\n"));
    }
}
