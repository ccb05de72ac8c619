//! Tables for people: columns two spaces apart, no frame, numbers to the right.

use comfy_table::{CellAlignment, ContentArrangement, Table as Grid, presets};

use super::printable;

/// A table under construction.
pub(crate) struct Table {
    columns: Vec<(String, Side)>,
    rows: Vec<Vec<String>>,
    /// Columns that are left out when no row has anything in them.
    optional: &'static [&'static str],
}

/// How a column stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    /// Text.
    Left,
    /// Numbers.
    Right,
}

pub(crate) use Side::{Left, Right};

impl Table {
    /// An empty table with these columns.
    pub(crate) fn new<T: AsRef<str>>(columns: impl IntoIterator<Item = (T, Side)>) -> Table {
        let columns =
            columns.into_iter().map(|(name, side)| (printable(name.as_ref()), side)).collect();
        Table { columns, rows: Vec::new(), optional: &[] }
    }

    /// Leaves these columns out when no row has anything in them.
    pub(crate) fn leaving_out_empty(self, names: &'static [&'static str]) -> Table {
        Table { optional: names, ..self }
    }

    /// Adds a row; texts from elsewhere lose their control characters.
    pub(crate) fn row<T: AsRef<str>>(&mut self, cells: impl IntoIterator<Item = T>) {
        self.rows.push(cells.into_iter().map(|cell| printable(cell.as_ref())).collect());
    }

    /// The text, a line end after each line.
    pub(crate) fn render(&self) -> String {
        let is_empty = |at| self.rows.iter().all(|row| row.get(at).is_none_or(String::is_empty));
        let kept: Vec<usize> = (0..self.columns.len())
            .filter(|at| {
                let optional =
                    self.columns.get(*at).is_some_and(|(name, _)| self.optional.contains(&&**name));
                !(optional && is_empty(*at))
            })
            .collect();
        let pick = |row: &[String]| -> Vec<String> {
            kept.iter().filter_map(|at| row.get(*at).cloned()).collect()
        };
        let mut grid = Grid::new();
        let names: Vec<String> = self.columns.iter().map(|(name, _)| name.clone()).collect();
        grid.load_style(presets::NOTHING)
            .set_content_arrangement(ContentArrangement::Disabled)
            .force_no_tty()
            .set_header(pick(&names));
        for (to, from) in kept.iter().enumerate() {
            if let (Some(column), Some((_, side))) = (grid.column_mut(to), self.columns.get(*from))
            {
                column.set_padding((0, 2));
                if *side == Right {
                    column.set_cell_alignment(CellAlignment::Right);
                }
            }
        }
        for row in &self.rows {
            grid.add_row(pick(row));
        }
        let mut text = String::new();
        for line in grid.lines() {
            text.push_str(line.trim_end());
            text.push('\n');
        }
        text
    }
}

/// Lines of `name  value`, names padded to one width.
pub(crate) fn pairs(rows: &[(&str, String)]) -> String {
    let width = rows.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0);
    rows.iter().map(|(name, value)| format!("{name:width$}  {}\n", printable(value))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_without_a_frame() {
        let mut table = Table::new([("name", Left), ("mean", Right)]);
        table.row(["a", "81.25"]);
        table.row(["longer\u{1b}[2J", "7.00"]);
        assert_eq!(table.render(), "name        mean\na          81.25\nlonger[2J   7.00\n");
    }

    #[test]
    fn pairs_line_up() {
        let text = pairs(&[("a", "1".to_owned()), ("long", "2".to_owned())]);
        assert_eq!(text, "a     1\nlong  2\n");
    }
}
