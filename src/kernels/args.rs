//! The grid of kernels that are no matrix product: the numbering of their units of work, and the
//! accesses of several elements at a time.

use super::operation::{FastDiv, Strides};

/// Bytes of the widest access.
pub(super) const VECTOR_BYTES: u64 = 16;

pub(super) fn whole(numbers: &[i64], of: i64) -> bool {
    numbers.iter().all(|number| number % of == 0)
}

/// Returns whether every pixel of NHWC tensors begins on a multiple of `of` elements.
pub(super) fn whole_strides(strides: &[Strides], of: i64) -> bool {
    strides
        .iter()
        .all(|s| whole(&[s.image, i64::from(s.pixel)], of))
}

/// Number of blocks of `threads` for `units`; grids have one dimension of less than 2^31 blocks.
pub(super) fn blocks(units: u64, threads: u32) -> u64 {
    units.div_ceil(u64::from(threads))
}

/// Numbering of `images` images of `outer * middle * inner` units: the number of units, and the
/// divisors by an image's units, by the inner and by the middle extent, as `find_wide_unit` in
/// `kernels/common/wide_units.cuh` takes them.
pub(super) fn units(images: i32, [outer, middle, inner]: [u64; 3]) -> (u64, [FastDiv; 3]) {
    let image = outer.saturating_mul(middle).saturating_mul(inner);
    let total = image.saturating_mul(images as u64);
    let by = match u32::try_from(image) {
        Ok(image) if total < 1 << 31 => [image, inner as u32, middle as u32].map(FastDiv::new),
        _ => [outer, inner, middle].map(FastDiv::wide),
    };
    (total, by)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn division_is_exact_up_to_the_last_number() {
        let last = (1u32 << 31) - 1;
        let mut divisors: Vec<u32> = (1..600)
            .chain([last, last - 1, 1 << 30, (1 << 30) + 1])
            .collect();
        divisors.extend(
            (0..31).flat_map(|bit| [1u32 << bit, (1u32 << bit) + 1, (1u32 << bit).max(2) - 1]),
        );
        for divisor in divisors {
            let by = FastDiv::new(divisor);
            let multiples =
                [1u32, 2, 3, last / divisor].map(|times| times.saturating_mul(divisor).min(last));
            for n in (0..200)
                .chain(multiples.iter().flat_map(|n| [n.saturating_sub(1), *n]))
                .chain([last - 1, last])
            {
                assert_eq!(by.divide(n), n / divisor, "{n} / {divisor}");
            }
        }
    }

    /// The number of units and the divisors, as the kernel takes a unit apart with them.
    #[test]
    fn units_are_numbered_beyond_31_bits() {
        let apart = |index: u64, [by_image, by_inner, by_middle]: [FastDiv; 3]| {
            let extent = |by: FastDiv| u64::from(by.mul) << 32 | u64::from(by.divisor);
            if by_image.shift == u32::MAX {
                let (rest, inner) = (index / extent(by_inner), index % extent(by_inner));
                let (rest, middle) = (rest / extent(by_middle), rest % extent(by_middle));
                return [
                    rest / extent(by_image),
                    rest % extent(by_image),
                    middle,
                    inner,
                ];
            }
            let index = index as u32;
            let image = by_image.divide(index);
            let rest = index - image * by_image.divisor;
            let outside = by_inner.divide(rest);
            let outer = by_middle.divide(outside);
            let middle = outside - outer * by_middle.divisor;
            let inner = rest - outside * by_inner.divisor;
            [image, outer, middle, inner].map(u64::from)
        };
        for (images, extents) in [
            (1, [3, 5, 7]),
            (1, [1, 1, (1 << 31) - 1]),
            (1, [1, 1, 1 << 31]),
            (2, [1, 1, 1 << 30]),
            (1, [1, 70_000, 70_000]),
            (3, [5, 1, 70_000 * 70_000]),
            (i32::MAX, [1, 1, 1]),
            (i32::MAX, [2, 1, 1]),
        ] {
            let (total, by) = units(images, extents);
            let [outer, middle, inner] = extents;
            assert_eq!(total, images as u64 * outer * middle * inner);
            // Divisions by constants are quicker, and hold below 2^31.
            let wide = by[0].shift == u32::MAX;
            assert_eq!(wide, total >= 1 << 31, "{images} {extents:?}");
            for index in [0, 1, total / 3, total / 2, total - 1] {
                let [image, o, m, i] = apart(index, by);
                assert_eq!(((image * outer + o) * middle + m) * inner + i, index);
                assert!(
                    o < outer && m < middle && i < inner,
                    "{images} of {extents:?}"
                );
            }
        }
    }

    #[test]
    fn division_by_the_length_of_nothing_does_not_fail() {
        assert_eq!(FastDiv::new(0).divisor(), 1);
        assert_eq!(FastDiv::new(u32::MAX).divisor(), (1 << 31) - 1);
    }
}
