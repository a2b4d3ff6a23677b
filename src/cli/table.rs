//! Columns of text, as wide as what stands in them. Does not cut anything.

/// The rows as lines: columns two spaces apart, nothing after the last one.
pub fn lines(rows: &[Vec<String>]) -> Vec<String> {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns).map(width).collect();
    rows.iter()
        .map(|row| {
            let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
            cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_and_lines_have_no_spaces_at_the_end() {
        let rows = [vec!["A".to_owned(), "LONGER".to_owned()], vec!["±word".to_owned(), "x".to_owned()]];
        assert_eq!(lines(&rows), ["A      LONGER", "±word  x"]);
    }
}
