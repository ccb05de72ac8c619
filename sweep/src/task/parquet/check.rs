//! What a file says about its sizes, looked at before the parquet library acts on it: the library
//! asks for as much memory as the file claims to need.

use super::thrift::{I32, LIST, STRUCT, Thrift, Torn};

/// Longest description of a file at its end, bytes.
const MAX_FOOTER: usize = 8 << 20;
/// Most columns and groups of columns.
const MAX_COLUMNS: u64 = 4096;
/// Deepest nesting of columns.
const MAX_DEPTH: usize = 24;
/// Largest page, bytes once decompressed.
const MAX_PAGE: i64 = 256 << 20;
/// Most values of a page.
const MAX_VALUES: i64 = 1 << 24;

/// Where the data of one column of a row group lie.
#[derive(Debug, Clone, Copy)]
pub(super) struct Chunk {
    pub(super) start: i64,
    pub(super) length: i64,
}

/// Looks at the ends of a file and at its list of columns.
///
/// # Errors
/// What is wrong, in words.
pub(super) fn file(bytes: &[u8]) -> Result<(), String> {
    let cut = || "the file's end is missing; it may be cut short".to_owned();
    if !bytes.starts_with(b"PAR1") {
        return Err("it does not begin with the mark of a parquet file".to_owned());
    }
    let body = bytes.strip_suffix(b"PAR1").filter(|body| body.len() >= 8).ok_or_else(cut)?;
    let (body, length) = body.split_last_chunk::<4>().ok_or_else(cut)?;
    let length = u32::from_le_bytes(*length) as usize;
    if length > MAX_FOOTER {
        return Err(format!("its footer has {length} bytes; at most {MAX_FOOTER} are read"));
    }
    let start = body.len().checked_sub(length).ok_or_else(cut)?;
    let footer = body.get(start..).ok_or_else(cut)?;
    columns(footer).map_err(|problem| problem.unwrap_or_else(|| "its footer is torn".to_owned()))
}

/// Looks at the list of columns; an error without words is a torn footer.
fn columns(footer: &[u8]) -> Result<(), Option<String>> {
    let torn = |Torn| None;
    let mut thrift = Thrift::new(footer);
    let mut last = 0;
    while let Some((id, kind)) = thrift.field(&mut last).map_err(torn)? {
        // The file's second field is the flattened tree of its columns.
        if (id, kind) != (2, LIST) {
            thrift.skip(kind).map_err(torn)?;
            continue;
        }
        let (count, kind) = thrift.list().map_err(torn)?;
        if count > MAX_COLUMNS {
            return Err(Some(format!("it has {count} columns; at most {MAX_COLUMNS} are read")));
        }
        // Children still to come, of each group on the way down.
        let mut open: Vec<i64> = Vec::new();
        for _ in 0..count {
            if kind != STRUCT {
                return Err(None);
            }
            if let Some(left) = open.last_mut() {
                *left -= 1;
            }
            let (mut last, mut children) = (0, 0);
            while let Some((id, kind)) = thrift.field(&mut last).map_err(torn)? {
                if (id, kind) == (5, I32) {
                    children = thrift.integer().map_err(torn)?;
                } else {
                    thrift.skip(kind).map_err(torn)?;
                }
            }
            if !(0..=count.cast_signed()).contains(&children) {
                return Err(None);
            }
            if children > 0 {
                open.push(children);
            }
            if open.len() > MAX_DEPTH {
                return Err(Some(format!("its columns nest deeper than {MAX_DEPTH}")));
            }
            while open.last() == Some(&0) {
                open.pop();
            }
        }
    }
    Ok(())
}

/// Looks at the headers of all pages of a column.
///
/// # Errors
/// What is wrong, in words.
pub(super) fn pages(bytes: &[u8], chunk: Chunk) -> Result<(), String> {
    let torn = || "a page of its data is torn".to_owned();
    let start = usize::try_from(chunk.start).map_err(|_| torn())?;
    let length = usize::try_from(chunk.length).map_err(|_| torn())?;
    let end = start.checked_add(length).ok_or_else(torn)?;
    let mut rest = bytes.get(start..end).ok_or_else(|| {
        "its data end before the place that its footer names; it may be cut short".to_owned()
    })?;
    let mut dictionary = false;
    while !rest.is_empty() {
        let mut thrift = Thrift::new(rest);
        let page = Page::read(&mut thrift).map_err(|Torn| torn())?;
        if page.uncompressed > MAX_PAGE || page.values > MAX_VALUES {
            return Err(format!(
                "a page of it has {} bytes and {} values; at most {MAX_PAGE} bytes and \
                 {MAX_VALUES} values are read",
                page.uncompressed, page.values
            ));
        }
        let levels = page.levels[0].checked_add(page.levels[1]);
        let sizes = [page.uncompressed, page.compressed, page.values, page.levels[0]];
        if sizes.iter().any(|size| *size < 0)
            || page.levels[1] < 0
            || (DICTIONARY_CODED.contains(&page.encoding) && !(dictionary || page.dictionary))
            || levels.is_none_or(|levels| levels > page.uncompressed || levels > page.compressed)
        {
            return Err(torn());
        }
        dictionary |= page.dictionary;
        let size = usize::try_from(page.compressed).map_err(|_| torn())?;
        let next = thrift.position().checked_add(size).ok_or_else(torn)?;
        rest = rest.get(next..).ok_or_else(torn)?;
    }
    Ok(())
}

/// Encodings whose values are places in a dictionary.
const DICTIONARY_CODED: [i64; 2] = [2, 8];

/// Sizes of a page.
#[derive(Default)]
struct Page {
    /// Whether it is its column's dictionary.
    dictionary: bool,
    /// How its values are written.
    encoding: i64,
    uncompressed: i64,
    compressed: i64,
    values: i64,
    /// Bytes of the definition and the repetition levels, where the header says so.
    levels: [i64; 2],
}

impl Page {
    fn read(thrift: &mut Thrift<'_>) -> Result<Self, Torn> {
        let mut page = Self::default();
        let mut last = 0;
        while let Some((id, kind)) = thrift.field(&mut last)? {
            match (id, kind) {
                (2, I32) => page.uncompressed = thrift.integer()?,
                (3, I32) => page.compressed = thrift.integer()?,
                // A data page's, a dictionary's or a second version's own header.
                (5 | 7 | 8, STRUCT) => {
                    page.dictionary |= id == 7;
                    let mut last = 0;
                    while let Some((inner, kind)) = thrift.field(&mut last)? {
                        match (id, inner, kind) {
                            (_, 1, I32) => page.values = page.values.max(thrift.integer()?),
                            (5, 2, I32) | (8, 4, I32) => page.encoding = thrift.integer()?,
                            (8, 5, I32) => page.levels[0] = thrift.integer()?,
                            (8, 6, I32) => page.levels[1] = thrift.integer()?,
                            _ => thrift.skip(kind)?,
                        }
                    }
                }
                _ => thrift.skip(kind)?,
            }
        }
        Ok(page)
    }
}
