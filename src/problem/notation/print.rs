//! Problems to text.

use super::build::padding_for;
use crate::problem::{
    Axis, Conv2d, DEFAULT_ALIGNMENT, FilterLayout, Padding, Pool2d, PoolKind, TensorDesc,
};
use crate::problem::{DType, Layout, Math};
use std::fmt::{self, Display, Formatter};

impl Display for Conv2d {
    /// The notation of [`crate::problem::notation`]; parsing it gives the same problem.
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        if self.groups() != 1 {
            write!(f, "g{}", self.groups())?;
        }
        write!(
            f,
            "mb{}_ic{}ih{}iw{}",
            self.n(),
            self.c(),
            self.h(),
            self.w()
        )?;
        write!(f, "_oc{}oh{}ow{}", self.k(), self.p(), self.q())?;
        let axes = axes(
            [self.h(), self.w()],
            [self.r(), self.s()],
            self.stride(),
            self.dilation(),
            self.padding(),
        );
        window(f, &axes, [self.p(), self.q()], false)?;
        storage(f, self.dtype(), self.layout())?;
        if self.filter_layout() != FilterLayout::Kcrs {
            write!(f, "+{}", self.filter_layout().name())?;
        }
        if self.math() != Math::Strict {
            write!(f, "+{}", self.math().name())?;
        }
        if self.alignment() != DEFAULT_ALIGNMENT {
            write!(f, "+align{}", self.alignment())?;
        }
        slice(f, "in", self.input())?;
        slice(f, "out", self.output())?;
        if self.bias() {
            write!(f, "+bias")?;
        }
        match self.residual() {
            Some(residual) if residual.is_dense() => write!(f, "+residual")?,
            Some(residual) => slice(f, "residual", residual)?,
            None => {}
        }
        if self.relu() {
            write!(f, "+relu")
        } else {
            Ok(())
        }
    }
}

impl Display for Pool2d {
    /// The notation of [`crate::problem::notation`]; parsing it gives the same problem.
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "mb{}_ic{}ih{}iw{}_oh{}ow{}",
            self.n(),
            self.c(),
            self.h(),
            self.w(),
            self.p(),
            self.q()
        )?;
        if self.kind().is_windowed() {
            let [rows, columns] = [[self.h(), self.w()], [self.r(), self.s()]];
            let axes = axes(
                rows,
                columns,
                self.stride(),
                self.dilation(),
                self.padding(),
            );
            window(f, &axes, [self.p(), self.q()], self.ceil_mode())?;
        }
        match self.kind() {
            PoolKind::Max { indices: false } => {}
            PoolKind::Max { indices: true } => write!(f, "+indices")?,
            PoolKind::Average {
                count_include_pad,
                divisor_override,
            } => {
                write!(
                    f,
                    "{}",
                    if count_include_pad {
                        "+avg_p"
                    } else {
                        "+avg_np"
                    }
                )?;
                if let Some(divisor) = divisor_override {
                    write!(f, "+div{divisor}")?;
                }
            }
            PoolKind::GlobalMax => write!(f, "+global_max")?,
            PoolKind::GlobalAverage => write!(f, "+global_avg")?,
            PoolKind::AdaptiveAverage { .. } => write!(f, "+adaptive_avg")?,
        }
        if self.ceil_mode() {
            write!(f, "+ceil")?;
        }
        storage(f, self.dtype(), self.layout())?;
        slice(f, "in", self.input())?;
        slice(f, "out", self.output())
    }
}

fn axes(
    input: [usize; 2],
    window: [usize; 2],
    stride: [usize; 2],
    dilation: [usize; 2],
    pad: Padding,
) -> [Axis; 2] {
    let sides = [(pad.top, pad.bottom), (pad.left, pad.right)];
    std::array::from_fn(|i| Axis {
        input: input[i],
        window: window[i],
        stride: stride[i],
        dilation: dilation[i],
        before: sides[i].0,
        after: sides[i].1,
    })
}

/// Kernel, stride, padding and dilation; stride and dilation only where they are not 1.
fn window(f: &mut Formatter<'_>, axes: &[Axis; 2], outputs: [usize; 2], ceil: bool) -> fmt::Result {
    let [rows, columns] = axes;
    write!(f, "_kh{}kw{}", rows.window, columns.window)?;
    if (rows.stride, columns.stride) != (1, 1) {
        write!(f, "_sh{}sw{}", rows.stride, columns.stride)?;
    }
    write!(f, "_ph{}pw{}", rows.before, columns.before)?;
    if (rows.dilation, columns.dilation) != (1, 1) {
        write!(f, "_dh{}dw{}", rows.dilation - 1, columns.dilation - 1)?;
    }
    for ((axis, output), word) in axes.iter().zip(outputs).zip(["pb", "pr"]) {
        if axis.after != implied(axis, output, ceil) {
            write!(f, "+{word}{}", axis.after)?;
        }
    }
    Ok(())
}

/// The padding after the input that the notation's rule gives if none is spelled.
fn implied(axis: &Axis, output: usize, ceil: bool) -> usize {
    let symmetric = Axis {
        after: axis.before,
        ..*axis
    };
    if symmetric.outputs(ceil) == Some(output as u128) {
        return axis.before;
    }
    usize::try_from(padding_for(axis, output as u64) - axis.before as i128).unwrap_or(0)
}

fn storage(f: &mut Formatter<'_>, dtype: DType, layout: Layout) -> fmt::Result {
    if dtype != DType::F32 {
        write!(f, "+{}", dtype.name())?;
    }
    if layout == Layout::Nhwc {
        write!(f, "+{}", layout.name())
    } else {
        Ok(())
    }
}

fn slice(f: &mut Formatter<'_>, word: &str, desc: &TensorDesc) -> fmt::Result {
    if desc.is_dense() {
        return Ok(());
    }
    write!(
        f,
        "+{word}{}:{}",
        desc.channel_pitch(),
        desc.channel_offset()
    )
}
