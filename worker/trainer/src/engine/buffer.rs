//! Memory that is used again and again. What a pass needs is the same in every update, so that
//! after the first few none comes from or goes back to the system.

use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};

use super::element::Bf16;

/// A cache line: products are slower on memory that does not start at one.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Line([u8; 64]);

/// Types of which any bits are a value, without padding, aligned to at most 64 bytes.
///
/// # Safety
/// That must be true of them.
#[expect(unsafe_code, reason = "promised for three types below")]
pub(super) unsafe trait Plain: Copy + Default {}

#[expect(unsafe_code, reason = "true of numbers")]
// SAFETY: any bits are an f32.
unsafe impl Plain for f32 {}
#[expect(unsafe_code, reason = "true of numbers")]
// SAFETY: a transparent u16, of which any bits are a value.
unsafe impl Plain for Bf16 {}
#[expect(unsafe_code, reason = "true of numbers")]
// SAFETY: any bits are a u8.
unsafe impl Plain for u8 {}

/// Numbers in memory that starts at a cache line.
pub(super) struct Buffer<T> {
    lines: Vec<Line>,
    length: usize,
    of: PhantomData<T>,
}

impl<T: Plain> Deref for Buffer<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        #[expect(unsafe_code, reason = "numbers instead of lines")]
        // SAFETY: `lines` holds at least `length` values (see `Pool::take`), aligned for them,
        // and initialised; any bits are a T.
        unsafe {
            std::slice::from_raw_parts(self.lines.as_ptr().cast(), self.length)
        }
    }
}

impl<T: Plain> DerefMut for Buffer<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        #[expect(unsafe_code, reason = "numbers instead of lines")]
        // SAFETY: as above, and borrowed exclusively.
        unsafe {
            std::slice::from_raw_parts_mut(self.lines.as_mut_ptr().cast(), self.length)
        }
    }
}

/// Memory that lies ready.
#[derive(Default)]
pub(super) struct Pool {
    free: Vec<Vec<Line>>,
}

impl Pool {
    /// `length` numbers of any values.
    pub(super) fn take<T: Plain>(&mut self, length: usize) -> Buffer<T> {
        let needed = (length * size_of::<T>()).div_ceil(size_of::<Line>());
        let fits = |(_, lines): &(usize, &Vec<Line>)| lines.capacity() >= needed;
        let best = self.free.iter().enumerate().filter(fits).min_by_key(|(_, l)| l.capacity());
        let mut lines = match best.map(|(place, _)| place) {
            // One that is far too large is left for what needs it.
            Some(place) if self.free[place].capacity() <= 4 * needed + 64 => {
                self.free.swap_remove(place)
            }
            _ => Vec::with_capacity(needed + needed / 8),
        };
        lines.resize(needed.max(lines.len()), Line([0; 64]));
        Buffer { lines, length, of: PhantomData }
    }

    /// `length` zeros.
    pub(super) fn zeros<T: Plain>(&mut self, length: usize) -> Buffer<T> {
        let mut buffer = self.take(length);
        buffer.fill(T::default());
        buffer
    }

    /// Takes memory back.
    pub(super) fn give<T>(&mut self, buffer: Buffer<T>) {
        self.free.push(buffer.lines);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_aligned_and_used_again() {
        let mut pool = Pool::default();
        let mut first: Buffer<f32> = pool.take(1000);
        first.fill(2.0);
        let place = first.as_ptr();
        assert!(place.addr().is_multiple_of(64));
        pool.give(first);
        let second: Buffer<f32> = pool.zeros(990);
        assert_eq!(second.as_ptr(), place);
        assert_eq!(second.len(), 990);
        assert!(second.iter().all(|&value| value == 0.0));
        pool.give(second);
        let small: Buffer<u8> = pool.take(10);
        assert_ne!(small.as_ptr(), place.cast());
    }
}
