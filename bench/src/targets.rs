//! Families of records, and their targets (on an H200, against cuDNN's best plan in the same run).
//! The benchmarks and the report list the records that miss a target.

use warpconv::DType;
use warpconv::kernels::Math;
use warpconv::plan::Bound;
use warpconv::problem::{Conv2d, Pool2d, PoolKind};

/// A family of records and its targets.
#[derive(Debug, PartialEq)]
pub struct Family {
    /// Its name in records and tables.
    pub name: &'static str,
    /// The least share of the roofline.
    pub share: Option<f64>,
    /// The time limit: multiples of the roofline's time, and microseconds; the larger of the two
    /// counts.
    pub within: Option<(f64, f64)>,
    /// The least ratio of cuDNN's time to ours.
    pub ratio: Option<f64>,
}

const fn family(name: &'static str, share: f64, ratio: f64) -> Family {
    Family {
        name,
        share: Some(share),
        within: None,
        ratio: Some(ratio),
    }
}

const fn within(name: &'static str, floors: f64, us: f64, ratio: f64) -> Family {
    Family {
        name,
        share: None,
        within: Some((floors, us)),
        ratio: Some(ratio),
    }
}

const fn untargeted(name: &'static str) -> Family {
    Family {
        name,
        share: None,
        within: None,
        ratio: None,
    }
}

/// One image: limited to a multiple of the roofline's time or a launch's own time, whichever is
/// more.
pub static SINGLE: Family = within("N=1", 2.0, 4.0, 1.5);
/// As many groups as channels.
pub static DEPTHWISE: Family = family("depthwise", 0.85, 2.0);
/// Two groups, as in AlexNet.
pub static GROUPED_WIDE: Family = family("grouped, wide groups", 0.80, 1.2);
/// Small groups, as in ResNeXt.
pub static SMALL_GROUPS: Family = family("grouped, small groups", 0.70, 3.0);
/// f32 on CUDA cores.
pub static STRICT: Family = family("fp32 strict", 0.80, 1.1);
/// f32 stored, on tensor cores.
pub static TF32: Family = untargeted("tf32 and 3xtf32");
/// Rows whose length is not a multiple of 16 bytes.
pub static ODD: Family = family("odd channels", 0.75, 2.0);
/// 1x1 convolutions bound by memory.
pub static POINTWISE_MEMORY: Family = family("1x1 bound by memory", 0.90, 1.2);
/// 1x1 convolutions bound by arithmetic.
pub static POINTWISE_ARITHMETIC: Family = untargeted("1x1 bound by arithmetic");
/// Larger filters, many channels.
pub static WIDE: Family = family("3x3 and 5x5, C,K >= 128", 0.85, 1.0);
/// Larger filters, few input channels.
pub static FEW: Family = family("3x3, C <= 64", 0.60, 1.7);
/// Larger filters, with channels between those two.
pub static BETWEEN: Family = untargeted("3x3 and 5x5, others");
/// Max pooling.
pub static MAX_POOL: Family = family("max pool", 0.90, 1.6);
/// The other poolings.
pub static OTHER_POOL: Family = untargeted("other pools");
/// A module of GoogLeNet.
pub static INCEPTION: Family = untargeted("inception");
/// A bottleneck and what it replaces.
pub static BOTTLENECK: Family = untargeted("bottleneck");

/// Every family, in the order of the summary.
pub static FAMILIES: [&Family; 17] = [
    &WIDE,
    &FEW,
    &BETWEEN,
    &POINTWISE_MEMORY,
    &POINTWISE_ARITHMETIC,
    &ODD,
    &STRICT,
    &TF32,
    &GROUPED_WIDE,
    &SMALL_GROUPS,
    &DEPTHWISE,
    &SINGLE,
    &MAX_POOL,
    &OTHER_POOL,
    &INCEPTION,
    &BOTTLENECK,
    &UNKNOWN,
];

/// Records of another version of this crate.
pub static UNKNOWN: Family = untargeted("unknown");

/// Target of a whole module: time limit, and required saving against other records.
pub struct ModuleTarget {
    /// Prefix of the record's id.
    pub row: &'static str,
    /// Time limit, microseconds.
    pub us: f64,
    /// Records to be faster than, each with the least saving as a share of its time.
    pub faster: &'static [(&'static str, f64)],
}

/// The targets of modules at a batch of 128 in bf16.
pub static MODULES: [ModuleTarget; 2] = [
    ModuleTarget {
        row: "inception/3a-5b/fused",
        us: 550.0,
        faster: &[],
    },
    ModuleTarget {
        row: "bottleneck/252/fused",
        us: 140.0,
        faster: &[
            ("bottleneck/252/naive", 5.0),
            ("bottleneck/252/separate", 2.5),
        ],
    },
];

/// The family of a convolution with the roofline's bound `bound`.
pub fn of_conv(conv: &Conv2d, math: Math, bound: Bound) -> &'static Family {
    let half = conv.input().dtype() != DType::F32;
    let odd = |channels: usize| !channels.is_multiple_of(8);
    match () {
        () if conv.input().n() == 1 => &SINGLE,
        () if conv.groups() > 1 && conv.filter().c == 1 => &DEPTHWISE,
        () if conv.groups() > 1 && conv.filter().c <= 32 => &SMALL_GROUPS,
        () if conv.groups() > 1 => &GROUPED_WIDE,
        () if !half && math == Math::Strict => &STRICT,
        () if !half => &TF32,
        () if odd(conv.input().c()) || odd(conv.output().c()) => &ODD,
        () if conv.filter().r * conv.filter().s == 1 && bound == Bound::Memory => &POINTWISE_MEMORY,
        () if conv.filter().r * conv.filter().s == 1 => &POINTWISE_ARITHMETIC,
        () if conv.input().c() >= 128 && conv.output().c() >= 128 && conv.input().n() >= 32 => {
            &WIDE
        }
        () if conv.input().c() <= 64 => &FEW,
        () => &BETWEEN,
    }
}

/// The family of a pooling.
pub fn of_pool(pool: &Pool2d) -> &'static Family {
    match pool.kind() {
        PoolKind::Max { .. } => &MAX_POOL,
        _ => &OTHER_POOL,
    }
}

/// The family named `name`.
pub fn named(name: &str) -> &'static Family {
    let found = FAMILIES.iter().find(|family| family.name == name);
    found.copied().unwrap_or(&UNKNOWN)
}

impl Family {
    /// Returns whether a time reaches the family's share of the roofline, or its time limit; `None`
    /// where it has neither.
    pub fn meets_floor(&self, us: f64, floor_us: f64) -> Option<bool> {
        if let Some((floors, least)) = self.within {
            return Some(us <= (floors * floor_us).max(least));
        }
        self.share.map(|share| floor_us / us >= share)
    }

    /// Returns whether the ratio of cuDNN's time to ours reaches the family's target.
    pub fn meets_cudnn(&self, us: f64, cudnn_us: Option<f64>) -> Option<bool> {
        Some(cudnn_us? / us >= self.ratio?)
    }

    /// The targets as text, empty where there are none.
    pub fn targets(&self) -> String {
        let floor = match (self.share, self.within) {
            (Some(share), _) => format!(">= {:.0}%", share * 100.0),
            (None, Some((floors, us))) => format!("<= max({floors:.0} x floor, {us:.0} us)"),
            (None, None) => String::new(),
        };
        match self.ratio {
            Some(ratio) => format!("{floor}, >= {ratio:.1} x cuDNN"),
            None => floor,
        }
    }
}
