//! The canaries: one small problem per mechanism, each in a process of its own, before all else.

use super::Context;
use super::clock::Over;
use super::record::{Outcome, Record};
use super::smoke::{self, Entry, List};
use crate::exit::Failure;
use crate::output::say;

/// Selects an entry of the smoke list.
#[derive(Clone, Copy, Debug)]
struct Canary {
    name: &'static str,
    /// Families, of which the first that the device runs is taken.
    families: &'static [&'static str],
    label: &'static str,
    /// Part of the kernel's id.
    kernel: &'static str,
}

const fn canary(
    name: &'static str,
    families: &'static [&'static str],
    label: &'static str,
    kernel: &'static str,
) -> Canary {
    Canary {
        name,
        families,
        label,
        kernel,
    }
}

/// Families that have each option: the newest that the device runs is taken.
const TENSOR_CORES: &[&str] = &["wgmma", "mma"];

/// The canaries, the simplest mechanism first.
const CANARIES: &[Canary] = &[
    canary("relu", &["relu"], "plain", ""),
    canary("f32 1x1", &["1x1"], "plain", ""),
    canary("mma", &["mma"], "plain", ""),
    canary("tiled bulk copy", &["wgmma"], "1x1", ""),
    canary("im2col with padding", &["wgmma"], "plain 3x3", ""),
    canary(
        "stride 2, asymmetric padding",
        TENSOR_CORES,
        "stride 2, asymmetric padding",
        "",
    ),
    canary("residual", TENSOR_CORES, "residual", ""),
    canary("three splits", TENSOR_CORES, "split-K 3", ""),
    canary(
        "gather, 2 bytes",
        &["wgmma_gather"],
        "plain",
        "nhwc_128x128x64_v2_",
    ),
    canary(
        "gather, 4 bytes",
        &["wgmma_gather"],
        "plain",
        "nhwc_128x128x64_v4_",
    ),
    canary(
        "gather, 8 bytes",
        &["wgmma_gather"],
        "plain",
        "nhwc_128x128x64_v8_",
    ),
    canary(
        "gather, 16 bytes",
        &["wgmma_gather"],
        "plain",
        "nhwc_128x128x64_v16_",
    ),
    canary("gather, NCHW", &["wgmma_gather"], "plain", "nchw"),
    canary("bottleneck, mma", &["bottleneck"], "plain", ""),
    canary("bottleneck, wgmma", &["bottleneck_wgmma"], "plain", ""),
    canary("branches", &["mma_multi_conv"], "plain", ""),
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
        let record = one(context, canary, list);
        say(format_args!("canary {}: {}", record.name, record.words()))?;
        records.retain(|old| old.name != record.name);
        records.push(record);
        save(records);
    }
    Ok(())
}

/// Runs a canary, or tells why not.
fn one(context: &Context, canary: &Canary, list: &List) -> Record {
    let Some(entry) = entry(canary, list) else {
        let family = canary.families.first().copied().unwrap_or_default();
        let why = "the device runs no such kernel";
        return Record::not_run(canary.name, "", family, why);
    };
    let why = match context.takes(&entry.kernel) {
        false => Some("excluded".to_owned()),
        true => context.clock.over().map(Over::reason),
    };
    match why {
        Some(why) => Record::not_run(canary.name, &entry.kernel, &entry.family, &why),
        None => smoke::kernel(context, canary.name, entry, Some(&entry.label)),
    }
}

/// The entry of a canary.
fn entry<'a>(canary: &Canary, list: &'a List) -> Option<&'a Entry> {
    let of = |family: &str| {
        list.entries.iter().find(|entry| {
            entry.family == family
                && is_labelled(&entry.label, canary.label)
                && entry.kernel.contains(canary.kernel)
        })
    };
    canary.families.iter().find_map(|family| of(family))
}

/// Returns whether a label is the canary's, which may be followed by a filter or a layout.
fn is_labelled(label: &str, canary: &str) -> bool {
    let rest = label.strip_prefix(canary);
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with([',', ' ']))
}

#[cfg(test)]
mod tests {
    use warpconv::plan::Capability;
    use warpconv_testing::smoke;

    use super::*;

    #[test]
    fn every_canary_is_in_the_smoke_list() {
        let capability = Capability::h200();
        let entries = smoke::list(&capability).into_iter().map(|case| Entry {
            kernel: case.kernel.kernel().name(),
            family: case.kernel.kernel().algorithm.name().to_owned(),
            label: case.label,
            problem: case.problem.to_string(),
        });
        let list = List {
            entries: entries.collect(),
            ..List::default()
        };
        let mut taken = Vec::new();
        for canary in CANARIES {
            let entry = entry(canary, &list);
            let entry = entry.unwrap_or_else(|| panic!("no entry for {}", canary.name));
            taken.push((&entry.kernel, &entry.label));
        }
        let count = taken.len();
        taken.sort();
        taken.dedup();
        assert_eq!(taken.len(), count, "two canaries are the same");
    }
}
