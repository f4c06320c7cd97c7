//! Which kernels a case is run with.

use std::collections::{BTreeMap, BTreeSet};

use warpconv::Layout;
use warpconv::catalog::KernelId;
use warpconv::plan::Capability;
use warpconv::problem::FilterLayout;

use super::super::Context;
use super::super::lower::{accepting, shares};
use super::super::report::Steps;
use super::Prepared;

/// Multiplications, the padding of its tiles among them, beyond which a kernel shares a case with its family, unless the
/// options say otherwise: the emulator pays for each more with seconds, and what tiles do at borders shows in the others.
const LARGE: f64 = 1e6;

impl Prepared {
    /// The kernels to force, each with the numbers of blocks to share a tile among; no kernel where none accepts, which
    /// then says for which problem.
    pub(super) fn choices(&self, context: &Context) -> Vec<(Option<KernelId>, Option<u32>)> {
        let (select, device) = (&context.select, &context.capability);
        let accepting = accepting(&self.problems, device);
        if accepting.is_empty() {
            return vec![(None, None)];
        }
        let mut chosen: Vec<KernelId> = accepting
            .into_iter()
            .filter(|&kernel| select.takes(kernel, self.storage.math))
            .collect();
        let mut costly = Vec::new();
        if !select.takes_every_kernel() {
            let work = self.work(device);
            let macs = |kernel: &KernelId| work.get(kernel).copied().unwrap_or_default();
            (chosen, costly) = chosen.iter().partition(|kernel| macs(kernel) <= LARGE);
            let most = select.max_macs as f64;
            costly = self.one_of_each_family(context, &costly, |kernel| macs(kernel) <= most);
            chosen.extend(&costly);
        }
        let mut choices = Vec::new();
        let mut seen = BTreeSet::new();
        for kernel in chosen {
            let algorithm = kernel.kernel().algorithm;
            // Filters in another order are packed before the kernel sees them: one kernel of each family shows that.
            // Those of a whole bottleneck read any order themselves, and share no sum.
            let splits_sums = algorithm.tensor() && !algorithm.bottleneck();
            let other_order = splits_sums && select.kernel.is_none() && !self.is_natural();
            if other_order && !seen.insert(algorithm) {
                continue;
            }
            let wanted: &[u32] = match &select.splits {
                Some(only) => std::slice::from_ref(only),
                // One order of the filters and one cut are enough for what has nothing to do with either.
                None if self.is_natural() && costly.contains(&kernel) => &[1, 2],
                None if self.is_natural() => &[1, 2, 3],
                None => &[1],
            };
            let shared = |splits: &&u32| shares(&self.problems, device, kernel, **splits);
            match splits_sums {
                true => choices.extend(
                    wanted
                        .iter()
                        .filter(shared)
                        .map(|&splits| (Some(kernel), Some(splits))),
                ),
                false if select.splits.is_some_and(|splits| splits > 1) => {}
                false => choices.push((Some(kernel), None)),
            }
        }
        choices
    }

    /// Of the kernels, those that the plans take, and of each other family the next one in each case, of those that are
    /// `affordable`.
    fn one_of_each_family(
        &self,
        context: &Context,
        kernels: &[KernelId],
        affordable: impl Fn(&KernelId) -> bool,
    ) -> Vec<KernelId> {
        let turn = context.turn.get();
        context.turn.set(turn + 1);
        let planned: BTreeSet<KernelId> = self
            .problems
            .iter()
            .filter_map(|problem| problem.accepting(&context.capability).first().copied())
            .collect();
        let mut families: BTreeMap<_, Vec<KernelId>> = BTreeMap::new();
        for &kernel in kernels {
            if planned.contains(&kernel) || affordable(&kernel) {
                let family = families.entry(kernel.kernel().algorithm).or_default();
                family.push(kernel);
            }
        }
        for family in families.values_mut() {
            if family.iter().any(|kernel| planned.contains(kernel)) {
                family.retain(|kernel| planned.contains(kernel));
            } else {
                *family = vec![family[turn % family.len()]];
            }
        }
        families.into_values().flatten().collect()
    }

    /// What each kernel multiplies in the case, the padding of its tiles among it.
    fn work(&self, device: &Capability) -> BTreeMap<KernelId, f64> {
        let mut work = BTreeMap::new();
        for problem in &self.problems {
            for (kernel, macs) in problem.padded_macs(device) {
                *work.entry(kernel).or_default() += macs;
            }
        }
        work
    }

    /// Whether filters come in the order that goes with the layout, and a graph is fused.
    fn is_natural(&self) -> bool {
        let natural = match self.storage.layout {
            Layout::Nchw => FilterLayout::Kcrs,
            Layout::Nhwc => FilterLayout::Krsc,
        };
        self.storage.filter_layout == natural && self.cut.is_none_or(|cut| cut != Steps::Layers)
    }
}
