//! The report as a chart: one bar per family and record, this crate's beside cuDNN's, as a share of
//! the roofline. Without times, the emulator's instructions per multiplication.

use plotters::prelude::*;

use super::file::Contents;
use super::summaries;
use crate::record::Row;

/// Maximum number of records drawn: more would be illegible.
const MAX_ROWS: usize = 120;

/// Default filter of the records that are drawn.
const USUAL: [&str; 3] = ["n128", "bf16", "nhwc"];

const WIDTH: u32 = 1200;
const LABEL: i32 = 420;
const BAR: i32 = 9;
const LINE: i32 = 26;
const HEAD: i32 = 84;
const FOOT: i32 = 30;

const OURS: RGBColor = RGBColor(0x2b, 0x6c, 0xb0);
const CUDNN: RGBColor = RGBColor(0xa0, 0xae, 0xc0);
const TARGET: RGBColor = RGBColor(0xc5, 0x30, 0x30);
const GRID: RGBColor = RGBColor(0xe2, 0xe8, 0xf0);

/// A pair of bars.
struct Bar {
    label: String,
    ours: f64,
    cudnn: Option<f64>,
    target: Option<f64>,
    note: String,
}

/// Draws the chart of all families, and of the records whose id contains every one of `filters`.
pub fn draw(contents: &Contents, filters: &[String]) -> Result<String, String> {
    let emulated = contents.is_emulated();
    let rows = chosen(&contents.rows, filters);
    let mut bars = Vec::new();
    if !emulated {
        bars.extend(family_bars(&contents.rows));
    }
    bars.extend(rows.iter().filter_map(|row| row_bar(row, emulated)));
    let full = if emulated {
        bars.iter().fold(0.0, |most: f64, bar| most.max(bar.ours))
    } else {
        1.0
    };
    let device = contents.runs.first().map_or("", |run| &run.device);
    let date = contents.runs.first().map_or("", |run| &run.date);
    let title = if emulated {
        format!("{device}: instructions a multiplication, counted (no times: this is the emulator)")
    } else {
        format!("{device}, {date} UTC: share of the roofline")
    };
    let height = HEAD + FOOT + LINE * bars.len().max(1) as i32;
    let mut text = String::new();
    paint(&mut text, height as u32, &title, &bars, full, emulated)
        .map_err(|error| format!("the chart cannot be drawn: {error}"))?;
    Ok(text)
}

fn chosen<'a>(rows: &'a [Row], filters: &[String]) -> Vec<&'a Row> {
    let matching = |row: &&Row| {
        if filters.is_empty() {
            USUAL.iter().all(|part| row.id.contains(part))
        } else {
            filters.iter().all(|part| row.id.contains(&part[..]))
        }
    };
    let mut chosen: Vec<&Row> = rows.iter().filter(matching).collect();
    if chosen.is_empty() {
        chosen = rows.iter().collect();
    }
    chosen.truncate(MAX_ROWS);
    chosen
}

fn family_bars(rows: &[Row]) -> Vec<Bar> {
    let bar = |summary: &super::Summary<'_>| {
        let ours = summary.share?;
        let ratio = summary.ratio.map(|ratio| format!(", {ratio:.2} x cuDNN"));
        Some(Bar {
            label: format!("{} ({} rows)", summary.family.name, summary.rows.len()),
            ours,
            cudnn: summary.cudnn_share,
            target: summary.family.share,
            note: format!("{:.0}%{}", ours * 100.0, ratio.unwrap_or_default()),
        })
    };
    summaries(rows).iter().filter_map(bar).collect()
}

fn row_bar(row: &Row, emulated: bool) -> Option<Bar> {
    if emulated {
        let each = row.instructions? as f64 / row.macs.max(1) as f64;
        return Some(Bar {
            label: row.id.clone(),
            ours: each,
            cudnn: None,
            target: None,
            note: format!("{each:.3}"),
        });
    }
    let (us, share) = (row.us?, row.share()?);
    let ratio = row.ratio().map(|ratio| format!(", {ratio:.2} x cuDNN"));
    Some(Bar {
        label: row.id.clone(),
        ours: share,
        cudnn: row.cudnn.us.map(|us| row.floor_us / us),
        target: None,
        note: format!(
            "{:.0}%, {us:.1} us{}",
            share * 100.0,
            ratio.unwrap_or_default()
        ),
    })
}

type Drawn = Result<(), Box<dyn std::error::Error>>;

fn paint(
    text: &mut String,
    height: u32,
    title: &str,
    bars: &[Bar],
    full: f64,
    emulated: bool,
) -> Drawn {
    let root = SVGBackend::with_string(text, (WIDTH, height)).into_drawing_area();
    root.fill(&WHITE)?;
    let font = |size: i32| ("sans-serif", size).into_font().color(&BLACK);
    root.draw(&Text::new(title.to_owned(), (16, 14), font(18)))?;
    if !emulated {
        legend(&root)?;
        grid(&root, height as i32)?;
    }
    let across = f64::from(WIDTH as i32 - LABEL - 240);
    let end = |value: f64| LABEL + (value.clamp(0.0, 1.2 * full) / full.max(1e-12) * across) as i32;
    for (index, bar) in bars.iter().enumerate() {
        let top = HEAD + LINE * index as i32;
        root.draw(&Text::new(bar.label.clone(), (16, top + 3), font(12)))?;
        let ours = [(LABEL, top + 2), (end(bar.ours), top + 2 + BAR)];
        root.draw(&Rectangle::new(ours, OURS.filled()))?;
        let mut right = end(bar.ours);
        if let Some(cudnn) = bar.cudnn {
            let lower = [(LABEL, top + 3 + BAR), (end(cudnn), top + 2 + 2 * BAR)];
            root.draw(&Rectangle::new(lower, CUDNN.filled()))?;
            right = right.max(end(cudnn));
        }
        if let Some(target) = bar.target {
            let mark = [(end(target), top), (end(target) + 2, top + 2 * BAR + 4)];
            root.draw(&Rectangle::new(mark, TARGET.filled()))?;
            right = right.max(end(target) + 2);
        }
        root.draw(&Text::new(bar.note.clone(), (right + 6, top + 3), font(12)))?;
    }
    root.present()?;
    Ok(())
}

type Area<'a> = DrawingArea<SVGBackend<'a>, plotters::coord::Shift>;

fn legend(root: &Area<'_>) -> Drawn {
    let font = ("sans-serif", 13).into_font().color(&BLACK);
    let entries = [
        (OURS, "this crate"),
        (CUDNN, "cuDNN, best plan"),
        (TARGET, "target on an H200"),
    ];
    for (index, (color, name)) in entries.into_iter().enumerate() {
        let left = LABEL + 190 * index as i32;
        root.draw(&Rectangle::new(
            [(left, 46), (left + 12, 58)],
            color.filled(),
        ))?;
        root.draw(&Text::new(name, (left + 18, 45), font.clone()))?;
    }
    Ok(())
}

/// Draws a line at every fifth of the roofline.
fn grid(root: &Area<'_>, height: i32) -> Drawn {
    let across = WIDTH as i32 - LABEL - 240;
    let font = ("sans-serif", 11).into_font().color(&BLACK);
    for fifth in 0..=5 {
        let at = LABEL + across * fifth / 5;
        root.draw(&PathElement::new(
            vec![(at, HEAD - 8), (at, height - FOOT)],
            GRID,
        ))?;
        let label = format!("{}%", fifth * 20);
        root.draw(&Text::new(
            label,
            (at - 10, height - FOOT + 8),
            font.clone(),
        ))?;
    }
    Ok(())
}
