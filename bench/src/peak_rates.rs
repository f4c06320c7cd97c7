//! Peak rates of a card: measured ones for an H200, for other cards theoretical ones from the
//! clocks.

use cudarc::driver::CudaContext;
use cudarc::driver::sys::CUdevice_attribute as Attribute;
use warpconv::DType;
use warpconv::device::{DeviceKind, Gpu};
use warpconv::kernels::Math;
use warpconv::plan::PeakRates;

/// A card's peak rates, in operations and bytes per second.
#[derive(Clone, Debug, PartialEq)]
pub struct Card {
    /// f32 on CUDA cores.
    pub fp32: f64,
    /// tf32 on tensor cores.
    pub tf32: f64,
    /// f16 and bf16 on tensor cores, with f32 accumulation.
    pub half: f64,
    /// Bandwidth of device memory.
    pub bytes: f64,
    /// Bytes of the L2 cache.
    pub l2: u64,
    /// Source of the numbers, for the report.
    pub source: &'static str,
}

impl Card {
    /// Peak rates of an H200, as measured by the best programs for it: the planner's table.
    pub const H200: Card = Card {
        fp32: PeakRates::of_products(DType::F32, Math::Strict).flops,
        tf32: PeakRates::of_products(DType::F32, Math::Tf32).flops,
        half: PeakRates::of_products(DType::Bf16, Math::Strict).flops,
        bytes: PeakRates::of_products(DType::F32, Math::Strict).bytes,
        l2: 50 << 20,
        source: "measured ceilings of an H200",
    };

    /// The card's peak rates. On the emulator they are those of an H200, for which predictions are
    /// made.
    pub fn of(gpu: &Gpu) -> Card {
        let l2 = ask(gpu.context(), Attribute::CU_DEVICE_ATTRIBUTE_L2_CACHE_SIZE) as u64;
        if gpu.kind() == DeviceKind::Emulator || gpu.card().name.contains("H200") {
            let l2 = if l2 == 0 { Card::H200.l2 } else { l2 };
            return Card { l2, ..Card::H200 };
        }
        Card::of_clocks(gpu, l2)
    }

    /// Theoretical peaks: SMs x clock x operations per clock; memory clock x bus width x 2.
    fn of_clocks(gpu: &Gpu, l2: u64) -> Card {
        let capability = gpu.capability();
        let clocks = f64::from(capability.sm_count) * f64::from(capability.clock_khz) * 1e3;
        let (fp32, half) = a_clock(capability.major, capability.minor);
        let context = gpu.context();
        let memory_khz = ask(context, Attribute::CU_DEVICE_ATTRIBUTE_MEMORY_CLOCK_RATE);
        let bus_bits = ask(
            context,
            Attribute::CU_DEVICE_ATTRIBUTE_GLOBAL_MEMORY_BUS_WIDTH,
        );
        Card {
            fp32: clocks * fp32,
            tf32: clocks * half / 2.0,
            half: clocks * half,
            bytes: 2.0 * f64::from(memory_khz) * 1e3 * f64::from(bus_bits) / 8.0,
            l2,
            source: "peaks computed from the card's clocks",
        }
    }

    /// The peak rates for a problem stored as `dtype` in math mode `math`.
    pub fn peak_rates(&self, dtype: DType, math: Math) -> PeakRates {
        let flops = match (dtype, math) {
            (DType::F16 | DType::Bf16, _) => self.half,
            (DType::F32, Math::Tf32) => self.tf32,
            // Three products per multiplication; CUDA cores are the limit where that is slower.
            (DType::F32, Math::Tf32x3) => (self.tf32 / 3.0).max(self.fp32),
            (DType::F32, Math::Strict) => self.fp32,
        };
        PeakRates {
            flops,
            bytes: self.bytes,
        }
    }
}

/// Operations per clock of an SM: f32 on CUDA cores, and f16 on tensor cores with f32 accumulation.
fn a_clock(major: u32, minor: u32) -> (f64, f64) {
    match (major, minor) {
        (7, _) => (128.0, 1024.0),
        (8, 0) => (128.0, 2048.0),
        (8, _) => (256.0, 1024.0),
        (9, _) => (256.0, 4096.0),
        (10, _) => (256.0, 8192.0),
        _ => (256.0, 1024.0),
    }
}

/// An attribute of the device; 0 if the driver does not report it.
fn ask(context: &CudaContext, attribute: Attribute) -> u32 {
    context
        .attribute(attribute)
        .map_or(0, |value| value.max(0) as u32)
}
