//! Where the tokens of some rows lie. Products of single tokens run over all tokens one behind
//! the other, without padding; attention runs over groups of rows of similar length, each padded
//! to the longest of its group.

use crate::batch::cheapest_cuts;

/// Widths of attention are a multiple of it, as vectors and tiles like them.
const WIDTH: usize = 16;
/// Tokens in all are padded to a multiple of it, so that few sizes of products occur.
const TOKENS: usize = 16;
/// Most groups of attention.
const GROUPS: usize = 3;

/// The tokens of a row, prompt included.
#[derive(Debug, Clone, Copy)]
pub(super) struct Span {
    pub(super) start: usize,
    pub(super) length: usize,
}

/// Rows that pass through attention together.
#[derive(Debug, Clone)]
pub(super) struct Group {
    /// Numbers of the rows.
    pub(super) rows: Vec<usize>,
    /// To how many tokens each is padded.
    pub(super) width: usize,
    /// Padded tokens of the groups before.
    pub(super) tokens_at: usize,
    /// Pairs of padded tokens of the groups before.
    pub(super) pairs_at: usize,
}

/// Where the tokens of some rows lie.
#[derive(Debug, Clone)]
pub(super) struct Layout {
    pub(super) spans: Vec<Span>,
    pub(super) groups: Vec<Group>,
    /// Tokens in all, with a few behind the last row's that are none.
    pub(super) tokens: usize,
    /// Padded tokens of all groups.
    pub(super) padded: usize,
    /// Pairs of padded tokens of all groups.
    pub(super) pairs: usize,
    /// The widest group.
    pub(super) widest: usize,
}

impl Layout {
    /// For rows of the given lengths, at least one.
    pub(super) fn new(lengths: &[usize]) -> Self {
        let mut spans = Vec::with_capacity(lengths.len());
        let mut start = 0;
        for &length in lengths {
            spans.push(Span { start, length });
            start += length;
        }
        let mut order: Vec<usize> = (0..lengths.len()).collect();
        order.sort_by_key(|&row| (lengths[row], row));
        let sorted: Vec<usize> = order.iter().map(|&row| lengths[row]).collect();
        let (mut groups, mut rest) = (Vec::new(), order.as_slice());
        let (mut padded, mut pairs, mut widest) = (0, 0, 0);
        for size in cheapest_cuts(&sorted, GROUPS) {
            let (rows, after) = rest.split_at(size);
            rest = after;
            let longest = rows.iter().map(|&row| lengths[row]).max().unwrap_or(0);
            let width = longest.next_multiple_of(WIDTH);
            groups.push(Group { rows: rows.to_vec(), width, tokens_at: padded, pairs_at: pairs });
            padded += size * width;
            pairs += size * width * width;
            widest = widest.max(width);
        }
        let tokens = start.next_multiple_of(TOKENS);
        Self { spans, groups, tokens, padded, pairs, widest }
    }

    /// Copies columns of tokens [tokens, pitch] from `column` on into [rows, heads, width, size]
    /// per group, zeros behind each row's last token.
    pub(super) fn split<T: Copy + Default>(
        &self,
        from: &[T],
        pitch: usize,
        column: usize,
        heads: usize,
        to: &mut [T],
    ) {
        let size = to.len() / (self.padded * heads).max(1);
        for group in &self.groups {
            let places = to[group.tokens_at * heads * size..].chunks_exact_mut(group.width * size);
            let rows = group.rows.iter().flat_map(|&row| (0..heads).map(move |head| (row, head)));
            for ((row, head), place) in rows.zip(places) {
                let Span { start, length } = self.spans[row];
                let from = from[start * pitch..].chunks_exact(pitch);
                let mut tokens = place.chunks_exact_mut(size);
                for (token, from) in tokens.by_ref().take(length).zip(from) {
                    token.copy_from_slice(&from[column + head * size..][..size]);
                }
                tokens.for_each(|token| token.fill(T::default()));
            }
        }
    }

    /// The way back of [`Layout::split`]; other columns and tokens that are none stay as they
    /// are.
    pub(super) fn merge<T: Copy>(
        &self,
        from: &[T],
        heads: usize,
        to: &mut [T],
        pitch: usize,
        column: usize,
    ) {
        let size = from.len() / (self.padded * heads).max(1);
        for group in &self.groups {
            let places = from[group.tokens_at * heads * size..].chunks_exact(group.width * size);
            let rows = group.rows.iter().flat_map(|&row| (0..heads).map(move |head| (row, head)));
            for ((row, head), place) in rows.zip(places) {
                let Span { start, length } = self.spans[row];
                let to = to[start * pitch..].chunks_exact_mut(pitch);
                for (token, to) in place.chunks_exact(size).take(length).zip(to) {
                    to[column + head * size..][..size].copy_from_slice(token);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_split_is_merged_again() {
        let layout = Layout::new(&[5, 40, 7, 33]);
        assert_eq!(layout.tokens, 96);
        assert!(layout.groups.len() > 1 && layout.padded < 4 * 48);
        let (heads, size, pitch) = (2, 3, 9);
        let from: Vec<u32> = (0..(layout.tokens * pitch) as u32).collect();
        let mut split = vec![7u32; layout.padded * heads * size];
        layout.split(&from, pitch, 3, heads, &mut split);
        let zeros = split.iter().filter(|&&value| value == 0).count();
        assert_eq!(zeros, (layout.padded - 85) * heads * size);
        let mut back = vec![0u32; from.len()];
        layout.merge(&split, heads, &mut back, pitch, 3);
        for (place, (&found, &given)) in back.iter().zip(&from).enumerate() {
            let (token, column) = (place / pitch, place % pitch);
            let expected = if token < 85 && column >= 3 { given } else { 0 };
            assert_eq!(found, expected, "token {token}, column {column}");
        }
    }
}
