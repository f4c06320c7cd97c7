//! The card's ceilings: the rates of a device-to-device copy and of a fill, measured, and the rates
//! of arithmetic from the table that the roofline uses.

use std::process::ExitCode;
use std::sync::Arc;

use cudarc::driver::{CudaSlice, CudaStream, DevicePtr, result};
use warpconv::device::{DeviceKind, Gpu};

use super::measurement::DeviceTime;
use super::peak_rates::Card;
use super::record::Ceiling;
use super::session::{append, json_file, open_device};
use super::timed_graph::{Times, text};

/// Bytes of a copy, if the card has the memory for it: far beyond any L2 cache.
const COPY_BYTES: usize = 4 << 30;

/// Bytes of the copy that is checked on the emulator.
const EMULATED_BYTES: usize = 1 << 20;

/// The byte that buffers are filled with.
const FILL: u8 = 0x5a;

/// Bytes at the end of a copy that are compared.
const COMPARED: usize = 4096;

/// Number of samples, and of launches before them.
const SAMPLES: usize = 10;
const WARM_UP: usize = 3;

/// Runs the program: prints the ceilings, and appends them to the file that `WARPCONV_BENCH_JSON`
/// names. Without a GPU it prints one sentence and succeeds. Arguments of criterion, which
/// `cargo bench` passes to every benchmark, are ignored.
pub fn run() -> ExitCode {
    // criterion's programs list their benchmarks; this one has none.
    if std::env::args().any(|arg| arg == "--list") {
        return ExitCode::SUCCESS;
    }
    let (gpu, stream) = match open_device() {
        Ok(opened) => opened,
        Err(why) => {
            println!("ceilings: nothing is measured: {why}.");
            return ExitCode::SUCCESS;
        }
    };
    let done = ceilings(&gpu, &stream).and_then(|ceilings| {
        let mut file = json_file()?;
        for ceiling in ceilings {
            println!("{}", line(&ceiling));
            append(&mut file, &ceiling.to_json())?;
        }
        Ok(())
    });
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("ceilings: {why}");
            ExitCode::FAILURE
        }
    }
}

/// Text of a ceiling: `copy: 4.012 TB/s (measured: ...)`.
pub fn line(ceiling: &Ceiling) -> String {
    let Ceiling {
        name,
        value,
        unit,
        note,
    } = ceiling;
    format!("{name}: {:.3} T{unit} ({note})", value / 1e12)
}

/// The ceilings of a card; none on the emulator, where only the copy's result is checked.
fn ceilings(gpu: &Gpu, stream: &Arc<CudaStream>) -> Result<Vec<Ceiling>, String> {
    if gpu.kind() == DeviceKind::Emulator {
        let pair = Pair::new(stream, EMULATED_BYTES)?;
        pair.copy()?;
        pair.check()?;
        println!("ceilings: a copy of {EMULATED_BYTES} bytes is right; the emulator is not timed.");
        return Ok(Vec::new());
    }
    let (free, _total) = result::mem_get_info().map_err(text)?;
    // Half of the free memory at most: the two buffers are not all that the driver needs.
    let bytes = COPY_BYTES.min(free / 4).next_multiple_of(COMPARED);
    let pair = Pair::new(stream, bytes)?;
    let copy = timed(stream, || pair.copy())?;
    pair.check()?;
    let fill = timed(stream, || pair.fill())?;
    let gib = bytes as f64 / f64::from(1 << 30);
    let measured = |name: &str, times: &Times, moved: usize, what: &str| Ceiling {
        name: name.to_owned(),
        value: moved as f64 / times.median * 1e6,
        unit: String::from("B/s"),
        note: format!(
            "measured: median of {SAMPLES} {what} of {gib:.1} GiB, quartiles {:.1}% apart",
            times.spread * 100.0
        ),
    };
    let mut ceilings = vec![
        measured("copy", &copy, 2 * bytes, "copies, read and written bytes,"),
        measured("fill", &fill, bytes, "fills"),
    ];
    ceilings.extend(tabled(&Card::of(gpu)));
    Ok(ceilings)
}

/// The rates of the table of peak rates.
fn tabled(card: &Card) -> [Ceiling; 4] {
    let tabled = |name: &str, value, unit: &str| Ceiling {
        name: name.to_owned(),
        value,
        unit: unit.to_owned(),
        note: format!("table: {}", card.source),
    };
    [
        tabled("table/memory", card.bytes, "B/s"),
        tabled("table/f32", card.fp32, "FLOP/s"),
        tabled("table/tf32", card.tf32, "FLOP/s"),
        tabled("table/f16 and bf16", card.half, "FLOP/s"),
    ]
}

/// Device time of some work, in microseconds.
fn timed(
    stream: &Arc<CudaStream>,
    mut work: impl FnMut() -> Result<(), String>,
) -> Result<Times, String> {
    let clock = DeviceTime::new(stream);
    let mut samples = Vec::with_capacity(SAMPLES);
    for sample in 0..WARM_UP + SAMPLES {
        let start = clock.event()?;
        work()?;
        let us = clock.since(&start)? / 1e3;
        if sample >= WARM_UP {
            samples.push(us);
        }
    }
    let times = Times::of(samples);
    if !(times.median > 0.0 && times.median.is_finite()) {
        return Err(format!(
            "a copy took {} us by the device's events",
            times.median
        ));
    }
    Ok(times)
}

/// Two buffers of equal size.
struct Pair {
    stream: Arc<CudaStream>,
    from: CudaSlice<u8>,
    to: CudaSlice<u8>,
}

impl Pair {
    /// Allocates the buffers; the first holds the fill byte, the second zeros.
    fn new(stream: &Arc<CudaStream>, bytes: usize) -> Result<Pair, String> {
        let failed = |error| format!("two buffers of {bytes} bytes: {error}");
        let pair = Pair {
            from: stream.alloc_zeros(bytes).map_err(failed)?,
            to: stream.alloc_zeros(bytes).map_err(failed)?,
            stream: stream.clone(),
        };
        pair.fill()?;
        Ok(pair)
    }

    /// Queues a fill of the first buffer.
    fn fill(&self) -> Result<(), String> {
        let (address, queue) = (
            self.from.device_ptr(&self.stream).0,
            self.stream.cu_stream(),
        );
        // SAFETY: the range is the first buffer, which `self` keeps; all uses of it are in this
        // stream.
        unsafe { result::memset_d8_async(address, FILL, self.from.len(), queue) }.map_err(text)
    }

    /// Queues a copy of the first buffer to the second.
    fn copy(&self) -> Result<(), String> {
        let from = self.from.device_ptr(&self.stream).0;
        let to = self.to.device_ptr(&self.stream).0;
        // SAFETY: both ranges are buffers of this length, which `self` keeps; all uses of them are
        // in this stream.
        unsafe { result::memcpy_dtod_async(to, from, self.to.len(), self.stream.cu_stream()) }
            .map_err(text)
    }

    /// Compares the end of the second buffer with the fill byte.
    fn check(&self) -> Result<(), String> {
        let start = self.to.len().saturating_sub(COMPARED);
        let end = self.stream.clone_dtoh(&self.to.slice(start..));
        let end = end.map_err(text)?;
        self.stream.synchronize().map_err(text)?;
        match end.iter().position(|&byte| byte != FILL) {
            None => Ok(()),
            Some(index) => Err(format!(
                "byte {} of a copy of {} bytes is {:#x}, {FILL:#x} was copied",
                start + index,
                self.to.len(),
                end[index]
            )),
        }
    }
}
