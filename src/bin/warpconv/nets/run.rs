//! One network: counted, computed and checked, in separate launches and in fused ones.

use std::fmt;
use std::sync::Arc;

use cudarc::driver::CudaStream;
use warpconv::DType;
use warpconv::check::{LoadedModule, PassTime, Stored, Verdict};
use warpconv::gpu::{DeviceKind, Gpu};
use warpconv::nets::{Entry, Fusion, Network};
use warpconv::plan::{Ceilings, Tuning};

use super::{FULL_BATCH, SEED, form};
use crate::args::NetsArgs;
use crate::exit::Failure;

/// Samples of a pass on a GPU; their median counts.
const SAMPLES: usize = 11;

/// Multiplications of a pass that the emulator is given at full size: what takes it seconds rather than minutes.
const EMULATED_MACS: u64 = 2_000_000_000;

/// The same for fused launches, whose networks it computes in separate ones as well.
const EMULATED_FUSED_MACS: u64 = 500_000_000;

/// Networks that the emulator computes at full size though they are larger than that.
const ALWAYS_FULL: [&str; 1] = ["ResNet-50"];

/// What was found of one network.
pub struct Row {
    pub entry: &'static Entry,
    /// Multiplications for one picture of full size.
    pub macs: u64,
    pub parameters: u64,
    pub batch: usize,
    /// Each layer by itself.
    pub separate: Lowered,
    /// With launches put together where the model says that it pays; `None` if it says so nowhere.
    pub fused: Option<Lowered>,
    /// What one picture showed with all launches put together that a kernel takes at once; `None` if there are none, or nothing
    /// is checked.
    pub fitting: Option<Checked>,
}

/// A network as launches.
pub struct Lowered {
    pub launches: usize,
    /// For the batch, at full size.
    pub predicted_us: f64,
    /// For the batch, at full size, on a GPU.
    pub time: Option<PassTime>,
    /// What one picture showed.
    pub checked: Option<Checked>,
}

/// One picture's way through a network.
pub struct Checked {
    /// Rows and columns of the picture.
    pub image: usize,
    pub launches: usize,
    /// Each launch within its own bound of the f64 reference.
    pub verdict: Verdict,
    /// Of a fused network: the distance of its logits from the unfused one's.
    pub apart: Option<Apart>,
}

impl Checked {
    /// What is wrong, if something is.
    pub fn failure(&self) -> Option<String> {
        let apart = self.apart.filter(|apart| !apart.is_near());
        let apart = apart.map(|apart| format!("logits differ from the unfused ones by {apart}"));
        self.verdict.failure.clone().or(apart)
    }
}

/// How far logits are from others.
#[derive(Clone, Copy, Debug)]
pub struct Apart {
    /// The norm of the difference, as a share of the others'.
    pub norm: f64,
    pub allowed: f64,
}

impl Apart {
    /// Twice what each may be off: in f32 what the stored networks state, else what the small stored networks allow.
    pub fn of(got: &[f64], want: &[f64], dtype: DType) -> Apart {
        let each = match dtype {
            DType::F32 => 1e-5,
            DType::F16 => 0.006,
            DType::Bf16 => 0.055,
        };
        let norm =
            |values: &mut dyn Iterator<Item = f64>| values.map(|v| v * v).sum::<f64>().sqrt();
        let off = norm(&mut got.iter().zip(want).map(|(got, want)| got - want));
        let norm = match got.len() == want.len() {
            true => off / norm(&mut want.iter().copied()),
            false => f64::INFINITY,
        };
        Apart {
            norm,
            allowed: 2.0 * each,
        }
    }

    /// Whether it is within what is allowed; not if it is NaN.
    pub fn is_near(&self) -> bool {
        self.norm <= self.allowed
    }
}

impl fmt::Display for Apart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.1e} (allowed {:.1e})", self.norm, self.allowed)
    }
}

impl Row {
    /// In fused launches where there are such.
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

/// What every network is run with.
pub struct Session<'a> {
    gpu: &'a Gpu,
    tuning: &'a Tuning,
    args: &'a NetsArgs,
    /// The one stream of all work, which can be captured.
    stream: Arc<CudaStream>,
}

impl<'a> Session<'a> {
    pub fn new(gpu: &'a Gpu, tuning: &'a Tuning, args: &'a NetsArgs) -> Result<Self, Failure> {
        // SAFETY: everything that the command does from here on happens in the one stream below.
        unsafe { gpu.context().disable_event_tracking() };
        let stream = gpu.context().new_stream();
        let stream = stream.map_err(Failure::device)?;
        Ok(Session {
            gpu,
            tuning,
            args,
            stream,
        })
    }

    /// Counts, runs and checks one network.
    pub fn run<T: Stored>(&self, entry: &'static Entry) -> Result<Row, Failure> {
        let capability = self.gpu.capability();
        let build = |n, image| {
            let network = entry.build(&form(n, image, T::DTYPE));
            network.map_err(Failure::input)
        };
        let fuse = |network: &Network, fusion| -> Result<Option<Network>, Failure> {
            let fused = network.clone().fused(capability, fusion);
            let fused = fused.map_err(Failure::input)?;
            let fewer = fused.module().launches() < network.module().launches();
            Ok(fewer.then_some(fused))
        };
        let batch = self.args.batch.unwrap_or(FULL_BATCH);
        let full = build(batch, entry.image)?;
        let pays = fuse(&full, Fusion::WhereItPays)?;
        let one = build(1, entry.image)?;
        let macs = one.module().macs();
        let mut separate = self.lowered::<T>(&full)?;
        let fused = pays.map(|network| self.lowered::<T>(&network));
        let mut fitting = None;
        if !self.args.count_only {
            let published = entry.published.is_some();
            let always = published && ALWAYS_FULL.contains(&entry.name);
            let image = self.image(entry, always || macs <= EMULATED_MACS);
            let (checked, logits) = self.check::<T>(&build(1, image)?, image)?;
            separate.checked = Some(checked);
            let smaller = self.image(entry, macs <= EMULATED_FUSED_MACS);
            let network = build(1, smaller)?;
            if let Some(fused) = fuse(&network, Fusion::WhereItFits)? {
                let want = match smaller == image {
                    true => logits,
                    false => self.logits::<T>(&network)?,
                };
                let (mut checked, got) = self.check::<T>(&fused, smaller)?;
                checked.apart = Some(Apart::of(&got, &want, T::DTYPE));
                fitting = Some(checked);
            }
        }
        Ok(Row {
            entry,
            macs,
            parameters: one.parameter_count(),
            batch,
            separate,
            fused: fused.transpose()?,
            fitting,
        })
    }

    /// Rows and columns of the picture to check.
    fn image(&self, entry: &Entry, full: bool) -> usize {
        let emulated = self.gpu.kind() == DeviceKind::Emulator;
        match self.args.size {
            Some(size) => size,
            None if emulated && full => entry.image,
            None => entry.small,
        }
    }

    /// A network counted, and timed if there is a GPU.
    fn lowered<T: Stored>(&self, network: &Network) -> Result<Lowered, Failure> {
        let ceilings = Ceilings::h200(T::DTYPE);
        let measured = self.gpu.kind() != DeviceKind::Emulator && !self.args.count_only;
        let time = measured.then(|| {
            let module = network.module().clone().sharing_buffers();
            let mut loaded = self.load::<T>(network, &module)?;
            loaded.time(SAMPLES).map_err(Failure::device)
        });
        Ok(Lowered {
            launches: network.module().launches(),
            predicted_us: network.module().roofline(&ceilings).floor_us,
            time: time.transpose()?,
            checked: None,
        })
    }

    fn load<T: Stored>(
        &self,
        network: &Network,
        module: &warpconv::ops::Module,
    ) -> Result<LoadedModule<T>, Failure> {
        let (x, weights) = (network.random_input(1), network.random(SEED));
        LoadedModule::with(self.gpu, &self.stream, module, self.tuning, &x, weights)
            .map_err(Failure::device)
    }

    /// One picture through the network: each launch within its own bound of the f64 reference. And its logits.
    fn check<T: Stored>(
        &self,
        network: &Network,
        image: usize,
    ) -> Result<(Checked, Vec<f64>), Failure> {
        let mut loaded = self.load::<T>(network, network.module())?;
        loaded.launch().map_err(Failure::device)?;
        let checked = Checked {
            image,
            launches: network.module().launches(),
            verdict: loaded.check(u64::MAX).map_err(Failure::device)?,
            apart: None,
        };
        Ok((checked, outputs(&loaded)?))
    }

    fn logits<T: Stored>(&self, network: &Network) -> Result<Vec<f64>, Failure> {
        let module = network.module().clone().sharing_buffers();
        let mut loaded = self.load::<T>(network, &module)?;
        loaded.launch().map_err(Failure::device)?;
        outputs(&loaded)
    }
}

fn outputs<T: Stored>(loaded: &LoadedModule<T>) -> Result<Vec<f64>, Failure> {
    let outputs = loaded.outputs().map_err(Failure::device)?;
    Ok(outputs.into_iter().flat_map(|(_, values)| values).collect())
}
