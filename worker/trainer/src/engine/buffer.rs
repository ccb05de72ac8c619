//! Memory that is used again and again. What a pass needs is much the same in every update, so
//! that after the first few little comes from or goes back to the system.

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

/// Passes for which memory lies ready that none of them has used.
const IDLE: u32 = 16;

/// Memory that lies ready.
#[derive(Default)]
pub(super) struct Pool {
    free: Vec<Free>,
}

struct Free {
    lines: Vec<Line>,
    /// Passes that ended since it was used.
    idle: u32,
}

impl Pool {
    /// `length` numbers of any values.
    pub(super) fn take<T: Plain>(&mut self, length: usize) -> Buffer<T> {
        let needed = (length * size_of::<T>()).div_ceil(size_of::<Line>());
        let free = self.free.iter().map(|free| free.lines.capacity()).enumerate();
        let best = free.filter(|(_, room)| *room >= needed).min_by_key(|(_, room)| *room);
        let mut lines = match best {
            // One that is far too large is left for what needs it.
            Some((place, room)) if room <= 4 * needed + 64 => self.free.swap_remove(place).lines,
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
        self.free.push(Free { lines: buffer.lines, idle: 0 });
    }

    /// A pass has ended: gives back to the system what none has used for long.
    pub(super) fn passed(&mut self) {
        self.free.iter_mut().for_each(|free| free.idle += 1);
        self.free.retain(|free| free.idle <= IDLE);
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

    #[test]
    fn memory_that_no_pass_uses_is_given_back() {
        let mut pool = Pool::default();
        for _ in 0..=IDLE {
            assert!(pool.free.len() <= 2);
            let [often, once]: [Buffer<f32>; 2] = [100, 9000].map(|length| pool.take(length));
            pool.give(often);
            if pool.free.len() < 2 {
                pool.give(once);
            }
            pool.passed();
        }
        for _ in 0..=IDLE {
            let often: Buffer<f32> = pool.take(100);
            pool.give(often);
            pool.passed();
        }
        assert_eq!(pool.free.len(), 1);
        assert!(pool.free[0].lines.capacity() < 100);
    }
}
