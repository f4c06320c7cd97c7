//! Fields to problems.

use super::NotationReason;
use super::scan::{Fields, RawAxis, Word};
use crate::error::Error;
use crate::problem::{Axis, Builder, Conv2d, FilterLayout, Padding, Pool2d, PoolKind};
use crate::problem::{DType, Layout, Math};

/// The batch of a problem that names none.
const DEFAULT_IMAGES: u64 = 2;

/// The two axes of a problem, resolved, with the output sizes that were given.
struct Window {
    axes: [Axis; 2],
    outputs: [Option<u64>; 2],
}

/// Builds a convolution.
pub(super) fn conv(fields: &Fields) -> Result<Conv2d, Error> {
    let channels = fields.channels.ok_or_else(|| fields.missing("ic"))?;
    let filters = fields.filters.ok_or_else(|| fields.missing("oc"))?;
    let raw = two_axes(fields)?;
    let window = window(fields, &raw, false)?;
    let [rows, columns] = window.axes;
    let mut builder = Conv2d::builder()
        .input(
            size(fields, "mb", images(fields))?,
            size(fields, "ic", channels)?,
            rows.input,
            columns.input,
        )
        .filters(size(fields, "oc", filters)?)
        .groups(size(fields, "g", fields.groups.unwrap_or(1))?)
        .kernel(rows.window, columns.window)
        .stride(rows.stride, columns.stride)
        .dilation(rows.dilation, columns.dilation)
        .padding(padding(&window.axes));
    for word in &fields.words {
        builder = match word.word {
            "bias" => builder.bias(true),
            "relu" => builder.relu(true),
            "residual" => match slice(word) {
                Some((pitch, offset)) => builder.residual_slice(pitch, offset),
                None => builder.residual(true),
            },
            "kcrs" => builder.filter_layout(FilterLayout::Kcrs),
            "krsc" => builder.filter_layout(FilterLayout::Krsc),
            "packed" => builder.filter_layout(FilterLayout::Packed),
            "tf32" => builder.math(Math::Tf32),
            "tf32x3" => builder.math(Math::Tf32x3),
            // No address space has what does not fit.
            "align" => builder.alignment(first(word).unwrap_or(usize::MAX)),
            "in" | "out" => {
                let (pitch, offset) = slice(word).unwrap_or_default();
                match word.word {
                    "in" => builder.input_slice(pitch, offset),
                    _ => builder.output_slice(pitch, offset),
                }
            }
            "pb" | "pr" => builder,
            other => match (dtype(other), layout(other)) {
                (Some(dtype), _) => builder.dtype(dtype),
                (_, Some(layout)) => builder.layout(layout),
                _ => return Err(misplaced(fields, word, "convolution")),
            },
        };
    }
    let conv = builder.build()?;
    check_outputs(fields, &window, [conv.p(), conv.q()])?;
    Ok(conv)
}

/// Builds a pooling.
pub(super) fn pool(fields: &Fields) -> Result<Pool2d, Error> {
    for (field, given) in [("oc", fields.filters), ("g", fields.groups)] {
        if given.is_some() {
            return Err(fields.error(
                0,
                NotationReason::Misplaced {
                    field,
                    problem: "pooling",
                },
            ));
        }
    }
    let channels = fields.channels.ok_or_else(|| fields.missing("ic"))?;
    let mut raw = two_axes(fields)?;
    let kind = kind(fields, &raw)?;
    let ceil = fields.words.iter().any(|word| word.word == "ceil");
    if !kind.is_windowed() {
        // No window: the resolver only has to carry the input's size.
        raw = raw.map(|axis| RawAxis {
            kernel: Some(1),
            output: None,
            ..axis
        });
    }
    let window = window(fields, &raw, ceil)?;
    let [rows, columns] = window.axes;
    let mut builder = Pool2d::builder()
        .kind(kind)
        .input(
            size(fields, "mb", images(fields))?,
            size(fields, "ic", channels)?,
            rows.input,
            columns.input,
        )
        .ceil_mode(ceil)
        .stride(rows.stride, columns.stride)
        .dilation(rows.dilation, columns.dilation)
        .padding(padding(&window.axes));
    if kind.is_windowed() {
        builder = builder.kernel(rows.window, columns.window);
        if let [Some(p), Some(q)] = cropped(&window, ceil) {
            builder = builder.output_size(size(fields, "oh", p)?, size(fields, "ow", q)?);
        }
    }
    let pool = pool_words(fields, builder)?.build()?;
    check_outputs(fields, &window, [pool.p(), pool.q()])?;
    Ok(pool)
}

/// Words of a pooling about its tensors.
fn pool_words(fields: &Fields, mut builder: Builder<Pool2d>) -> Result<Builder<Pool2d>, Error> {
    for word in &fields.words {
        builder = match word.word {
            "in" | "out" => {
                let (pitch, offset) = slice(word).unwrap_or_default();
                match word.word {
                    "in" => builder.input_slice(pitch, offset),
                    _ => builder.output_slice(pitch, offset),
                }
            }
            "bias" | "relu" | "residual" | "kcrs" | "krsc" | "packed" | "tf32" | "tf32x3"
            | "align" => {
                return Err(misplaced(fields, word, "pooling"));
            }
            other => match (dtype(other), layout(other)) {
                (Some(dtype), _) => builder.dtype(dtype),
                (_, Some(layout)) => builder.layout(layout),
                // What `kind` and `window` have read.
                _ => builder,
            },
        };
    }
    Ok(builder)
}

/// Words of a pooling about its kind.
fn kind(fields: &Fields, raw: &[RawAxis; 2]) -> Result<PoolKind, Error> {
    let has = |wanted: &str| fields.words.iter().find(|word| word.word == wanted);
    let divisor = has("div").and_then(|word| word.numbers.first().copied());
    let divisor_override = match divisor.map(i32::try_from).transpose() {
        Ok(divisor) => divisor,
        Err(_) => {
            let at = has("div").map_or(0, |word| word.offset);
            return Err(fields.error(at, NotationReason::Number { field: "div" }));
        }
    };
    let kind = if has("adaptive_avg").is_some() {
        let [p, q] = [raw[0].output.unwrap_or(0), raw[1].output.unwrap_or(0)];
        PoolKind::AdaptiveAverage {
            p: size(fields, "oh", p)?,
            q: size(fields, "ow", q)?,
        }
    } else if has("global_avg").is_some() {
        PoolKind::GlobalAverage
    } else if has("global_max").is_some() {
        PoolKind::GlobalMax
    } else if has("avg_np").is_some() || has("avg_p").is_some() {
        PoolKind::Average {
            count_include_pad: has("avg_np").is_none(),
            divisor_override,
        }
    } else {
        PoolKind::Max {
            indices: has("indices").is_some(),
        }
    };
    let misfit = match kind {
        PoolKind::Max { .. } => has("div"),
        PoolKind::Average { .. } => has("indices"),
        _ => has("indices").or(has("div")).or(has("pb")).or(has("pr")),
    };
    match misfit {
        Some(word) => Err(misplaced(fields, word, "pooling of this kind")),
        None => Ok(kind),
    }
}

/// Rows and columns, with what stands for both copied and depth refused: an axis with input and
/// kernel is whole, and benchdnn's defaults apply to the rest of it; one without takes all that it
/// lacks from the other axis.
fn two_axes(fields: &Fields) -> Result<[RawAxis; 2], Error> {
    let [depth, mut rows, columns] = fields.axes;
    let pooling = !fields.is_convolution();
    let trivial = |field: Option<u64>| field.unwrap_or(1) == 1;
    let flat = depth.is_absent(pooling)
        || (trivial(depth.input)
            && trivial(depth.output)
            && trivial(depth.kernel)
            && depth.padding.unwrap_or(0) == 0);
    if !flat {
        return Err(fields.error(0, NotationReason::ThreeDimensional));
    }
    // benchdnn promotes what was said of depth to rows and columns if nothing was said of these;
    // flat, it is 1.
    if rows.is_absent(pooling) && columns.is_absent(pooling) && depth.is_whole() {
        rows = rows.or(depth);
    }
    if rows.is_absent(pooling) && columns.is_whole() {
        let one = Some(1);
        rows = RawAxis {
            input: one,
            output: one,
            kernel: one,
            stride: one,
            padding: Some(0),
            dilation: Some(0),
        };
    }
    let complete = |axis: RawAxis, other: RawAxis| match axis.is_whole() {
        true => axis,
        false => axis.or(other),
    };
    Ok([complete(rows, columns), complete(columns, rows)])
}

/// Fills in paddings: the notation's rule, see the module's documentation.
fn window(fields: &Fields, raw: &[RawAxis; 2], ceil: bool) -> Result<Window, Error> {
    let keys = [
        ["ih", "kh", "sh", "ph", "dh"],
        ["iw", "kw", "sw", "pw", "dw"],
    ];
    let mut axes = [Axis {
        input: 0,
        window: 0,
        stride: 1,
        dilation: 1,
        before: 0,
        after: 0,
    }; 2];
    for (side, (axis, raw)) in axes.iter_mut().zip(raw).enumerate() {
        let [input, kernel, stride, padding, dilation] = keys[side];
        axis.input = size(
            fields,
            input,
            raw.input.ok_or_else(|| fields.missing(input))?,
        )?;
        axis.window = size(
            fields,
            kernel,
            raw.kernel.ok_or_else(|| fields.missing(kernel))?,
        )?;
        axis.stride = size(fields, stride, raw.stride.unwrap_or(1))?;
        axis.dilation = size(
            fields,
            dilation,
            raw.dilation.unwrap_or(0).saturating_add(1),
        )?;
        let given = raw.output.filter(|&output| output > 0);
        let wanted = given.map_or(0, |output| padding_for(axis, output));
        axis.before = match raw.padding {
            Some(before) => size(fields, padding, before)?,
            None => usize::try_from(wanted / 2).unwrap_or(0),
        };
        axis.after = axis.before;
        let makes = |axis: &Axis, output: u64| axis.outputs(ceil) == Some(u128::from(output));
        if let Some(output) = given
            && !makes(axis, output)
        {
            axis.after = usize::try_from(wanted - axis.before as i128).unwrap_or(0);
        }
    }
    for word in &fields.words {
        match (word.word, first(word)) {
            ("pb", Some(bottom)) => axes[0].after = bottom,
            ("pr", Some(right)) => axes[1].after = right,
            _ => {}
        }
    }
    let outputs = [raw[0].output, raw[1].output].map(|output| output.filter(|&output| output > 0));
    Ok(Window { axes, outputs })
}

/// The output's size, if one is given that is smaller than what fits; `None` twice if not.
fn cropped(window: &Window, ceil: bool) -> [Option<u64>; 2] {
    let fit = |axis: &Axis| axis.outputs(ceil).and_then(|fit| u64::try_from(fit).ok());
    let [Some(p), Some(q)] = [0, 1].map(|side| fit(&window.axes[side])) else {
        return [None; 2];
    };
    let given = [
        window.outputs[0].unwrap_or(p),
        window.outputs[1].unwrap_or(q),
    ];
    let smaller = given[0] <= p && given[1] <= q && given != [p, q];
    if smaller { given.map(Some) } else { [None; 2] }
}

/// Padding of both sides together that makes just `output` windows fit; negative where some input
/// is left over.
pub(super) fn padding_for(axis: &Axis, output: u64) -> i128 {
    let spanned = (i128::from(output) - 1).saturating_mul(axis.stride as i128);
    spanned
        .saturating_add(axis.effective().try_into().unwrap_or(i128::MAX))
        .saturating_sub(axis.input as i128)
}

/// Fails if an output size that was given is not the one computed.
fn check_outputs(fields: &Fields, window: &Window, computed: [usize; 2]) -> Result<(), Error> {
    for (side, field) in ["oh", "ow"].into_iter().enumerate() {
        let computed = computed[side] as u64;
        match window.outputs[side] {
            Some(given) if given != computed => {
                return Err(fields.error(
                    0,
                    NotationReason::OutputSize {
                        field,
                        given,
                        computed,
                    },
                ));
            }
            _ => {}
        }
    }
    Ok(())
}

fn padding(axes: &[Axis; 2]) -> Padding {
    let [rows, columns] = axes;
    Padding {
        top: rows.before,
        bottom: rows.after,
        left: columns.before,
        right: columns.after,
    }
}

fn images(fields: &Fields) -> u64 {
    fields.images.unwrap_or(DEFAULT_IMAGES)
}

fn size(fields: &Fields, field: &'static str, value: u64) -> Result<usize, Error> {
    usize::try_from(value).map_err(|_| fields.error(0, NotationReason::Number { field }))
}

fn misplaced(fields: &Fields, word: &Word, problem: &'static str) -> Error {
    fields.error(
        word.offset,
        NotationReason::Misplaced {
            field: word.word,
            problem,
        },
    )
}

/// The first number that a word carries.
fn first(word: &Word) -> Option<usize> {
    let number = word.numbers.first()?;
    usize::try_from(*number).ok()
}

/// The pitch and offset that a word carries.
fn slice(word: &Word) -> Option<(usize, usize)> {
    let number = |index: usize| {
        word.numbers
            .get(index)
            .and_then(|&number| usize::try_from(number).ok())
    };
    Some((number(0)?, number(1)?))
}

fn dtype(word: &str) -> Option<DType> {
    DType::ALL.into_iter().find(|dtype| dtype.name() == word)
}

fn layout(word: &str) -> Option<Layout> {
    Layout::ALL.into_iter().find(|layout| layout.name() == word)
}
