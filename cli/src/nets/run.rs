//! One network: counted, computed and checked, in separate launches and in fused ones.

use std::sync::Arc;

use cudarc::driver::CudaStream;
use warpconv::device::{DeviceKind, Gpu};
use warpconv::graph::{FuseOptions, FusePolicy};
use warpconv::plan::{PeakRates, Tuning};
use warpconv_nets::{Entry, Network};
use warpconv_testing::{CheckResult, GraphOnDevice, NormError, PassTime, Stored};

use super::{FULL_BATCH, SEED, config};
use crate::args::NetsArgs;
use crate::device;
use crate::exit::Failure;

/// Samples of a pass on a GPU; their median counts.
const SAMPLES: usize = 11;

/// Limit of a pass's multiplications on the emulator at full size: seconds rather than minutes.
pub const EMULATED_MACS: u64 = 2_000_000_000;

/// The same limit for fused launches, whose networks are computed in separate launches as well.
pub const EMULATED_FUSED_MACS: u64 = 500_000_000;

/// Published networks that the emulator computes at full size although they exceed the limit.
pub const ALWAYS_FULL: [&str; 1] = ["ResNet-50"];

/// Result of one network.
pub struct Row {
    pub entry: &'static Entry,
    /// Multiplications for one image of full size.
    pub macs: u64,
    pub parameters: u64,
    pub batch: usize,
    /// The network with one launch per layer.
    pub separate: Lowered,
    /// Check of one image in separate launches; `None` if nothing is checked.
    pub checked: Option<Checked>,
    /// The network fused where the model ranks the fused launch first; `None` if it does so
    /// nowhere.
    pub fused: Option<Lowered>,
    /// Check of one image with every fusion that a kernel accepts; `None` if there are none, or
    /// nothing is checked.
    pub fitting: Option<Checked>,
}

/// A network lowered to launches.
pub struct Lowered {
    pub launches: usize,
    /// Predicted time of the batch at full size.
    pub predicted_us: f64,
    /// Measured time of the batch at full size, on a GPU.
    pub time: Option<PassTime>,
    /// For a fused network that was timed: distance of the batch's logits from the unfused
    /// network's.
    pub norm_error: Option<NormError>,
}

impl Lowered {
    /// Description of the timed result's failure, if any.
    pub fn failure(&self) -> Option<String> {
        far(self.norm_error)
    }
}

/// Check of one image in a network.
pub struct Checked {
    /// Rows and columns of the image.
    pub image: usize,
    pub launches: usize,
    /// Check of each launch within its own bound of the f64 reference.
    pub check_result: CheckResult,
    /// For a fused network: distance of its logits from the unfused network's.
    pub norm_error: Option<NormError>,
}

impl Checked {
    /// Description of the failure, if any.
    pub fn failure(&self) -> Option<String> {
        self.check_result
            .failure
            .clone()
            .or_else(|| far(self.norm_error))
    }
}

/// Text for logits whose distance exceeds the bound.
fn far(norm_error: Option<NormError>) -> Option<String> {
    let norm_error = norm_error.filter(|norm_error| !norm_error.is_near())?;
    Some(format!(
        "logits differ from the unfused ones by {norm_error}"
    ))
}

impl Row {
    /// The network in fused launches if there are any, else in separate ones.
    pub fn best(&self) -> &Lowered {
        self.fused.as_ref().unwrap_or(&self.separate)
    }

    pub fn images_per_second(&self) -> f64 {
        let best = self.best();
        self.batch as f64 / best.time.map_or(best.predicted_us, |time| time.us) * 1e6
    }

    pub fn operations(&self) -> u64 {
        2 * self.macs
    }
}

/// Settings of every network's run.
pub struct Session<'a> {
    gpu: &'a Gpu,
    tuning: &'a Tuning,
    args: &'a NetsArgs,
    /// The stream of all work, which can be captured.
    stream: Arc<CudaStream>,
}

impl<'a> Session<'a> {
    pub fn new(gpu: &'a Gpu, tuning: &'a Tuning, args: &'a NetsArgs) -> Result<Self, Failure> {
        Ok(Session {
            gpu,
            tuning,
            args,
            stream: device::stream(gpu)?,
        })
    }

    /// Counts, runs and checks one network.
    pub fn run<T: Stored>(&self, entry: &'static Entry) -> Result<Row, Failure> {
        let batch = self.args.batch.unwrap_or(FULL_BATCH);
        let full = self.build::<T>(entry, batch, entry.image)?;
        let one = self.build::<T>(entry, 1, entry.image)?;
        let macs = one.graph().macs();
        let (separate, want) = self.lowered::<T>(&full)?;
        let mut fused = None;
        if let Some(network) = self.fuse(&full, FusePolicy::IfFaster)? {
            let (mut lowered, got) = self.lowered::<T>(&network)?;
            let logits = got.zip(want);
            lowered.norm_error = logits.map(|(got, want)| NormError::of(&got, &want, T::DTYPE));
            fused = Some(lowered);
        }
        let (mut checked, mut fitting) = (None, None);
        if !self.args.count_only {
            let (found, fits) = self.checks::<T>(entry, macs)?;
            (checked, fitting) = (Some(found), fits);
        }
        Ok(Row {
            entry,
            macs,
            parameters: one.parameter_count(),
            batch,
            separate,
            checked,
            fused,
            fitting,
        })
    }

    fn build<T: Stored>(&self, entry: &Entry, n: usize, image: usize) -> Result<Network, Failure> {
        let network = entry.build(&config(n, image, T::DTYPE));
        network.map_err(|error| {
            Failure::input(format!("{} of {image}x{image} pixels: {error}", entry.name))
        })
    }

    /// The network in fewer launches, if that is possible.
    fn fuse(&self, network: &Network, policy: FusePolicy) -> Result<Option<Network>, Failure> {
        let options = FuseOptions {
            policy,
            ..FuseOptions::new(self.gpu.capability())
        };
        let fused = network.clone().fused(&options);
        let (fused, _) = fused.map_err(Failure::input)?;
        let fewer = fused.graph().launches() < network.graph().launches();
        Ok(fewer.then_some(fused))
    }

    /// Checks one image in separate launches, and with every fusion that a kernel accepts.
    fn checks<T: Stored>(
        &self,
        entry: &Entry,
        macs: u64,
    ) -> Result<(Checked, Option<Checked>), Failure> {
        let published = entry.published.is_some();
        let always = published && ALWAYS_FULL.contains(&entry.name);
        let image = self.image(entry, always || macs <= EMULATED_MACS);
        let (separate, logits) = self.check::<T>(&self.build::<T>(entry, 1, image)?, image)?;
        let smaller = self.image(entry, macs <= EMULATED_FUSED_MACS);
        let network = self.build::<T>(entry, 1, smaller)?;
        let Some(fused) = self.fuse(&network, FusePolicy::Always)? else {
            return Ok((separate, None));
        };
        let want = match smaller == image {
            true => logits,
            false => self.logits::<T>(&network)?,
        };
        let (mut checked, got) = self.check::<T>(&fused, smaller)?;
        checked.norm_error = Some(NormError::of(&got, &want, T::DTYPE));
        Ok((separate, Some(checked)))
    }

    /// Rows and columns of the image to check.
    fn image(&self, entry: &Entry, full: bool) -> usize {
        let emulated = self.gpu.kind() == DeviceKind::Emulator;
        match self.args.size {
            Some(size) => size,
            None if emulated && full => entry.image,
            None => entry.small,
        }
    }

    /// Lowers a network and, on a GPU, times it; returns the logits of the timed pass too.
    fn lowered<T: Stored>(
        &self,
        network: &Network,
    ) -> Result<(Lowered, Option<Vec<f64>>), Failure> {
        let peak_rates = PeakRates::h200(T::DTYPE);
        let (mut time, mut logits) = (None, None);
        if self.gpu.kind() != DeviceKind::Emulator && !self.args.count_only {
            let module = network.graph().clone().sharing_buffers();
            let mut loaded = self.load::<T>(network, &module)?;
            time = Some(loaded.time(SAMPLES).map_err(Failure::device)?);
            logits = Some(outputs(&loaded)?);
        }
        let lowered = Lowered {
            launches: network.graph().launches(),
            predicted_us: network.graph().roofline(&peak_rates).floor_us,
            time,
            norm_error: None,
        };
        Ok((lowered, logits))
    }

    fn load<T: Stored>(
        &self,
        network: &Network,
        module: &warpconv::graph::Graph,
    ) -> Result<GraphOnDevice<T>, Failure> {
        let (x, weights) = (network.random_input(1), network.random(SEED));
        GraphOnDevice::with(self.gpu, &self.stream, module, self.tuning, &x, weights)
            .map_err(Failure::device)
    }

    /// Checks one image: each launch within its own bound of the f64 reference. Returns the logits
    /// too.
    fn check<T: Stored>(
        &self,
        network: &Network,
        image: usize,
    ) -> Result<(Checked, Vec<f64>), Failure> {
        let mut loaded = self.load::<T>(network, network.graph())?;
        loaded.launch().map_err(Failure::device)?;
        let checked = Checked {
            image,
            launches: network.graph().launches(),
            check_result: loaded.check(u64::MAX).map_err(Failure::device)?,
            norm_error: None,
        };
        Ok((checked, outputs(&loaded)?))
    }

    fn logits<T: Stored>(&self, network: &Network) -> Result<Vec<f64>, Failure> {
        let module = network.graph().clone().sharing_buffers();
        let mut loaded = self.load::<T>(network, &module)?;
        loaded.launch().map_err(Failure::device)?;
        outputs(&loaded)
    }
}

fn outputs<T: Stored>(loaded: &GraphOnDevice<T>) -> Result<Vec<f64>, Failure> {
    let outputs = loaded.outputs().map_err(Failure::device)?;
    Ok(outputs.into_iter().flat_map(|(_, values)| values).collect())
}
