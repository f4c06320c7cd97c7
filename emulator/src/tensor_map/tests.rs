//! Tests of encoding, error messages for invalid arguments, and swizzles.

use super::*;

const TENSOR: Tensor<'static> = Tensor {
    data_type: 9,
    address: 0x7400_0000_0100,
    dims: &[64, 7, 5, 1 << 32],
    strides: &[128, 1024, 8192],
    element_strides: &[9, 2, 1, 1],
    interleave: 0,
    swizzle: 3,
    promotion: 2,
    fill: 1,
};

#[test]
fn maps_survive_their_encoding() {
    let tiled = TensorMap::tiled(&TENSOR, &[64, 7, 5, 2]).expect("a good map");
    assert_eq!(TensorMap::decode(&tiled.encode()), Ok(tiled));
    assert_eq!(tiled.rows(), (128, 4 * 5 * 2));
    let im2col = TensorMap::im2col(&TENSOR, &[-3, -128], &[127, -2], 32, 1024).expect("a good map");
    assert_eq!(TensorMap::decode(&im2col.encode()), Ok(im2col));
    assert_eq!(im2col.rows(), (64, 1024));
    assert_eq!(TensorMap::decode(&[0; MAP_BYTES]), Err(NoMap::NotEncoded));
}

/// Tests that the bit cleared by CUTLASS has no effect. A change of each of the other 1023 must be
/// detected, alone and together with that bit.
#[test]
fn one_bit_is_free_and_every_other_is_checked() {
    let map = TensorMap::tiled(&TENSOR, &[64, 7, 5, 2]).expect("a good map");
    let encoded = map.encode();
    let mut cleared = encoded;
    cleared[8 + 21 / 8] &= !(1 << (21 % 8));
    assert_ne!(cleared, encoded, "the bit is set to begin with");
    assert_eq!(TensorMap::decode(&cleared), Ok(map));
    for bit in (0..8 * MAP_BYTES).filter(|&bit| bit != 64 + 21) {
        for good in [encoded, cleared] {
            let mut poked = good;
            poked[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(TensorMap::decode(&poked), Err(NoMap::Changed), "bit {bit}");
        }
    }
    // A mixture of two maps: the address of one, the rest of the other.
    let other = TensorMap {
        address: map.address + 0x1000,
        ..map
    };
    let mut mixed = encoded;
    mixed[112..120].copy_from_slice(&other.encode()[112..120]);
    assert_eq!(TensorMap::decode(&mixed), Err(NoMap::Changed));
}

#[test]
fn bad_arguments_are_named() {
    let tiled = |tensor: Tensor<'_>, extent: &[u32]| TensorMap::tiled(&tensor, extent).err();
    let bad = |what| Some(MapError::Invalid(what));
    let extent = [64, 1, 1, 1];
    assert_eq!(tiled(TENSOR, &extent), None);
    assert_eq!(
        tiled(TENSOR, &[65, 1, 1, 1]),
        bad("a row of the box is no multiple of 16 bytes")
    );
    assert_eq!(
        tiled(TENSOR, &[72, 1, 1, 1]),
        bad("a row of the box is longer than the swizzle")
    );
    assert_eq!(
        tiled(TENSOR, &[64, 257, 1, 1]),
        bad("a box dimension is outside of 1 to 256")
    );
    assert_eq!(
        tiled(TENSOR, &[64, 0, 1, 1]),
        bad("a box dimension is outside of 1 to 256")
    );
    let cases = [
        (
            Tensor {
                address: 8,
                ..TENSOR
            },
            "the address is no multiple of 16",
        ),
        (
            Tensor {
                strides: &[126, 1024, 8192],
                ..TENSOR
            },
            "a stride is no multiple of 16",
        ),
        (
            Tensor {
                strides: &[128, 1024, 1 << 40],
                ..TENSOR
            },
            "a stride is not less than 2^40",
        ),
        (
            Tensor {
                element_strides: &[1, 9, 1, 1],
                ..TENSOR
            },
            "an element stride is outside of 1 to 8",
        ),
        (
            Tensor {
                element_strides: &[1, 0, 1, 1],
                ..TENSOR
            },
            "an element stride is outside of 1 to 8",
        ),
        (
            Tensor {
                dims: &[64, 0, 5, 1],
                ..TENSOR
            },
            "a dimension is outside of 1 to 2^32",
        ),
        (
            Tensor {
                data_type: 1,
                ..TENSOR
            },
            "NaN fill of integers",
        ),
        (
            Tensor {
                data_type: 16,
                ..TENSOR
            },
            "the data type does not exist",
        ),
        (
            Tensor {
                swizzle: 7,
                ..TENSOR
            },
            "the swizzle does not exist",
        ),
    ];
    for (tensor, what) in cases {
        assert_eq!(tiled(tensor, &extent), bad(what));
    }
    let im2col = |lower: [i32; 2], upper: [i32; 2], channels, pixels| {
        TensorMap::im2col(&TENSOR, &lower, &upper, channels, pixels).err()
    };
    assert_eq!(im2col([0, 0], [0, 0], 64, 128), None);
    assert_eq!(
        im2col([-129, 0], [0, 0], 64, 128),
        bad("a corner is out of range")
    );
    assert_eq!(
        im2col([0, 0], [0, -5], 64, 128),
        bad("the bounding box is empty")
    );
    assert_eq!(
        im2col([0, 0], [0, 0], 257, 128),
        bad("channels are outside of 1 to 256")
    );
    assert_eq!(
        im2col([0, 0], [0, 0], 64, 1025),
        bad("pixels are outside of 1 to 1024")
    );
    let flat = Tensor {
        dims: &[64, 7],
        strides: &[128],
        element_strides: &[1, 1],
        ..TENSOR
    };
    assert_eq!(
        TensorMap::im2col(&flat, &[], &[], 64, 1).err(),
        bad("the rank is out of range")
    );
}

#[test]
fn swizzles_permute_pieces_by_their_row() {
    // Row 5 of 128 bytes, chunk 2: moves to chunk 2 ^ 5.
    assert_eq!(
        Swizzle::B128.apply(5 * 128 + 2 * 16 + 3),
        5 * 128 + 7 * 16 + 3
    );
    // Rows of 64 bytes: pairs of rows use the same number.
    assert_eq!(Swizzle::B64.apply(3 * 128 + 64 + 16), 3 * 128 + 64 + 2 * 16);
    assert_eq!(Swizzle::B32.apply(128 + 32), 128 + 48);
    assert_eq!(Swizzle::None.apply(0x1ff), 0x1ff);
}
