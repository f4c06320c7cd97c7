//! The table of the layers, the published figures for comparison, and both as JSON.

use serde_json::{Value, json};
use warpconv::device::{DeviceKind, Gpu};

use super::cpu::Cpu;
use super::history::{CARDS, CYCLES, DAYS, GTX_580, IMAGES, training_images_per_second};
use super::{IMAGE, Row};
use crate::device;
use crate::exit::Failure;
use crate::output::{Align, number, say, table};

/// Results of all layers.
pub struct Report<'a> {
    pub gpu: &'a Gpu,
    pub cpu: Cpu,
    pub batch: usize,
    pub rows: &'a [Row],
}

impl Row {
    /// Time on the GPU: measured, or predicted.
    fn device_ms(&self) -> f64 {
        self.gpu_ms.unwrap_or(self.roofline_ms)
    }
}

/// Sums over layers.
struct Total {
    macs: u64,
    cpu_ms: f64,
    device_ms: f64,
    gtx_580_ms: f64,
}

impl Total {
    fn of<'a>(rows: impl Iterator<Item = &'a Row>) -> Total {
        let none = Total {
            macs: 0,
            cpu_ms: 0.0,
            device_ms: 0.0,
            gtx_580_ms: 0.0,
        };
        rows.fold(none, |total, row| Total {
            macs: total.macs + row.macs,
            cpu_ms: total.cpu_ms + row.cpu_ms,
            device_ms: total.device_ms + row.device_ms(),
            gtx_580_ms: total.gtx_580_ms + row.gtx_580_ms,
        })
    }

    fn cells(&self, name: &str) -> Vec<String> {
        vec![
            name.to_owned(),
            format!("{:.2}", self.macs as f64 / 1e9),
            format!("{:.1}", self.cpu_ms),
            rate(self.macs, self.cpu_ms),
            format!("{:.3}", self.device_ms),
            format!("{:.0}", self.cpu_ms / self.device_ms),
            format!("{:.2}", self.gtx_580_ms),
            format!("{:.1}", self.cpu_ms / self.gtx_580_ms),
        ]
    }
}

/// 10^9 operations per second; empty for layers without multiplications.
fn rate(macs: u64, ms: f64) -> String {
    match macs {
        0 => String::new(),
        _ => format!("{:.0}", 2.0 * macs as f64 / ms / 1e6),
    }
}

impl Report<'_> {
    fn measured(&self) -> bool {
        self.gpu.kind() == DeviceKind::Gpu
    }

    /// Prints the table and its legend.
    pub fn print(&self) -> Result<(), Failure> {
        say(format_args!(
            "AlexNet forward, batch {}, {IMAGE}x{IMAGE} pixels, f32; the processor: {}, {} \
             threads, im2col and the crate \
             gemm",
            self.batch,
            processor(),
            self.cpu.threads
        ))?;
        if cfg!(debug_assertions) {
            say(
                "This program was built without --release: the processor's times are not its best.",
            )?;
        }
        let device = if self.measured() {
            "GPU ms"
        } else {
            "H200 ms, predicted"
        };
        let headings = [
            ("layer", Align::Left),
            ("G multiplications", Align::Right),
            ("CPU ms", Align::Right),
            ("CPU GFLOP/s", Align::Right),
            (device, Align::Right),
            ("speed-up", Align::Right),
            ("GTX 580 ms, predicted", Align::Right),
            ("speed-up", Align::Right),
        ];
        let mut rows: Vec<Vec<String>> = self
            .rows
            .iter()
            .map(|row| Total::of([row].into_iter()).cells(&row.name))
            .collect();
        rows.push(self.convolutions().cells("convolutions"));
        let all = Total::of(self.rows.iter());
        rows.push(all.cells("all"));
        say(table(&headings, rows))?;
        self.explain(&all)?;
        for row in self.rows {
            if let Some(why) = &row.failure {
                say(format_args!("FAILED {}: {why}", row.name))?;
            }
        }
        let compared: usize = self.rows.iter().map(|row| row.compared).sum();
        say(format_args!(
            "{compared} of the processor's outputs compared with f64"
        ))
    }

    /// Sum over the convolutions, whose speed-up is compared with that of 2012.
    fn convolutions(&self) -> Total {
        let named = self.rows.iter().filter(|row| row.name.starts_with("conv"));
        Total::of(named)
    }

    /// Prints the legend of the columns, and published figures.
    fn explain(&self, all: &Total) -> Result<(), Failure> {
        say(if self.measured() {
            "GPU: measured, each layer by itself, the median of replays of a captured graph. GTX \
             580: its roofline, which no program \
             reached."
        } else {
            "No GPU: H200 and GTX 580 are rooflines in f32 (67 TFLOP/s, 4.3 TB/s; 1.58 TFLOP/s, \
             192 GB/s), predictions that no \
             program beats."
        })?;
        let [least, most] = training_images_per_second();
        say(format_args!(
            "Published (Krizhevsky, Sutskever, Hinton 2012): {CARDS} GTX 580 of 3 GB, {CYCLES:.0} \
             cycles through {:.1} million \
             images in {:.0} to {:.0} days: {least:.0} to {most:.0} images per second, forward and \
             backward.",
            IMAGES / 1e6,
            DAYS[0],
            DAYS[1]
        ))?;
        let images = |ms: f64| self.batch as f64 / ms * 1e3;
        say(format_args!(
            "Here, forward: the processor {:.0} images per second; {} {:.0}; one GTX 580 at most \
             {:.0}, {:.1} times this \
             processor.",
            images(all.cpu_ms),
            if self.measured() {
                "the GPU"
            } else {
                "an H200 at most"
            },
            images(all.device_ms),
            images(all.gtx_580_ms),
            all.cpu_ms / all.gtx_580_ms
        ))
    }

    /// Converts the report to JSON.
    pub fn json(&self) -> Value {
        let layers: Vec<Value> = self.rows.iter().map(layer).collect();
        let total = |total: Total| {
            json!({
                "macs": total.macs,
                "cpu_ms": number(Some(total.cpu_ms)),
                "gpu_ms": number(Some(total.device_ms)),
                "speedup": number(Some(total.cpu_ms / total.device_ms)),
                "gtx_580_ms": number(Some(total.gtx_580_ms)),
            })
        };
        let [least, most] = training_images_per_second();
        json!({
            "device": device::to_json(self.gpu),
            "batch": self.batch,
            "processor": {"name": processor(), "threads": self.cpu.threads},
            "gpu_ms": if self.measured() { "measured" } else { "predicted" },
            "layers": layers,
            "convolutions": total(self.convolutions()),
            "all": total(Total::of(self.rows.iter())),
            "published": {
                "cards": CARDS,
                "gtx_580_flops": GTX_580.flops,
                "gtx_580_bytes_a_second": GTX_580.bytes,
                "days": DAYS,
                "cycles": CYCLES,
                "images": IMAGES,
                "training_images_a_second": [least, most],
            },
        })
    }
}

fn layer(row: &Row) -> Value {
    json!({
        "name": row.name,
        "macs": row.macs,
        "min_bytes": row.bytes,
        "cpu_ms": number(Some(row.cpu_ms)),
        "gpu_ms": number(Some(row.device_ms())),
        "gpu_measured": row.gpu_ms.is_some(),
        "roofline_ms": number(Some(row.roofline_ms)),
        "gtx_580_ms": number(Some(row.gtx_580_ms)),
        "speedup": number(Some(row.cpu_ms / row.device_ms())),
        "compared": row.compared,
        "failure": row.failure,
    })
}

/// The processor's name, if the system reports it.
fn processor() -> String {
    let told = std::fs::read_to_string("/proc/cpuinfo").ok();
    let name = told.as_ref().and_then(|text| {
        let line = text.lines().find(|line| line.starts_with("model name"))?;
        Some(line.split_once(':')?.1.trim().to_owned())
    });
    name.unwrap_or_else(|| std::env::consts::ARCH.to_owned())
}
