//! Runs cases and networks in every type, layout and kernel.

mod kernel_sampling;
mod size;

pub(super) use kernel_sampling::RoundRobin;

use std::collections::HashMap;

use warpconv::graph::Step;
use warpconv::kernels::{KernelId, Math};
use warpconv::plan::Capability;
use warpconv::problem::FilterLayout;
use warpconv::{DType, Layout};
use warpconv_nets::Network;
use warpconv_testing as check;
use warpconv_testing::reference;
use warpconv_testing::{Stats, Tolerance};

use super::activation::subsampled;
use super::case::{Acceptance, Case, Expected};
use super::execute::{Executor, Ran, Tensors, in_plane};
use super::layers::{Launch, Tensor, one_per_layer, with_epilogues};
use super::lower::{Shapes, Storage, extents, lower};
use super::network::{self, network};
use super::real::Classified;
use super::report::{Report, Steps, Variation};
use super::{Context, Selection};
use crate::exit::Failure;

/// Factor on a sum's f32 error bound for tf32x3. It covers three products instead of one, additions
/// truncated at 2^-23 instead of rounded to 2^-24, and a quarter more additions within
/// instructions; see [`Math`].
const THRICE: f64 = 8.0;

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
    let natural = |layout| match layout {
        Layout::Nchw => FilterLayout::Kcrs,
        Layout::Nhwc => FilterLayout::Krsc,
    };
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
                convs: Vec::new(),
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

    /// Compares every result with the stored one, or with the reference.
    pub fn compare(&self, case: &Case, ran: &Ran) -> Result<Stats, String> {
        let mut worst = Stats::default();
        for expected in &case.expected {
            let name = &expected.tensor;
            let got = ran
                .tensors
                .get(name)
                .ok_or_else(|| format!("no result `{name}`"))?;
            let stats =
                self.judge_one(case, expected, got, &ran.convs)
                    .map_err(|why| match case.expected.len() {
                        1 => why,
                        _ => format!("{}: {why}", name.rsplit('#').next().unwrap_or(name)),
                    })?;
            worst.elements += stats.elements;
            worst.max_abs = worst.max_abs.max(stats.max_abs);
            worst.max_rel = worst.max_rel.max(stats.max_rel);
            worst.rel_l2 = worst.rel_l2.max(stats.rel_l2);
        }
        Ok(worst)
    }

    /// Compares one result.
    fn judge_one(
        &self,
        case: &Case,
        expected: &Expected,
        got: &Tensor,
        convs: &[(KernelId, u32)],
    ) -> Result<Stats, String> {
        let dtype = self.storage.dtype;
        let want = &expected.values;
        let extents = extents(&HashMap::from([(String::new(), got.shape.clone())]), "")?;
        let indices = expected.tensor.ends_with("#indices");
        let rule = match self.storage.math {
            Math::Strict => expected.acceptance.get(dtype.name()).copied(),
            Math::Tf32 => expected.acceptance.get("tf32").copied(),
            Math::Tf32x3 => self.thrice(expected.acceptance.get(dtype.name())),
        };
        let (dtype, rule) = match rule {
            Some(Acceptance::Skip) => return Ok(Stats::default()),
            // Indices are not values of the storage type.
            Some(Acceptance::Exact) if indices => (DType::F32, Tolerance::Exact),
            Some(Acceptance::Exact) => (dtype, Tolerance::Exact),
            Some(Acceptance::Close { atol, rtol, rel_l2 }) => {
                (dtype, Tolerance::Close { atol, rtol, rel_l2 })
            }
            None => return self.judge_by_reference(case, got, extents, indices, convs),
        };
        check::compare(&got.data, &want.data, extents, dtype, rule)
            .map_err(|mismatch| mismatch.to_string())
    }

    /// Acceptance for tf32x3, derived from the stored rule for f32. Exact results stay exact, a
    /// single convolution is compared with the reference, a graph has eight times the bound.
    fn thrice(&self, f32_rule: Option<&Acceptance>) -> Option<Acceptance> {
        let single = matches!(&self.launches[..], [launch] if launch.residual.is_none());
        match f32_rule {
            Some(Acceptance::Close { .. }) if single => None,
            Some(&Acceptance::Close { atol, rtol, rel_l2 }) => Some(Acceptance::Close {
                atol: atol.map(|atol| THRICE * atol),
                rtol: THRICE * rtol,
                rel_l2: rel_l2.map(|rel_l2| THRICE * rel_l2),
            }),
            rule => rule.copied(),
        }
    }

    /// Compares the result of a single layer with the f64 reference of its rounded inputs, within
    /// the rounding bound of its sums: for types without stored rules.
    fn judge_by_reference(
        &self,
        case: &Case,
        got: &Tensor,
        extents: [usize; 4],
        indices: bool,
        convs: &[(KernelId, u32)],
    ) -> Result<Stats, String> {
        let ([launch], [Some(step)]) = (&self.launches[..], &self.steps[..]) else {
            return Err(format!(
                "no result is stored for {}",
                self.storage.dtype.name()
            ));
        };
        let dtype = self.storage.dtype;
        let input = |index: usize| rounded(&case.tensors, launch.layer.inputs.get(index), dtype);
        let x = input(0).ok_or("no input")?;
        let wrong = |error: warpconv::Error| error.to_string();
        let compared = match step {
            Step::Conv(conv) => {
                let (w, bias) = (input(1).ok_or("no filters")?, input(2));
                let values =
                    reference::conv2d(conv, &x, &w, bias.as_deref(), None).map_err(wrong)?;
                let magnitudes =
                    reference::conv2d_abs(conv, &x, &w, bias.as_deref(), None).map_err(wrong)?;
                let &[(kernel, split_k)] = convs else {
                    return Err("no convolution ran".to_owned());
                };
                let tolerance = Tolerance::of_conv(conv, kernel.kernel(), split_k, &magnitudes);
                check::compare(&got.data, &values, extents, dtype, tolerance)
            }
            Step::Pool(pool) => {
                let (values, positions) = reference::pool2d(pool, &x).map_err(wrong)?;
                if indices {
                    let wanted = in_plane(pool, &positions.unwrap_or_default());
                    check::compare(&got.data, &wanted, extents, DType::F32, Tolerance::Exact)
                } else {
                    let magnitudes = reference::pool2d_abs(pool, &x).map_err(wrong)?;
                    let tolerance = Tolerance::of_pool(pool, &magnitudes);
                    check::compare(&got.data, &values, extents, dtype, tolerance)
                }
            }
            Step::Relu(_) => check::compare(
                &got.data,
                &reference::relu(&x),
                extents,
                dtype,
                Tolerance::Exact,
            ),
            Step::Lrn(lrn) => {
                let values = reference::lrn(lrn, &x).map_err(wrong)?;
                let bounds = reference::lrn_bound(lrn, &x).map_err(wrong)?;
                let tolerance = Tolerance::Off { sums: &bounds };
                check::compare(&got.data, &values, extents, dtype, tolerance)
            }
            Step::Softmax(softmax) => {
                let values = reference::softmax(softmax, &x).map_err(wrong)?;
                let bounds = reference::softmax_bound(softmax, &x).map_err(wrong)?;
                let tolerance = Tolerance::Off { sums: &bounds };
                check::compare(&got.data, &values, extents, dtype, tolerance)
            }
            Step::Tanh(tanh) => {
                let (values, bounds) = (reference::tanh(tanh, &x), reference::tanh_bound(tanh, &x));
                let tolerance = Tolerance::Off { sums: &bounds };
                check::compare(&got.data, &values, extents, dtype, tolerance)
            }
            Step::Subsample(made) => {
                let (w, b) = (
                    input(1).ok_or("no coefficients")?,
                    input(2).ok_or("no biases")?,
                );
                let (values, bounds) = subsampled(made, [&x, &w, &b]).map_err(wrong)?;
                let tolerance = Tolerance::Off { sums: &bounds };
                check::compare(&got.data, &values, extents, dtype, tolerance)
            }
            Step::Bottleneck(_) | Step::Branches(_) => {
                return Err("no result is stored for a fused step".to_owned());
            }
        };
        compared.map_err(|mismatch| mismatch.to_string())
    }

    /// Checks the classes of a network.
    fn classes(&self, network: &Classified, ran: &Ran, stats: Stats) -> Result<String, String> {
        let expected = network
            .case
            .expected
            .first()
            .ok_or("no logits are stored")?;
        let got = ran.tensors.get(&expected.tensor).ok_or("no logits")?;
        // f32 has no slack: a class other than the reference's is an error of the arithmetic.
        let slack = if self.storage.dtype == DType::F32 {
            0.0
        } else {
            stats.max_abs
        };
        network
            .classes
            .compare(&got.data, &expected.values.data, slack)
    }
}

/// A tensor rounded to the storage type.
fn rounded(tensors: &Tensors, name: Option<&String>, dtype: DType) -> Option<Vec<f64>> {
    let tensor = tensors.get(name?)?;
    Some(
        tensor
            .data
            .iter()
            .map(|&value| check::round(dtype, value))
            .collect(),
    )
}
