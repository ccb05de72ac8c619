//! Small line plots in text.

/// Columns and rows of the drawing area.
const WIDTH: usize = 64;
const HEIGHT: usize = 14;

/// A named line of points (x, y).
pub(crate) struct Series {
    /// For the legend.
    pub(crate) name: String,
    /// By rising x; points that are not finite are left out.
    pub(crate) points: Vec<(f64, f64)>,
}

/// Draws the series over each other, each with its own letter, and a legend below. Empty when
/// there is no finite point.
pub(crate) fn draw(series: &[Series], x_name: &str, y_name: &str) -> String {
    let finite = |points: &[(f64, f64)]| -> Vec<(f64, f64)> {
        points.iter().copied().filter(|(x, y)| x.is_finite() && y.is_finite()).collect()
    };
    let lines: Vec<Vec<(f64, f64)>> = series.iter().map(|one| finite(&one.points)).collect();
    let all: Vec<(f64, f64)> = lines.iter().flatten().copied().collect();
    if all.is_empty() {
        return String::new();
    }
    let (x_low, x_high) = bounds(all.iter().map(|point| point.0));
    let (y_low, y_high) = bounds(all.iter().map(|point| point.1));
    let mut area = vec![vec![' '; WIDTH]; HEIGHT];
    let place = |(x, y): (f64, f64)| {
        (cell(x, x_low, x_high, WIDTH), HEIGHT - 1 - cell(y, y_low, y_high, HEIGHT))
    };
    // Lines first, so that the points of all series stay visible.
    for points in &lines {
        for pair in points.windows(2) {
            if let [from, to] = pair {
                connect(&mut area, place(*from), place(*to));
            }
        }
    }
    let mut marked: Vec<(&Vec<(f64, f64)>, char)> = lines.iter().zip(letters()).collect();
    // The first series is drawn last, on top.
    marked.reverse();
    for (points, letter) in marked {
        for point in points {
            let (column, row) = place(*point);
            put(&mut area, column, row, letter);
        }
    }
    render(series, &area, (x_low, x_high), (y_low, y_high), x_name, y_name)
}

fn render(
    series: &[Series],
    area: &[Vec<char>],
    (x_low, x_high): (f64, f64),
    (y_low, y_high): (f64, f64),
    x_name: &str,
    y_name: &str,
) -> String {
    let middle = f64::midpoint(y_low, y_high);
    // As many digits as it takes to tell them apart.
    let digits = if y_high - y_low < 1.0 { 4 } else { 2 };
    let labels = [y_high, middle, y_low].map(|y| format!("{y:.digits$}"));
    let width = labels.iter().map(String::len).max().unwrap_or(0);
    let mut text = format!("{y_name}\n");
    for (at, row) in area.iter().enumerate() {
        let label = match at {
            0 => labels[0].as_str(),
            _ if at == HEIGHT / 2 => labels[1].as_str(),
            _ if at == HEIGHT - 1 => labels[2].as_str(),
            _ => "",
        };
        let row: String = row.iter().collect();
        text.push_str(format!("{label:>width$} |{row}").trim_end());
        text.push('\n');
    }
    text.push_str(&format!("{:width$} +{}\n", "", "-".repeat(WIDTH)));
    let (left, right) = (format!("{x_low}"), format!("{x_name} {x_high}"));
    let gap = WIDTH.saturating_sub(left.len());
    text.push_str(&format!("{:width$}  {left}{right:>gap$}\n", ""));
    for (one, letter) in series.iter().zip(letters()) {
        text.push_str(&format!("  {letter}  {}\n", one.name));
    }
    text
}

/// The smallest and the largest, apart from each other.
fn bounds(values: impl Iterator<Item = f64>) -> (f64, f64) {
    let (low, high) =
        values.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), x| (low.min(x), high.max(x)));
    if low < high { (low, high) } else { (low - 1.0, high + 1.0) }
}

/// Where a value falls among `cells` cells.
fn cell(value: f64, low: f64, high: f64, cells: usize) -> usize {
    // Within 0 to cells - 1 by the choice of the bounds.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss)]
    let at = ((value - low) / (high - low) * (cells - 1) as f64).round() as usize;
    at.min(cells - 1)
}

fn connect(area: &mut [Vec<char>], from: (usize, usize), to: (usize, usize)) {
    let columns = to.0.saturating_sub(from.0);
    for step in 1..columns {
        let (low, high) = (from.1.min(to.1), from.1.max(to.1));
        let part = (high - low) * step / columns;
        let row = if from.1 <= to.1 { low + part } else { high - part };
        put(area, from.0 + step, row, '.');
    }
}

fn put(area: &mut [Vec<char>], column: usize, row: usize, mark: char) {
    if let Some(place) = area.get_mut(row).and_then(|row| row.get_mut(column)) {
        *place = mark;
    }
}

/// a to z, then again.
fn letters() -> impl Iterator<Item = char> {
    ('a'..='z').cycle()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_point_is_low_left_and_the_last_high_right() {
        let series = [Series { name: "one".to_owned(), points: vec![(0.0, 50.0), (90.0, 80.0)] }];
        let text = draw(&series, "step", "accuracy");
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], "accuracy");
        assert!(lines[1].starts_with("80.00 |") && lines[1].ends_with('a'), "{text}");
        assert!(lines[HEIGHT].starts_with("50.00 |a"), "{text}");
        assert!(lines[HEIGHT + 2].ends_with("step 90"), "{text}");
        assert_eq!(lines.last(), Some(&"  a  one"));
    }

    #[test]
    fn nothing_finite_draws_nothing_and_one_point_is_enough() {
        let none = [Series { name: "x".to_owned(), points: vec![(1.0, f64::NAN)] }];
        assert_eq!(draw(&none, "step", "loss"), "");
        let one = [Series { name: "x".to_owned(), points: vec![(1.0, 2.0)] }];
        assert!(draw(&one, "step", "loss").contains('a'));
    }
}
