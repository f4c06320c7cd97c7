//! Device time of a launch: a chain of equal launches, captured into a graph so that the host's
//! share is out of it, between two events of the device.
//!
//! Each launch of a chain works on another copy of its operands, round and round, until the copies
//! add up to twice the L2 cache: what one launch finds there is what a network would leave it,
//! nothing of its own. So times can be held against a roofline that counts each operand once from
//! device memory. `--warm` takes one copy instead.

use std::sync::Arc;

use cudarc::driver::CudaGraph;
use cudarc::driver::CudaStream;
use cudarc::driver::sys::{CUgraphInstantiate_flags, CUstreamCaptureMode};

use super::measurement::DeviceTime;

/// Queues launch number `i` of a chain, on copy `i` of its operands (the callee takes it modulo
/// their number).
pub type Launch<'a> = dyn FnMut(usize) -> Result<(), String> + 'a;

/// Length of a sample.
#[derive(Clone, Copy, Debug)]
pub struct Length {
    /// Copies of the operands: at least so many launches.
    pub copies: usize,
    /// Microseconds that a sample should last.
    pub target_us: f64,
}

/// Launches of a chain at most.
const MAX: usize = 512;

/// A launch longer than this is timed by itself: the host is far ahead of it.
const LONG_US: f64 = 2_000.0;

/// A chain of equal launches.
pub struct Chain<'a> {
    stream: Arc<CudaStream>,
    launch: Box<Launch<'a>>,
    graph: Option<CudaGraph>,
    launches: usize,
}

impl<'a> Chain<'a> {
    /// Warms up, finds how many launches make a sample, and captures them where the stream and the
    /// work allow it.
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
        // Of the host's time where that is the longer; a chain is then shorter than it could be,
        // but never too short.
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

    /// Launches of a sample.
    pub fn launches(&self) -> usize {
        self.launches
    }

    /// Returns whether the host is out of the measured time.
    pub fn is_captured(&self) -> bool {
        self.graph.is_some()
    }

    /// Microseconds a launch, once.
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

    /// The launches as a graph; `None` where something in them cannot be captured, and they are
    /// then queued one by one.
    fn capture(&mut self) -> Option<CudaGraph> {
        self.stream
            .begin_capture(CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_RELAXED)
            .ok()?;
        let queued = (0..self.launches).try_for_each(|i| (self.launch)(i));
        let graph = self.stream.end_capture(CUgraphInstantiate_flags(0));
        // A failed call in a capture is no failure of the work: without the capture it is tried
        // again.
        let graph = graph.ok().flatten().filter(|_| queued.is_ok())?;
        graph.upload().ok()?;
        Some(graph)
    }
}

/// Samples of one thing.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Times {
    /// The median, microseconds.
    pub median: f64,
    /// The distance between the quartiles, as a share of the median.
    pub spread: f64,
}

impl Times {
    /// Of some samples.
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

/// Copies of operands of so many bytes that are together twice the L2 cache, within `room` bytes.
pub fn copies(bytes: u64, l2: u64, room: u64) -> usize {
    let expected = (2 * l2).div_ceil(bytes.max(1)).max(1);
    let most = (room / bytes.max(1)).max(1);
    expected.min(most).min(MAX as u64) as usize
}

/// An error's words.
pub fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}
