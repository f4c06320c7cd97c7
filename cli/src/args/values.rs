//! The values of options: names of types, layouts and modes, devices and counts.

use clap::ValueEnum;
use warpconv::device::DeviceChoice;
use warpconv::kernels::Math;
use warpconv::problem::FilterLayout;
use warpconv::{DType, Layout};

use crate::verify::Steps;

/// Quantity that `tune` compares.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum ByArg {
    /// Time on the GPU, by its own events
    #[default]
    Time,
    /// Warp instructions that the emulator executes: not a time, only a rough indication of one
    Instructions,
}

/// A storage type by its name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum DTypeArg {
    /// IEEE binary32
    #[default]
    F32,
    /// IEEE binary16
    F16,
    /// bfloat16
    Bf16,
}

impl From<DTypeArg> for DType {
    fn from(arg: DTypeArg) -> DType {
        match arg {
            DTypeArg::F32 => DType::F32,
            DTypeArg::F16 => DType::F16,
            DTypeArg::Bf16 => DType::Bf16,
        }
    }
}

/// A mode of multiplication by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum MathArg {
    /// As f32 on CUDA cores
    Strict,
    /// Three products of tf32 on tensor cores
    Tf32x3,
    /// One product of tf32 on tensor cores
    Tf32,
}

impl From<MathArg> for Math {
    fn from(arg: MathArg) -> Math {
        match arg {
            MathArg::Strict => Math::Strict,
            MathArg::Tf32x3 => Math::Tf32x3,
            MathArg::Tf32 => Math::Tf32,
        }
    }
}

/// An order of activations by its name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum LayoutArg {
    /// A channel's plane is contiguous
    #[default]
    Nchw,
    /// A pixel's channels are contiguous
    Nhwc,
}

impl From<LayoutArg> for Layout {
    fn from(arg: LayoutArg) -> Layout {
        match arg {
            LayoutArg::Nchw => Layout::Nchw,
            LayoutArg::Nhwc => Layout::Nhwc,
        }
    }
}

/// An order of filters by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum FilterLayoutArg {
    /// Filter, channel, row, column
    Kcrs,
    /// Filter, row, column, channel
    Krsc,
    /// Filter, row, column, channels rounded up to 16 bytes
    Packed,
}

impl From<FilterLayoutArg> for FilterLayout {
    fn from(arg: FilterLayoutArg) -> FilterLayout {
        match arg {
            FilterLayoutArg::Kcrs => FilterLayout::Kcrs,
            FilterLayoutArg::Krsc => FilterLayout::Krsc,
            FilterLayoutArg::Packed => FilterLayout::Packed,
        }
    }
}

/// A way to cut a graph into launches by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum StepsArg {
    /// One launch per layer
    Layers,
    /// ReLU and residual add in the convolution's epilogue, branches into their slice of a concat
    Fused,
    /// As few launches as there are kernels for: a bottleneck in one, an inception module in two
    Modules,
    /// The same with poolings in launches of their own: an inception module in three
    InThree,
}

impl From<StepsArg> for Steps {
    fn from(arg: StepsArg) -> Steps {
        match arg {
            StepsArg::Layers => Steps::Layers,
            StepsArg::Fused => Steps::Fused,
            StepsArg::Modules => Steps::Modules,
            StepsArg::InThree => Steps::InThree,
        }
    }
}

/// Parses a device choice.
pub(super) fn device(text: &str) -> Result<DeviceChoice, String> {
    text.parse::<DeviceChoice>()
        .map_err(|error| error.to_string())
}

/// Parses a number of images, pixels, samples or jobs: with none, every check would pass.
pub(super) fn at_least_one(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(0) => Err("the least is 1".to_owned()),
        Ok(number) => Ok(number),
        Err(error) => Err(format!("`{text}` is no count: {error}")),
    }
}

/// Parses a number of minutes, up to a day.
pub(super) fn minutes(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(minutes) if minutes > 0.0 && minutes <= 1440.0 => Ok(minutes),
        Ok(minutes) => Err(format!(
            "{minutes} minutes: give more than 0 and at most 1440"
        )),
        Err(error) => Err(format!("`{text}` is no number of minutes: {error}")),
    }
}

/// Parses a count with an optional suffix K, M or G.
pub(super) fn count(text: &str) -> Result<u64, String> {
    let (digits, scale) = match text.strip_suffix(['K', 'k']) {
        Some(digits) => (digits, 1_000),
        None => match text.strip_suffix(['M', 'm']) {
            Some(digits) => (digits, 1_000_000),
            None => match text.strip_suffix(['G', 'g']) {
                Some(digits) => (digits, 1_000_000_000),
                None => (text, 1),
            },
        },
    };
    digits
        .parse::<u64>()
        .ok()
        .and_then(|number| number.checked_mul(scale))
        .ok_or_else(|| {
            format!(
                "`{text}` is no count: give a whole number, with K, M or G for \
                 thousands, millions, 10^9"
            )
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn minutes_are_positive() {
        assert_eq!(minutes("0.2"), Ok(0.2));
        for wrong in ["0", "-1", "NaN", "inf", "1e9", "five"] {
            assert!(minutes(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn counts_take_suffixes() {
        assert_eq!(count("20M"), Ok(20_000_000));
        assert_eq!(count("7"), Ok(7));
        assert_eq!(count("3k"), Ok(3_000));
        assert!(count("").is_err());
        assert!(count("-1").is_err());
        assert!(count("99999999999999999999G").is_err());
        assert!(count("18446744073709551615K").is_err());
    }
}
