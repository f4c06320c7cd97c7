//! Packing filters on the device against packing them on the host.

use crate::common::{gpu, zeros};
use crate::trials::test;
use cudarc::driver::{DevicePtr, DevicePtrMut};
use half::{bf16, f16};
use libtest_mimic::Trial;
use warpconv::launch::Element;
use warpconv::problem::{Conv2d, FilterLayout};
use warpconv::{DType, Error, ops};
use warpconv_testing as check;
use warpconv_testing::Stored;

/// Filters around the kernel's tile of 64 channels and 32 taps, whole vectors or not.
const SHAPES: &[&str] = &[
    "mb1ic3ih8oc5kh3",
    "mb1ic8ih8oc4kh3",
    "mb1ic63ih3oc3kh3",
    "mb1ic65ih3oc2kh2",
    "mb1ic130ih1oc7kh1",
    "mb1ic9ih11oc3kh11",
    "mb1ic70ih6iw6oc2kh6kw6",
    "g4mb1ic12ih5oc8kh3",
    "g3mb1ic3ih8oc6kh8kw5",
];

fn variants<T: Element>(line: &str) -> impl Iterator<Item = Conv2d> {
    let conv: Conv2d = line.parse().unwrap();
    FilterLayout::ALL.into_iter().map(move |layout| {
        let builder = conv.to_builder().dtype(T::DTYPE).filter_layout(layout);
        builder.build().unwrap()
    })
}

fn packs<T: Stored>() {
    let gpu = gpu();
    for conv in SHAPES.iter().flat_map(|line| variants::<T>(line)) {
        let dense = check::reals(conv.filter().elements(), T::DTYPE, 1);
        let w = gpu
            .upload(&check::pack_filter::<T>(&conv, &dense).unwrap())
            .unwrap();
        let (packed, got) = ops::pack_filter(gpu, &conv, &w).unwrap();
        assert_eq!(
            packed,
            conv.to_builder()
                .filter_layout(FilterLayout::Packed)
                .build()
                .unwrap()
        );
        let bits = |values: &[T]| values.iter().map(|value| value.bits()).collect::<Vec<_>>();
        // Zeros in the gaps, by the bits: not even minus zero.
        let want = check::pack_filter::<T>(&packed, &dense).unwrap();
        assert_eq!(bits(&gpu.download(&got).unwrap()), bits(&want), "{conv}");
    }
}

fn filters_of_every_type_and_layout_are_packed() {
    packs::<f32>();
    packs::<f16>();
    packs::<bf16>();
}

fn filters_may_begin_at_any_element_and_bits_are_kept() {
    let gpu = gpu();
    for conv in SHAPES.iter().flat_map(|line| variants::<bf16>(line)) {
        // Every kind of number, NaNs with a payload among them, which arithmetic would not keep.
        let bits = |at: usize| (at as u16).wrapping_mul(40_503) ^ 0x7f80;
        let dense: Vec<u16> = (0..conv.filter().elements()).map(bits).collect();
        let lay = |conv: &Conv2d| {
            let mut buffer = vec![bf16::from_bits(0); conv.filter().len()];
            let taps = conv.filter().r * conv.filter().s;
            for (at, &bits) in dense.iter().enumerate() {
                let (plane, tap) = (at / taps, at % taps);
                let (k, c) = (plane / conv.filter().c, plane % conv.filter().c);
                buffer[conv
                    .filter()
                    .index(k, c, tap / conv.filter().s, tap % conv.filter().s)] =
                    bf16::from_bits(bits);
            }
            buffer
        };
        let mut image = vec![bf16::NAN; 3];
        image.extend(lay(&conv));
        let w = gpu.upload(&image).unwrap();
        let pack = gpu.prepare_pack_filter(&conv).unwrap();
        let len = pack.packed().filter().len();
        let mut fenced = gpu.upload(&vec![bf16::from_bits(0x7feb); len + 2]).unwrap();
        pack.launch(gpu.stream(), &w.slice(3..), &mut fenced.slice_mut(1..=len))
            .unwrap();
        let got: Vec<u16> = gpu
            .download(&fenced)
            .unwrap()
            .iter()
            .map(|v| v.to_bits())
            .collect();
        let want: Vec<u16> = lay(pack.packed()).iter().map(|v| v.to_bits()).collect();
        assert_eq!(got[1..=len], want, "{conv}");
        assert_eq!(
            [got[0], got[len + 1]],
            [0x7feb; 2],
            "{conv}: beyond the packed filters"
        );
    }
}

fn what_does_not_fit_is_refused() {
    let gpu = gpu();
    let conv: Conv2d = "mb1ic3ih8oc5kh3".parse().unwrap();
    let pack = gpu.prepare_pack_filter(&conv).unwrap();
    let (len, packed) = (conv.filter().len(), pack.packed().filter().len());
    assert_eq!((len, packed), (5 * 27, 5 * 9 * 4));
    let stream = gpu.stream();
    let length = |what, expected, got| {
        Err(Error::Length {
            what,
            expected,
            got,
        })
    };
    let mut y = zeros::<f32>(packed);
    assert_eq!(
        pack.launch(stream, &zeros::<f32>(len - 1), &mut y),
        length("w", len, len - 1)
    );
    let w = zeros::<f32>(len);
    assert_eq!(
        pack.launch(stream, &w, &mut zeros::<f32>(packed + 1)),
        length("packed", packed, packed + 1)
    );
    let wrong = Err(Error::WrongDType {
        problem: DType::F32,
        buffers: DType::F16,
    });
    assert_eq!(
        pack.launch(stream, &zeros::<f16>(len), &mut zeros::<f16>(packed)),
        wrong
    );

    let (from, _from) = w.device_ptr(stream);
    let (to, _to) = y.device_ptr_mut(stream);
    // SAFETY: refused before anything is launched, see the assertions.
    let raw = |from, to| unsafe { pack.launch_raw(stream.cu_stream(), from, to) };
    assert_eq!(raw(0, to), Err(Error::NullBuffer { buffer: "w" }));
    assert_eq!(raw(from, 0), Err(Error::NullBuffer { buffer: "packed" }));
    assert_eq!(
        raw(from, from + 4),
        Err(Error::Overlap {
            written: "packed",
            read: "w"
        })
    );
    let address = to + 2;
    let off = Error::Misaligned {
        buffer: "packed",
        address,
        needs: 4,
        has: 2,
    };
    assert_eq!(raw(from, address), Err(off.clone()));
    assert_eq!(
        off.to_string(),
        format!(
            "packed is at {address:#x}, aligned to 2 bytes; the kernel needs 4: move the buffer, \
             or build the problem with alignment(2)"
        )
    );
}

/// All tests of this file.
pub fn trials() -> [Trial; 3] {
    [
        test(
            "pack::filters_of_every_type_and_layout_are_packed",
            filters_of_every_type_and_layout_are_packed,
        ),
        test(
            "pack::filters_may_begin_at_any_element_and_bits_are_kept",
            filters_may_begin_at_any_element_and_bits_are_kept,
        ),
        test(
            "pack::what_does_not_fit_is_refused",
            what_does_not_fit_is_refused,
        ),
    ]
}
