//! The layers on the processor: f32, all cores, convolutions as matrix products (im2col) by the
//! crate `gemm`, of which only the part for f32 is built (`gemm-f32`).
//!
//! Threads share the images of a batch. Each thread unfolds the windows of one image at a time and
//! multiplies it alone, so a layer needs a few megabytes per thread for any batch. A fully
//! connected layer is one product, in which each thread computes some rows for the whole batch, so
//! that each weight is read once.

use std::ops::Range;

use warpconv::launch::Unary;
use warpconv::problem::{Conv2d, Lrn, Pool2d};

/// Settings of the processor.
#[derive(Clone, Copy, Debug)]
pub struct Cpu {
    /// Number of threads.
    pub threads: usize,
}

/// A matrix with its row and column strides.
#[derive(Clone, Copy)]
struct Matrix<'a> {
    values: &'a [f32],
    rows: usize,
    columns: usize,
    row: usize,
    column: usize,
}

impl<'a> Matrix<'a> {
    /// A row-major matrix.
    fn dense(values: &'a [f32], rows: usize, columns: usize) -> Matrix<'a> {
        Matrix {
            values,
            rows,
            columns,
            row: columns,
            column: 1,
        }
    }

    fn transposed(self) -> Matrix<'a> {
        Matrix {
            values: self.values,
            rows: self.columns,
            columns: self.rows,
            row: self.column,
            column: self.row,
        }
    }

    /// Returns whether every element lies within the slice.
    fn is_whole(&self) -> bool {
        let last = |count: usize, step: usize| count.saturating_sub(1) * step;
        self.rows * self.columns == 0
            || last(self.rows, self.row) + last(self.columns, self.column) < self.values.len()
    }
}

/// Computes `c = a b`, c in row-major order, on this thread.
fn multiply(a: Matrix<'_>, b: Matrix<'_>, c: &mut [f32]) {
    // The library computes column-major products: the product of the transposed operands.
    let (left, right) = (b.transposed(), a.transposed());
    let (m, n, k) = (left.rows, right.columns, left.columns);
    assert!(left.is_whole() && right.is_whole() && right.rows == k && c.len() == m * n);
    if c.is_empty() {
        return;
    }
    let product = gemm_f32::gemm::f32::get_gemm_fn();
    // SAFETY: every element that the extents and strides of both operands address lies within their
    // slices, those of c (n columns of m) within its; c is borrowed mutably, so it overlaps
    // neither.
    unsafe {
        product(
            m,
            n,
            k,
            c.as_mut_ptr(),
            m as isize,
            1,
            false,
            left.values.as_ptr(),
            left.column as isize,
            left.row as isize,
            right.values.as_ptr(),
            right.column as isize,
            right.row as isize,
            0.0,
            1.0,
            false,
            false,
            false,
            gemm_common::Parallelism::None,
        );
    }
}

impl Cpu {
    /// Divides `all`, in units of `unit` elements, among the threads: each calls `work` with the
    /// number of its first unit and its units.
    fn share(&self, all: &mut [f32], unit: usize, work: impl Fn(usize, &mut [f32]) + Sync) {
        let units = all.len() / unit.max(1);
        let each = units.div_ceil(self.threads.max(1)).max(1);
        std::thread::scope(|scope| {
            for (part, chunk) in all.chunks_mut(each * unit.max(1)).enumerate() {
                let work = &work;
                scope.spawn(move || work(part * each, chunk));
            }
        });
    }

    /// A convolution, NCHW and KCRS, with bias and ReLU if it has them.
    pub fn conv(&self, conv: &Conv2d, x: &[f32], w: &[f32], bias: &[f32], y: &mut [f32]) {
        // Filters as large as the image.
        let whole = (conv.input().h(), conv.input().w()) == (conv.filter().r, conv.filter().s);
        if whole && (conv.output().h(), conv.output().w(), conv.groups()) == (1, 1, 1) {
            return self.dense(conv, x, w, bias, y);
        }
        let (input, output) = (
            conv.input().c() * conv.input().h() * conv.input().w(),
            conv.output().h() * conv.output().w(),
        );
        let (depth, group_k) = (conv.filter().gemm_k(), (conv.output().c() / conv.groups()));
        self.share(y, conv.output().c() * output, |first, images| {
            let mut columns = vec![0.0f32; depth * output];
            for (image, y) in images.chunks_mut(conv.output().c() * output).enumerate() {
                let x = &x[(first + image) * input..][..input];
                for (group, y) in y.chunks_mut(group_k * output).enumerate() {
                    im2col(conv, x, group, &mut columns);
                    let w = &w[group * group_k * depth..][..group_k * depth];
                    let filters = Matrix::dense(w, group_k, depth);
                    multiply(filters, Matrix::dense(&columns, depth, output), y);
                    let bias = &bias[group * group_k..][..group_k];
                    for (plane, &bias) in y.chunks_mut(output).zip(bias) {
                        finish(plane, conv.relu(), |_| bias);
                    }
                }
            }
        });
    }

    /// A fully connected layer: `y[n][k] = w[k] . x[n]`.
    fn dense(&self, conv: &Conv2d, x: &[f32], w: &[f32], bias: &[f32], y: &mut [f32]) {
        let (n, c, k) = (conv.input().n(), conv.filter().gemm_k(), conv.output().c());
        // One row per filter, so that each thread's part is contiguous.
        let mut turned = vec![0.0f32; k * n];
        self.share(&mut turned, n, |first, part| {
            let rows = part.len() / n;
            let w = Matrix::dense(&w[first * c..][..rows * c], rows, c);
            multiply(w, Matrix::dense(x, n, c).transposed(), part);
        });
        self.share(y, k, |first, part| {
            for (image, y) in part.chunks_mut(k).enumerate() {
                for (filter, y) in y.iter_mut().enumerate() {
                    *y = turned[filter * n + first + image];
                }
                finish(y, conv.relu(), |filter| bias[filter]);
            }
        });
    }

    /// A max pooling without padding.
    pub fn max_pool(&self, pool: &Pool2d, x: &[f32], y: &mut [f32]) {
        let input = pool.input().h() * pool.input().w();
        let [stride_h, stride_w] = pool.window().stride;
        self.share(y, pool.output().h() * pool.output().w(), |first, planes| {
            for (plane, y) in planes
                .chunks_mut(pool.output().h() * pool.output().w())
                .enumerate()
            {
                let x = &x[(first + plane) * input..][..input];
                for (p, row) in y.chunks_mut(pool.output().w()).enumerate() {
                    for (q, y) in row.iter_mut().enumerate() {
                        *y = f32::NEG_INFINITY;
                        for r in 0..pool.window().kernel[0] {
                            let at = (p * stride_h + r) * pool.input().w() + q * stride_w;
                            for &x in &x[at..at + pool.window().kernel[1]] {
                                *y = if x > *y { x } else { *y };
                            }
                        }
                    }
                }
            }
        });
    }

    /// A local response normalisation with beta 3/4: two square roots instead of a power, as on the
    /// device.
    pub fn lrn(&self, lrn: &Lrn, x: &[f32], y: &mut [f32]) {
        let (c, plane) = (lrn.input().c(), lrn.input().h() * lrn.input().w());
        let parameters = lrn.parameters();
        let scale = (parameters.alpha / parameters.size as f64) as f32;
        let (k, beta) = (parameters.k as f32, parameters.beta as f32);
        self.share(y, c * plane, |first, images| {
            let mut squares = vec![0.0f32; plane];
            for (image, y) in images.chunks_mut(c * plane).enumerate() {
                let x = &x[(first + image) * c * plane..][..c * plane];
                let channel = |c: usize| &x[c * plane..][..plane];
                for (center, y) in y.chunks_mut(plane).enumerate() {
                    squares.fill(0.0);
                    for other in warpconv_testing::reference::lrn_window(&parameters, center, c) {
                        for (sum, x) in squares.iter_mut().zip(channel(other)) {
                            *sum += x * x;
                        }
                    }
                    for ((y, x), sum) in y.iter_mut().zip(channel(center)).zip(&squares) {
                        let base = k + scale * sum;
                        *y = if beta == 0.75 {
                            x / (base.sqrt() * base.sqrt().sqrt())
                        } else {
                            x / base.powf(beta)
                        };
                    }
                }
            }
        });
    }
}

/// Adds the bias, and applies the ReLU.
fn finish(y: &mut [f32], relu: bool, bias: impl Fn(usize) -> f32) {
    for (index, y) in y.iter_mut().enumerate() {
        let sum = *y + bias(index);
        *y = if relu && sum < 0.0 { 0.0 } else { sum };
    }
}

/// The im2col matrix of a group: one row per term of the sum, one column per output pixel.
fn im2col(conv: &Conv2d, x: &[f32], group: usize, columns: &mut [f32]) {
    let ([stride_h, stride_w], [dilation_h, dilation_w]) =
        (conv.window().stride, conv.window().dilation);
    let (top, left) = (conv.window().padding.top, conv.window().padding.left);
    let (p, q, w) = (conv.output().h(), conv.output().w(), conv.input().w());
    let taps = conv.filter().r * conv.filter().s;
    for (row, to) in columns.chunks_mut(p * q).enumerate() {
        let channel = group * conv.filter().c + row / taps;
        let (r, s) = (row % taps / conv.filter().s, row % conv.filter().s);
        let plane = &x[channel * conv.input().h() * w..][..conv.input().h() * w];
        // The output columns whose tap lies within the image.
        let inside = inside(q, stride_w, s * dilation_w, left, w);
        for (line, to) in to.chunks_mut(q).enumerate() {
            let h = (line * stride_h + r * dilation_h).wrapping_sub(top);
            if h >= conv.input().h() {
                to.fill(0.0);
                continue;
            }
            to[..inside.start].fill(0.0);
            to[inside.end..].fill(0.0);
            let from = &plane[h * w..][..w];
            if inside.is_empty() {
                continue;
            }
            let start = inside.start * stride_w + s * dilation_w - left;
            let from = from[start..].iter().step_by(stride_w);
            for (to, from) in to[inside.clone()].iter_mut().zip(from) {
                *to = *from;
            }
        }
    }
}

/// The outputs, of `count`, for which `output * stride + tap - before` lies in `0..size`.
fn inside(count: usize, stride: usize, tap: usize, before: usize, size: usize) -> Range<usize> {
    let first = before.saturating_sub(tap).div_ceil(stride);
    let end = (size + before).saturating_sub(tap).div_ceil(stride);
    let end = end.min(count);
    first.min(end)..end
}

#[cfg(test)]
mod tests {
    use super::*;
    use warpconv::problem::{LrnParameters, Padding, PoolKind, TensorDesc};
    use warpconv::{DType, Layout};
    use warpconv_testing as check;
    use warpconv_testing::reference;

    fn numbers(len: usize, seed: u64) -> Vec<f32> {
        let integers = check::integers(len, 5, seed);
        integers.into_iter().map(|value| value as f32).collect()
    }

    fn wide(values: &[f32]) -> Vec<f64> {
        values.iter().map(|&value| f64::from(value)).collect()
    }

    /// Integers, so that f32 and f64 agree to the bit.
    #[test]
    fn convolutions_equal_the_reference() {
        let builder = || Conv2d::builder().bias(true).relu(true);
        let shapes = [
            builder()
                .input(5, 6, 9, 8)
                .filters(4)
                .kernel(3, 3)
                .groups(2)
                .padding(Padding::same(1)),
            builder()
                .input(1, 3, 15, 13)
                .filters(7)
                .kernel(5, 3)
                .stride(4, 3),
            builder()
                .input(2, 2, 5, 4)
                .filters(3)
                .kernel(2, 3)
                .padding(Padding::same(4))
                .dilation(2, 2),
            builder().input(7, 11, 1, 1).filters(13).kernel(1, 1),
            builder().input(4, 3, 2, 3).filters(5).kernel(2, 3),
            builder().input(3, 4, 5, 5).filters(2).kernel(1, 1),
        ];
        for (index, shape) in shapes.into_iter().enumerate() {
            let conv = shape.build().expect("a valid convolution");
            let x = numbers(conv.input().elements(), 1);
            let w = numbers(conv.filter().elements(), 2);
            let bias = numbers(conv.output().c(), 3);
            let mut y = vec![f32::NAN; conv.output().elements()];
            Cpu {
                threads: 1 + index % 3,
            }
            .conv(&conv, &x, &w, &bias, &mut y);
            let want = reference::conv2d(&conv, &wide(&x), &wide(&w), Some(&wide(&bias)), None);
            assert_eq!(wide(&y), want.expect("a reference"), "{conv}");
        }
    }

    #[test]
    fn pooling_and_normalisation_equal_the_reference() {
        let cpu = Cpu { threads: 3 };
        let pool = Pool2d::builder()
            .input(2, 5, 9, 8)
            .kind(PoolKind::Max { indices: false })
            .kernel(3, 3)
            .stride(2, 2);
        let pool = pool.build().expect("a valid pooling");
        let x = numbers(pool.input().elements(), 4);
        let mut y = vec![f32::NAN; pool.output().elements()];
        cpu.max_pool(&pool, &x, &mut y);
        let want = reference::pool2d(&pool, &wide(&x)).expect("a reference");
        assert_eq!(wide(&y), want.0);

        for beta in [0.75, 0.5] {
            let parameters = LrnParameters {
                beta,
                ..warpconv_nets::ALEXNET_LRN
            };
            let lrn = TensorDesc::new([4, 7, 3, 3], Layout::Nchw, DType::F32)
                .and_then(|x| Lrn::new(&x, &x, parameters));
            let lrn = lrn.expect("a valid normalisation");
            let x = numbers(lrn.input().elements(), 5);
            let mut y = vec![f32::NAN; x.len()];
            cpu.lrn(&lrn, &x, &mut y);
            let want = reference::lrn(&lrn, &wide(&x)).expect("a reference");
            let bounds = reference::lrn_bound(&lrn, &wide(&x)).expect("bounds");
            for ((y, want), bound) in wide(&y).into_iter().zip(want).zip(bounds) {
                assert!((y - want).abs() <= bound, "{y} is not {want}");
            }
        }
    }
}
