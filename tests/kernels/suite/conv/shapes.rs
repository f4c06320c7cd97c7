//! The edge shapes of convolutions, in benchdnn's notation.

/// Shapes that have broken kernels elsewhere. The batch is 2 where none is given.
pub const EDGE_SHAPES: &[&str] = &[
    // One pixel: only the centre tap counts.
    "mb1ic5ih1oc3kh1",
    "mb1ic5ih1oc7kh3ph1",
    "mb3ic4ih1oc4kh5ph2",
    // The kernel is the image; is larger than the image but not than the image with its padding.
    "ic3ih5oc4kh5",
    "ic3ih3oc4kh5ph1",
    "ic2ih2iw9oc3kh4kw3ph1pw0",
    // Whole windows in padding.
    "ic3ih4oc5kh3ph4+bias",
    "ic3ih5oc5kh1ph2+bias",
    "ic2ih3oc3kh3ph7dh1",
    // Padding on each side alone, and all of them different.
    "mb1ic2ih6iw7oc3kh4kw3ph0pw3+pb2+pr1",
    "ic3ih6oc4kh3ph1+pb0+pr0",
    "ic3ih6oc4kh2ph0+pb1+pr1",
    "ic3ih8oc4kh3sh2ph0+pb1+pr1",
    // Strides beyond the kernel, beyond the image, in one axis only.
    "ic4ih11oc5kh2sh3",
    "ic4ih5oc5kh3sh9",
    "ic3ih9iw10oc4kh3kw3sh1sw2ph1pw1",
    "ic3ih13iw4oc4kh1kw1sh12sw1",
    "ic7ih9oc9kh1sh2",
    // Rows that no window reads.
    "mb1ic4ih8iw10oc4kh3kw3sh2sw2ph0pw0",
    // Dilation: wider than the image, one axis, with stride.
    "ic3ih9oc4kh3dh2",
    "ic3ih6oc4kh3ph6dh5",
    "ic3ih7iw9oc4kh3kw3ph1pw3dh0dw2",
    "ic3ih11oc4kh3sh2ph2dh1",
    "ic3ih14oc4kh5dh2",
    // Kernels that are even, flat, tall.
    "ic3ih7oc5kh2kw4iw8pw1ph0",
    "ic3ih7oc5kh4sh2ph1",
    "ic3ih9iw9oc4kh1kw7pw3ph0",
    "ic3ih9iw9oc4kh7kw1pw0ph3",
    "mb1ic3ih23oc9kh11sh4ph2",
    "mb1ic3ih19oc10kh7sh2ph3",
    // Tails of channels and filters around every tile's size.
    "mb1ic1ih5oc1kh3ph1",
    "mb1ic1ih5oc33kh3ph1",
    "mb1ic13ih5oc31kh3ph1",
    "mb1ic9ih6oc65kh1",
    "mb1ic17ih4oc129kh1",
    "mb1ic63ih5oc63kh1+bias+relu",
    "mb1ic252ih4oc63kh1+bias",
    "mb1ic63ih4oc252kh1+bias+residual+relu",
    "mb1ic19ih7oc34kh3ph1",
    "mb1ic7ih4oc8kh5ph2",
    // Images that are a row, a column, much wider than tall; a batch that is odd; pixels around a
    // tile's size.
    "mb1ic3ih1iw130oc5kh1kw3pw1ph0",
    "mb1ic3ih130iw1oc5kh3kw1pw0ph1",
    "mb1ic4ih2iw65oc6kh3ph1",
    "mb7ic3ih5iw3oc4kh3ph1",
    "mb5ic5ih5iw5oc6kh1",
    "mb1ic4ih8iw16oc4kh1",
    "mb1ic4ih3iw43oc4kh1",
    "mb130ic2ih1oc3kh1",
    // Only columns.
    "ic17oc17_iw8ow4kw3pw1sw2",
    // Groups: AlexNet's two, three, ResNeXt's many, one channel or one filter per group.
    "g2ic6ih7oc8kh5ph2",
    "g2mb1ic4ih9oc16kh3sh2ph1dh1",
    "g3ic9ih5oc6kh3ph1+bias+relu",
    "g32mb1ic128ih4oc128kh3ph1",
    "g4ic8ih5oc12kh1",
    "g5ic5ih6oc15kh3ph1+bias",
    "g4ic16ih5oc4kh3ph1",
    "g2mb1ic40ih5oc70kh3ph1+bias+residual",
    "g7mb3ic7ih9iw5oc7kh1sh2",
    "g2mb1ic36ih6oc72kh1+bias+relu",
    // Depthwise: plain, strided, wide, dilated, with a multiplier, odd channel counts.
    "g8ic8ih9oc8kh3ph1+bias+relu",
    "g17ic17ih8oc17kh3sh2ph1",
    "g6ic6ih11oc6kh5ph2+bias",
    "g5ic5ih12oc5kh7ph3",
    "g6ic6ih9oc6kh3ph2dh1",
    "g3ic3ih9oc6kh3ph1+bias",
    "g1mb1ic1ih6oc1kh3ph1+bias",
    "g9mb1ic9ih6iw20oc9kh3kw5sh1sw10ph1pw2",
    "g4ic4ih9iw35oc4kh5kw5sh2ph0pw2",
    "g33mb1ic33ih5oc33kh7sh2ph3+residual",
    "g3ic3ih17iw3oc3kh2kw2",
    // Depthwise with padding of its own on each side, dilated along one axis, in slices; and with
    // nothing but padding behind the last row.
    "g6mb1ic6ih7iw10oc6kh3kw2sh1sw2ph2pw0dh1dw0+pb0+pr3+in8:1+out9:2+bias",
    "g6ic6ih5iw6oc12kh2kw3ph0pw1+pb4+pr0+relu",
    // Slices of wider tensors, at offsets that are no multiple of a vector.
    "ic5ih6oc7kh3ph1+in9:3+out16:5+bias",
    "ic8ih4oc4kh1+in12:4+out5:1+residual7:2+relu",
    "g4ic4ih6oc4kh3ph1+in7:2+out6:1",
    "g2ic6ih5oc6kh3ph1+in8:1+out13:7+residual",
    "mb3ic16ih4oc16kh1+in32:16+out48:16",
    "mb1ic64ih6oc136kh3ph1+out138:1",
    "mb1ic12ih7oc34kh3ph1+in20:4",
    "mb1ic70ih5oc5kh2+in72:2+bias",
    // A block of channels that ends within a copy of 16 bytes, and within one of 8.
    "mb1ic13ih5oc20kh3ph1+in32:16",
    "mb1ic67ih4oc9kh2+in68:0",
    // Small groups in whole vectors, more of them than a tile has; groups that share a tile with
    // nothing.
    "g8mb1ic64ih5oc64kh3ph1+bias",
    "g5mb1ic80ih4oc80kh3ph1sh2+relu",
    "g3mb1ic96ih4oc72kh3ph1",
    "g9mb1ic27ih5oc45kh3ph1dh1",
];
