//! The chart of accuracy against operations; the area of a circle shows the parameters.

use std::path::Path;

use plotters::prelude::*;

use super::Row;
use crate::exit::Failure;

const SIZE: (u32, u32) = (900, 620);

/// Area of a circle per parameter, in square pixels.
const AREA: f64 = 6_000.0 / 138e6;

const COLOURS: [RGBColor; 6] = [
    RGBColor(0x2b, 0x6c, 0xb0),
    RGBColor(0xc0, 0x56, 0x21),
    RGBColor(0x2f, 0x85, 0x5a),
    RGBColor(0x80, 0x5a, 0xd5),
    RGBColor(0xb8, 0x32, 0x80),
    RGBColor(0x97, 0x66, 0x11),
];

/// A circle of the chart.
struct Mark {
    name: &'static str,
    /// Operations, in units of 10^9.
    operations: f64,
    top1: f64,
    parameters: f64,
}

/// Draws the networks with a published accuracy into a file.
pub fn draw(path: &Path, rows: &[Row]) -> Result<(), Failure> {
    let mut circles: Vec<Mark> = rows
        .iter()
        .filter_map(|row| {
            Some(Mark {
                name: row.entry.name,
                operations: row.operations() as f64 / 1e9,
                top1: row.entry.published?.top1,
                parameters: row.parameters as f64,
            })
        })
        .collect();
    // Large circles are drawn first, so that they cover no small ones.
    circles.sort_by(|a, b| b.parameters.total_cmp(&a.parameters));
    let mut text = String::new();
    let failed = |error: &dyn std::fmt::Display| {
        Failure::input(format!("the picture cannot be drawn: {error}"))
    };
    paint(&mut text, &circles).map_err(|error| failed(&error))?;
    std::fs::write(path, text).map_err(|error| Failure::File {
        path: path.to_owned(),
        error,
    })
}

fn paint(text: &mut String, circles: &[Mark]) -> Result<(), Box<dyn std::error::Error>> {
    let root = SVGBackend::with_string(text, SIZE).into_drawing_area();
    root.fill(&WHITE)?;
    let most = circles
        .iter()
        .fold(1.0, |most: f64, circle| most.max(circle.operations));
    let mut chart = ChartBuilder::on(&root)
        .caption(
            "Top-1 accuracy against operations; area: parameters",
            ("sans-serif", 22),
        )
        .margin(16)
        .x_label_area_size(48)
        .y_label_area_size(60)
        .build_cartesian_2d(0.0..most * 1.15, 50.0..82.0)?;
    chart
        .configure_mesh()
        .light_line_style(WHITE)
        .x_desc("operations for one picture, thousand millions (two a multiply-add)")
        .y_desc("top-1 accuracy on ImageNet, one crop, %")
        .label_style(("sans-serif", 14))
        .draw()?;
    for (circle, colour) in circles.iter().zip(COLOURS.iter().cycle()) {
        let radius = (circle.parameters * AREA / std::f64::consts::PI)
            .sqrt()
            .max(3.0);
        let at = (circle.operations, circle.top1);
        chart.draw_series([plotters::element::Circle::new(
            at,
            radius as i32,
            colour.mix(0.55).filled(),
        )])?;
        let label = format!("{} ({:.1} M)", circle.name, circle.parameters / 1e6);
        let label = Text::new(
            label,
            (radius as i32 + 4, -6),
            ("sans-serif", 14).into_font(),
        );
        chart.draw_series([EmptyElement::at(at) + label])?;
    }
    root.present()?;
    Ok(())
}
