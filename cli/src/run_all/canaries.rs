//! The canaries: one small problem per mechanism, each in a process of its own, before all else.

use super::Context;
use super::record::{Outcome, Record};
use super::smoke::{self, Entry, List};
use crate::exit::Failure;
use crate::output::say;

/// Selects an entry of the smoke list: its family, and a part of its label, of its kernel's id and
/// of its problem.
#[derive(Clone, Copy, Debug)]
struct Canary {
    name: &'static str,
    family: &'static str,
    label: &'static str,
    kernel: &'static str,
}

const fn canary(name: &'static str, family: &'static str, label: &'static str) -> Canary {
    Canary {
        name,
        family,
        label,
        kernel: "",
    }
}

/// The canaries, the simplest mechanism first.
const CANARIES: &[Canary] = &[
    canary("relu", "relu", ""),
    canary("f32 1x1", "1x1", ""),
    canary("mma", "mma", ""),
    canary("mma few channels", "mma_few_channels", ""),
    canary("tiled bulk copy", "wgmma", "1x1"),
    canary("im2col with padding", "wgmma", "3x3"),
    canary("stride 2, asymmetric padding", "wgmma", "asymmetric"),
    canary("residual", "wgmma", "residual"),
    canary("three splits", "wgmma", "split-K 3"),
    canary("gather", "wgmma_gather", ""),
    canary("bottleneck, mma", "bottleneck", ""),
    canary("bottleneck, wgmma", "bottleneck_wgmma", ""),
    canary("branches", "mma_multi_conv", ""),
];

/// Runs the canaries that have no result yet. `save` is called after each.
pub fn run(
    context: &Context,
    list: &List,
    records: &mut Vec<Record>,
    mut save: impl FnMut(&[Record]),
) -> Result<(), Failure> {
    for canary in CANARIES {
        if records
            .iter()
            .any(|r| r.name == canary.name && r.outcome != Outcome::NotRun)
        {
            continue;
        }
        let record = match entry(canary, list, context) {
            None => Record::not_run(
                canary.name,
                "",
                canary.family,
                "no kernel of the device does this",
            ),
            Some(entry) => match context.clock.over() {
                Some(over) => {
                    Record::not_run(canary.name, &entry.kernel, &entry.family, &over.reason())
                }
                None => smoke::kernel(context, canary.name, entry, Some(&entry.label)),
            },
        };
        say(format_args!("canary {}: {}", record.name, record.words()))?;
        records.retain(|old| old.name != record.name);
        records.push(record);
        save(records);
    }
    Ok(())
}

/// The entry of a canary.
fn entry<'a>(canary: &Canary, list: &'a List, context: &Context) -> Option<&'a Entry> {
    list.entries.iter().find(|entry| {
        entry.family == canary.family
            && entry.label.contains(canary.label)
            && entry.kernel.contains(canary.kernel)
            && context.takes(&entry.kernel)
    })
}
