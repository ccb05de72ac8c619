//! Page tokens: opaque to callers, bound to the list that gave them out.

use super::error::Error;
use crate::store::Page;

/// Most rows of a page.
const MOST: u32 = crate::store::MAX_PAGE;
/// Bytes of a page, well below the 4 MiB that clients accept by default.
const BYTES: usize = 2 << 20;

/// The page size asked for: 0 means `default`.
pub(super) fn size(asked: u32, default: u32) -> u32 {
    if asked == 0 { default } else { asked.min(MOST) }
}

/// Cuts a page so that its rows, of `size` bytes each, fit into one message whatever they hold.
/// At least one row stays. Returns whether rows follow.
pub(super) fn fit<T>(page: &mut Page<T>, size: impl Fn(&T) -> usize) -> bool {
    let mut bytes = 0;
    let fits = page.items.iter().take_while(|row| {
        bytes += size(row);
        bytes <= BYTES
    });
    let keep = fits.count().max(1);
    let cut = page.items.len() > keep;
    page.items.truncate(keep);
    cut || page.more
}

/// The token of the page that begins after `key` in the list called `list`.
pub(super) fn token(list: &str, key: &str) -> String {
    let plain = format!("{list}/{key}");
    plain.bytes().flat_map(|b| [b >> 4, b & 15]).filter_map(digit).collect()
}

/// The key in `token`, if it was given out by the list called `list`; `None` for an empty token,
/// the first page.
pub(super) fn key(list: &str, token: &str) -> Result<Option<String>, Error> {
    if token.is_empty() {
        return Ok(None);
    }
    let plain = plain(token).ok_or(Error::PageToken)?;
    let key = plain.strip_prefix(list).and_then(|rest| rest.strip_prefix('/'));
    key.map(|key| Some(key.to_owned())).ok_or(Error::PageToken)
}

fn digit(nibble: u8) -> Option<char> {
    char::from_digit(u32::from(nibble), 16)
}

fn plain(token: &str) -> Option<String> {
    if token.len() > 1024 || !token.is_ascii() {
        return None;
    }
    let (pairs, rest) = token.as_bytes().as_chunks::<2>();
    if !rest.is_empty() {
        return None;
    }
    let byte = |pair: &[u8; 2]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
    String::from_utf8(pairs.iter().map(byte).collect::<Option<Vec<u8>>>()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_good_for_its_own_list_only() {
        let token = token("trials.3", "17");
        assert!(!token.contains("trials"));
        assert_eq!(key("trials.3", &token).unwrap(), Some("17".to_owned()));
        assert_eq!(key("trials.3", "").unwrap(), None);
        assert!(key("trials.4", &token).is_err());
        assert!(key("trials.3", &token[1..]).is_err());
        assert!(key("trials.3", "zz").is_err());
        assert!(key("trials.3", "ü").is_err());
    }

    #[test]
    fn a_page_of_large_rows_is_cut_and_says_so() {
        let mut page = Page { items: vec![BYTES / 2; 5], more: false };
        assert!(fit(&mut page, |row| *row));
        assert_eq!(page.items.len(), 2);
        assert!(!fit(&mut page, |row| *row));
        let mut page = Page { items: vec![BYTES * 2], more: false };
        assert!(!fit(&mut page, |row| *row));
        assert_eq!(page.items.len(), 1);
    }

    #[test]
    fn page_sizes_are_bounded() {
        assert_eq!((size(0, 100), size(7, 100), size(5000, 100)), (100, 7, 1000));
    }
}
