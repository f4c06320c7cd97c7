//! Device time of a launch: a chain of equal launches between two events, captured into a CUDA
//! graph to exclude the host's time.
//!
//! Each launch of a chain uses another copy of its operands, in rotation; the copies add up to
//! twice the L2 cache. So a launch does not find its own operands in the L2 cache. Times are then
//! comparable with a roofline that counts each operand once from device memory. `--warm` uses one
//! copy instead.

use std::sync::Arc;

use cudarc::driver::CudaGraph;
use cudarc::driver::CudaStream;
use cudarc::driver::sys::{CUgraphInstantiate_flags, CUstreamCaptureMode};

use super::measurement::DeviceTime;

/// Queues launch number `i` of a chain, on copy `i` of its operands (modulo the number of copies).
pub type Launch<'a> = dyn FnMut(usize) -> Result<(), String> + 'a;

/// Length of a sample.
#[derive(Clone, Copy, Debug)]
pub struct Length {
    /// Copies of the operands: the least number of launches.
    pub copies: usize,
    /// Target duration of a sample, microseconds.
    pub target_us: f64,
}

/// Maximum number of launches in a chain.
const MAX: usize = 512;

/// Launches longer than this, in microseconds, are timed singly: the host is far ahead of the
/// device.
const LONG_US: f64 = 2_000.0;

/// A chain of equal launches.
pub struct Chain<'a> {
    stream: Arc<CudaStream>,
    launch: Box<Launch<'a>>,
    graph: Option<CudaGraph>,
    launches: usize,
}

impl<'a> Chain<'a> {
    /// Warms up, determines the number of launches per sample, and captures them where the stream
    /// and the work permit it.
    pub fn new(
        stream: &Arc<CudaStream>,
        length: Length,
        mut launch: Box<Launch<'a>>,
    ) -> Result<Chain<'a>, String> {
        for copy in 0..2 {
            launch(copy)?;
        }
        stream.synchronize().map_err(text)?;
        let mut chain = Chain {
            stream: stream.clone(),
            launch,
            graph: None,
            launches: 1,
        };
        // The estimate is host time where that is longer; the chain is then shorter than it could
        // be, but never too short.
        let estimate = chain.sample()?.max(0.5);
        if estimate < LONG_US {
            let expected = (length.target_us / estimate).ceil() as usize;
            chain.launches = expected.clamp(length.copies, MAX.max(length.copies));
            chain.graph = chain.capture();
            chain.run()?;
            stream.synchronize().map_err(text)?;
        }
        Ok(chain)
    }

    /// Number of launches in a sample.
    pub fn launches(&self) -> usize {
        self.launches
    }

    /// Returns whether the measured time excludes the host.
    pub fn is_captured(&self) -> bool {
        self.graph.is_some()
    }

    /// Takes one sample: microseconds per launch.
    pub fn sample(&mut self) -> Result<f64, String> {
        let clock = DeviceTime::new(&self.stream);
        let start = clock.event()?;
        self.run()?;
        Ok(clock.since(&start)? / 1e3 / self.launches as f64)
    }

    /// The median of a few samples.
    pub fn median(&mut self, samples: usize) -> Result<f64, String> {
        let times: Result<Vec<f64>, String> = (0..samples.max(1)).map(|_| self.sample()).collect();
        Ok(Times::of(times?).median)
    }

    fn run(&mut self) -> Result<(), String> {
        match &self.graph {
            Some(graph) => graph.launch().map_err(text),
            None => (0..self.launches).try_for_each(|i| (self.launch)(i)),
        }
    }

    /// Captures the launches as a CUDA graph; `None` where part of them cannot be captured. They
    /// are then queued one by one.
    fn capture(&mut self) -> Option<CudaGraph> {
        self.stream
            .begin_capture(CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_RELAXED)
            .ok()?;
        let queued = (0..self.launches).try_for_each(|i| (self.launch)(i));
        let graph = self.stream.end_capture(CUgraphInstantiate_flags(0));
        // A failed call during capture is not a failure of the work, which is tried again without
        // capture.
        let graph = graph.ok().flatten().filter(|_| queued.is_ok())?;
        graph.upload().ok()?;
        Some(graph)
    }
}

/// Statistics of several samples.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Times {
    /// The median, microseconds.
    pub median: f64,
    /// The distance between the quartiles, as a share of the median.
    pub spread: f64,
}

impl Times {
    /// Statistics of `samples`.
    pub fn of(mut samples: Vec<f64>) -> Times {
        samples.sort_by(f64::total_cmp);
        let at = |share: f64| -> f64 {
            let index = share * samples.len().saturating_sub(1) as f64;
            let (low, high) = (index.floor() as usize, index.ceil() as usize);
            match (samples.get(low), samples.get(high)) {
                (Some(a), Some(b)) => a + (b - a) * index.fract(),
                _ => f64::NAN,
            }
        };
        let median = at(0.5);
        Times {
            median,
            spread: (at(0.75) - at(0.25)) / median,
        }
    }
}

/// Number of copies of operands of `bytes` bytes that together are twice the L2 cache, within
/// `room` bytes.
pub fn copies(bytes: u64, l2: u64, room: u64) -> usize {
    let expected = (2 * l2).div_ceil(bytes.max(1)).max(1);
    let most = (room / bytes.max(1)).max(1);
    expected.min(most).min(MAX as u64) as usize
}

/// Text of an error.
pub fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}
