//! The device time of a graph's pass.

use cudarc::driver::DriverError;
use cudarc::driver::sys::CUevent_flags;

use super::{GraphOnDevice, Stored};
use warpconv::device::driver_error;
use warpconv::error::Error;

/// Number of warm-up passes, which are not measured.
const WARM_UP: usize = 3;

/// Minimum length of a sample in microseconds: events have a resolution of half a microsecond.
const SAMPLE_US: f64 = 200.0;

/// Maximum number of passes per sample.
const MAX_PASSES: f64 = 100.0;

/// Time of a pass on the device.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PassTime {
    /// Microseconds, by the device's events: the median of the samples.
    pub us: f64,
    /// True if a pass was one CUDA graph. Otherwise launches were queued one by one; where they are
    /// shorter than the host's queueing, the result is host time.
    pub captured: bool,
}

impl<T: Stored> GraphOnDevice<T> {
    /// Captures a pass as a CUDA graph and times its replays, after a few warm-up passes. Each of
    /// the `samples` consists of enough replays for the resolution of events. A stream that cannot
    /// be captured, see [`GraphOnDevice::capture`], gets the launches one by one.
    ///
    /// # Errors
    /// As [`PreparedGraph::launch`](warpconv::graph::PreparedGraph::launch).
    pub fn time(&mut self, samples: usize) -> Result<PassTime, Error> {
        let graph = self.capture().ok();
        let stream = self.stream().clone();
        let failed = |error: DriverError| driver_error("timing a module", error);
        let event = || {
            let event = stream
                .context()
                .new_event(Some(CUevent_flags::CU_EVENT_DEFAULT));
            event.map_err(failed)
        };
        let (start, end) = (event()?, event()?);
        let mut sample = |passes: usize| -> Result<f64, Error> {
            start.record(&stream).map_err(failed)?;
            for _ in 0..passes {
                match &graph {
                    Some(graph) => graph.launch().map_err(failed)?,
                    None => self.launch()?,
                }
            }
            end.record(&stream).map_err(failed)?;
            let ms = start.elapsed_ms(&end).map_err(failed)?;
            Ok(f64::from(ms) * 1e3 / passes as f64)
        };
        for _ in 1..WARM_UP {
            sample(1)?;
        }
        let first = sample(1)?;
        // A clock without progress would give the maximum.
        let passes = match first > 0.0 {
            true => (SAMPLE_US / first).clamp(1.0, MAX_PASSES) as usize,
            false => 1,
        };
        let times = (0..samples.max(1)).map(|_| sample(passes));
        let mut times = times.collect::<Result<Vec<f64>, Error>>()?;
        times.sort_by(f64::total_cmp);
        Ok(PassTime {
            us: (times[times.len() / 2] + times[(times.len() - 1) / 2]) / 2.0,
            captured: graph.is_some(),
        })
    }
}
