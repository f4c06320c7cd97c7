//! Inception modules in the forms of [`warpconv::ops::Inception`]: two launches and three.

use half::{bf16, f16};
use warpconv::device::Gpu;
use warpconv::graph::{Graph, TensorId};
use warpconv::kernels::Math;
use warpconv::ops::Inception;
use warpconv::plan::Tuning;
use warpconv::problem::FilterLayout;
use warpconv::{DType, Error, Layout};
use warpconv_testing::{GraphOnDevice, Operands, Stored};

use super::Context;
use super::case::Case;
use super::cases::Prepared;
use super::execute::{Ran, Tensors};
use super::graph::{Op, Step, Tensor, Window, steps};
use super::lower::{Shapes, Storage, extents};
use super::modules::{plain, readers};
use super::report::{Report, Steps};
use crate::exit::Failure;

/// The forms, by how they are asked for and reported. Of a form the order of its weights, by their
/// number in [`Found::weights`].
const FORMS: [(Steps, MakeGraph, [usize; 6]); 2] = [
    (Steps::Modules, Inception::fused, [0, 1, 2, 3, 4, 5]),
    (
        Steps::InThree,
        Inception::fused_in_three,
        [0, 1, 2, 4, 5, 3],
    ),
];

/// Makes the graph of a form.
type MakeGraph = fn(&Inception) -> Result<Graph, Error>;

/// Runs a case that is an inception module, in every type, layout and mode that has kernels for it,
/// with the plans' kernels. Skips other cases, and options that name a kernel, a split-K or a
/// filter layout.
pub fn case(
    context: &Context,
    label: &str,
    case: &Case,
    report: &mut Report<'_>,
) -> Result<(), Failure> {
    let select = &context.select;
    let named = select.kernel.is_some() || select.split_k.is_some();
    let fused = steps(&case.layers, Steps::Fused);
    let shapes: Shapes = case
        .tensors
        .iter()
        .map(|(name, tensor)| (name.clone(), tensor.shape.clone()))
        .collect();
    let found = match Found::new(&fused, &shapes) {
        Some(found) if !named && select.filter_layout.is_none() => found,
        _ => return Ok(()),
    };
    // Intermediate tensors of the launches are not available for comparison.
    if case.expected.iter().any(|e| e.tensor != found.output) {
        return Ok(());
    }
    let dtypes = case.dtypes.iter().copied();
    for dtype in dtypes.filter(|dtype| select.dtypes.contains(dtype)) {
        for &layout in &select.layouts {
            for math in select.maths(dtype).filter(|math| case.maths.contains(math)) {
                for (cut, form, order) in FORMS {
                    if select.steps.is_some_and(|only| only != cut) {
                        continue;
                    }
                    let run = Run {
                        found: &found,
                        form,
                        order,
                        prepared: Prepared {
                            steps: fused.clone(),
                            problems: Vec::new(),
                            shapes: shapes.clone(),
                            storage: Storage {
                                dtype,
                                layout,
                                filter_layout: FilterLayout::Packed,
                                math,
                            },
                            filter_layout: None,
                            cut: Some(cut),
                        },
                    };
                    run.report(context, label, case, report)?;
                }
            }
        }
    }
    Ok(())
}

/// A module in one form and one storage.
struct Run<'a> {
    found: &'a Found,
    form: MakeGraph,
    order: [usize; 6],
    prepared: Prepared,
}

impl Run<'_> {
    /// Runs the module, compares it and reports the outcome; does nothing if no kernel accepts it.
    fn report(
        &self,
        context: &Context,
        label: &str,
        case: &Case,
        report: &mut Report<'_>,
    ) -> Result<(), Failure> {
        let mut variation = self.prepared.variation(None, None);
        let Storage {
            dtype,
            layout,
            math,
            ..
        } = self.prepared.storage;
        variation.math = Some(math);
        let module = self.found.module(self.form, dtype, layout, math);
        let planned = module.and_then(|module| {
            module.estimate(&context.capability)?;
            Ok(module)
        });
        let module = match planned {
            Ok(module) => module,
            Err(Error::NoKernel { .. }) => return Ok(()),
            Err(error) => {
                return context.fail(report, label, &case.op, &variation, &error.to_string());
            }
        };
        let outcome = context.gpu().and_then(|gpu| {
            let made = match dtype {
                DType::F32 => self.run::<f32>(&gpu, &module, &case.tensors),
                DType::F16 => self.run::<f16>(&gpu, &module, &case.tensors),
                DType::Bf16 => self.run::<bf16>(&gpu, &module, &case.tensors),
            };
            let ran = Ran {
                tensors: Tensors::from([(self.found.output.clone(), made?)]),
                convs: Vec::new(),
                host: Vec::new(),
            };
            self.prepared.compare(case, &ran)
        });
        match outcome {
            Ok(stats) => {
                report.pass(label, &case.op, &variation, stats);
                Ok(())
            }
            Err(why) => context.fail(report, label, &case.op, &variation, &why),
        }
    }

    /// Results of the graph for the case's tensors.
    fn run<T: Stored>(&self, gpu: &Gpu, module: &Graph, given: &Tensors) -> Result<Tensor, String> {
        let values = |name: &String| match given.get(name) {
            Some(tensor) => Ok(tensor.data.clone()),
            None => Err(format!("no tensor `{name}`")),
        };
        let mut operands = Vec::new();
        for index in self.order {
            let [w, bias] = &self.found.weights[index];
            operands.push(Operands {
                w: values(w)?,
                bias: Some(values(bias)?),
            });
        }
        let x = values(&self.found.input)?;
        let computed = || -> Result<Tensor, Error> {
            let (stream, tuning) = (gpu.stream(), Tuning::new(gpu.card()));
            let mut loaded = GraphOnDevice::<T>::with(gpu, stream, module, &tuning, &x, operands)?;
            loaded.launch()?;
            Ok(joined(module, &loaded.outputs()?))
        };
        computed().map_err(|error| error.to_string())
    }
}

/// Joins the slices of a graph's output, dense NCHW; NaN where there is no slice.
fn joined(module: &Graph, slices: &[(usize, Vec<f64>)]) -> Tensor {
    let written = module.nodes().iter().flat_map(|node| node.writes());
    let written = written.filter(|(place, _)| *place == TensorId::Output);
    let mut shape = vec![0; 4];
    let mut data = vec![f64::NAN; module.output_len()];
    for ((_, desc), (_, slice)) in written.zip(slices) {
        let (channels, plane) = (desc.channel_pitch(), desc.h() * desc.w());
        shape = vec![desc.n(), channels, desc.h(), desc.w()];
        for image in 0..desc.n() {
            let from = &slice[image * desc.c() * plane..][..desc.c() * plane];
            let at = (image * channels + desc.channel_offset()) * plane;
            data[at..][..from.len()].copy_from_slice(from);
        }
    }
    Tensor { shape, data }
}

/// An inception module found in a graph.
struct Found {
    problem: Inception,
    input: String,
    output: String,
    /// Names of filters and bias of 1x1, both reductions, the projection, 3x3 and 5x5.
    weights: [[String; 2]; 6],
}

impl Found {
    /// Matches all steps of a graph with a module: 1x1, 3x3 and 5x5 with their reductions, 3x3 max
    /// pooling with its projection, and the concatenation of the four.
    fn new(steps: &[Step], shapes: &Shapes) -> Option<Found> {
        let [one, reduce3, three, reduce5, five, pool, projection, concat] = steps else {
            return None;
        };
        let convolutions = [
            (one, 1),
            (reduce3, 1),
            (reduce5, 1),
            (projection, 1),
            (three, 3),
            (five, 5),
        ];
        for (step, size) in convolutions {
            let simple = plain(step, shapes, size) == Some(1) && step.relu;
            if !simple || step.residual.is_some() || step.layer.inputs.len() != 3 {
                return None;
            }
        }
        let neighbours = Window {
            size: [3, 3],
            stride: [1, 1],
            pad: [1; 4],
            dilation: [1, 1],
            ceil: false,
        };
        let Op::MaxPool {
            window,
            indices: false,
        } = pool.layer.op
        else {
            return None;
        };
        let input = &one.layer.inputs[0];
        let chained = |from: &Step, to: &Step| {
            to.layer.inputs[0] == from.layer.output && readers(steps, &from.layer.output) == 1
        };
        let branches = [one, three, five, projection];
        let side_by_side = concat.layer.op == Op::Concat
            && concat
                .layer
                .inputs
                .iter()
                .eq(branches.map(|step| &step.layer.output));
        let reads_input = [reduce3, reduce5, pool]
            .iter()
            .all(|step| step.layer.inputs[0] == *input);
        let chains = [(reduce3, three), (reduce5, five), (pool, projection)];
        let fits = window == neighbours
            && side_by_side
            && reads_input
            && chains.into_iter().all(|(from, to)| chained(from, to));
        if !fits {
            return None;
        }
        let [n, c, h, w] = extents(shapes, input).ok()?;
        let filters = |step: &Step| Some(extents(shapes, &step.layer.inputs[1]).ok()?[0]);
        let weights = convolutions
            .map(|(step, _)| [step.layer.inputs[1].clone(), step.layer.inputs[2].clone()]);
        Some(Found {
            problem: Inception {
                c,
                k1: filters(one)?,
                reduce3: filters(reduce3)?,
                k3: filters(three)?,
                reduce5: filters(reduce5)?,
                k5: filters(five)?,
                pool_projection: filters(projection)?,
                ..Inception::inception_3a(n, h, w)
            },
            input: input.clone(),
            output: concat.layer.output.clone(),
            weights,
        })
    }

    /// Its launches.
    fn module(
        &self,
        form: MakeGraph,
        dtype: DType,
        layout: Layout,
        math: Math,
    ) -> Result<Graph, Error> {
        let problem = Inception {
            dtype,
            layout,
            math,
            ..self.problem
        };
        form(&problem)
    }
}

#[cfg(test)]
mod tests {
    use super::super::graph::parse;
    use super::*;
    use serde_json::{Value, json};

    fn graph(pooled: usize, order: [&str; 4]) -> Vec<Step> {
        let mut layers = Vec::new();
        for (name, input, size) in [
            ("a", "x", 1),
            ("b0", "x", 1),
            ("b", "b0", 3),
            ("c0", "x", 1),
            ("c", "c0", 5),
            ("d0", "x", 0),
            ("d", "d0", 1),
        ] {
            let raw = format!("{name} raw");
            let pad = [size / 2; 4];
            layers.extend(match size {
                0 => vec![json!({"op": "maxpool2d", "inputs": [input], "output": name,
                           "params": {"kernel": [pooled, pooled], "pad": [1, 1, 1, 1]}})],
                _ => vec![
                    json!({"op": "conv2d", "output": raw, "params": {"pad": pad},
                           "inputs": [input, format!("w {name}"), format!("bias {name}")]}),
                    json!({"op": "relu", "inputs": [raw], "output": name}),
                ],
            });
        }
        layers.push(json!({"op": "concat", "inputs": order, "output": "y"}));
        steps(&parse(&Value::from(layers)).expect("a graph"), Steps::Fused)
    }

    fn shapes() -> Shapes {
        [
            ("x", [2, 9, 4, 5]),
            ("w a", [1, 9, 1, 1]),
            ("w b0", [2, 9, 1, 1]),
            ("w b", [3, 2, 3, 3]),
            ("w c0", [4, 9, 1, 1]),
            ("w c", [5, 4, 5, 5]),
            ("w d", [6, 9, 1, 1]),
        ]
        .into_iter()
        .map(|(name, shape)| (name.to_owned(), shape.to_vec()))
        .collect()
    }

    #[test]
    fn a_module_is_found_and_what_is_none_is_not() {
        let found = Found::new(&graph(3, ["a", "b", "c", "d"]), &shapes()).expect("a module");
        let want = Inception {
            c: 9,
            k1: 1,
            reduce3: 2,
            k3: 3,
            reduce5: 4,
            k5: 5,
            pool_projection: 6,
            ..Inception::inception_3a(2, 4, 5)
        };
        assert_eq!(found.problem, want);
        assert_eq!((&found.input[..], &found.output[..]), ("x", "y"));
        let filters = found.weights.map(|[w, _]| w);
        assert_eq!(filters, ["w a", "w b0", "w c0", "w d", "w b", "w c"]);
        assert!(Found::new(&graph(2, ["a", "b", "c", "d"]), &shapes()).is_none());
        assert!(Found::new(&graph(3, ["b", "a", "c", "d"]), &shapes()).is_none());
    }

    /// The weights are in the order of each form.
    #[test]
    fn weights_come_in_the_order_of_the_form() {
        let found = Found::new(&graph(3, ["a", "b", "c", "d"]), &shapes()).expect("a module");
        for (_, form, order) in FORMS {
            let module = found.module(form, DType::Bf16, Layout::Nhwc, Math::Strict);
            let weights = module.expect("a valid module").weights();
            let shapes = shapes();
            for (conv, index) in weights.iter().zip(order) {
                let want = extents(&shapes, &found.weights[index][0]);
                assert_eq!(
                    Ok([
                        conv.output().c(),
                        conv.input().c(),
                        conv.filter().r,
                        conv.filter().s
                    ]),
                    want
                );
            }
        }
    }
}
