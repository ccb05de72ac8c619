//! Lines of bounded length from a pipe.

use std::io::Read;

/// Why no line could be read.
#[derive(Debug, thiserror::Error)]
pub(super) enum LineError {
    /// A line is longer than is accepted.
    #[error("a line of its output is longer than {0} bytes")]
    TooLong(usize),
    /// The pipe broke.
    #[error("its output cannot be read")]
    Read(#[source] std::io::Error),
}

/// Splits a stream at line feeds and never holds more than one line of `limit` bytes.
#[derive(Debug)]
pub(super) struct Lines<R> {
    from: R,
    limit: usize,
    buffer: Vec<u8>,
    /// Bytes of `buffer` that were given out.
    used: usize,
    /// Bytes of `buffer` without a line feed.
    searched: usize,
}

impl<R: Read> Lines<R> {
    pub(super) fn new(from: R, limit: usize) -> Lines<R> {
        Lines { from, limit, buffer: Vec::new(), used: 0, searched: 0 }
    }

    /// The next line without its end; `None` at the end of the stream. A last line without a line
    /// feed was cut off by its writer's death and is not given.
    pub(super) fn next(&mut self) -> Result<Option<&[u8]>, LineError> {
        self.buffer.drain(..self.used);
        self.searched = 0;
        self.used = 0;
        loop {
            let rest = self.buffer.get(self.searched..).unwrap_or_default();
            if let Some(at) = rest.iter().position(|&b| b == b'\n') {
                let end = self.searched + at;
                self.used = end + 1;
                return Ok(self.buffer.get(..end));
            }
            self.searched = self.buffer.len();
            if self.buffer.len() > self.limit {
                return Err(LineError::TooLong(self.limit));
            }
            let mut chunk = [0; 16 << 10];
            match self.from.read(&mut chunk) {
                Ok(0) => return Ok(None),
                Ok(n) => self.buffer.extend_from_slice(chunk.get(..n).unwrap_or_default()),
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
                Err(e) => return Err(LineError::Read(e)),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_split_and_a_torn_one_is_dropped() {
        let mut lines = Lines::new(&b"a\n\nbc\ntorn"[..], 10);
        assert_eq!(lines.next().unwrap(), Some(&b"a"[..]));
        assert_eq!(lines.next().unwrap(), Some(&b""[..]));
        assert_eq!(lines.next().unwrap(), Some(&b"bc"[..]));
        assert_eq!(lines.next().unwrap(), None);
    }

    #[test]
    fn an_endless_line_takes_bounded_memory() {
        let mut lines = Lines::new(std::io::repeat(b'x'), 1 << 16);
        assert!(matches!(lines.next(), Err(LineError::TooLong(_))));
        assert!(lines.buffer.len() <= (1 << 16) + (16 << 10));
    }
}
