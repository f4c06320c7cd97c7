//! Selection of the kernels that run a case.

use std::collections::{BTreeMap, BTreeSet};

use warpconv::kernels::{Algorithm, KernelId};
use warpconv::plan::Capability;

use super::super::Context;
use super::super::lower::{Storage, accepting, accepting_any, natural, padded_macs, splits};
use super::super::report::{Report, Steps};
use super::Prepared;

/// Limit of a kernel's multiplications, tile padding included. Beyond it, the kernels of a family
/// run in rotation, unless the options name kernels: more would take the emulator seconds each, and
/// errors of tiles at borders show in other kernels too.
const EXPENSIVE_MACS: f64 = 1e6;

/// Number of runs of each kernel in its family's rotation, separately per storage and cut of a
/// case. Every case has the same variations in the same order, so that a common counter would give
/// each variation the same kernel again and again.
#[derive(Debug, Default)]
pub(in super::super) struct RoundRobin(BTreeMap<(KernelId, Way), usize>);

/// Storage and cut of a case.
type Way = (Storage, Option<Steps>);

impl RoundRobin {
    /// The kernel of a family with the fewest runs in this variation: kernels that some cases do
    /// not accept get their runs too.
    fn next(&mut self, family: &[KernelId], way: Way) -> Option<KernelId> {
        let had = |kernel: &&KernelId| self.0.get(&(**kernel, way)).copied().unwrap_or_default();
        let next = *family.iter().min_by_key(had)?;
        *self.0.entry((next, way)).or_default() += 1;
        Some(next)
    }
}

/// The kernels for which a case is expensive: those that run, and the numbers of those left out by
/// reason.
struct Expensive {
    taken: Vec<KernelId>,
    /// Number of kernels with more multiplications than `--max-macs` allows.
    beyond: usize,
    /// Number of kernels whose family has another kernel in rotation.
    waiting: usize,
}

impl Expensive {
    /// Reports the number of kernels that are left out.
    fn report(&self, label: &str, most: u64, report: &mut Report<'_>) {
        let reasons = [
            (
                self.beyond,
                format!(
                    "more than {most} multiplications, the padding of tiles counted (--max-macs, \
                     --every-kernel)"
                ),
            ),
            (
                self.waiting,
                format!(
                    "more than {EXPENSIVE_MACS} multiplications, and others of the family run \
                     (--every-kernel)"
                ),
            ),
        ];
        for (kernels, why) in reasons {
            if kernels > 0 {
                report.leave_out(label, kernels, why);
            }
        }
    }
}

impl Prepared {
    /// The kernels to force, each with its split-K values. No kernel where none accepts; the run
    /// then reports the problem. Kernels left out for their work are counted in the report.
    pub(super) fn choices(
        &self,
        context: &Context,
        label: &str,
        report: &mut Report<'_>,
    ) -> Vec<(Option<KernelId>, Option<u32>)> {
        let (select, device) = (&context.select, &context.capability);
        let steps = self.checked_steps();
        let accepting = accepting_any(steps.iter().copied(), device);
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
            let most = select.max_macs;
            let much: Vec<KernelId>;
            (chosen, much) = chosen
                .iter()
                .partition(|kernel| macs(kernel) <= EXPENSIVE_MACS);
            let found =
                self.one_of_each_family(context, &much, |kernel| macs(kernel) <= most as f64);
            found.report(label, most, report);
            costly = found.taken;
            chosen.extend(&costly);
        }
        let mut choices = Vec::new();
        let mut seen = BTreeSet::new();
        for kernel in chosen {
            let algorithm = kernel.kernel().algorithm;
            // Filters in another layout are packed before the kernel reads them: one kernel per
            // family tests that. Kernels of a whole bottleneck read any layout, and have no
            // split-K.
            let splits_sums = algorithm.tensor() && !algorithm.bottleneck();
            let other_order = splits_sums && select.kernel.is_none() && !self.is_natural();
            if other_order && !seen.insert(algorithm) {
                continue;
            }
            let wanted: &[u32] = match &select.split_k {
                Some(only) => std::slice::from_ref(only),
                // One layout of the filters and one cut suffice for tests that do not depend on
                // them.
                None if self.is_natural() && costly.contains(&kernel) => &[1, 2],
                None if self.is_natural() => &[1, 2, 3],
                None => &[1],
            };
            let shared = |split_k: &&u32| {
                let mut steps = steps.iter();
                steps.any(|step| splits(step, device, kernel, **split_k))
            };
            match splits_sums {
                true => choices.extend(
                    wanted
                        .iter()
                        .filter(shared)
                        .map(|&split_k| (Some(kernel), Some(split_k))),
                ),
                false if select.split_k.is_some_and(|split_k| split_k > 1) => {}
                false => choices.push((Some(kernel), None)),
            }
        }
        choices
    }

    /// The kernels of the plans, and for each other family the next kernel in rotation among those
    /// that are `affordable`.
    fn one_of_each_family(
        &self,
        context: &Context,
        kernels: &[KernelId],
        affordable: impl Fn(&KernelId) -> bool,
    ) -> Expensive {
        let steps = self.checked_steps().into_iter();
        let planned: BTreeSet<KernelId> = steps
            .filter_map(|step| accepting(step, &context.capability).first().copied())
            .collect();
        let mut families: BTreeMap<Algorithm, Vec<KernelId>> = BTreeMap::new();
        let mut beyond = 0;
        for &kernel in kernels {
            if planned.contains(&kernel) || affordable(&kernel) {
                let family = families.entry(kernel.kernel().algorithm).or_default();
                family.push(kernel);
            } else {
                beyond += 1;
            }
        }
        let mut taken = Vec::new();
        for family in families.values() {
            if family.iter().any(|kernel| planned.contains(kernel)) {
                taken.extend(family.iter().filter(|kernel| planned.contains(kernel)));
            } else {
                let mut round_robin = context.round_robin.borrow_mut();
                taken.extend(round_robin.next(family, (self.storage, self.cut)));
            }
        }
        let waiting = kernels.len() - beyond - taken.len();
        Expensive {
            taken,
            beyond,
            waiting,
        }
    }

    /// Multiply-adds of each kernel in the case, tile padding included.
    fn work(&self, device: &Capability) -> BTreeMap<KernelId, f64> {
        let mut work = BTreeMap::new();
        for step in self.checked_steps() {
            for (kernel, macs) in padded_macs(step, device) {
                *work.entry(kernel).or_default() += macs;
            }
        }
        work
    }

    /// Returns whether the filter layout matches the activations' layout, and a graph is fused.
    fn is_natural(&self) -> bool {
        let natural = natural(self.storage.layout);
        self.storage.filter_layout == natural && self.cut.is_none_or(|cut| cut != Steps::Layers)
    }
}

#[cfg(test)]
mod tests {
    use warpconv::DType;
    use warpconv::kernels::Math;

    use super::*;
    use warpconv::Layout;
    use warpconv::problem::FilterLayout;

    fn way(dtype: DType) -> Way {
        let storage = Storage {
            dtype,
            layout: Layout::Nhwc,
            filter_layout: FilterLayout::Krsc,
            math: Math::Strict,
        };
        (storage, None)
    }

    #[test]
    fn as_many_cases_as_a_family_has_members_reach_each_of_them_in_every_way() {
        for members in 1..=20 {
            let family: Vec<KernelId> = (0..members).map(KernelId).collect();
            let mut round_robin = RoundRobin::default();
            let mut met = BTreeSet::new();
            for _ in 0..members {
                for dtype in DType::ALL {
                    let kernel = round_robin.next(&family, way(dtype)).expect("a member");
                    met.insert((kernel, dtype));
                }
            }
            assert_eq!(met.len(), members * DType::ALL.len());
        }
    }

    #[test]
    fn a_member_that_few_cases_have_comes_up_in_the_first_that_does() {
        let family = [KernelId(0), KernelId(1), KernelId(2)];
        let mut round_robin = RoundRobin::default();
        for _ in 0..4 {
            let kernel = round_robin.next(&family[..2], way(DType::F16));
            assert_ne!(kernel, Some(family[2]));
        }
        assert_eq!(round_robin.next(&family, way(DType::F16)), Some(family[2]));
        assert_eq!(round_robin.next(&[], way(DType::F16)), None);
    }
}
