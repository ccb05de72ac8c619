//! Tables for people: columns two spaces apart, no frame, numbers to the right.

use comfy_table::{CellAlignment, ContentArrangement, Table as Grid, presets};

use super::printable;

/// A table under construction.
pub(crate) struct Table {
    grid: Grid,
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
        let (names, sides): (Vec<String>, Vec<Side>) =
            columns.into_iter().map(|(name, side)| (printable(name.as_ref()), side)).unzip();
        let mut grid = Grid::new();
        grid.load_style(presets::NOTHING)
            .set_content_arrangement(ContentArrangement::Disabled)
            .force_no_tty()
            .set_header(names);
        for (at, side) in sides.into_iter().enumerate() {
            if let Some(column) = grid.column_mut(at) {
                column.set_padding((0, 2));
                if side == Right {
                    column.set_cell_alignment(CellAlignment::Right);
                }
            }
        }
        Table { grid }
    }

    /// Adds a row; texts from elsewhere lose their control characters.
    pub(crate) fn row<T: AsRef<str>>(&mut self, cells: impl IntoIterator<Item = T>) {
        let cells: Vec<String> = cells.into_iter().map(|cell| printable(cell.as_ref())).collect();
        self.grid.add_row(cells);
    }

    /// The text, a line end after each line.
    pub(crate) fn render(&self) -> String {
        let mut text = String::new();
        for line in self.grid.lines() {
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
