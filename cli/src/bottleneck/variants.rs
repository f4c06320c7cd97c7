//! The variants that `bottleneck` compares, and their arithmetic.

use warpconv::graph::{FuseOptions, FusionDecision, Graph, Refused, Step};
use warpconv::ops::{Bottleneck, Inception};
use warpconv::plan::{Capability, Operation, PeakRates, Roofline};
use warpconv::{DType, Error, Layout};

/// The batch of the stated roofline.
pub const FULL_BATCH: usize = 128;

/// The size and the storage of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    /// Number of images.
    pub n: usize,
    /// Rows and columns.
    pub hw: usize,
    /// Storage type of all tensors.
    pub dtype: DType,
    /// The layout of activations.
    pub layout: Layout,
}

/// The layout of activations that the fastest kernels of a type read.
pub fn natural(dtype: DType) -> Layout {
    match dtype {
        DType::F32 => Layout::Nchw,
        DType::F16 | DType::Bf16 => Layout::Nhwc,
    }
}

/// One variant of a module: its launches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Variant {
    /// Name of the module.
    pub module: &'static str,
    /// Name of the variant.
    pub name: &'static str,
    /// Description of the variant.
    pub describe: &'static str,
    /// Rows and columns of the stated roofline.
    pub full_size: usize,
}

/// Every variant, the naive one of each module first.
pub const VARIANTS: [Variant; 6] = [
    Variant {
        module: "bottleneck252",
        name: "naive",
        describe: "252 -> 252 by 3x3",
        full_size: 56,
    },
    Variant {
        module: "bottleneck252",
        name: "separate",
        describe: "252 -> 63 -> 63 -> 252 by 1x1, 3x3, 1x1",
        full_size: 56,
    },
    Variant {
        module: "bottleneck252",
        name: "fused",
        describe: "the same in one launch",
        full_size: 56,
    },
    Variant {
        module: "inception3a",
        name: "naive",
        describe: "1x1, 3x3 and 5x5 on all 192 channels, and a pool",
        full_size: 28,
    },
    Variant {
        module: "inception3a",
        name: "separate",
        describe: "1x1 reductions before the 3x3 and the 5x5 and after the pool",
        full_size: 28,
    },
    Variant {
        module: "inception3a",
        name: "fused",
        describe: "the same in two launches: layers on the input, then the 3x3 and the 5x5",
        full_size: 28,
    },
];

/// The side of the tiles for which the roofline of the fused bottleneck counts the halo: for 14 x
/// 14 outputs each tile computes 16 x 16 pixels of the first 1x1.
const ROOF_TILE: usize = 14;

/// Rows of the first 1x1 that all tiles compute for an image of `rows`: two more at each border
/// between tiles.
fn with_halo(rows: usize) -> u64 {
    (rows + 2 * (rows.div_ceil(ROOF_TILE) - 1)) as u64
}

/// Reason why no kernel of a device computes a fused variant, if none does.
pub fn refused(variant: &Variant, graph: &Graph, capability: &Capability) -> Option<Refused> {
    if variant.name != "fused" {
        return None;
    }
    graph.estimate(&FuseOptions::new(capability)).err()
}

/// Inception 3a at a size.
fn inception(size: Size) -> Inception {
    Inception {
        dtype: size.dtype,
        layout: size.layout,
        ..Inception::inception_3a(size.n, size.hw, size.hw)
    }
}

impl Variant {
    /// Forms of the fused inception module on a device, with their launches and bytes, and the form
    /// that the planner ranks first.
    ///
    /// # Errors
    /// If the size is too large for a launch.
    pub fn choice(
        &self,
        size: Size,
        capability: &Capability,
    ) -> Result<Option<FusionDecision>, Error> {
        match (self.module, self.name) {
            ("inception3a", "fused") => {
                let (_, decision) = inception(size).choose(&FuseOptions::new(capability))?;
                Ok(Some(decision))
            }
            _ => Ok(None),
        }
    }

    /// Launches of the variant at a size.
    ///
    /// # Errors
    /// If the size is too large for a launch.
    pub fn at(&self, size: Size) -> Result<Graph, Error> {
        let Size {
            n,
            hw,
            dtype,
            layout,
        } = size;
        let bottleneck = Bottleneck {
            dtype,
            layout,
            ..Bottleneck::main_job(n, hw, hw)
        };
        let inception = inception(size);
        match (self.module, self.name) {
            ("bottleneck252", "naive") => bottleneck.naive(),
            ("bottleneck252", "fused") => bottleneck.fused(),
            ("bottleneck252", _) => bottleneck.separate(),
            (_, "naive") => inception.naive(),
            (_, "fused") => inception.fused(),
            _ => inception.separate(),
        }
    }

    /// Launches of the variant at the roofline's size.
    fn full(&self, n: usize, dtype: DType) -> Result<Graph, Error> {
        self.at(Size {
            n,
            hw: self.full_size,
            dtype,
            layout: Layout::Nchw,
        })
    }

    /// Multiplications per pixel.
    ///
    /// # Errors
    /// Never for the variants of this module.
    pub fn macs_per_pixel(&self) -> Result<u64, Error> {
        Ok(self.full(1, DType::F32)?.macs() / (self.full_size * self.full_size) as u64)
    }

    /// The roofline of an H200 at the full size in microseconds, a prediction: with tensor cores in
    /// f16 and bf16. That of a fused bottleneck counts the halo, which tiles of 14x14 recompute.
    ///
    /// # Errors
    /// Never for the variants of this module.
    pub fn predicted_us(&self, dtype: DType) -> Result<f64, Error> {
        let (module, peak_rates) = (self.full(FULL_BATCH, dtype)?, PeakRates::h200(dtype));
        let floors = module.nodes().iter().map(|node| match &node.step {
            Step::Bottleneck(problem) => {
                let reduce = problem.convolutions()[0].macs();
                let computed = with_halo(problem.input().h()) * with_halo(problem.input().w());
                let pixels = (problem.input().h() * problem.input().w()) as u64;
                let again = reduce / pixels * (computed - pixels);
                peak_rates.bound(problem.macs() + again, problem.min_bytes())
            }
            step => peak_rates.bound(step.macs(), step.min_bytes()),
        });
        Ok(floors.sum::<Roofline>().floor_us)
    }

    /// Cost model's estimate of the plans for an H200 at the full size, in microseconds, gaps
    /// between launches included; `None` where a step has no kernel there.
    ///
    /// # Errors
    /// Never for the variants of this module.
    pub fn model_us(&self, dtype: DType) -> Result<Option<f64>, Error> {
        let (device, layout) = (Capability::h200(), natural(dtype));
        let module = self.at(Size {
            n: FULL_BATCH,
            hw: self.full_size,
            dtype,
            layout,
        })?;
        Ok(module
            .estimate(&FuseOptions::new(&device))
            .ok()
            .map(|expected| expected.us))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn variant(module: &str, name: &str) -> Variant {
        VARIANTS
            .into_iter()
            .find(|v| v.module == module && v.name == name)
            .expect("a variant of the table")
    }

    #[test]
    fn multiplications_are_the_published_ones() {
        let macs = |module, name| {
            variant(module, name)
                .macs_per_pixel()
                .expect("a valid module")
        };
        let (naive, separate) = (
            macs("bottleneck252", "naive"),
            macs("bottleneck252", "separate"),
        );
        assert_eq!((naive, separate), (571_536, 67_473));
        assert_eq!(format!("{:.2}", naive as f64 / separate as f64), "8.47");
        assert_eq!(macs("inception3a", "naive"), 192 * (64 + 128 * 9 + 32 * 25));
        assert_eq!(
            2 * macs("inception3a", "separate") * 128 * 28 * 28,
            32_780_582_912
        );
    }

    /// The table of fused and unfused modules at a batch of 128: bytes (without the biases, under 2
    /// KB) and roofline times in microseconds.
    #[test]
    fn bytes_and_times_are_those_of_the_roofline_table() {
        for (module, name, dtype, bytes, us) in [
            (
                "bottleneck252",
                "naive",
                DType::Bf16,
                405_762_336u64,
                580.81,
            ),
            ("bottleneck252", "naive", DType::F32, 811_524_672, 6848.33),
            (
                "bottleneck252",
                "separate",
                DType::Bf16,
                607_063_842,
                153.94,
            ),
            (
                "bottleneck252",
                "separate",
                DType::F32,
                1_214_127_684,
                808.48,
            ),
            ("bottleneck252", "fused", DType::Bf16, 404_754_210, 94.13),
            ("bottleneck252", "fused", DType::F32, 809_508_420, 851.43),
            ("inception3a", "separate", DType::Bf16, 327_875_584, 94.85),
            ("inception3a", "separate", DType::F32, 655_751_168, 537.84),
        ] {
            let variant = variant(module, name);
            let counted = variant
                .full(FULL_BATCH, dtype)
                .expect("a valid module")
                .min_bytes();
            assert!(
                counted >= bytes && counted - bytes < 2048,
                "{module} {name}: {counted}, not {bytes}"
            );
            let predicted = variant.predicted_us(dtype).expect("a valid module");
            assert!(
                (predicted - us).abs() < 0.01,
                "{module} {name}: {predicted}, not {us}"
            );
        }
    }
}
