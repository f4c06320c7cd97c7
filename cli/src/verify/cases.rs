//! Runs cases and networks in every type, layout and kernel.

mod comparison;
mod kernel_sampling;
mod size;

pub(super) use kernel_sampling::RoundRobin;

use warpconv::graph::Step;
use warpconv::kernels::{KernelId, Math};
use warpconv::plan::Capability;
use warpconv::problem::FilterLayout;
use warpconv_nets::Network;

use super::case::Case;
use super::execute::{Executor, Ran, Tensors};
use super::layers::{Launch, Tensor, one_per_layer, with_epilogues};
use super::lower::{Shapes, Storage, lower, natural};
use super::network::{self, network};
use super::real::Classified;
use super::report::{Report, Steps, Variation};
use super::{Context, Selection};
use crate::exit::Failure;

/// Runs a case with every kernel that accepts any of its layers.
pub fn case(
    context: &Context,
    label: &str,
    case: &Case,
    report: &mut Report<'_>,
) -> Result<(), Failure> {
    // Unsupported types are reported only if the options name no types.
    for other in case
        .other_dtypes
        .iter()
        .filter(|_| !context.select.named_dtypes)
    {
        report.skip(label, format!("{other}: no kernel of this type yet"));
    }
    let (storages, before) = (storages(context, case, true), report.checks());
    each(
        context,
        label,
        case,
        &storages,
        report,
        &mut |prepared, report| {
            for (kernel, split_k) in prepared.choices(context, label, report) {
                let variation = prepared.variation(kernel, split_k);
                let outcome = prepared
                    .run(context, case, kernel, split_k)
                    .and_then(|ran| {
                        report.on_host(&ran.host);
                        prepared.compare(case, &ran)
                    });
                match outcome {
                    Ok(stats) => report.pass(label, &case.op, &variation, stats),
                    Err(why) => context.fail(report, label, &case.op, &variation, &why)?,
                }
            }
            Ok(())
        },
    )?;
    nothing_cut(context, label, case, before, report);
    Ok(())
}

/// Reports a case without any check since `before`, if `--steps` is the reason.
fn nothing_cut(
    context: &Context,
    label: &str,
    case: &Case,
    before: usize,
    report: &mut Report<'_>,
) {
    if let Some(steps) = context.select.steps
        && !case.one_operation
        && report.checks() == before
    {
        let name = steps.name();
        report.skip(
            label,
            format!("graphs that cannot be cut this way within the other options (--steps {name})"),
        );
    }
}

/// Runs a network with the kernels of its layers' plans, in every type and layout.
pub fn classified(
    context: &Context,
    label: &str,
    network: &Classified,
    report: &mut Report<'_>,
) -> Result<(), Failure> {
    let case = &network.case;
    let (storages, before) = (storages(context, case, false), report.checks());
    each(
        context,
        label,
        case,
        &storages,
        report,
        &mut |prepared, report| {
            let (kernel, split_k) = (context.select.kernel, context.select.split_k);
            let variation = prepared.variation(kernel, split_k);
            let outcome = prepared
                .run(context, case, kernel, split_k)
                .and_then(|ran| {
                    report.on_host(&ran.host);
                    let stats = prepared.compare(case, &ran)?;
                    let answer = prepared.classes(network, &ran, stats)?;
                    Ok((stats, answer))
                });
            match outcome {
                Ok((stats, answer)) => {
                    report.pass(label, &case.op, &variation, stats);
                    report.note(&format!(
                        "{label} {} {}: {answer}",
                        variation.dtype.name(),
                        variation.layout.name()
                    ))
                }
                Err(why) => context.fail(report, label, &case.op, &variation, &why),
            }
        },
    )?;
    nothing_cut(context, label, case, before, report);
    Ok(())
}

/// A case cut into launches, in one storage.
pub(super) struct Prepared {
    pub launches: Vec<Launch>,
    /// The step of each launch; `None` where the host computes it.
    pub steps: Vec<Option<Step>>,
    /// The graph that runs; `None` if the launches run by themselves.
    pub network: Option<Network>,
    pub shapes: Shapes,
    pub storage: Storage,
    /// The layout of the filters if there are any, and the cut of a graph into launches.
    pub filter_layout: Option<FilterLayout>,
    pub cut: Option<Steps>,
}

/// The types, layouts, filter layouts and cuts that the options and the case permit. With `every`,
/// all pairs of layouts; otherwise filters have the layout that matches the activations, and graphs
/// are only fused.
fn storages(context: &Context, case: &Case, every: bool) -> Vec<(Storage, Option<Steps>)> {
    let select = &context.select;
    let cuts = match select.steps {
        _ if case.one_operation => vec![None],
        Some(only) => vec![Some(only)],
        None if every => Steps::ALL.map(Some).to_vec(),
        None => vec![Some(Steps::Fused)],
    };
    let mut storages = Vec::new();
    for &dtype in case
        .dtypes
        .iter()
        .filter(|dtype| select.dtypes.contains(dtype))
    {
        for &layout in &select.layouts {
            let filter_layouts = match select.filter_layout {
                Some(only) => vec![only],
                None if every && has_filters(case) => FilterLayout::ALL.to_vec(),
                None => vec![natural(layout)],
            };
            // Without filters there are no multiplications, hence no modes.
            let maths: Vec<Math> = select
                .maths(dtype)
                .filter(|math| case.maths.contains(math))
                .filter(|&math| math == Math::Strict || has_filters(case))
                .collect();
            for filter_layout in filter_layouts {
                for &math in &maths {
                    let storage = Storage {
                        dtype,
                        layout,
                        filter_layout,
                        math,
                    };
                    // Only users of whole modules pack filters beforehand.
                    let packed = |cut| matches!(cut, Some(Steps::Modules | Steps::InThree));
                    let named = select.filter_layout.is_some();
                    let cuts = cuts.iter().filter(|&&cut| {
                        named || filter_layout != FilterLayout::Packed || packed(cut)
                    });
                    storages.extend(cuts.map(|&cut| (storage, cut)));
                }
            }
        }
    }
    storages
}

/// Returns whether any layer multiplies by filters.
fn has_filters(case: &Case) -> bool {
    case.layers.iter().any(|layer| layer.op.has_filters())
}

/// Calls `check` for the case in each of the storages and cuts.
fn each(
    context: &Context,
    label: &str,
    case: &Case,
    storages: &[(Storage, Option<Steps>)],
    report: &mut Report<'_>,
    check: &mut dyn FnMut(&Prepared, &mut Report<'_>) -> Result<(), Failure>,
) -> Result<(), Failure> {
    for &(storage, cut) in storages {
        let filter_layout = has_filters(case).then_some(storage.filter_layout);
        match Prepared::new(case, storage, filter_layout, cut, &context.capability) {
            Ok(None) => {}
            Ok(Some(prepared)) if prepared.is_too_large(&context.select) => {
                report.skip(label, size::too_large(&context.select));
            }
            Ok(Some(prepared)) => check(&prepared, report)?,
            Err(why) => {
                let (dtype, layout) = (storage.dtype, storage.layout);
                let variation = Variation {
                    dtype,
                    layout,
                    filter_layout,
                    math: filter_layout.map(|_| storage.math),
                    kernel: None,
                    split_k: None,
                    steps: cut,
                };
                context.fail(report, label, &case.op, &variation, &why)?;
            }
        }
    }
    Ok(())
}

impl Prepared {
    /// Cuts a case into launches; `None` if the cut does not apply to it.
    fn new(
        case: &Case,
        storage: Storage,
        filter_layout: Option<FilterLayout>,
        cut: Option<Steps>,
        device: &Capability,
    ) -> Result<Option<Prepared>, String> {
        let launches = match cut {
            Some(Steps::Layers) => one_per_layer(&case.layers),
            _ => with_epilogues(&case.layers),
        };
        let shape = |(name, tensor): (&String, &Tensor)| (name.clone(), tensor.shape.clone());
        let mut shapes: Shapes = case.tensors.iter().map(shape).collect();
        let steps = lower(&launches, &mut shapes, storage)?;
        let network = cut.and_then(|cut| network(&launches, &shapes, storage, cut, device));
        if network.is_none() && matches!(cut, Some(Steps::Modules | Steps::InThree)) {
            return Ok(None);
        }
        Ok(Some(Prepared {
            launches,
            steps,
            network,
            shapes,
            storage,
            filter_layout,
            cut,
        }))
    }

    /// The steps that the check is about: of whole modules those that are fused, since the others
    /// run in the other cuts.
    fn checked_steps(&self) -> Vec<&Step> {
        let is_fused = |step: &Step| matches!(step, Step::Bottleneck(_) | Step::Branches(_));
        match &self.network {
            None => self.steps.iter().flatten().collect(),
            Some(network) => {
                let steps = network.graph().nodes().iter().map(|node| &node.step);
                let all = self.cut == Some(Steps::Fused);
                steps.filter(|step| all || is_fused(step)).collect()
            }
        }
    }

    /// Returns whether the case exceeds the limits of the options.
    fn is_too_large(&self, select: &Selection) -> bool {
        size::is_too_large(select, self.steps.iter().flatten(), &self.shapes)
    }

    /// The variation of a run with the kernel, for the report.
    pub fn variation(&self, kernel: Option<KernelId>, split_k: Option<u32>) -> Variation {
        Variation {
            dtype: self.storage.dtype,
            layout: self.storage.layout,
            filter_layout: self.filter_layout,
            math: self.filter_layout.map(|_| self.storage.math),
            kernel: kernel.map(|kernel| kernel.kernel().name()),
            split_k,
            steps: self.cut,
        }
    }

    /// Runs the case on the device.
    fn run(
        &self,
        context: &Context,
        case: &Case,
        kernel: Option<KernelId>,
        split_k: Option<u32>,
    ) -> Result<Ran, String> {
        let gpu = context.gpu()?;
        if let Some(network) = &self.network {
            let forced = (kernel, split_k);
            let data = network::run(&gpu, network, &self.launches, &case.tensors, forced)?;
            let output = self
                .launches
                .last()
                .map(|launch| launch.layer.output.clone());
            let output = output.unwrap_or_default();
            let shape = self.shapes.get(&output).cloned().unwrap_or_default();
            return Ok(Ran {
                tensors: Tensors::from([(output, Tensor { shape, data })]),
                launched: Vec::new(),
                host: Vec::new(),
            });
        }
        let executor = Executor {
            gpu: &gpu,
            launches: &self.launches,
            steps: &self.steps,
            shapes: &self.shapes,
            dtype: self.storage.dtype,
            kernel,
            split_k,
        };
        executor.run(&case.tensors)
    }
}
