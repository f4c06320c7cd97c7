//! The variants that the main job compares, and their arithmetic.

use warpconv::ops::{Bottleneck, Inception, Module};
use warpconv::plan::Ceilings;
use warpconv::{DType, Error, Layout};

/// The batch for which the roofline is stated.
pub const FULL_BATCH: usize = 128;

/// The size and the storage of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    /// Images.
    pub n: usize,
    /// Rows and columns.
    pub hw: usize,
    /// How everything is stored.
    pub dtype: DType,
    /// The layout of activations.
    pub layout: Layout,
}

/// One way to compute one module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Variant {
    /// The module.
    pub module: &'static str,
    /// The way.
    pub name: &'static str,
    /// The way in words.
    pub describe: &'static str,
    /// Rows and columns for which the roofline is stated.
    pub full_size: usize,
}

/// Every variant, the naive one of each module first.
pub const VARIANTS: [Variant; 4] = [
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
];

impl Variant {
    /// Its launches at a size.
    ///
    /// # Errors
    /// If the size is too large for a launch.
    pub fn at(&self, size: Size) -> Result<Module, Error> {
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
        let inception = Inception {
            dtype,
            layout,
            ..Inception::inception_3a(n, hw, hw)
        };
        match (self.module, self.name) {
            ("bottleneck252", "naive") => bottleneck.naive(),
            ("bottleneck252", _) => bottleneck.separate(),
            (_, "naive") => inception.naive(),
            _ => inception.separate(),
        }
    }

    /// The same at the roofline's size.
    fn full(&self, n: usize, dtype: DType) -> Result<Module, Error> {
        self.at(Size {
            n,
            hw: self.full_size,
            dtype,
            layout: Layout::Nchw,
        })
    }

    /// Multiplications a pixel.
    ///
    /// # Errors
    /// Never for the variants of this module.
    pub fn macs_per_pixel(&self) -> Result<u64, Error> {
        Ok(self.full(1, DType::F32)?.macs() / (self.full_size * self.full_size) as u64)
    }

    /// The roofline of an H200 at the full size in microseconds, a prediction: tensor cores in f16 and bf16.
    ///
    /// # Errors
    /// Never for the variants of this module.
    pub fn predicted_us(&self, dtype: DType) -> Result<f64, Error> {
        Ok(self
            .full(FULL_BATCH, dtype)?
            .roofline(&Ceilings::h200(dtype))
            .floor_us)
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

    /// The project's table of fused and unfused modules at a batch of 128: bytes (which leaves the biases, under 2 KB,
    /// out) and floor times in microseconds.
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
