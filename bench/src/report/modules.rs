//! Graphs of whole modules against their targets.

use crate::record::Row;
use crate::targets::MODULES;

/// One line per target whose record has a time, in bf16 at a batch of 128.
pub fn lines(rows: &[Row]) -> Vec<String> {
    let mut lines = Vec::new();
    for target in &MODULES {
        let timed = rows
            .iter()
            .filter(|row| matches(row, target.row))
            .filter_map(|row| Some((row, row.us?)));
        for (row, us) in timed {
            let verdict = if us <= target.us { "met" } else { "MISSED" };
            lines.push(format!(
                "{}: {us:.1} us, target <= {:.0} us: {verdict}",
                row.id, target.us
            ));
            for (other, times) in target.faster {
                let slower = rows
                    .iter()
                    .find(|known| matches(known, other) && known.layout == row.layout);
                if let Some(other_us) = slower.and_then(|known| known.us) {
                    let ratio = other_us / us;
                    let verdict = if ratio >= *times { "met" } else { "MISSED" };
                    lines.push(format!(
                        "{}: {ratio:.2} x as fast as {other}, target >= {times:.1}: {verdict}",
                        row.id
                    ));
                }
            }
        }
    }
    lines
}

fn matches(row: &Row, name: &str) -> bool {
    row.id.starts_with(name) && row.kind == "bf16" && row.batch == 128
}
