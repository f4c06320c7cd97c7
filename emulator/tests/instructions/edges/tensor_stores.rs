//! Tensor copies from shared memory: their source while they are under way, reductions and im2col
//! at the ends of their memory, and what is counted of them.
use super::harness::{
    Bench, LANES, Params, fill_shared, legal, out_of_bounds, reported, text, touch,
};
use ptx_emulator::ir::Space;
use ptx_emulator::report::{AccessKind, AsyncFault};
use ptx_emulator::tensor_map::{Tensor, TensorMap};
use ptx_emulator::{Counters, Fault, FaultKind, LaunchConfig, LoadedKernel};

/// `CUtensorMapDataType` and bytes of its elements.
type Element = (u32, u64);

const U8: Element = (0, 1);
const U16: Element = (1, 2);
const U32: Element = (2, 4);
const S32: Element = (3, 4);
const U64: Element = (4, 8);
const F16: Element = (6, 2);
const F32: Element = (7, 4);
const F64: Element = (8, 8);
const BF16: Element = (9, 2);

/// A tensor whose rows are a multiple of 16 bytes apart, with nothing else between the dimensions.
struct Shape {
    element: Element,
    dims: Vec<u64>,
    strides: Vec<u64>,
}

impl Shape {
    fn new(element: Element, dims: &[u64]) -> Shape {
        let mut stride = (dims[0] * element.1).next_multiple_of(16);
        let mut strides = Vec::new();
        for dim in &dims[1..] {
            strides.push(stride);
            stride *= dim;
        }
        let dims = dims.to_vec();
        Shape {
            element,
            dims,
            strides,
        }
    }

    fn tensor(&self, address: u64) -> Tensor<'_> {
        Tensor {
            data_type: self.element.0,
            address,
            dims: &self.dims,
            strides: &self.strides,
            element_strides: &[1; 5][..self.dims.len()],
            interleave: 0,
            swizzle: 0,
            promotion: 0,
            fill: 0,
        }
    }

    /// Bytes of a row.
    fn row(&self) -> u64 {
        self.dims[0] * self.element.1
    }

    /// Bytes from the tensor's first to behind its last.
    fn reach(&self) -> u64 {
        let outer = self.dims[1..].iter().zip(&self.strides);
        outer.map(|(dim, stride)| (dim - 1) * stride).sum::<u64>() + self.row()
    }
}

/// Start of the dynamic part of shared memory.
const TILE: u32 = 128;

/// A kernel of one warp that writes shared memory, fences, and has one of its threads execute an
/// instruction. `before` and `after` are more instructions of that thread. `{at}` stands for the
/// map and the coordinates.
fn kernel(bench: &Bench, instruction: &str, at: &[i32], before: &str, after: &str) -> LoadedKernel {
    let list = at.iter().map(i32::to_string).collect::<Vec<_>>().join(", ");
    let instruction = instruction.replace("{at}", &format!("[%rd1, {{{list}}}]"));
    let fill = fill_shared("%r2", 0);
    let body = format!(
        "    .shared .align 16 .b8 first[16];
    mov.u32 %r1, first;
    mov.u32 %r1, tile;
    mov.u32 %r2, %tid.x;
    mov.b64 %rd2, map;
    cvta.param.u64 %rd1, %rd2;
    ld.param.u32 %r5, [near];
    ld.param.u32 %r6, [lane];
    setp.eq.u32 %p2, %r2, %r6;
{fill}
    fence.proxy.async;
    bar.sync 0;
    @!%p2 bra END;
    {before}
    {instruction};
    cp.async.bulk.commit_group;
    {after}
    cp.async.bulk.wait_group 0;
END:"
    );
    let params = ".param .u32 near, .param .u32 lane, .param .align 64 .b8 map[128]";
    let tile = ".extern .shared .align 128 .b8 tile[];";
    bench.kernel(&text(90, tile, params, &body))
}

fn params(map: &TensorMap, near: u32, lane: u32) -> Params {
    let params = Params::default().u32(near).u32(lane);
    params.bytes(64, &map.encode())
}

fn launch(
    bench: &Bench,
    kernel: &LoadedKernel,
    shared: u32,
    params: &Params,
) -> Result<Counters, Fault> {
    let config = LaunchConfig {
        shared_bytes: shared,
        ..LaunchConfig::linear(1, 32)
    };
    bench.launch(kernel, config, params)
}

const STORE: &str = "cp.async.bulk.tensor.2d.global.shared::cta.tile.bulk_group {at}, [%r5]";
const ADD: &str =
    "cp.reduce.async.bulk.tensor.2d.global.shared::cta.add.tile.bulk_group {at}, [%r5]";

/// The source of a store: 48 bytes from `tile + 128` on. Until it has been waited for nobody may
/// write them, and what ordinary stores wrote there has to be behind a fence. Bytes beside them are
/// nobody's.
#[test]
fn sources_of_stores() {
    let bench = Bench::new(90);
    let shape = Shape::new(U32, &[4, 3]);
    let address = bench.filled(shape.reach());
    let map = TensorMap::tiled(&shape.tensor(address), &[4, 3]).expect("a good map");
    for instruction in [STORE, ADD] {
        for at in [0, 124, 127, 128, 129, 175, 176, 177, 255] {
            let write = format!("st.shared.u8 [tile+{at}], 1;");
            let inside = (128..176).contains(&at);
            for (before, after, what) in [
                (write.as_str(), "", "before"),
                ("", write.as_str(), "under way"),
                (
                    "",
                    &format!("cp.async.bulk.wait_group.read 0; {write}"),
                    "read",
                ),
                (&format!("{write} fence.proxy.async;"), "", "fenced"),
            ] {
                let kernel = kernel(&bench, instruction, &[0, 0], before, after);
                let result = launch(&bench, &kernel, 256, &params(&map, TILE + 128, 3));
                let what = format!("`{instruction}`, a write at {at}: {what}");
                let result = result.map(|_| ());
                if !inside || what.ends_with("read") || what.ends_with("fenced") {
                    legal(result, &what);
                    continue;
                }
                let fault = reported(result, &what);
                let wanted = u64::from(TILE + at);
                let good = match &*fault.kind {
                    FaultKind::Asynchronous(AsyncFault::Unfenced { at, .. }) => {
                        what.ends_with("before") && *at == wanted
                    }
                    FaultKind::Asynchronous(AsyncFault::ReadUnderWay { at, .. }) => {
                        what.ends_with("under way") && *at == wanted
                    }
                    _ => false,
                };
                assert!(good, "{what}\n{fault}");
            }
        }
    }
}

/// Each copy is one request; its sectors are those of its rows.
#[test]
fn what_stores_count() {
    let bench = Bench::new(90);
    let shape = Shape::new(U32, &[4, 3]);
    let address = bench.filled(shape.reach());
    let map = TensorMap::tiled(&shape.tensor(address), &[4, 3]).expect("a good map");
    for (instruction, reduces) in [(STORE, false), (ADD, true)] {
        for copies in 1..=3 {
            let more = instruction.replace("{at}", "[%rd1, {0, 0}]") + ";\n";
            let kernel = kernel(&bench, instruction, &[0, 0], &more.repeat(copies - 1), "");
            let counted = launch(&bench, &kernel, 48, &params(&map, TILE, 0)).expect("good");
            let copies = copies as u64;
            assert_eq!(counted.global_stores.requests, copies, "{instruction}");
            assert_eq!(counted.global_stores.bytes, 48 * copies);
            assert_eq!(counted.global_stores.sectors, 3 * copies);
            // 48 bytes from a multiple of 32 on: two sectors.
            assert_eq!(counted.device_bytes_written, 64);
            let elements = if reduces { 12 * copies } else { 0 };
            assert_eq!(counted.global_atomics, elements);
        }
    }
}

/// Reductions of every type and operation, with a row of an odd number of elements: the tensor ends
/// with its allocation or lacks bytes of its last row.
#[test]
fn reductions_at_the_end_of_an_allocation() {
    let bench = Bench::new(90);
    for (operation, element) in [
        ("add", U32),
        ("add", S32),
        ("add", U64),
        ("add", F16),
        ("add", BF16),
        ("add", F32),
        ("add", F64),
        ("min", U32),
        ("max", S32),
        ("min", U64),
        ("max", F16),
        ("min", BF16),
        ("inc", U32),
        ("dec", U32),
        ("and", U32),
        ("or", S32),
        ("xor", U64),
    ] {
        for dims in [
            &[7u64][..],
            &[5, 3],
            &[3, 2, 2],
            &[1, 2, 1, 3],
            &[9, 1, 2, 1, 2],
        ] {
            let rank = dims.len();
            let instruction = format!(
                "cp.reduce.async.bulk.tensor.{rank}d.global.shared::cta.{operation}.tile.\
                bulk_group {{at}}, [%r5]"
            );
            let kernel = kernel(&bench, &instruction, &vec![0; rank], "", "");
            let shape = Shape::new(element, dims);
            let mut extent: Vec<u32> = dims.iter().map(|&d| d as u32).collect();
            extent[0] = (shape.row().next_multiple_of(16) / element.1) as u32;
            let takes = extent.iter().product::<u32>() * element.1 as u32;
            for missing in [0, 1, element.1, shape.row() - 1] {
                let address = bench.filled(shape.reach() - missing);
                let map = TensorMap::tiled(&shape.tensor(address), &extent).expect("a good map");
                for lane in LANES {
                    let result = launch(&bench, &kernel, takes, &params(&map, TILE, lane));
                    let result = result.map(|_| ());
                    let what = format!("{operation} of {element:?}, {dims:?}, {missing} short");
                    if missing == 0 {
                        legal(result, &what);
                        continue;
                    }
                    let last = address + shape.reach() - shape.row();
                    let wanted = touch(AccessKind::Atomic, Space::Global, last, shape.row() as u32);
                    out_of_bounds(result, wanted, Some(lane), &what);
                }
            }
        }
    }
}

/// The source of a reduction ends with shared memory, or bytes of it are missing.
#[test]
fn reductions_at_the_end_of_shared_memory() {
    let bench = Bench::new(90);
    for dims in [&[8u64, 1][..], &[4, 3], &[20, 5]] {
        let shape = Shape::new(U32, dims);
        let address = bench.filled(shape.reach());
        let extent: Vec<u32> = dims.iter().map(|&d| d as u32).collect();
        let takes = extent.iter().product::<u32>() * 4;
        let map = TensorMap::tiled(&shape.tensor(address), &extent).expect("a good map");
        let kernel = kernel(&bench, ADD, &[0, 0], "", "");
        for more in [0, 1, 16, 127, 128, 129] {
            for lane in LANES {
                let shared = takes + more;
                let run = |near: u32| {
                    launch(&bench, &kernel, shared, &params(&map, near, lane)).map(|_| ())
                };
                let last = TILE + more / 128 * 128;
                let what = format!("{dims:?}, {shared} bytes, lane {lane}");
                legal(run(last), &what);
                let wanted = touch(AccessKind::Read, Space::Shared, (last + 128).into(), takes);
                out_of_bounds(run(last + 128), wanted, Some(lane), &what);
            }
        }
        for missing in [1, 4, 15, 16] {
            let result = launch(&bench, &kernel, takes - missing, &params(&map, TILE, 17));
            let wanted = touch(AccessKind::Read, Space::Shared, TILE.into(), takes);
            out_of_bounds(result.map(|_| ()), wanted, Some(17), "too short");
        }
    }
}

/// A bit more than the instruction has: reductions that do not exist for the map's elements.
#[test]
fn reductions_that_do_not_exist() {
    let bench = Bench::new(90);
    for (operation, element, good) in [
        ("add", U8, false),
        ("add", U16, false),
        ("inc", U32, true),
        ("inc", S32, false),
        ("min", F32, false),
        ("and", F16, false),
    ] {
        let shape = Shape::new(element, &[16, 1]);
        let address = bench.filled(shape.reach());
        let map = TensorMap::tiled(&shape.tensor(address), &[16, 1]).expect("a good map");
        let instruction = ADD.replace("add", operation);
        let kernel = kernel(&bench, &instruction, &[0, 0], "", "");
        let result = launch(&bench, &kernel, 128, &params(&map, TILE, 0)).map(|_| ());
        let what = format!("{operation} of {element:?}");
        if good {
            legal(result, &what);
            continue;
        }
        let fault = reported(result, &what);
        let none = matches!(
            &*fault.kind,
            FaultKind::Asynchronous(AsyncFault::NoTensorMap { .. })
        );
        assert!(none, "{what}\n{fault}");
    }
}

/// A store of two pixels, or a reduction: the tensor, the instruction, and how it changes the
/// tensor.
fn pixels(spatial: usize, reduces: bool) -> (Shape, String, AccessKind) {
    let rank = spatial + 2;
    let (element, channels) = if reduces { (U32, 3) } else { (U8, 13) };
    let dims = [&[channels][..], &vec![4; spatial], &[2]].concat();
    let (name, kind) = if reduces {
        ("cp.reduce.async.bulk.tensor", AccessKind::Atomic)
    } else {
        ("cp.async.bulk.tensor", AccessKind::Write)
    };
    let operation = if reduces { ".and" } else { "" };
    let instruction = format!(
        "{name}.{rank}d.global.shared::cta{operation}.im2col_no_offs.bulk_group {{at}}, [%r5]"
    );
    (Shape::new(element, &dims), instruction, kind)
}

/// Two pixels from the last but one of the tensor on, from the one before, and from the last, which
/// the pixel of an image that the tensor does not have follows; the tensor ends with its allocation
/// or lacks bytes of its last pixel.
#[test]
fn pixels_at_the_end_of_an_allocation() {
    let bench = Bench::new(90);
    for (spatial, reduces) in (1..=3).flat_map(|spatial| [(spatial, false), (spatial, true)]) {
        let (shape, instruction, kind) = pixels(spatial, reduces);
        let at = |column: i32| {
            let mut at = vec![3; spatial + 2];
            (at[0], at[1], at[spatial + 1]) = (0, column, 1);
            at
        };
        for missing in [0, 1, shape.row() - 1] {
            let address = bench.filled(shape.reach() - missing);
            let (zero, channels) = (vec![0; spatial], 16 / shape.element.1 as u32);
            let map = TensorMap::im2col(&shape.tensor(address), &zero, &zero, channels, 2);
            let map = map.expect("a good map");
            let run = |column: i32, shared: u32| {
                let kernel = kernel(&bench, &instruction, &at(column), "", "");
                launch(&bench, &kernel, shared, &params(&map, TILE, 17)).map(|_| ())
            };
            let what = format!("{instruction}, {missing} bytes short");
            legal(run(1, 32), &what);
            for column in [2, 3] {
                if missing == 0 {
                    legal(run(column, 32), &what);
                    continue;
                }
                let last = address + shape.reach() - shape.row();
                let wanted = touch(kind, Space::Global, last, shape.row() as u32);
                out_of_bounds(run(column, 32), wanted, Some(17), &what);
            }
            let wanted = touch(AccessKind::Read, Space::Shared, TILE.into(), 32);
            out_of_bounds(run(1, 31), wanted, Some(17), &what);
            // Behind the bounding box.
            let fault = reported(run(4, 32), &what);
            let wanted = AsyncFault::Im2colStart {
                dim: 1,
                at: 4,
                first: 0,
                last: 3,
            };
            assert!(
                matches!(&*fault.kind, FaultKind::Asynchronous(f) if *f == wanted),
                "{fault}"
            );
        }
    }
}
