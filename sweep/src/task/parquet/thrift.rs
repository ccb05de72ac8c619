//! Just enough of Thrift's compact protocol to look at sizes before memory is asked for.

/// Deepest nesting of values that is followed.
const MAX_DEPTH: u8 = 32;

/// Wire types.
pub(super) const I32: u8 = 5;
const I64: u8 = 6;
pub(super) const LIST: u8 = 9;
pub(super) const STRUCT: u8 = 12;

/// Reads values one after the other.
pub(super) struct Thrift<'a> {
    bytes: &'a [u8],
    at: usize,
}

/// The value is cut short or of no known form.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Torn;

impl<'a> Thrift<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    /// Bytes read so far.
    pub(super) fn position(&self) -> usize {
        self.at
    }

    fn byte(&mut self) -> Result<u8, Torn> {
        let byte = self.bytes.get(self.at).copied().ok_or(Torn)?;
        self.at += 1;
        Ok(byte)
    }

    fn varint(&mut self) -> Result<u64, Torn> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(Torn)
    }

    /// A whole number of any width.
    pub(super) fn integer(&mut self) -> Result<i64, Torn> {
        let value = self.varint()?;
        Ok((value >> 1).cast_signed() ^ -(value & 1).cast_signed())
    }

    /// The next field of a structure, its number and type; `last` is the number of the one before.
    pub(super) fn field(&mut self, last: &mut i64) -> Result<Option<(i64, u8)>, Torn> {
        let head = self.byte()?;
        let kind = head & 0x0f;
        if kind == 0 {
            return Ok(None);
        }
        *last = match head >> 4 {
            0 => self.integer()?,
            delta => last.checked_add(i64::from(delta)).ok_or(Torn)?,
        };
        Ok(Some((*last, kind)))
    }

    /// The number of items of a list, and their type.
    pub(super) fn list(&mut self) -> Result<(u64, u8), Torn> {
        let head = self.byte()?;
        let count = match head >> 4 {
            15 => self.varint()?,
            count => u64::from(count),
        };
        Ok((count, head & 0x0f))
    }

    /// Passes over a value.
    pub(super) fn skip(&mut self, kind: u8) -> Result<(), Torn> {
        self.skip_within(kind, MAX_DEPTH)
    }

    fn skip_within(&mut self, kind: u8, depth: u8) -> Result<(), Torn> {
        let depth = depth.checked_sub(1).ok_or(Torn)?;
        match kind {
            // Truth values of fields are in their types.
            1 | 2 => Ok(()),
            3 => self.byte().map(drop),
            4..=I64 => self.varint().map(drop),
            7 => self.advance(8),
            8 => {
                let length = self.varint()?;
                self.advance(length)
            }
            LIST | 10 => {
                let (count, kind) = self.list()?;
                for _ in 0..count {
                    // Truth values of lists are bytes.
                    self.skip_within(if kind <= 2 { 3 } else { kind }, depth)?;
                }
                Ok(())
            }
            STRUCT => {
                let mut last = 0;
                while let Some((_, kind)) = self.field(&mut last)? {
                    self.skip_within(kind, depth)?;
                }
                Ok(())
            }
            _ => Err(Torn),
        }
    }

    fn advance(&mut self, count: u64) -> Result<(), Torn> {
        let count = usize::try_from(count).map_err(|_| Torn)?;
        self.at = self.at.checked_add(count).filter(|at| *at <= self.bytes.len()).ok_or(Torn)?;
        Ok(())
    }
}
