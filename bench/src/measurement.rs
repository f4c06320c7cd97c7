//! criterion's `Measurement` of a device: time between two of its events on a GPU, instructions on
//! the emulator.
//!
//! The unit of work is the launch. Throughputs are FLOP and bytes: `Throughput::Elements` counts
//! floating-point operations, two per multiply-add.

use std::sync::Arc;

use criterion::Throughput;
use criterion::measurement::{Measurement, ValueFormatter};
use cudarc::driver::sys::CUevent_flags;
use cudarc::driver::{CudaEvent, CudaStream};
use warpconv::device::Gpu;

use super::timed_graph::text;

/// Measurement of a stream's device time, in nanoseconds.
#[derive(Clone)]
pub struct DeviceTime {
    stream: Arc<CudaStream>,
}

impl DeviceTime {
    /// Device time of a stream.
    pub fn new(stream: &Arc<CudaStream>) -> DeviceTime {
        DeviceTime {
            stream: stream.clone(),
        }
    }

    /// Records an event in the stream.
    pub fn event(&self) -> Result<CudaEvent, String> {
        let context = self.stream.context();
        let event = context
            .new_event(Some(CUevent_flags::CU_EVENT_DEFAULT))
            .map_err(text)?;
        event.record(&self.stream).map_err(text)?;
        Ok(event)
    }

    /// Waits for the stream and returns the nanoseconds since `start`.
    pub fn since(&self, start: &CudaEvent) -> Result<f64, String> {
        let end = self.event()?;
        end.synchronize().map_err(text)?;
        let ms = start.elapsed_ms(&end).map_err(text)?;
        Ok(f64::from(ms) * 1e6)
    }
}

/// The measurement of a benchmark.
pub enum DeviceMeasurement {
    /// Nanoseconds of device time.
    Time(DeviceTime),
    /// Instructions of all threads, which the emulator counts. They are the same in each run, so
    /// two baselines differ only where the kernel or its launch does.
    Instructions(Gpu),
}

/// The state of a measurement between its two ends.
pub enum Started {
    /// The event at the start.
    Event(CudaEvent),
    /// Counters, which were reset to zero.
    Counters,
}

impl Measurement for DeviceMeasurement {
    type Intermediate = Started;
    type Value = f64;

    fn start(&self) -> Started {
        match self {
            DeviceMeasurement::Time(time) => Started::Event(expect(time.event())),
            DeviceMeasurement::Instructions(gpu) => {
                gpu.reset_counters();
                Started::Counters
            }
        }
    }

    fn end(&self, started: Started) -> f64 {
        match (self, started) {
            (DeviceMeasurement::Time(time), Started::Event(start)) => expect(time.since(&start)),
            (DeviceMeasurement::Instructions(gpu), _) => {
                expect(gpu.synchronize().map_err(text));
                gpu.counters()
                    .map_or(0.0, |counted| counted.instructions().thread as f64)
            }
            (DeviceMeasurement::Time(_), Started::Counters) => {
                unreachable!("`start` made an event")
            }
        }
    }

    fn add(&self, a: &f64, b: &f64) -> f64 {
        a + b
    }

    fn zero(&self) -> f64 {
        0.0
    }

    fn to_f64(&self, value: &f64) -> f64 {
        *value
    }

    fn formatter(&self) -> &dyn ValueFormatter {
        match self {
            DeviceMeasurement::Time(_) => &TimeFormatter,
            DeviceMeasurement::Instructions(_) => &InstructionFormatter,
        }
    }
}

/// Panics on an error: criterion cannot pass errors on, and a failed device stays failed.
fn expect<T>(result: Result<T, String>) -> T {
    result.unwrap_or_else(|why| panic!("the device failed during a measurement: {why}"))
}

/// Divides the values by the unit that suits the typical value.
fn scale(typical: f64, units: [(f64, &'static str); 4], values: &mut [f64]) -> &'static str {
    let fits = |unit: &&(f64, &str)| typical >= unit.0;
    let (divisor, name) = *units.iter().rev().find(fits).unwrap_or(&units[0]);
    values.iter_mut().for_each(|value| *value /= divisor);
    name
}

/// The amount of work of a throughput. criterion splits `ElementsAndBytes` beforehand.
enum Work {
    Flop(f64),
    Bytes(f64),
}

impl Work {
    fn of(throughput: &Throughput) -> Work {
        match *throughput {
            Throughput::Elements(flop) => Work::Flop(flop as f64),
            Throughput::ElementsAndBytes { elements, .. } => Work::Flop(elements as f64),
            Throughput::Bytes(bytes) | Throughput::BytesDecimal(bytes) => Work::Bytes(bytes as f64),
            Throughput::Bits(bits) => Work::Bytes(bits as f64 / 8.0),
        }
    }
}

/// Formats nanoseconds as times, FLOP/s and B/s.
pub struct TimeFormatter;

impl ValueFormatter for TimeFormatter {
    fn scale_values(&self, typical: f64, values: &mut [f64]) -> &'static str {
        let units = [(1.0, "ns"), (1e3, "us"), (1e6, "ms"), (1e9, "s")];
        scale(typical, units, values)
    }

    fn scale_throughputs(
        &self,
        typical: f64,
        throughput: &Throughput,
        values: &mut [f64],
    ) -> &'static str {
        let (amount, units) = match Work::of(throughput) {
            Work::Flop(amount) => {
                let units = [
                    (1e3, "kFLOP/s"),
                    (1e6, "MFLOP/s"),
                    (1e9, "GFLOP/s"),
                    (1e12, "TFLOP/s"),
                ];
                (amount, units)
            }
            Work::Bytes(amount) => {
                let units = [(1e3, "kB/s"), (1e6, "MB/s"), (1e9, "GB/s"), (1e12, "TB/s")];
                (amount, units)
            }
        };
        let per_second = |ns: f64| amount * 1e9 / ns;
        values.iter_mut().for_each(|ns| *ns = per_second(*ns));
        scale(per_second(typical), units, values)
    }

    fn scale_for_machines(&self, _values: &mut [f64]) -> &'static str {
        "ns"
    }
}

/// Formats instruction counts, and work per instruction.
pub struct InstructionFormatter;

impl ValueFormatter for InstructionFormatter {
    fn scale_values(&self, typical: f64, values: &mut [f64]) -> &'static str {
        let units = [
            (1.0, "instr"),
            (1e3, "k instr"),
            (1e6, "M instr"),
            (1e9, "G instr"),
        ];
        scale(typical, units, values)
    }

    fn scale_throughputs(
        &self,
        _typical: f64,
        throughput: &Throughput,
        values: &mut [f64],
    ) -> &'static str {
        let (amount, unit) = match Work::of(throughput) {
            Work::Flop(amount) => (amount, "FLOP/instr"),
            Work::Bytes(amount) => (amount, "B/instr"),
        };
        values.iter_mut().for_each(|count| *count = amount / *count);
        unit
    }

    fn scale_for_machines(&self, _values: &mut [f64]) -> &'static str {
        "instructions"
    }
}
