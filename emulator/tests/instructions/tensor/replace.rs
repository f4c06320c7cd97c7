//! Maps that a kernel builds or changes, and stores that reduce.

use super::harness::{BF16, Bench, S32, U32, U64, byte, swizzled, tensor};
use ptx_emulator::Module;
use ptx_emulator::tensor_map::{Tensor, TensorMap};

/// Code of a kernel that builds a map in shared memory from nothing, by `replace`, and copies it to
/// global memory.
fn built(replace: &[String]) -> String {
    let replace: String = replace
        .iter()
        .map(|what| {
            let (field, value) = what.split_once(' ').expect("a field and its value");
            let wide = field == "global_address" || field == "global_stride";
            let ty = if wide { "b64" } else { "b32" };
            format!(
                "    @%q0 tensormap.replace.tile.{field}.shared::cta.b1024.{ty} [scratch], \
                {value};\n"
            )
        })
        .collect();
    format!(
        "
    .reg .pred %q<4>;
    .reg .b32 %z<4>;
    setp.eq.u32 %q0, %r1, 0;
    setp.lt.u32 %q1, %r1, 32;
    mov.u32 %z1, scratch;
    shl.b32 %z2, %r1, 2;
    add.u32 %z1, %z1, %z2;
    @%q1 st.shared.u32 [%z1], 0;
    bar.sync 0;
{replace}    bar.sync 0;
    @!%q1 bra BUILT;
    tensormap.cp_fenceproxy.global.shared::cta.tensormap::generic.release.gpu.sync.aligned \
    [built], [scratch], 128;
BUILT:
    mov.u64 %rd3, built;
    fence.proxy.tensormap::generic.acquire.gpu [%rd3], 128;
    bar.sync 0;
"
    )
}

/// The fields of a tile of 64 by 8 elements of bf16 out of 60 by 16, swizzled, with NaN outside.
fn fields(address: u64) -> Vec<String> {
    [
        format!("global_address {address}"),
        "rank 1".into(),
        "box_dim 0, 64".into(),
        "box_dim 1, 8".into(),
        "global_dim 0, 60".into(),
        "global_dim 1, 16".into(),
        "global_stride 0, 128".into(),
        "element_stride 0, 1".into(),
        "element_stride 1, 2".into(),
        // bf16 is 10 here and 9 in the driver's API.
        "elemtype 10".into(),
        "interleave_layout 0".into(),
        "swizzle_mode 3".into(),
        "fill_mode 1".into(),
    ]
    .to_vec()
}

fn encoded(bench: &Bench) -> TensorMap {
    let mut strides = Vec::new();
    let plain = tensor(BF16, &[60, 16], 128, &mut strides);
    let plain = Tensor {
        address: bench.address,
        element_strides: &[1, 2],
        swizzle: 3,
        fill: 1,
        ..plain
    };
    TensorMap::tiled(&plain, &[64, 8]).expect("a good map")
}

#[test]
fn a_map_built_from_nothing_copies_like_an_encoded_one() {
    let mut bench = Bench::new(1 << 13);
    let map = encoded(&bench);
    let wanted = bench.load(&map, &[-2, 3], None).expect("runs");
    bench.prologue = built(&fields(bench.address));
    let got = bench.load(&map, &[-2, 3], None).expect("runs");
    assert_eq!(got, wanted);
}

#[test]
fn a_field_of_a_map_in_memory_is_replaced() {
    let mut bench = Bench::new(1 << 13);
    let map = encoded(&bench);
    let moved = TensorMap {
        address: map.address + 256,
        ..map
    };
    let wanted = bench.load(&moved, &[0, 1], None).expect("runs");
    let mut all = fields(bench.address);
    all.push("rank 1".into());
    bench.prologue = built(&all)
        + &format!(
            "    @%q0 tensormap.replace.tile.global_address.global.b1024.b64 [%rd3], \
            {};\n    bar.sync 0;\n",
            moved.address
        );
    assert_eq!(bench.load(&map, &[0, 1], None).expect("runs"), wanted);
    // By a generic address.
    bench.prologue = bench
        .prologue
        .replace(".global_address.global.", ".global_address.");
    assert_eq!(bench.load(&map, &[0, 1], None).expect("runs"), wanted);
}

#[test]
fn values_that_do_not_exist_are_reported() {
    for (field, report) in [
        ("rank 5", "the rank is out of range"),
        ("global_dim 1, 0", "a dimension is outside of 1 to 2^32"),
        (
            "element_stride 1, 9",
            "an element stride is outside of 1 to 8",
        ),
        ("elemtype 13", "a packed data type"),
        // Seen when the map is used.
        (
            "box_dim 0, 65",
            "a row of the box is no multiple of 16 bytes",
        ),
        (
            "box_dim 0, 72",
            "a row of the box is longer than the swizzle",
        ),
        ("box_dim 1, 0", "a box dimension is outside of 1 to 256"),
        ("global_stride 0, 130", "a stride is no multiple of 16"),
        ("elemtype 1", "NaN fill of integers"),
    ] {
        let mut bench = Bench::new(1 << 13);
        let map = encoded(&bench);
        let mut all = fields(bench.address);
        all.push(field.into());
        bench.prologue = built(&all);
        let got = bench.load(&map, &[0, 0], None).expect_err(field);
        assert!(got.starts_with("no tensor map at "), "{field}: {got}");
        assert!(got.contains(report), "{field}: {got}");
    }
}

/// Before PTX 8.5 the strides are given without their low four bits.
#[test]
fn old_strides_are_sixteenths() {
    let text = |version: &str, target: &str| {
        format!(
            ".version {version}\n.target {target}\n.address_size 64\n.visible .entry k()\n\
            {{\n    .shared .align 128 .b8 \
            s[128];\n    tensormap.replace.tile.global_stride.shared::cta.b1024.b64 [s], 0, \
            8;\n    ret;\n}}\n"
        )
    };
    let code = |version: &str| {
        let module = Module::parse(&text(version, "sm_90a")).expect("a good module");
        format!("{:?}", module.kernel("k").expect("a kernel").code)
    };
    assert!(code("8.4").contains("Sixteenths(0)"), "{}", code("8.4"));
    assert!(code("8.5").contains("Stride(0)"), "{}", code("8.5"));
    assert!(Module::parse(&text("8.5", "sm_90")).is_err());
    assert!(Module::parse(&text("8.2", "sm_90a")).is_err());
}

/// Elements are combined with those in memory, and nothing outside of the tensor changes.
#[test]
fn stores_that_reduce() {
    type Combine = fn(u64, u64) -> u64;
    let cases: [((u32, u32), &str, Combine); 6] = [
        (U32, "add", |a, b| {
            u64::from((a as u32).wrapping_add(b as u32))
        }),
        (U32, "max", |a, b| a.max(b)),
        (S32, "min", |a, b| {
            u64::from(
                (a as u32)
                    .cast_signed()
                    .min((b as u32).cast_signed())
                    .cast_unsigned(),
            )
        }),
        (U32, "xor", |a, b| a ^ b),
        (U32, "inc", |a, b| if a >= b { 0 } else { a + 1 }),
        (U64, "add", u64::wrapping_add),
    ];
    for (element, op, combine) in cases {
        let total = 1 << 13;
        let mut bench = Bench::new(total);
        bench.reduce = Some(op);
        let size = element.1 as usize;
        let (width, rows) = (64 / size as u64, 12);
        let mut strides = Vec::new();
        let dims = [width - 2, rows];
        let plain = tensor(element, &dims, 128, &mut strides);
        let plain = Tensor {
            // The image of shared memory is the same as that of global memory but for its place.
            address: bench.address + 64,
            swizzle: 2,
            ..plain
        };
        let map = TensorMap::tiled(&plain, &[width as u32, 8]).expect("a good map");
        bench.store(&map, &[0, 7]).expect("runs");
        let value = |at: usize, data: &dyn Fn(u64) -> u8| {
            let bytes = (0..8).map(|i| if i < size { data((at + i) as u64) } else { 0 });
            u64::from_le_bytes(bytes.collect::<Vec<u8>>().try_into().expect("eight"))
        };
        let mut wanted: Vec<u8> = (0..total).map(byte).collect();
        for row in 0..5 {
            for column in 0..width as usize - 2 {
                let from = swizzled(row * 64 + column * size, 64);
                let to = 64 + (7 + row) * 128 + column * size;
                let new = combine(value(to, &byte), value(from, &byte));
                wanted[to..to + size].copy_from_slice(&new.to_le_bytes()[..size]);
            }
        }
        let got = bench.read(bench.address, total as usize);
        let differs = got
            .iter()
            .zip(&wanted)
            .position(|(got, wanted)| got != wanted);
        assert_eq!(differs, None, "{op} of {element:?}");
    }
    // Elements that the operation does not exist for.
    let mut bench = Bench::new(1 << 13);
    bench.reduce = Some("xor");
    let report = bench.store(&encoded(&bench), &[0, 0]).expect_err("bf16");
    assert!(
        report.contains("its elements cannot be reduced in this way"),
        "{report}"
    );
}
