//! Fastest kernels by measurement, as `warpconv tune` finds them.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::OnceLock;

use super::factors::{FactorEntry, FactorKey};
use crate::kernels::{KernelId, kernels};
use crate::ptx;

/// The card and the driver that something was measured with.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Card {
    /// The card's name.
    pub name: String,
    /// The CUDA version that its driver supports.
    pub driver: u32,
}

impl Card {
    /// A card by its name and its driver by the CUDA version that it supports (12040 is 12.4), as
    /// [`Gpu::card`](crate::device::Gpu::card) gives them.
    pub fn new(name: &str, driver: u32) -> Card {
        Card {
            name: one_line(name),
            driver,
        }
    }
}

/// A text without what separates fields and lines in a tuning file.
fn one_line(text: &str) -> String {
    let words: Vec<&str> = text
        .split(|c: char| c.is_control() || c.is_whitespace())
        .filter(|word| !word.is_empty())
        .collect();
    words.join(" ")
}

/// Quantity by which kernels were compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Measure {
    /// Microseconds on the card, by its own events.
    Time,
    /// Instructions of warps, counted by the emulator: no time, and no more than a hint of one.
    Instructions,
}

impl Measure {
    /// The name in tuning files: `us` or `instructions`.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Measure::Time => "us",
            Measure::Instructions => "instructions",
        }
    }
}

impl fmt::Display for Measure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The best of a problem's candidates.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TunedKernel {
    /// Fastest kernel.
    pub kernel: KernelId,
    /// Split-K of the fastest kernel.
    pub split_k: u32,
    /// Quantity by which kernels were compared.
    pub by: Measure,
    /// Measured amount of that quantity.
    pub amount: f64,
    /// Number of measured candidates.
    pub of: u32,
}

impl fmt::Display for TunedKernel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.by {
            Measure::Time => write!(f, "measured {:.2} us", self.amount)?,
            Measure::Instructions => write!(f, "counted {} instructions", self.amount)?,
        }
        write!(f, ", the best of {}", self.of)
    }
}

/// Key of an entry.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Key {
    /// In benchdnn notation, as problems print themselves.
    pub problem: String,
    pub card: Card,
}

/// Entry of a file. Its kernel may be one that this build does not have.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Entry {
    /// [`build`] of the crate that measured.
    pub build: String,
    pub kernel: String,
    pub split_k: u32,
    pub by: Measure,
    pub amount: f64,
    pub of: u32,
}

/// The fastest kernels of earlier measurements, and factors of the cost model, for one card.
///
/// [`Plan::tuned`](super::Plan::tuned) takes the measured kernel of the problem, and ranks the
/// candidates if there is none, with [`Tuning::factor`] of each family. An entry counts only for
/// the same problem on the same card with the same driver and the same build of this crate: another
/// compiler of the driver, or a changed kernel, may change the order. [`Tuning::read`] and
/// [`Tuning::save`] keep the entries in a file, which several cards and programs may share.
///
/// ```
/// use warpconv::plan::{Capability, Card, Plan, Limits, Measure, Tuning, TunedKernel};
/// use warpconv::problem::Conv2d;
///
/// let problem: Conv2d = "mb8ic64ih28oc64kh3ph1".parse()?;
/// let ranked = Plan::new(&problem, &Capability::h200())?;
/// let second = ranked.accepted().nth(1).expect("several kernels accept").id;
/// let mut tuning = Tuning::new(Card::new("NVIDIA H200", 12040));
/// let (by, amount) = (Measure::Time, 10.5);
/// let tuned_kernel = TunedKernel { kernel: second, split_k: 1, by, amount, of: 2 };
/// tuning.insert(&problem.to_string(), tuned_kernel);
/// let plan = Plan::tuned(&problem, &Capability::h200(), &Limits::default(), &tuning)?;
/// assert_eq!(plan.kernel_id(), second);
/// assert_eq!(plan.tuned_kernel(), Some(tuned_kernel));
/// # Ok::<(), warpconv::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Tuning {
    card: Card,
    /// Entries of all cards; those of others are written back.
    pub(super) entries: BTreeMap<Key, Entry>,
    /// Factors of all cards; those of others are written back.
    pub(super) factors: BTreeMap<FactorKey, FactorEntry>,
}

impl Tuning {
    /// Starts a tuning of a card without entries.
    pub fn new(card: Card) -> Tuning {
        Tuning {
            card,
            entries: BTreeMap::new(),
            factors: BTreeMap::new(),
        }
    }

    /// Card that the entries count for.
    pub fn card(&self) -> &Card {
        &self.card
    }

    /// The build of this crate, for which its entries count: the version and a fingerprint of the
    /// kernels, such as `0.1.0+89abcdef01234567`.
    pub fn build() -> &'static str {
        build()
    }

    /// Measured kernel of a problem, which is named by its notation. `None` without a measurement
    /// on this card with this driver and build.
    pub fn tuned_kernel(&self, problem: &str) -> Option<TunedKernel> {
        let entry = self.entry(problem)?;
        if entry.build != build() {
            return None;
        }
        let place = kernels().iter().position(|k| k.name() == entry.kernel)?;
        Some(TunedKernel {
            kernel: KernelId(place),
            split_k: entry.split_k,
            by: entry.by,
            amount: entry.amount,
            of: entry.of,
        })
    }

    /// Returns whether the problem was measured on this card by a build of this crate with other
    /// kernels, so that nothing is known of it.
    #[cfg(test)]
    pub(crate) fn is_outdated(&self, problem: &str) -> bool {
        self.entry(problem)
            .is_some_and(|entry| entry.build != build())
    }

    /// Number of entries that count for the card.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        let own = |(key, entry): &(&Key, &Entry)| key.card == self.card && entry.build == build();
        self.entries.iter().filter(own).count()
    }

    fn entry(&self, problem: &str) -> Option<&Entry> {
        self.entries.get(&Key {
            problem: one_line(problem),
            card: self.card.clone(),
        })
    }

    /// Stores a problem's fastest kernel in place of an earlier one.
    ///
    /// # Panics
    /// If there is no such kernel. Those that this crate gives out exist.
    pub fn insert(&mut self, problem: &str, tuned_kernel: TunedKernel) {
        let key = Key {
            problem: one_line(problem),
            card: self.card.clone(),
        };
        let entry = Entry {
            build: build().to_owned(),
            kernel: tuned_kernel.kernel.kernel().name(),
            split_k: tuned_kernel.split_k,
            by: tuned_kernel.by,
            amount: tuned_kernel.amount,
            of: tuned_kernel.of,
        };
        self.entries.insert(key, entry);
    }
}

/// The crate's version and a fingerprint of its kernels: `0.1.0+89abcdef01234567`. Times of other
/// kernels, be it of the same version, say nothing of these.
pub(super) fn build() -> &'static str {
    static BUILD: OnceLock<String> = OnceLock::new();
    BUILD.get_or_init(|| {
        let print = ptx::hashes().fold(SEED, |print, hash| fingerprint(&hash.to_le_bytes(), print));
        format!("{}+{print:016x}", env!("CARGO_PKG_VERSION"))
    })
}

/// Start value of [`fingerprint`].
pub(super) const SEED: u64 = 0xcbf2_9ce4_8422_2325;

/// FNV-1a by words of eight bytes. It finds accidents, not malice.
pub(super) fn fingerprint(bytes: &[u8], seed: u64) -> u64 {
    let mut words = bytes.chunks_exact(8);
    let mut mixed = seed ^ bytes.len() as u64;
    let mut mix = |word: u64| {
        mixed = (mixed ^ word).wrapping_mul(0x0000_0100_0000_01b3);
        // A product carries upwards only.
        mixed ^= mixed >> 32;
    };
    for word in &mut words {
        let mut eight = [0; 8];
        eight.copy_from_slice(word);
        mix(u64::from_le_bytes(eight));
    }
    for &byte in words.remainder() {
        mix(u64::from(byte));
    }
    mixed
}

#[cfg(test)]
mod tests {
    use super::*;

    const PROBLEM: &str = "mb8_ic64ih28iw28_oc64oh28ow28_kh3kw3_ph1pw1";

    fn tuned_kernel() -> TunedKernel {
        TunedKernel {
            kernel: KernelId(1),
            split_k: 2,
            by: Measure::Time,
            amount: 12.25,
            of: 9,
        }
    }

    #[test]
    fn a_winner_counts_for_its_card_and_driver_only() {
        let mut tuning = Tuning::new(Card::new("NVIDIA H200", 12040));
        assert!(tuning.len() == 0 && tuning.tuned_kernel(PROBLEM).is_none());
        tuning.insert(PROBLEM, tuned_kernel());
        assert_eq!(tuning.tuned_kernel(PROBLEM), Some(tuned_kernel()));
        assert_eq!(tuning.tuned_kernel("mb8"), None);
        for other in [
            Card::new("NVIDIA H200", 12050),
            Card::new("NVIDIA H100", 12040),
        ] {
            let elsewhere = Tuning {
                card: other,
                ..tuning.clone()
            };
            assert_eq!(elsewhere.tuned_kernel(PROBLEM), None);
            assert!(elsewhere.len() == 0 && !elsewhere.is_outdated(PROBLEM));
        }
    }

    #[test]
    fn another_build_or_kernel_does_not_count() {
        let mut tuning = Tuning::new(Card::new("NVIDIA H200", 12040));
        tuning.insert(PROBLEM, tuned_kernel());
        let mut other = tuning.clone();
        for entry in other.entries.values_mut() {
            entry.kernel = "direct_f32_nchw_1x1x1_sm75".to_owned();
        }
        assert_eq!(other.tuned_kernel(PROBLEM), None);
        for entry in tuning.entries.values_mut() {
            entry.build = "0.0.9+0000000000000000".to_owned();
        }
        assert_eq!(tuning.tuned_kernel(PROBLEM), None);
        assert!(tuning.is_outdated(PROBLEM) && tuning.len() == 0);
    }

    #[test]
    fn names_stay_in_their_field() {
        assert_eq!(Card::new(" a\tb\n c ", 1).name, "a b c");
        assert_eq!(Card::new("", 1).name, "");
    }

    #[test]
    fn a_fingerprint_sees_order_and_length() {
        let print = |text: &str| fingerprint(text.as_bytes(), SEED);
        let texts = [
            "",
            "a",
            "b",
            "12345678",
            "123456781",
            "87654321",
            "\0",
            "\0\0",
        ];
        for (i, a) in texts.iter().enumerate() {
            for b in &texts[i + 1..] {
                assert_ne!(print(a), print(b), "{a:?} {b:?}");
            }
        }
        assert!(build().starts_with(concat!(env!("CARGO_PKG_VERSION"), "+")));
    }
}
